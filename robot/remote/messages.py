"""What a policy server and its clients say to each other, and how it is packed: msgpack, checked against a schema.

Every list and text of a client's message has a longest length, so that none takes much more room read than sent.

A connection begins with the server's `Welcome`. Then the client speaks and the server answers each message with one:
`Hello` with `Done`, `Reset` with `Done`, `Remember` with `Done`, `Act` with `Chunk`, and whatever it cannot do with
`Refusal`.
"""

from __future__ import annotations

import math
from importlib import metadata
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError
from robot.interface import ActionChunk, ActionSpace, PolicySpec, RobotSpec
from robot.remote.pictures import Picture, Side

PROTOCOL = "tongs"
"""The websocket subprotocol; a client that does not ask for it is taken for openpi's."""
VERSION = 1
"""Both sides must have the same; it rises when an older side would misread a message."""
WORDS = 4096
"""The longest text, in characters."""

Name = Annotated[str, msgspec.Meta(max_length=WORDS)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=1024)]


def program() -> str:
    """This program and its version, as both sides call themselves."""
    try:
        return f"tongs {metadata.version('tongs')}"
    except metadata.PackageNotFoundError:
        return "tongs of unknown version"


class Array(msgspec.Struct, forbid_unknown_fields=True):
    """Numbers in C order; the type as NumPy writes it."""

    dtype: Literal["<f4", "<f8"]
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(max_length=2)]
    data: bytes


class Seen(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An `Observation`: the cameras that `Hello` declares, the state in its order, goals that are seen, of one or
    several moments, and a language motion that somebody chose."""

    images: Annotated[dict[Name, Picture], msgspec.Meta(max_length=64)]
    state: Array
    instruction: Name
    time: float
    goal_images: Annotated[list[Picture], msgspec.Meta(min_length=1, max_length=64)] | None = None
    goal_state: Array | None = None
    motion: Name = ""


class Space(msgspec.Struct):
    """An `ActionSpace`."""

    kind: Literal["ee_delta", "ee_pose", "joint_position"]
    names: Names
    units: Names
    low: Annotated[tuple[float, ...], msgspec.Meta(max_length=1024)]
    high: Annotated[tuple[float, ...], msgspec.Meta(max_length=1024)]
    frame: Name
    rate: float
    gripper_open: float


class Robot(msgspec.Struct):
    """A `RobotSpec`: what the client will send and execute."""

    cameras: Annotated[dict[Name, tuple[Side, Side]], msgspec.Meta(max_length=64)]
    state_names: Names
    action_space: Space

    @classmethod
    def of(cls, robot: RobotSpec) -> Robot:
        space = Space(**robot.action_space.to_json())
        return cls(dict(robot.cameras), robot.state_names, space)

    @property
    def spec(self) -> RobotSpec:
        """Raises ContractError if it is none."""
        space = ActionSpace.from_json(msgspec.structs.asdict(self.action_space))
        return RobotSpec(self.cameras, self.state_names, space)


class FromClient(msgspec.Struct, tag_field="type", forbid_unknown_fields=True):
    """Any message of a client."""


class Hello(FromClient, tag="hello"):
    """Who is there, and what it will send and execute."""

    version: int
    client: Name
    robot: Robot


class Reset(FromClient, tag="reset"):
    """Begin an episode."""

    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Act(FromClient, tag="act"):
    """Ask for a chunk that starts at the observation's time."""

    observation: Seen


class Remember(FromClient, tag="remember"):
    """Show what is seen between two chunks, see `robot.interface.RememberingPolicy`."""

    observation: Seen


class FromServer(msgspec.Struct, tag_field="type"):
    """Any message of a server. Fields that a client does not know are left out of account."""


class Welcome(FromServer, tag="welcome"):
    """The first message of every connection.

    Attributes:
        version: of these messages.
        server: the server's program and its version.
        policy: the name it is served under.
        spec: what it needs and gives.
        sampling: its sampling settings.
        checkpoint: SHA-256 of the files that decide what it does, by name.
        max_bytes: the longest message that the server reads.
    """

    version: int
    server: str
    policy: str
    spec: PolicySpec
    sampling: dict[str, Any]
    checkpoint: dict[str, str]
    max_bytes: int


class Done(FromServer, tag="done"):
    """The message was carried out."""


class Chunk(FromServer, tag="chunk"):
    """The answer to `Act`: (H, A) float32 and (H,) float64; seconds waited for others, and computed; the language
    motion that is carried out, with who chose it; and what a policy of two levels chose to do."""

    actions: Array
    times: Array
    waited: float
    computed: float
    motion: str = ""
    motion_source: Literal["human", "model"] = "model"
    command: Name = ""


class Refusal(FromServer, tag="refusal"):
    """One sentence: what was wrong, which value, what would be right."""

    message: str


class Version(msgspec.Struct):
    """What can be read of a `Welcome` or `Hello` of any version."""

    version: int


Request = Hello | Reset | Act | Remember
Reply = Welcome | Done | Chunk | Refusal
_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Reply)


def pack(message: Request | Reply) -> bytes:
    return _encoder.encode(message)


def read_request(data: bytes) -> Request:
    """A client's message. Raises TongsError if it is none."""
    return _read(_requests, data)


def read_reply(data: bytes) -> Reply:
    """A server's message. Raises TongsError if it is none."""
    return _read(_replies, data)


def read_version(data: bytes) -> int | None:
    """The version that a message names; None if it names none."""
    try:
        return msgspec.msgpack.decode(data, type=Version).version
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError):
        return None


def _read(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise TongsError(f"the message does not follow the schema: {_sentence(error)}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError) as error:
        raise TongsError(f"the message is no msgpack: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def pack_array(array: NDArray[np.float32] | NDArray[np.float64]) -> Array:
    return Array("<f4" if array.dtype == np.float32 else "<f8", array.shape, array.tobytes())


def unpack_array(array: Array, name: str) -> NDArray[Any]:
    """The numbers, an array of its own. Raises ContractError if bytes and shape do not go together."""
    dtype = np.dtype(array.dtype)
    if math.prod(array.shape) * dtype.itemsize != len(array.data):
        raise ContractError(f"{name}: {array.dtype} of shape {array.shape} does not have {len(array.data)} bytes")
    return np.frombuffer(array.data, dtype).reshape(array.shape).copy()


def unpack_chunk(chunk: Chunk) -> ActionChunk:
    """Raises ContractError if it holds no action chunk."""
    actions, times = unpack_array(chunk.actions, "actions"), unpack_array(chunk.times, "times")
    actions, times = actions.astype(np.float32, copy=False), times.astype(np.float64, copy=False)
    return ActionChunk(actions, times, chunk.motion, chunk.motion_source, chunk.command)
