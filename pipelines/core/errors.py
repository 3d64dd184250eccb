"""Errors that a user can act on: one line, no traceback."""


class UserError(Exception):
    """Something the user can put right; the message is one line that says how."""


class ConfigError(UserError):
    """A recipe, profile or option that is not valid."""


class DataError(UserError):
    """Input data that is missing, empty or too damaged to go on."""


class StorageError(UserError):
    """A location that cannot be read or written: missing, full, refused."""


class OutageError(StorageError):
    """A store that did not answer, or not well: trying again later may help."""
