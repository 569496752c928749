"""Who may talk to the page: itself, on this machine. Other sites that a browser has open may not."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "own_names"]

# nothing from elsewhere, no inline scripts, in no other page's frame; pictures come as `data:` addresses
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
READS = ("GET", "HEAD")


def own_names(port: int) -> frozenset[str]:
    """The names that a browser of this machine has for the page, as in a `Host` header."""
    names = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
    return frozenset(names | {name.removesuffix(":80") for name in names if port == 80})


class Guard:
    """Refuses what does not come from the page itself, and adds headers that keep the browser strict.

    A foreign name in `Host` is a site whose name was made to point here (DNS rebinding). A request that changes something must
    name this page as its `Origin`; browsers send that with every POST, and no site can choose it.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app, self._names = app, frozenset(names)
        self._origins = frozenset(f"http://{name}" for name in self._names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        reason = self._reason(str(scope["method"]), Headers(scope=scope))
        answer = self._app if reason is None else JSONResponse({"error": reason[1]}, status_code=reason[0])
        await answer(scope, receive, strict)

    def _reason(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Status and sentence of a refusal; None for what may pass."""
        if headers.getlist("host") != [headers.get("host")] or headers["host"].lower() not in self._names:
            return 421, "this page is known by another name: open the address that the command printed"
        if method in READS:
            return None
        if headers.get("origin", "").lower() not in self._origins or headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return 403, "only the page itself may ask for a picture"
        return None
