"""The command that draws pictures with a compiled model: `hecompile sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hecompile.cli.console import Json, print_json, say
from hecompile.cli.flags import completing, values_text
from hecompile.errors import CompileError, Diagnostic

if TYPE_CHECKING:
    from hecompile.runtime.transports import AccessOptions

__all__ = ["sample"]

TOKEN_LIMIT = 65_536  # largest size of a token's file in bytes
LABEL_STEPS = 10
SCHEDULERS = ("ddim", "pndm", "euler", "dpm++")  # as in `hecompile.models.digits.schedulers`, whose import would slow down --help


def _policies() -> tuple[str, ...]:
    """Return the names of policies, which take long to import."""
    from hecompile.policies import model_policies

    return model_policies()


def sample(
    artifact: Annotated[
        Path,
        typer.Argument(
            help="folder of an artifact (its manifest and client half are enough), or of a saved pipeline that contains one"
        ),
    ],
    prompt: Annotated[list[str] | None, typer.Argument(help="text-to-image models: what to draw; one picture per prompt")] = None,
    server: Annotated[str | None, typer.Option(help="URL of the server; without it the server's half runs in this process")] = None,
    label: Annotated[
        list[int] | None, typer.Option(help="class-conditional models: class to draw; default: 0; may be repeated")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="prompts: what the pictures should not show")] = None,
    pipeline: Annotated[
        Path | None,
        typer.Option(
            help="prompts: folder of the pipeline with text encoder, autoencoder and scheduler; not needed for the zoo's shapes"
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="sampler steps; default: 10 for labels, 4 for the zoo's shapes, 25 for other pipelines", min=1),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="prompts: guidance scale; default: the pipeline's")] = None,
    seed: Annotated[
        int | None, typer.Option(help="seed of the first picture; default: 0; every further picture has the next seed")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="labels: the sampler; default: ddim",
            metavar=values_text(SCHEDULERS),
            autocompletion=completing(lambda: SCHEDULERS),
        ),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="policy that this client insists on: strict, min-distortion or simulation", autocompletion=completing(_policies)
        ),
    ] = "strict",
    output: Annotated[Path, typer.Option("--output", "-o", help="file for the pictures, such as a PNG")] = Path("sample.png"),
    simulate: Annotated[
        bool, typer.Option("--simulate", help="encrypt nothing and use no server: simulate the errors of decryption")
    ] = False,
    ca: Annotated[Path | None, typer.Option(help="file or folder of certificates to trust; default: HECOMPILE_CA")] = None,
    cert: Annotated[Path | None, typer.Option(help="file of this client's certificate; default: HECOMPILE_CERT")] = None,
    key: Annotated[
        Path | None, typer.Option(help="file of the certificate's key, if it is a file of its own; default: HECOMPILE_KEY")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="file with a bearer token; default: the token in HECOMPILE_TOKEN")] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(help="header to send, as 'Name: value'; may be repeated; default: the lines of HECOMPILE_HEADERS"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw pictures of prompts or classes with a compiled model. Prompts leave this machine only as ciphertexts."""
    access = _access(ca, cert, key, token_file, header)
    if prompt:
        from hecompile.sampling.prompts import PromptRequest, draw_prompts

        _refuse({"--label": label or None, "--scheduler": scheduler}, "with a prompt", "a model accepts prompts or labels")
        request = PromptRequest(tuple(prompt), negative, steps, guidance, seed)
        figures = draw_prompts(artifact, server, request, output, pipeline, policy, not as_json, simulate, access)
    else:
        from hecompile.sampling.labels import draw_labels

        _refuse(
            {"--negative": negative, "--pipeline": pipeline, "--guidance": guidance},
            "without a prompt",
            "it is for text-to-image models",
        )
        labels, steps = label or [0], steps or LABEL_STEPS
        figures = draw_labels(
            artifact, server, labels, steps, seed, scheduler or SCHEDULERS[0], policy, output, not as_json, simulate, access
        )
    if as_json:
        print_json(figures)
    else:
        if figures["simulation"]:
            say("SIMULATION: nothing was encrypted")
        say(f"{output}: {figures['wall_s']:.2f} s, {figures['requests']} requests")


def _refuse(options: dict[str, object], where: str, reason: str) -> None:
    """Raise `CompileError` for options that were given but have no effect."""
    for name, value in options.items():
        if value is not None:
            raise CompileError(Diagnostic(f"{name} has no effect {where}: {reason}", help=f"leave {name} out"))


def _access(
    ca: Path | None, cert: Path | None, key: Path | None, token_file: Path | None, header: list[str] | None
) -> AccessOptions:  # fmt: skip
    """Return the access options as `load` accepts them. A token is read from a file, since everybody on this machine can read a
    command's arguments."""
    from hecompile.runtime.transports.access import parse_headers

    if key is not None and cert is None:
        raise CompileError(Diagnostic("--key without --cert", help="name the certificate that the key belongs to"))
    token = None
    if token_file is not None:
        try:
            with token_file.open("rb") as stream:  # the user's own file, which may be a link or a pipe
                token = stream.read(TOKEN_LIMIT).decode("ascii", "replace").strip()
        except OSError as error:
            raise CompileError(f"the token of {token_file} cannot be read: {error.strerror}") from error
    return {
        "verify": ca,
        "cert": cert if cert is None or key is None else (cert, key),
        "token": token,
        "headers": parse_headers(header) if header else None,
    }
