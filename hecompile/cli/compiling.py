"""The commands that compile: `hecompile compile` and `hecompile compile-sampler`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hecompile.cli.console import Json, print_json, progress_bar, say
from hecompile.cli.flags import completing, given_flags, with_option_flags
from hecompile.errors import CompileError, Diagnostic
from hecompile.options import CompileOptions
from hecompile.options.gathering import gather
from hecompile.panels import built
from hecompile.sampler_artifact import SamplerOptions

if TYPE_CHECKING:
    from hecompile.compiler import PassRecord

__all__ = ["compile_command", "compile_sampler_command"]


def _trained() -> list[str]:
    """Return the names of the zoo's models that have weights."""
    from hecompile.models import zoo
    from hecompile.models.published import SHAPES

    return [name for name in zoo() if name not in SHAPES]


@partial(with_option_flags, panels=gather().titles)
def compile_command(
    source: Annotated[
        str,
        typer.Argument(
            help="a diffusers folder, an .onnx file or the name of a model of the zoo", autocompletion=completing(_trained)
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="folder to write the artifact to")] = None,
    until: Annotated[
        str | None, typer.Option(help="stop after this pass and print the program; `hecompile passes` lists the passes")
    ] = None,
    dump_ir: Annotated[
        Path | None, typer.Option(help="new folder to which the program is written as text after every pass")
    ] = None,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Compile a UNet into an artifact with a client half and a server half."""
    from hecompile.compiler import compile_model
    from hecompile.ir.program_printing import program_text

    if output is None and until is None:
        raise CompileError(
            Diagnostic("--output is missing", help="name a folder for the artifact, or stop after a pass with --until")
        )
    options = CompileOptions(**given_flags(flags))

    def show(record: PassRecord) -> None:
        line = f"{record.name:<22} {record.seconds:6.2f} s  {record.summary}"
        if until is None:
            say(line)
        else:
            sys.stderr.write(f"{line}\n")  # stdout gets the text of the program

    with progress_bar() as progress:
        compiled = compile_model(
            source, output, options=options, observer=None if as_json else show, until=until, dump_ir=dump_ir, progress=progress
        )
    if as_json:
        document: dict[str, object] = {"passes": [asdict(record) for record in compiled.passes]}
        document |= {} if output is None else {"artifact": str(output)}
        document |= {} if until is None else {"program": program_text(compiled.program)}
        print_json(document)
    elif until is not None:
        sys.stdout.write(program_text(compiled.program))


@partial(with_option_flags, panels={SamplerOptions: "Options"})
def compile_sampler_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write the artifact to")],
    shape: Annotated[str, typer.Option(help="shape of the latents, as CxHxW")] = "4x64x64",
    calibration: Annotated[Path | None, typer.Option(help="recorded calls of the UNet, for static masks (safetensors)")] = None,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Compile the step of a sampler for the policy he-diffusion. The UNet stays at the client."""
    from hecompile.policies import WATERMARK
    from hecompile.sampler_artifact import compile_sampler, parse_shape

    calls = []
    if calibration is not None:
        from hecompile.calibration import load_calibration

        calls = list(load_calibration(calibration))
    manifest = compile_sampler(output, parse_shape(shape), calls, built(SamplerOptions, given_flags(flags)))
    if as_json:
        print_json({"artifact": str(output), "policy": manifest.policy, "reveals": manifest.reveals, **manifest.config})
        return
    for reveal in manifest.reveals:
        say(f"{WATERMARK}: {reveal}")
    say(f"{output}: {'reveals what is listed above' if manifest.reveals else 'reveals nothing'}")
