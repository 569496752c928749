"""Loads Concrete's library, for the compiler, for clients and for the worker processes of a server.

The server's own process does not load it, since that takes seconds and loads torch.
"""

from __future__ import annotations

import json
from typing import Any

from hecompile.errors import needing

__all__ = ["concrete", "configuration", "specs_text"]


def concrete() -> Any:
    """The module `concrete.fhe`. Raises `MissingExtraError` if Concrete is not installed."""
    with needing("backend 'concrete'", "concrete"):
        from concrete import fhe
    return fhe


def configuration(p_error: float | None, parallel: bool = True) -> Any:
    """The configuration with which the compiler and the server compile a circuit, so that both get the same parameters.

    The loops of one circuit run on several cores if `parallel`, which does not change the parameters.
    """
    return concrete().Configuration(
        p_error=p_error, compress_input_ciphertexts=True, compress_evaluation_keys=True, loop_parallelize=parallel,
        enable_unsafe_features=False, use_insecure_key_cache=False, show_progress=False, verbose=False,
    )  # fmt: skip


def specs_text(specs: Any) -> str:
    """The JSON text of a client's specification with sorted keys, without its part about TFHE-rs, which is not used here."""
    document = json.loads(specs.serialize())
    document.pop("tfhers_specs", None)
    return json.dumps(document, sort_keys=True)
