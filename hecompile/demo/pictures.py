"""Small pictures as `data:` addresses of PNG files, which the page shows enlarged."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import numpy.typing as npt

__all__ = ["as_address", "channel_sheet", "partly_shown"]

COLUMNS = 16  # of a sheet of channels
UNKNOWN = 0.5  # of a colour whose value is encrypted, in a pixel of which another colour is shown


def as_address(picture: npt.NDArray[np.uint8]) -> str:
    """A picture (height, width, 3 or 4) as the address of a PNG file that is the address itself."""
    from PIL import Image

    data = BytesIO()
    Image.fromarray(picture).save(data, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def partly_shown(values: npt.NDArray[np.float64], shown: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """A picture (height, width, 4) of colours (3, height, width) in [0, 1] of which some are shown.

    A pixel of which nothing is shown is transparent; a colour that is not shown is half bright in a pixel of which another is.
    """
    colours = np.where(shown, values, UNKNOWN)
    layers = np.concatenate([colours, shown.any(axis=0, keepdims=True)])
    picture: npt.NDArray[np.uint8] = (np.clip(layers, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return picture


def channel_sheet(shown: npt.NDArray[np.int64], numbers: tuple[int, ...], count: int) -> npt.NDArray[np.uint8]:
    """Channels of integers (shown, height, width) as grey tiles among `count`, in rows of 16: (rows, columns, 4).

    The least value of a channel is black and its largest white, since what differs within one is easier to see so. A tile of a
    channel that is not shown is transparent, and so is a line of one pixel between tiles.
    """
    _, height, width = shown.shape
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * (height + 1) - 1, COLUMNS * (width + 1) - 1, 4), np.uint8)
    for number, channel in zip(numbers, shown, strict=True):
        top, left = number // COLUMNS * (height + 1), number % COLUMNS * (width + 1)
        tile = sheet[top : top + height, left : left + width]
        least, span = channel.min(), max(float(channel.max() - channel.min()), 1.0)
        tile[..., :3] = ((channel - least) / span * 255).round().astype(np.uint8)[..., None]
        tile[..., 3] = 255
    return sheet
