"""Small pictures for reports."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def shown(images: Tensor) -> Tensor:
    """Images in [-1, 1] as pixels. [B, 3, H, W] -> [B, H, W, 3] uint8."""
    pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255)
    return pixels.to(torch.uint8).permute(0, 2, 3, 1)


def png(image: npt.NDArray[np.uint8]) -> str:
    """Encode an image as base64 PNG.

    Args:
        image: [H, W, 3] RGB.
    """
    ok, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise ValueError("an image that cannot be encoded as PNG")
    return base64.b64encode(data.tobytes()).decode("ascii")
