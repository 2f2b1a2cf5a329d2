"""The policy server: websocket, REST, health and metrics behind one port."""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiohttp import WSMsgType, web

from robot.errors import TongsError, unknown
from robot.interface import Observation, Policy, PolicySpec
from robot.remote import openvla
from robot.remote.address import TOKEN
from robot.remote.batching import Batcher
from robot.remote.messages import PROTOCOL, VERSION, Welcome, pack, program
from robot.remote.metrics import Metrics
from robot.remote.openpi import STATE, OpenPiSession
from robot.remote.session import SENTENCE, Service, Session, TongsSession, failed, reply

logger = logging.getLogger(__name__)
HASTE = 15.0
"""Seconds that a connection has for the head of its request, and a request for its body."""
HEARTBEAT = 30.0
"""Seconds between two pings; who does not answer within half of it is gone."""
STUCK = 60.0
"""After so many seconds in one call the policy counts as hanging."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class ServerConfig:
    """Where and for whom a policy is served.

    Attributes:
        host: an address of this machine; others than loopback need a token.
        port: 0 takes a free one.
        token: what clients must know; None lets in everybody who can reach the port.
        certificate, key: PEM files for TLS, both or none.
        clients: websocket connections at a time.
        batch: requests that are computed together; 1 makes answers the same to the last bit, whoever else asks.
        message_mb: the longest message in MiB.
        openpi: where the cameras and the state are in an openpi client's observation, see `OpenPiSession`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    certificate: str | None = None
    key: str | None = None
    clients: int = 16
    batch: int = 8
    message_mb: int = 16
    openpi: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("port", self.port, 0, 65535),
            ("clients", self.clients, 1, 1024),
            ("batch", self.batch, 1, 1024),
            ("message_mb", self.message_mb, 1, 1024),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise TongsError(f"{name} must be a whole number from {least} to {most}, got {value!r}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and len(self.token) >= 8):
            raise TongsError(f"the token ({TOKEN}) must have at least 8 printable ASCII characters")
        if (self.certificate is None) != (self.key is None):
            raise TongsError("TLS needs both: certificate=<PEM file> and key=<PEM file>")
        if self.token is None and not is_loopback(self.host):
            raise TongsError(
                f"host={self.host} can be reached from other machines, which needs a token: set {TOKEN} to a secret of "
                "at least 8 characters here and where the clients run, or keep host=127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether an address, or every address of a name, can be reached from this machine only."""
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host or "0.0.0.0", None)}
    except (OSError, UnicodeError) as error:
        raise TongsError(f"host={host} is no address of this machine") from error
    return all(ip_address(address).is_loopback for address in found)


class PolicyServer:
    """Serves one policy.

    Args:
        policy: bound to `robot.remote.session.canonical_robot(policy.spec)` where it wants to be bound.
        name: what clients are told it is called.
        config: see there.
        sampling, checkpoint: what clients are told of it, see `Welcome`.
    """

    def __init__(
        self,
        policy: Policy,
        name: str,
        config: ServerConfig,
        sampling: Mapping[str, Any] | None = None,
        checkpoint: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        for key in config.openpi:
            if key not in (*policy.spec.cameras, STATE):
                raise unknown("key", f"openpi.{key}", [f"openpi.{name}" for name in (*policy.spec.cameras, STATE)])
        metrics = Metrics()
        welcome = Welcome(
            VERSION,
            program(),
            name,
            policy.spec,
            dict(sampling or {}),
            dict(checkpoint or {}),
            config.message_mb << 20,
        )
        batcher = Batcher(policy, config.batch, metrics.saw_batch)
        self._service = Service(welcome, batcher, metrics, config.openpi)
        self._welcome = pack(welcome)
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self.port = config.port

    @property
    def url(self) -> str:
        scheme = "wss" if self.config.certificate else "ws"
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Let the policy answer once, then listen.

        Raises:
            TongsError: the policy cannot act, the port is taken, or the TLS files do not work.
        """
        context = _tls(self.config)
        await self._service.batcher.act_once(0, blank(self._service.spec))
        app = web.Application(middlewares=[self._guard], client_max_size=self._service.welcome.max_bytes)
        app.add_routes(
            [
                web.get("/", self._root),
                web.get("/healthz", self._health),
                web.get("/metrics", self._metrics),
                web.post("/act", self._act),
            ]
        )
        self._runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=HASTE, lingering_time=0.0, shutdown_timeout=2.0
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.config.host, self.config.port, ssl_context=context)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise TongsError(_cannot_listen(self.config, error)) from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Say goodbye to everybody and end the policy's thread."""
        await asyncio.gather(
            *(socket.close(code=1001, message=b"the server ends") for socket in set(self._sockets)),
            return_exceptions=True,
        )
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.get_running_loop().run_in_executor(None, self._service.batcher.close)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Browsers are kept out, so that no web page can ask a server on its visitor's machine; and strangers."""
        if "Origin" in request.headers:
            return self._refuse("browser", 403, "requests of web pages are not answered")
        if self.config.token is not None and request.path != "/healthz":
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            known = hmac.compare_digest(given.strip().encode(errors="replace"), self.config.token.encode())
            if scheme not in ("Bearer", "Api-Key") or not known:
                return self._refuse("token", 401, f"this server wants a token: set {TOKEN} to the server's")
        return await handler(request)

    def _refuse(self, reason: str, status: int, sentence: str) -> web.Response:
        self._service.metrics.refused.labels(reason).inc()
        return web.Response(status=status, text=sentence + "\n")

    async def _root(self, request: web.Request) -> web.StreamResponse:
        """A websocket, or for a person what is served here."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response(body=msgspec.json.encode(self._service.welcome))
        if len(self._sockets) >= self.config.clients:
            return self._refuse("full", 503, f"this server has its {self.config.clients} clients; ask later")
        limit = self._service.welcome.max_bytes
        socket = web.WebSocketResponse(
            protocols=(PROTOCOL,), compress=False, max_msg_size=limit, heartbeat=HEARTBEAT, decode_text=False
        )
        self._sockets.add(socket)
        self._service.metrics.clients.set(len(self._sockets))
        try:
            await socket.prepare(request)
            await self._talk(socket)
        except ConnectionError:
            pass  # the client is gone, which is its right
        finally:
            self._sockets.discard(socket)
            self._service.metrics.clients.set(len(self._sockets))
        return socket

    async def _talk(self, socket: web.WebSocketResponse) -> None:
        """Answer message after message. A task of its own reads, so that pings are answered while it computes."""
        await socket.send_bytes(self._welcome)
        session: Session = (TongsSession if socket.ws_protocol == PROTOCOL else OpenPiSession)(self._service)
        inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        room = asyncio.Semaphore(1)
        reader = asyncio.create_task(_read(socket, inbox, room))
        try:
            while (data := await inbox.get()) is not None:
                room.release()
                answer = await reply(session, data, self._service.metrics)
                await (socket.send_str(answer) if isinstance(answer, str) else socket.send_bytes(answer))
        finally:
            reader.cancel()
            session.close()

    async def _act(self, request: web.Request) -> web.Response:
        count = self._service.metrics.requests
        try:
            body = await asyncio.wait_for(request.read(), HASTE)
            answer = await openvla.act(self._service, body)
        except TongsError as error:
            status, sentence = 400, str(error)
        except asyncio.TimeoutError:
            status, sentence = 408, f"the request did not arrive within {HASTE:g} s"
        except web.HTTPRequestEntityTooLarge:
            status, sentence = 413, f"the request is longer than {self.config.message_mb} MiB"
        except Exception as error:
            status, sentence = 500, failed(error)
        else:
            count.labels("openvla", "answered").inc()
            return web.Response(body=answer, content_type="application/json")
        count.labels("openvla", "refused").inc()
        return web.json_response({"error": sentence[:SENTENCE]}, status=status)

    async def _health(self, request: web.Request) -> web.Response:
        batcher = self._service.batcher
        if not batcher.alive:
            return web.Response(status=503, text="the policy has died; start the server again\n")
        if batcher.busy > STUCK:
            return web.Response(status=503, text=f"the policy has not answered for {batcher.busy:.0f} s\n")
        return web.Response(text="OK\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        text = self._service.metrics.text()
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _read(socket: web.WebSocketResponse, inbox: asyncio.Queue[bytes | None], room: asyncio.Semaphore) -> None:
    """Messages of a client, as long as there is room for one more; None when there will be none."""
    try:
        while (message := await socket.receive()).type in (WSMsgType.BINARY, WSMsgType.TEXT):
            await room.acquire()
            inbox.put_nowait(message.data)
    finally:
        inbox.put_nowait(None)


def serve(server: PolicyServer, ready: Callable[[PolicyServer], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is told when the server listens.

    Raises:
        TongsError: see `PolicyServer.start`.
    """

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await server.start()
            ready(server)
            await asyncio.Event().wait()
        finally:
            await server.stop()

    with suppress(asyncio.CancelledError):
        asyncio.run(run())


def blank(spec: PolicySpec) -> Observation:
    """An observation that shows nothing."""
    images = {camera: np.zeros((*size, 3), np.uint8) for camera, size in spec.cameras.items()}
    state = np.zeros(len(spec.state_names), np.float32)
    picture = next(iter(images.values()), None) if "image" in spec.goals else None
    return Observation(images, state, "", 0.0, picture, state if "state" in spec.goals else None)


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    if config.certificate is None or config.key is None:
        return None
    for path in (config.certificate, config.key):
        if not Path(path).is_file():
            raise TongsError(f"there is no file {path}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.certificate, config.key)
    except (ssl.SSLError, OSError) as error:
        raise TongsError(f"{config.certificate} and {config.key} are no certificate with its key (PEM)") from error
    return context


def _cannot_listen(config: ServerConfig, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {config.port} of {config.host} is in use; choose another with port=, or port=0 for a free one"
    if error.errno == errno.EACCES:
        return f"port {config.port} may be used by root only; choose one above 1023"
    return f"cannot listen on {config.host}, port {config.port}: {error.strerror or error}"
