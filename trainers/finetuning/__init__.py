"""What is done with a pretrained tower and few labels: one file a mode; the file is its ``kind``.

A mode is given a ``Task`` and returns scores on every data set and the weights it ends with.
"""

from pipelines.core import Family

MODES = Family("trainers.finetuning")

__all__ = ["MODES"]
