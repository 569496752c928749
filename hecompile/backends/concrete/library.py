"""Concrete's library, and how it is asked for circuits, by the compiler and again by the worker processes of a server.

Nobody else loads it: it takes seconds and brings torch.
"""

from __future__ import annotations

import json
from typing import Any

from hecompile.errors import needing

__all__ = ["concrete", "configuration", "specs_text"]


def concrete() -> Any:
    """The module `concrete.fhe`. Raises `MissingExtraError`."""
    with needing("backend 'concrete'", "concrete"):
        from concrete import fhe
    return fhe


def configuration(p_error: float | None, parallel: bool = True) -> Any:
    """How circuits are compiled, by the compiler and again by the server: the same parameters must come out.

    Loops of one circuit share the cores if `parallel`; the parameters are the same.
    """
    return concrete().Configuration(
        p_error=p_error, compress_input_ciphertexts=True, compress_evaluation_keys=True, loop_parallelize=parallel,
        enable_unsafe_features=False, use_insecure_key_cache=False, show_progress=False, verbose=False,
    )  # fmt: skip


def specs_text(specs: Any) -> str:
    """A client's specification in one spelling, without what says how TFHE-rs would see it (nothing here)."""
    document = json.loads(specs.serialize())
    document.pop("tfhers_specs", None)
    return json.dumps(document, sort_keys=True)
