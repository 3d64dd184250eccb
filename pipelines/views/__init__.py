"""Tables of samples to the views that an objective asks for, on the training device.

A kind of view is one file: a config that says what to make of a sample, and
whose ``maker`` makes it of a table's ``Rows``.
"""

from pipelines.views.audio import AudioPresentView, AudioView
from pipelines.views.builder import ViewBuilder
from pipelines.views.clip import ClipView
from pipelines.views.film import FilmFramesView, LongEnoughView
from pipelines.views.image import ImageView, two_views
from pipelines.views.packed import Augmented, unpack
from pipelines.views.rows import Rows, normalise, pixels
from pipelines.views.text import IdentityView, TextView
from pipelines.views.view import View, ViewSpec

__all__ = [
    "AudioPresentView",
    "AudioView",
    "Augmented",
    "ClipView",
    "FilmFramesView",
    "IdentityView",
    "ImageView",
    "LongEnoughView",
    "Rows",
    "TextView",
    "View",
    "ViewBuilder",
    "ViewSpec",
    "normalise",
    "pixels",
    "two_views",
    "unpack",
]
