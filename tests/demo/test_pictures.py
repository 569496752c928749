"""What the page makes pictures of: colours of which some are shown, and channels side by side."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image

from hecompile.demo.pictures import COLUMNS, as_address, channel_sheet, partly_shown


def test_an_address_is_a_png_of_the_same_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    kind, data = as_address(picture).split(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(BytesIO(base64.b64decode(data)))), picture)


def test_a_pixel_is_seen_where_one_of_its_colours_is_shown() -> None:
    values, shown = np.zeros((3, 1, 2)), np.zeros((3, 1, 2), np.bool_)
    values[0, 0, 0], shown[0, 0, 0] = 1.0, True
    picture = partly_shown(values, shown)
    assert picture[0, 0].tolist() == [255, 128, 128, 255]
    assert picture[0, 1, 3] == 0


def test_a_value_that_is_not_shown_leaves_no_trace() -> None:
    shown = np.zeros((3, 2, 2), np.bool_)
    assert np.array_equal(partly_shown(np.full((3, 2, 2), 0.9), shown), partly_shown(np.full((3, 2, 2), 0.1), shown))


def test_channels_lie_at_their_numbers() -> None:
    channels = np.array([[[-5, 5]], [[7, 7]]])
    sheet = channel_sheet(channels, (1, COLUMNS + 2), 2 * COLUMNS)
    assert sheet.shape == (3, 3 * COLUMNS - 1, 4)
    assert sheet[0, 3:5].tolist() == [[0, 0, 0, 255], [255, 255, 255, 255]]
    assert sheet[2, 6:8, 3].tolist() == [255, 255]
    assert int((sheet[..., 3] > 0).sum()) == 4  # nothing else is seen
