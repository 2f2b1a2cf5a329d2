"""The address of a policy server, such as ws://localhost:8000, and the token that it may want."""

from __future__ import annotations

import os
from urllib.parse import SplitResult, urlsplit

from robot.errors import TongsError

TOKEN = "TONGS_TOKEN"
"""The environment variable that holds the token, of servers and clients."""
PORT = 8000
"""Of a server whose address names none."""


def parse(url: str) -> SplitResult:
    """Its parts. Raises TongsError if it is none."""
    try:
        address = urlsplit(url)
        good = address.scheme in ("ws", "wss") and bool(address.hostname) and (address.port is None or address.port > 0)
    except ValueError:
        good, address = False, SplitResult("", "", "", "", "")
    if not good or address.username or address.path not in ("", "/") or address.query or address.fragment:
        raise TongsError(f"a policy server's address is such as ws://localhost:8000 or wss://host:8000, got {url!r}")
    return address._replace(path="/")


def token_of_environment() -> str | None:
    """The token, if there is one."""
    return os.environ.get(TOKEN) or None
