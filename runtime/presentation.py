"""Describes a loaded model: as one line in a shell, as a table in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from hecompile.runtime.bundle import Bundle
from hecompile.runtime.transports import Transport
from hecompile.wording import byte_text

__all__ = ["as_html", "as_line", "describe_model"]


def describe_model(bundle: Bundle, transport: Transport, closed: bool) -> dict[str, str]:
    """Return facts about a model, by the names that people read. Bytes are those of the first call of a run for one picture,
    without HTTP headers."""
    manifest = bundle.manifest
    calls = [bundle.calls[step.region] for step in manifest.plan.steps if step.kind == "call"]
    up, down = sum(call.request_bytes(1) for call in calls), sum(call.reply_bytes(1) for call in calls)
    return {
        "model": manifest.name,
        "policy": manifest.policy,
        "backend": manifest.backend if manifest.encrypted else f"{manifest.backend} (a simulation: nothing is encrypted)",
        "revealed to the server": f"{len(manifest.reveals)} values in part" if manifest.reveals else "nothing that is secret",
        "inputs": ", ".join(f"{spec.name} {_shape(spec.shape)}" for spec in manifest.inputs),
        "rounds": f"{manifest.plan.rounds} per call",
        "bytes": f"{byte_text(up)} up, {byte_text(down)} down per call of one picture",
        "server": "closed" if closed else str(getattr(transport, "url", "in this process")),
    }


def _shape(shape: tuple[int | str, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


def as_line(kind: str, known: Mapping[str, str]) -> str:
    """Return one line such as `EncryptedUNet(model='digits', policy='strict', ...)`."""
    shown = ("model", "policy", "backend", "rounds", "bytes", "server")
    return f"{kind}({', '.join(f'{name}={known[name]!r}' for name in shown)})"


def as_html(kind: str, known: Mapping[str, str]) -> str:
    """Return an HTML table with one row per fact."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in known.items()
    )
    return f"<table><caption>{escape(kind)}</caption><tbody>{rows}</tbody></table>"
