"""Who may open the page: only this machine, or whoever has the token; and no other web site in somebody's name."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from robot.errors import TongsError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_COOKIE = "tongs_token"


def require_token(host: str, token: str | None, variable: str) -> None:
    """Raise TongsError for an address that others can reach without a token that keeps them out."""
    if host not in LOOPBACK and not token:
        raise TongsError(
            f"host={host} lets other machines drive the robot; set {variable} to a secret of your own, "
            "or keep host=127.0.0.1 and come through an SSH tunnel"
        )


class Gate:
    """ASGI middleware for pages and web sockets.

    With a token, a request needs it as ?token=... (once; a cookie keeps it) or as a cookie. Without one, the page has
    to be asked for under a name of this machine. A request that another site's page makes is refused.
    """

    def __init__(self, app: Any, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not self._admits(headers, given):
            await self._refuse(scope, receive, send)
            return

        async def with_cookie(message: Any) -> None:
            if message["type"] == "http.response.start" and self._token and given:
                cookie = f"{_COOKIE}={given}; Path=/; HttpOnly; SameSite=Strict"
                message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie.encode("latin-1"))]}
            await send(message)

        await self._app(scope, receive, with_cookie)

    def _admits(self, headers: dict[str, str], given: str) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return False
        if self._token is None:
            return urlsplit(f"//{host}").hostname in LOOPBACK
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        except CookieError:
            cookie = None
        known = [given, cookie.value if cookie else ""]
        return any(hmac.compare_digest(one.encode(), self._token.encode()) for one in known)

    @staticmethod
    async def _refuse(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        text = b"Open this page with the token that tongs was started with: ?token=...\n"
        head = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 403, "headers": head})
        await send({"type": "http.response.body", "body": text})
