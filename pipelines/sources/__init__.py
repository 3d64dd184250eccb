"""Sources: one file each; the file's name is its ``kind``."""
