"""Puts pictures side by side and encodes them as the bytes of a picture file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from hecompile.errors import CompileError, Diagnostic
from hecompile.outputs import check_file

__all__ = ["check_picture", "encoded", "picture_row"]

NAME_HELP = "use a name such as sample.png"
MODES = {"L": "grey", "RGB": "colour"}  # names of Pillow's modes


def picture_row(images: Any, scale: int = 16) -> Any:
    """Put images (B, H, W, C) in [0, 1], with C 1 or 3, side by side in one PIL image, with frames; each entry becomes `scale`
    pixels wide."""
    import numpy as np
    from PIL import Image

    images = np.asarray(images)
    framed = [np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=0.5) for image in images]
    row = (np.clip(np.concatenate(framed, axis=1), 0, 1) * 255).round().astype(np.uint8)
    enlarged = row.repeat(scale, axis=0).repeat(scale, axis=1)  # nearest-neighbour enlargement
    return Image.fromarray(enlarged[..., 0] if enlarged.shape[-1] == 1 else enlarged)


def check_picture(output: Path, mode: str = "L") -> None:
    """Raise `CompileError` for a picture that cannot be written, before anything is drawn. `mode`: `L` grey, `RGB` colour."""
    from PIL import Image

    kinds = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.SAVE}
    if output.suffix.lower() not in kinds:
        raise CompileError(Diagnostic(f"{output}: '{output.suffix}' is not the suffix of a picture file", help=NAME_HELP))
    try:
        encoded(Image.new(mode, (16, 16)), output.suffix)
    except Exception as error:  # kinds without this mode, or whose writer is not installed: each fails in its own way
        raise CompileError(
            Diagnostic(f"{output}: a {MODES[mode]} picture cannot be written as '{output.suffix}'", help=NAME_HELP)
        ) from error
    check_file(output)


def encoded(picture: Any, suffix: str) -> bytes:
    """Encode a picture as the bytes of a file with this suffix."""
    from PIL import Image

    data = BytesIO()
    picture.save(data, format=Image.registered_extensions()[suffix.lower()])
    return data.getvalue()
