"""A policy that runs on another machine, as a policy: what a robot needs to be driven by `tongs serve`."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import SplitResult

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from robot.errors import ContractError, TongsError, UnreachableError
from robot.images import scale_down
from robot.interface import ActionChunk, Observation, PolicySpec, RobotSpec, episode_seed, require_compatible
from robot.remote.address import PORT, TOKEN, parse, token_of_environment
from robot.remote.messages import (
    PROTOCOL,
    VERSION,
    Act,
    Chunk,
    Done,
    Hello,
    Refusal,
    Remember,
    Reply,
    Request,
    Reset,
    Robot,
    Seen,
    Welcome,
    pack,
    pack_array,
    program,
    read_reply,
    read_version,
    unpack_chunk,
)
from robot.remote.pictures import pack as pack_picture

Answer = TypeVar("Answer", bound=Reply)


class RemotePolicy:
    """The policy that a server serves, for one thread at a time; no call takes longer than it may.

    Pictures are scaled down to the policy's size before they travel, and nothing is sent that it does not read. With
    raw pictures, and a server that computes one request at a time (`batch=1`), the chunks are those of a local call.

    Args:
        url: such as "ws://localhost:8000", or "wss://..." for TLS, whose certificate must be trusted (SSL_CERT_FILE).
        token: what the server wants to know; by default what the environment variable TONGS_TOKEN holds.
        timeout: seconds that one call waits for its answer.
        connect_timeout: seconds that connecting may take.
        jpeg: the quality (1 to 95) of pictures that travel as JPEG files, which needs Pillow; None for raw ones.
        reconnect: whether an episode goes on, as a new one on the server, after a connection was lost. The call in
            which that is noticed raises all the same. Without it, `reset` connects again.

    Raises:
        UnreachableError: there is no server, or it does not answer in time.
        TongsError: it is no policy server, wants another token, or speaks another version.

    Attributes:
        welcome: what the server said of itself and its policy.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        connect_timeout: float = 5.0,
        jpeg: int | None = None,
        reconnect: bool = False,
    ) -> None:
        if jpeg is not None and not 1 <= jpeg <= 95:
            raise TongsError(f"jpeg must be a quality from 1 to 95, or None for raw pictures, got {jpeg}")
        self.url = url
        self._address = parse(url)
        self._token = token or token_of_environment()
        self._timeout, self._connect_timeout = timeout, connect_timeout
        self._jpeg, self._reconnect = jpeg, reconnect
        self._robot: RobotSpec | None = None
        self._seed: int | None = None
        self._lines: list[_Line] = [self._connected()]
        self.welcome: Welcome = self._lines[0].welcome

    @property
    def spec(self) -> PolicySpec:
        return self.welcome.spec

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling settings that the server was started with."""
        return self.welcome.sampling

    @property
    def checkpoint(self) -> dict[str, str]:
        """The SHA-256 of the files that decide what the policy does, by name."""
        return self.welcome.checkpoint

    def bind(self, robot: RobotSpec) -> None:
        """Prepare to act on a robot: from now on `Observation.state` is read by this robot's names.

        Raises:
            ContractError: the policy does not fit the robot.
        """
        require_compatible(self.spec, robot, f"the policy {self.welcome.policy} at {self.url}")
        self._robot = robot
        names = {name: column for column, name in enumerate(robot.state_names)}
        self._columns = np.array([names[name] for name in self.spec.state_names], np.intp)
        for line in self._lines:
            if line.alive:
                self._greet(line)

    def reset(self, seed: int) -> None:
        """Forget the episode; all randomness until the next reset follows from `seed`."""
        self._seed = seed
        first, *others = self._lines
        for line in others:
            line.close()
        self._lines = [first]
        if first.alive:
            with contextlib.suppress(UnreachableError):  # it may have been lost since; then it is opened anew
                first.ask(Reset(seed), Done)
                return
        self._lines = [self._ready_line()]
        self._lines[0].ask(Reset(seed), Done)

    def act(self, observation: Observation) -> ActionChunk:
        """The chunk that starts at `observation.time`."""
        return self.act_batch([observation])[0]

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per observation, of independent episodes that were all reset together; each has a connection.

        Raises:
            UnreachableError: the connection is lost, or the answer did not come in time.
            ContractError: not bound, not reset, or an observation that does not fit.
            TongsError: the server refuses, and says why.
        """
        self._require_reset()
        messages = [Act(self._seen(observation)) for observation in observations]
        return [unpack_chunk(reply) for reply in self._ask(messages, Chunk)]

    def remember(self, observations: Sequence[Observation]) -> None:
        """One observation per episode, at a control step at which no chunk is asked for."""
        self._require_reset()
        if self.spec.history > 1:
            self._ask([Remember(self._seen(observation)) for observation in observations], Done)

    def close(self) -> None:
        """End all connections; the next `reset` opens one again."""
        for line in self._lines:
            line.close()

    def __del__(self) -> None:
        for line in getattr(self, "_lines", []):
            line.close()

    def _ask(self, messages: Sequence[Act | Remember], kind: type[Answer]) -> list[Answer]:
        """One message and one answer per episode; all are sent before the first answer is waited for."""
        seed = self._require_reset()
        for row in range(len(messages)):
            if row < len(self._lines) and self._lines[row].alive:
                continue
            if row < len(self._lines) and not self._reconnect:
                raise UnreachableError(f"{self.url}: the connection was lost; reset begins a new episode")
            line = self._ready_line()
            line.ask(Reset(episode_seed(seed, row)), Done)
            self._lines[row : row + 1] = [line]
        lines = self._lines[: len(messages)]
        try:
            for line, message in zip(lines, messages, strict=True):
                line.send(message)
        except TongsError:
            for line in lines:  # those that were sent to would answer into the next question
                line.close(politely=False)
            raise
        deadline, answers, errors = time.monotonic() + self._timeout, [], []
        for line in lines:  # all are read, whatever one of them says
            try:
                answers.append(line.receive(kind, max(0.0, deadline - time.monotonic())))
            except TongsError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return answers

    def _require_reset(self) -> int:
        if self._seed is None:
            raise ContractError(f"the policy at {self.url}: call reset(seed) before the first act of an episode")
        return self._seed

    def _connected(self) -> _Line:
        return _Line(self.url, self._address, self._token, self._timeout, self._connect_timeout)

    def _ready_line(self) -> _Line:
        """A further connection, to the same policy."""
        line = self._connected()
        now, known = line.welcome, self.welcome
        if (now.spec, now.checkpoint, now.sampling) != (known.spec, known.checkpoint, known.sampling):
            line.close()
            raise ContractError(f"{self.url} now serves another policy: it was {known.policy} and is {now.policy}")
        if self._robot is not None:
            self._greet(line)
        return line

    def _greet(self, line: _Line) -> None:
        assert self._robot is not None
        spec = self.spec
        sent = RobotSpec(spec.cameras, spec.state_names, self._robot.action_space)
        line.ask(Hello(VERSION, program(), Robot.of(sent)), Done)

    def _seen(self, observation: Observation) -> Seen:
        """What travels of an observation: the policy's cameras at its size, its state entries in its order."""
        robot, spec = self._robot, self.spec
        if robot is None:
            raise ContractError(f"the policy at {self.url}: call bind(robot_spec) once before it acts")
        if len(observation.state) != len(robot.state_names):
            raise ContractError(
                f"the policy at {self.url}: the robot declares {len(robot.state_names)} state entries "
                f"and the observation has {len(observation.state)}"
            )
        images = {camera: self._picture(observation, camera, robot) for camera in spec.cameras}
        goal = observation.goal_image if "image" in spec.goals else None
        pictures = None if goal is None else goal[None] if goal.ndim == 3 else goal
        wanted = observation.goal_state if "state" in spec.goals else None
        return Seen(
            {camera: pack_picture(image, self._jpeg) for camera, image in images.items()},
            pack_array(observation.state[self._columns]),
            observation.instruction,
            float(observation.time),
            None if pictures is None else [pack_picture(picture, self._jpeg) for picture in pictures],
            None if wanted is None else pack_array(wanted[..., self._columns]),
            motion=observation.motion if "motion" in spec.goals else "",
        )

    def _picture(self, observation: Observation, camera: str, robot: RobotSpec) -> NDArray[np.uint8]:
        if camera not in observation.images:
            has = ", ".join(sorted(observation.images)) or "none"
            raise ContractError(f"the policy at {self.url} needs camera {camera!r}; the observation has: {has}")
        image, declared = observation.images[camera], tuple(robot.cameras[camera])
        if image.shape[:2] != declared:
            raise ContractError(
                f"camera {camera!r} of the robot was declared {declared[0]}x{declared[1]} "
                f"and gives {image.shape[0]}x{image.shape[1]}"
            )
        return scale_down(image, self.spec.cameras[camera])


class _Line:
    """One connection to the server, which has answered with its welcome; one episode at a time."""

    def __init__(
        self, url: str, address: SplitResult, token: str | None, timeout: float, connect_timeout: float
    ) -> None:
        self._url, self._timeout = url, timeout
        self._connection = _connect(url, address, token, connect_timeout)
        self._limit, self._due = 0, float("inf")
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()
        if self._connection.subprotocol != PROTOCOL:
            self.close()
            raise TongsError(f"what answers at {url} is no Tongs policy server: it does not speak {PROTOCOL!r}")
        data = self._data(min(timeout, connect_timeout))
        version = read_version(data)
        if version != VERSION:
            self.close()
            raise TongsError(
                f"the server at {url} speaks version {version} of the protocol and this client ({program()}) "
                f"version {VERSION}; use the same version of Tongs on both sides"
            )
        self.welcome: Welcome = self._expect(read_reply(data), Welcome)
        self._limit = self.welcome.max_bytes

    def ask(self, message: Request, kind: type[Answer]) -> Answer:
        self.send(message)
        return self.receive(kind, self._timeout)

    def send(self, message: Request) -> None:
        data = pack(message)
        if len(data) > self._limit:
            raise ContractError(
                f"a message of {len(data) / 2**20:.1f} MiB is more than the server at {self._url} reads "
                f"({self._limit >> 20} MiB); send smaller pictures, or start it with a larger message_mb"
            )
        self._due = time.monotonic() + self._timeout
        try:
            self._connection.send(data)
        except (WebSocketException, OSError) as error:
            if time.monotonic() >= self._due:
                raise self._late() from error
            raise self._lost(error) from error
        finally:
            self._due = float("inf")

    def receive(self, kind: type[Answer], timeout: float) -> Answer:
        data = self._data(timeout)
        try:
            reply = read_reply(data)
        except TongsError:
            self.close()
            raise
        return self._expect(reply, kind)

    @property
    def alive(self) -> bool:
        return not self._closed.is_set()

    def close(self, politely: bool = True) -> None:
        """With a word of goodbye where the other side is well."""
        if self.alive:
            self._closed.set()
            if not politely:
                _cut(self._connection)
            with contextlib.suppress(Exception):
                self._connection.close()

    def _watch(self) -> None:
        """Cut a connection on which sending takes too long: the kernel itself would wait for ever."""
        while not self._closed.wait(self._timeout / 4):
            if time.monotonic() >= self._due:
                _cut(self._connection)

    def _late(self) -> UnreachableError:
        self.close(politely=False)  # a late answer must not be taken for that of the next question
        return UnreachableError(f"the policy server at {self._url} did not answer within {self._timeout:g} s")

    def _data(self, timeout: float) -> bytes:
        try:
            data = self._connection.recv(timeout)
        except TimeoutError:
            raise self._late() from None
        except (WebSocketException, OSError) as error:
            raise self._lost(error) from error
        if isinstance(data, str):
            self.close()
            raise TongsError(f"the policy server at {self._url}: {data[:1000]}")
        return data

    def _expect(self, reply: Reply, kind: type[Answer]) -> Answer:
        if isinstance(reply, Refusal):
            raise TongsError(f"the policy server at {self._url}: {reply.message}")
        if not isinstance(reply, kind):
            self.close()
            raise TongsError(
                f"the policy server at {self._url} answered {type(reply).__name__} where {kind.__name__} was due"
            )
        return reply

    def _lost(self, error: Exception) -> UnreachableError:
        self.close(politely=False)
        why = "the connection was lost"
        if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.reason:
            why = f"the connection was closed: {error.rcvd.reason}"
        return UnreachableError(f"the policy server at {self._url}: {why}")


def _connect(url: str, address: SplitResult, token: str | None, connect_timeout: float) -> ClientConnection:
    deadline = time.monotonic() + connect_timeout
    host, port = address.hostname or "localhost", address.port or PORT
    where = f"{host}, port {port}"
    try:
        plain = socket.create_connection((host, port), connect_timeout)
    except ConnectionRefusedError as error:
        raise UnreachableError(
            f"nothing listens at {where}; is `tongs serve` running there, and is this the port that it printed?"
        ) from error
    except TimeoutError as error:
        raise UnreachableError(f"{where} did not answer within {connect_timeout:g} s") from error
    except OSError as error:
        raise UnreachableError(f"cannot reach {where}: {error.strerror or error}") from error
    try:
        return connect(
            address._replace(netloc=address.netloc if address.port else f"{address.netloc}:{PORT}").geturl(),
            sock=plain,
            subprotocols=[Subprotocol(PROTOCOL)],
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            compression=None,
            proxy=None,
            max_size=64 << 20,
            open_timeout=max(0.1, deadline - time.monotonic()),
            close_timeout=0.2,
        ).__enter__()  # the way in that all versions of websockets have
    except BaseException as error:
        plain.close()
        raise _not_open(error, url, token) from error


def _not_open(error: BaseException, url: str, token: str | None) -> BaseException:
    """The sentence for a handshake that failed."""
    if isinstance(error, InvalidStatus):
        status, body = error.response.status_code, bytes(error.response.body or b"").decode(errors="replace").strip()
        if status == 401:
            said = "does not take this token" if token else "wants a token"
            return TongsError(f"the policy server at {url} {said}; set {TOKEN} to the one it was started with")
        if status == 503:
            return UnreachableError(f"the policy server at {url}: {body[:300]}")
        return TongsError(f"what answers at {url} is no Tongs policy server: it answers with HTTP status {status}")
    if isinstance(error, TimeoutError):
        return UnreachableError(f"what listens at {url} did not complete the handshake in time")
    if isinstance(error, InvalidHandshake):
        return TongsError(f"what answers at {url} is no Tongs policy server: {' '.join(str(error).split())}")
    if isinstance(error, (OSError, EOFError)):
        said = getattr(error, "verify_message", None) or " ".join(str(error).split()) or type(error).__name__
        return UnreachableError(f"no connection to {url}: {said} (wss:// is for servers with TLS, ws:// for others)")
    return error


def _cut(connection: ClientConnection) -> None:
    """End a connection at once: whoever waits in it goes on, with an error."""
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
