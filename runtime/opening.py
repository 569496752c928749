"""Opens an artifact: loads and checks the client's half, and connects to the server of the other half."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from hecompile.errors import CompileError, Diagnostic
from hecompile.runtime.bundle import Bundle, load_bundle
from hecompile.runtime.downloading import downloaded, is_url
from hecompile.runtime.results import check_structure
from hecompile.runtime.saving import named_server
from hecompile.runtime.transports import AccessOptions, Transport, open_transport
from hecompile.runtime.transports.access import Access, access_of
from hecompile.runtime.transports.address import parse_url

__all__ = ["WEIGHT_OPTIONS", "open_artifact"]

# options of diffusers' `from_pretrained` for reading weights, which pipelines pass to each of their parts
WEIGHT_OPTIONS = frozenset(
    {
        "device_map", "disable_mmap", "force_download", "ignore_mismatched_sizes", "local_files_only", "low_cpu_mem_usage",
        "max_memory", "offload_folder", "offload_state_dict", "output_loading_info", "proxies", "quantization_config", "revision",
        "use_flashpack", "use_safetensors", "variant",
    }
)  # fmt: skip


def open_artifact(
    artifact: str | Path,
    server: str | Transport | None = None,
    *,
    policy: str = "strict",
    security_bits: int = 128,
    threads: int | None = None,
    public: Sequence[str] = (),
    backends: Sequence[str] = (),
    digest: str | None = None,
    cache_dir: str | Path | None = None,
    **access: Unpack[AccessOptions],
) -> tuple[Bundle, Transport]:
    """Return the checked client's half and a transport whose server serves the other half. See `hecompile.load` for arguments and
    errors."""
    unknown = sorted(set(access) - set(AccessOptions.__annotations__))
    if unknown:
        known = ", ".join(AccessOptions.__annotations__)
        raise TypeError(f"unknown options {', '.join(unknown)}; the known options for a server are {known}")
    given = sorted(name for name, value in access.items() if value is not None)
    if is_url(artifact):
        if server is None:
            raise CompileError(
                Diagnostic("a URL holds only the client's half of an artifact", help="name its server: server='https://...'")
            )
        folder = downloaded(str(artifact), digest, cache_dir, _access_to(str(artifact), server, access))
    elif digest is not None:
        raise CompileError(
            Diagnostic("digest= has no effect for a folder: its files are checked against its manifest", help="leave it out")
        )
    else:
        folder = Path(artifact).expanduser()
    bundle = load_bundle(folder, policy, security_bits, threads, public=public, backends=backends)
    check_structure(bundle.manifest.signature.results, len(bundle.manifest.plan.outputs))
    named = named_server(folder) if server is None else None
    if named is not None and given:
        raise CompileError(
            Diagnostic(f"{', '.join(given)}: not sent to a server that only the folder names", help="name it: server='https://...'")
        )
    if server is None and named is None and not (folder / "server").exists():
        raise CompileError(Diagnostic(f"{folder} holds only the client's half", help="name its server: server='https://...'"))
    if named is not None:
        return bundle, open_transport(bundle, named, credentials=False)
    return bundle, open_transport(bundle, server, **access)


def _access_to(url: str, server: str | Transport, options: AccessOptions) -> Access:
    """Return the access for downloading an artifact. Credentials are sent only if the artifact lies on the server itself."""
    site = parse_url(url)
    if isinstance(server, str) and (site.scheme, site.authority) == (parse_url(server).scheme, parse_url(server).authority):
        return access_of(options)
    return access_of({"verify": options.get("verify")}, credentials=False)
