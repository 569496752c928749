"""The command that serves an artifact over HTTP: `hecompile serve`."""

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
    from hecompile.runtime.serving.client_identity import Tokens
    from hecompile.runtime.serving.cluster import Cluster

__all__ = ["serve"]


def serve(
    artifact: Annotated[Path, typer.Argument(help="folder of an artifact, or of its server half alone")],
    host: Annotated[
        str, typer.Option(help="address to listen on; any other than loopback needs a TLS proxy in front")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0: any free port", min=0, max=65535)] = 8100,
    token_file: Annotated[
        Path | None,
        typer.Option(help="file with the bearer tokens that this server accepts, one per line; default: serve everybody"),
    ] = None,
    trust_proxy: Annotated[
        list[str] | None, typer.Option(help="address of a proxy whose X-Forwarded-For header is trusted; may be repeated")
    ] = None,
    connections: Annotated[
        int | None, typer.Option(help="most open connections; default: as the limit of open files allows")
    ] = None,
    queue_s: Annotated[float | None, typer.Option(help="longest expected wait of a request, in seconds; default: 30")] = None,
    body_mib: Annotated[
        float | None, typer.Option(help="memory for requests that arrive or wait, in MiB; default: as the memory allows")
    ] = None,
    key_mib: Annotated[
        float | None, typer.Option(help="memory for the evaluation keys of all sessions, in MiB; default: as the memory allows")
    ] = None,
    sessions: Annotated[int | None, typer.Option(help="most open sessions; default: 64")] = None,
    session_idle_s: Annotated[float | None, typer.Option(help="seconds after which an unused session ends; default: 1800")] = None,
    openapi: Annotated[bool, typer.Option("--openapi", help="also serve /openapi.json, a description of the routes")] = False,
    device: Annotated[
        str,
        typer.Option(
            help="device that computes the products of bfv: cpu, cuda, or one of several GPUs such as cuda:1; cuda needs torch"
        ),
    ] = "cpu",
    ray: Annotated[bool, typer.Option("--ray", help="evaluate with workers on Ray Serve; needs the extra 'ray'")] = False,
    replicas: Annotated[int | None, typer.Option(help="most workers per shard; default: as the processors allow")] = None,
    idle_replicas: Annotated[int | None, typer.Option(help="workers per shard that stay without requests; default: 1")] = None,
    threads: Annotated[int | None, typer.Option(help="threads per worker; default: 1")] = None,
    shards: Annotated[int | None, typer.Option(help="workers that share each evaluation by output channels; default: 1")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="address of a running Ray cluster; default: start one on loopback")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the server half of an artifact over HTTP until interrupted."""
    from hecompile.runtime.service import load_service
    from hecompile.runtime.serving.client_identity import check_proxies, read_tokens

    tokens = None if token_file is None else read_tokens(token_file)
    proxies = check_proxies(trust_proxy or [])
    given = {
        "connections": connections, "queue_s": queue_s, "body_bytes": _bytes("--body-mib", body_mib),
        "key_bytes": _bytes("--key-mib", key_mib), "sessions": sessions, "session_idle_s": session_idle_s,
    }  # fmt: skip
    numbers = {"replicas": replicas, "idle_replicas": idle_replicas, "threads": threads, "shards": shards}
    workers = {name: number for name, number in numbers.items() if number is not None}
    if not ray:
        if workers or ray_address is not None:
            option = next(iter(workers), "ray_address").replace("_", "-")
            raise CompileError(
                Diagnostic(
                    f"--{option} has no effect without --ray: there are no workers", help=f"add --ray, or leave --{option} out"
                )
            )
        _serve(
            load_service(artifact, None if device == "cpu" else device), host, port, given, tokens, proxies, openapi, as_json, None
        )
        return
    if device != "cpu":
        raise CompileError(
            Diagnostic(
                f"--device {device} cannot be combined with --ray: workers compute on processors", help="leave one of them out"
            )
        )
    from hecompile.runtime.serving.cluster import Cluster, ClusterOptions

    options = ClusterOptions(address=ray_address, **workers)
    with Cluster(artifact, options) as cluster:
        _serve(cluster.open(), host, port, given, tokens, proxies, openapi, as_json, cluster)


def _serve(
    service: Service, host: str, port: int, given: Mapping[str, float | None], tokens: Tokens | None, proxies: list[str],
    openapi: bool, as_json: bool, cluster: Cluster | None,
) -> None:  # fmt: skip
    """Listen, print the address, and serve. `given` are the limits that the user set; `cluster` are the workers, if there are
    any."""
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
            f"warning: {address} is plain HTTP that other machines can reach: put a TLS proxy in front, and listen on loopback\n"
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
        say(f"{limits}{'' if tokens is None else f'; {len(tokens)} tokens are accepted'}")
        if cluster is not None:
            say(str(cluster.options))
    serve_socket(service, listener, limits, tokens, proxies, openapi, cluster)


def _bytes(option: str, mib: float | None) -> int | None:
    """Convert the MiB of an option to bytes. Raises `CompileError` for a number that is not positive or too large."""
    if mib is not None and not 0 < mib < 2**40:  # also refuses nan and infinity
        raise CompileError(f"{option} {mib:g}: it must be a number of MiB above zero")
    return None if mib is None else int(mib * 2**20)
