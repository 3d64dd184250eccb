"""Measures a data set and previews samples of it, for ``eagleray inspect``."""

from pipelines.inspection.preview import Preview, chosen, previews
from pipelines.inspection.survey import look_at, measure_index
from pipelines.inspection.thumbnails import Thumbnail, Wave

__all__ = ["Preview", "Thumbnail", "Wave", "chosen", "look_at", "measure_index", "previews"]
