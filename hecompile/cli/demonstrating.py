"""The command that opens a page on which captions are drawn privately: `hecompile demo`."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from hecompile.cli.console import Json, print_json, say

__all__ = ["demo"]


def demo(
    port: Annotated[int, typer.Option(help="port of the page, on this machine alone; 0 takes a free one", min=0, max=65535)] = 0,
    server: Annotated[
        str | None,
        typer.Option(help="URL of a server of the folder's strict-*.he; without it a server is started in a second process"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="where compiled artifacts are kept and found again; default: demo in ~/.cache/hecompile"),
    ] = None,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="open the page in the browser of this desktop")] = True,
    as_json: Json = False,
) -> None:
    """Open a page on which a caption becomes a picture that the server never sees, until interrupted."""
    from hecompile.demo.artifacts import default_folder
    from hecompile.demo.running import HOST, opened, page_server

    def tell(sentence: str) -> None:
        sys.stderr.write(f"{sentence} ...\n")

    with opened(default_folder() if folder is None else folder.expanduser(), server, port, tell) as (app, listener, studio):
        url = f"http://{HOST}:{listener.getsockname()[1]}/"
        if as_json:
            print_json({"url": url, "server": server, "servers": studio.servers})
        else:
            say(f"{url} - the page is open to this machine alone; Ctrl-C ends it and its servers")
        sys.stdout.flush()
        if browser and _has_desktop():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        page_server(app).run(sockets=[listener])


def _has_desktop() -> bool:
    """Whether there is a screen for a browser. Without one `webbrowser` may start a browser of text in this terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
