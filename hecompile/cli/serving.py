"""The command that serves an artifact: `hecompile serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hecompile.cli.console import Json, print_json, say
from hecompile.errors import CompileError, Diagnostic, HecompileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hecompile.runtime.service import Service
    from hecompile.runtime.serving.cluster import Cluster
    from hecompile.runtime.serving.owners import Tokens

__all__ = ["serve"]


def serve(
    artifact: Annotated[Path, typer.Argument(help="folder of an artifact, or its server half alone")],
    host: Annotated[str, typer.Option(help="address to listen on; anything but loopback needs a TLS proxy in front")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port; 0 takes a free one", min=0, max=65535)] = 8100,
    token_file: Annotated[
        Path | None, typer.Option(help="bearer tokens that open this server, one a line; none: everybody")
    ] = None,
    trust_proxy: Annotated[
        list[str] | None, typer.Option(help="address of a proxy whose X-Forwarded-For is believed; may be repeated")
    ] = None,
    connections: Annotated[int | None, typer.Option(help="connections at a time; default: by the files that may be open")] = None,
    queue_s: Annotated[float | None, typer.Option(help="seconds that a request may wait for its turn (30)")] = None,
    body_mib: Annotated[float | None, typer.Option(help="MiB of requests that arrive or wait; default: by the memory")] = None,
    key_mib: Annotated[float | None, typer.Option(help="MiB of evaluation keys of all sessions; default: by the memory")] = None,
    sessions: Annotated[int | None, typer.Option(help="sessions at a time (64)")] = None,
    session_idle_s: Annotated[float | None, typer.Option(help="seconds until an unused session ends (1800)")] = None,
    openapi: Annotated[bool, typer.Option("--openapi", help="serve /openapi.json, a description of the routes")] = False,
    device: Annotated[
        str, typer.Option(help="what computes the products under bfv: cpu, cuda, or one of several as cuda:1; needs torch")
    ] = "cpu",
    ray: Annotated[bool, typer.Option("--ray", help="evaluate by workers on Ray Serve; needs the extra 'ray'")] = False,
    replicas: Annotated[int | None, typer.Option(help="most workers of each shard; default: as the processors allow")] = None,
    idle_replicas: Annotated[int | None, typer.Option(help="workers of each shard that stay while nobody asks (1)")] = None,
    threads: Annotated[int | None, typer.Option(help="threads of a worker (1)")] = None,
    shards: Annotated[int | None, typer.Option(help="workers that share each evaluation, by output channels (1)")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="a Ray cluster that is there; default: one of its own, on loopback")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the server half over HTTP until interrupted."""
    from hecompile.runtime.service import load_service
    from hecompile.runtime.serving.owners import judge_proxies, read_tokens

    tokens = None if token_file is None else read_tokens(token_file)
    proxies = judge_proxies(trust_proxy or [])
    given = {
        "connections": connections, "queue_s": queue_s, "body_bytes": _bytes("--body-mib", body_mib),
        "key_bytes": _bytes("--key-mib", key_mib), "sessions": sessions, "session_idle_s": session_idle_s,
    }  # fmt: skip
    numbers = {"replicas": replicas, "idle_replicas": idle_replicas, "threads": threads, "shards": shards}
    workers = {name: number for name, number in numbers.items() if number is not None}
    if not ray:
        if workers or ray_address is not None:
            option = next(iter(workers), "ray_address").replace("_", "-")
            raise CompileError(Diagnostic(f"--{option} without --ray: there are no workers", help="add --ray, or leave it out"))
        _serve(
            load_service(artifact, None if device == "cpu" else device), host, port, given, tokens, proxies, openapi, as_json, None
        )
        return
    if device != "cpu":
        raise CompileError(Diagnostic(f"--device {device} with --ray: workers compute on processors", help="leave one of them out"))
    from hecompile.runtime.serving.cluster import Cluster, ClusterOptions

    options = ClusterOptions(address=ray_address, **workers)
    with Cluster(artifact, options) as cluster:
        _serve(cluster.open(), host, port, given, tokens, proxies, openapi, as_json, cluster)


def _serve(
    service: Service, host: str, port: int, given: Mapping[str, float | None], tokens: Tokens | None, proxies: list[str],
    openapi: bool, as_json: bool, cluster: Cluster | None,
) -> None:  # fmt: skip
    """Listen, say so, and serve. `given`: the limits that the user chose; `cluster`: who evaluates, if others do."""
    from hecompile.runtime.server import bind, is_loopback, serve_socket
    from hecompile.runtime.serving.limits import limits_of_machine

    limits = limits_of_machine(service.body_limit, **given)
    service.sessions.limit(limits.sessions, limits.key_bytes, limits.session_idle_s)
    try:
        listener = bind(host, port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise HecompileError(f"cannot listen on {host}:{port}: {reason}") from error
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    if not is_loopback(listener):
        sys.stderr.write(
            f"warning: {address} is plain HTTP for other machines: put a proxy with TLS in front, and listen on loopback\n"
        )
    if as_json:
        print_json(
            {"url": address, "artifact": service.digest, "encrypted": service.encrypted, "limits": limits.document()}
            | ({} if tokens is None else {"tokens": len(tokens)})
            | ({} if cluster is None else {"workers": cluster.options.document()})
        )
        sys.stdout.flush()
    else:
        say(f"{service.name} ({service.digest[:12]}) on {address}")
        say(f"{limits}{'' if tokens is None else f'; {len(tokens)} tokens open it'}")
        if cluster is not None:
            say(str(cluster.options))
    serve_socket(service, listener, limits, tokens, proxies, openapi, cluster)


def _bytes(option: str, mib: float | None) -> int | None:
    """What an option in MiB says. Raises `CompileError` for what is no number of bytes."""
    if mib is not None and not 0 < mib < 2**40:  # nan and infinity are none either
        raise CompileError(f"{option} {mib:g}: a number of MiB above zero is expected")
    return None if mib is None else int(mib * 2**20)
