"""openpi's wire format: what its `WebsocketClientPolicy` sends and expects.

Source: openpi-client 0.1 (`websocket_client_policy.py`, `msgpack_numpy.py`). The server speaks first, with any map; the
client sends one map per observation and gets one with "actions" (H, A); a text instead of bytes is an error. Arrays are
maps of `__ndarray__`, `data`, `dtype` and `shape`, scalars of `__npgeneric__`, `data` and `dtype`, all keys bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError
from robot.interface import Observation, PolicySpec
from robot.remote.messages import WORDS, Name
from robot.remote.pictures import SIDE
from robot.remote.session import Service, ask, in_thread, observation

DTYPES = ("|u1", "|b1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8")
"""The types of numbers that are read; never objects."""
STATE = "state"
"""The key of the settings that says where the state comes from; the others are cameras."""

_maps = msgspec.msgpack.Decoder(Annotated[dict[Name, msgspec.Raw], msgspec.Meta(max_length=64)])
_byte_maps = msgspec.msgpack.Decoder(Annotated[dict[bytes, msgspec.Raw], msgspec.Meta(max_length=4)])
_leaves = msgspec.msgpack.Decoder(str | bool | float | None | Annotated[list[float], msgspec.Meta(max_length=1024)])
_bytes = msgspec.msgpack.Decoder(bytes)


class OpenPiSession:
    """A client of openpi's, in one episode from its first observation to the end of its connection.

    Its keys are found by the names of the policy's cameras (`observation/<camera>`, `observation/<camera>_image`,
    `images/<camera>`, `<camera>`, and `observation/image` for the first), the state under `observation/state` or
    `state`, with as many entries as the policy reads and in its order; the server's settings may say otherwise.
    """

    format = "openpi"

    def __init__(self, service: Service) -> None:
        self._service = service
        self._episode: Any = None
        self._last = 0.0

    async def answer(self, data: bytes) -> bytes:
        began = time.perf_counter()
        seen = await in_thread(data, self._read, data)
        if self._episode is None:
            self._episode = await self._service.batcher.begin(0)
        answer = await ask(self._service, self._episode, seen)
        timing = {"infer_ms": 1000 * answer.computed, "prev_total_ms": 1000 * self._last}
        self._last = time.perf_counter() - began
        return msgspec.msgpack.encode({"actions": pack_array(answer.chunk.actions), "server_timing": timing})

    def refusal(self, sentence: str) -> str:
        return sentence

    def close(self) -> None:
        if self._episode is not None:
            self._service.batcher.end(self._episode)
            self._episode = None

    def _read(self, data: bytes) -> Observation:
        require_no_history(self._service.spec, "openpi's")
        try:
            seen = flat(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError) as error:
            raise TongsError(
                f"the message is no observation of openpi's: {' '.join(str(error).split())[:200]}"
            ) from error
        return read_observation(seen, self._service.spec, self._service.openpi)


def require_no_history(spec: PolicySpec, whose: str) -> None:
    """Raise unless chunks follow from the newest observation alone."""
    if spec.history > 1:
        raise ContractError(
            f"this policy wants {spec.history} observations a control period apart, also those between its chunks, "
            f"for which {whose} format has no message; use Tongs' own client"
        )


def pack_array(array: NDArray[Any]) -> dict[bytes, Any]:
    return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": array.shape}


def flat(data: bytes | msgspec.Raw, prefix: str = "", depth: int = 4) -> dict[str, msgspec.Raw]:
    """The nested maps of a message as one, keys joined by "/"; what is in them is not read yet."""
    found: dict[str, msgspec.Raw] = {}
    for key, value in _maps.decode(data).items():
        try:
            found |= flat(value, f"{prefix}{key}/", depth - 1) if depth and _is_map(value) else {prefix + key: value}
        except msgspec.ValidationError:  # an array is a map too, its keys are bytes
            found[prefix + key] = value
    return found


def _is_map(value: msgspec.Raw) -> bool:
    """By the first byte: msgpack's fixmap, map 16 or map 32."""
    head = memoryview(value)[0]
    return 0x80 <= head <= 0x8F or head in (0xDE, 0xDF)


def read_value(value: msgspec.Raw) -> Any:
    """An array, a scalar, a text or a list of numbers."""
    if not _is_map(value):
        return _leaves.decode(value)
    parts = _byte_maps.decode(value)
    nothing = msgspec.Raw(b"\xc0")
    if b"__ndarray__" not in parts:
        return _leaves.decode(parts.get(b"data", nothing))
    dtype, shape = (_leaves.decode(parts.get(name, nothing)) for name in (b"dtype", b"shape"))
    return read_array(dtype, shape, _bytes.decode(parts.get(b"data", nothing)))


def read_array(dtype: Any, shape: Any, data: bytes) -> NDArray[Any]:
    """An array whose parts come from outside. Raises TongsError unless they go together."""
    if dtype not in DTYPES:
        raise TongsError(f"arrays must be of type {', '.join(DTYPES)}, got {str(dtype)[:100]!r}")
    sides: list[Any] = shape if isinstance(shape, list) else [None]
    whole = len(sides) <= 4 and all(isinstance(side, (int, float)) and side >= 0 and side % 1 == 0 for side in sides)
    kind = np.dtype(dtype)
    if not whole or math.prod(sides) * kind.itemsize != len(data):
        raise TongsError("an array needs a shape of at most 4 sides, and as many bytes as fill it")
    return np.frombuffer(data, kind).reshape([int(side) for side in sides]).copy()


def read_observation(seen: Mapping[str, msgspec.Raw], spec: PolicySpec, settings: Mapping[str, Any]) -> Observation:
    """The observation in a map of openpi's. It names no time; that of the server's clock is taken."""
    images = {}
    for number, camera in enumerate(spec.cameras):
        keys = [f"observation/{camera}", f"observation/{camera}_image", f"images/{camera}", camera]
        keys += ["observation/image"] if number == 0 else []
        images[camera] = read_image(_find(seen, settings.get(camera), keys, f"camera {camera!r}"), camera, spec)
    state = np.empty(0, np.float32)
    if spec.state_names:
        wanted = settings.get(STATE)
        keys = [wanted] if isinstance(wanted, str) else wanted
        parts = keys and [_find(seen, key, [], "the state") for key in keys]
        state = read_state(parts or [_find(seen, None, ["observation/state", "state"], "the state")], spec)
    prompt = _find(seen, None, ["prompt"], "the instruction") if "prompt" in seen else ""
    if not isinstance(prompt, str) or len(prompt) > WORDS:
        raise TongsError(f"prompt must be a text of at most {WORDS} characters")
    return observation(images, state, prompt, time.monotonic())


def read_image(image: Any, camera: str, spec: PolicySpec) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of an array (H, W, 3) or (3, H, W) that is at least as large as the policy's pictures."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        raise ContractError(f"camera {camera!r}: expected an array uint8 (H, W, 3)")
    if image.shape[2] != 3 and image.shape[0] == 3:
        image = np.ascontiguousarray(image.transpose(1, 2, 0))
    height, width = spec.cameras[camera]
    if image.shape[2] != 3 or not (height <= image.shape[0] <= SIDE and width <= image.shape[1] <= SIDE):
        raise ContractError(
            f"camera {camera!r}: images of {'x'.join(map(str, image.shape))} were sent, and the policy works at "
            f"{height}x{width}x3; send at least that"
        )
    return image


def read_state(parts: Sequence[Any], spec: PolicySpec) -> NDArray[np.float32]:
    """The numbers of all parts, in the order of the policy's names. Raises ContractError if their count is another."""
    kinds = all(isinstance(part, (np.ndarray, int, float)) or _numbers(part) for part in parts)
    state = np.concatenate([np.ravel(part) for part in parts]) if parts and kinds else np.empty(0)
    if len(state) != len(spec.state_names):
        raise ContractError(
            f"the policy reads {len(spec.state_names)} state entries ({', '.join(spec.state_names)}), got {len(state)}"
        )
    return state.astype(np.float32)


def _numbers(part: Any) -> bool:
    return isinstance(part, (list, tuple)) and all(isinstance(number, (int, float)) for number in part)


def _find(seen: Mapping[str, msgspec.Raw], chosen: Any, keys: Sequence[str], what: str) -> Any:
    for key in [str(chosen)] if chosen else keys:
        if key in seen:
            try:
                return read_value(seen[key])
            except (msgspec.DecodeError, UnicodeError, TongsError) as error:
                raise ContractError(f"{what} ({key}): {' '.join(str(error).split())[:300]}") from error
    has = ", ".join(sorted(seen))[:300] or "nothing"
    raise ContractError(f"{what} is looked for under {', '.join([str(chosen)] if chosen else keys)}; there are: {has}")
