"""Messages between a program's process and ours: MessagePack frames of bounded size, never a pickle."""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgpack
import numpy as np

from policies.lmp.sandbox.limits import SandboxLimits
from policies.lmp.sandbox.outcome import Geometry, Value

LARGEST_FRAME = 16 << 20
"""Bytes of one message. A sender that announces more is not ours."""
VARIABLES_BYTES = 8 << 20
"""Bytes that a session's variables may take on their way out together."""
DEPTH = 16
_ARRAY, _GEOMETRY = 1, 2
_HEADER = struct.Struct("<I")


class ChannelError(Exception):
    """What came is no message of ours."""


class ValueRefusedError(Exception):
    """A value that does not pass between a program and us; the message says why."""


@dataclass
class _Budget:
    numbers: int
    text: int
    limits: SandboxLimits

    def spend(self, numbers: int = 0, text: int = 0) -> None:
        self.numbers -= numbers
        self.text -= text
        if self.numbers < 0:
            raise ValueRefusedError(f"more than {self.limits.numbers} numbers and entries in one value")
        if self.text < 0:
            raise ValueRefusedError(f"more than {self.limits.text} characters in one value")


def plain(value: Any, limits: SandboxLimits) -> Value:
    """A copy of a value in the types of `Value`.

    Raises:
        ValueRefusedError: another type, or more of it than the limits let pass.
    """
    return _plain(value, _Budget(limits.numbers, limits.text, limits), 0)


def _plain(value: Any, budget: _Budget, depth: int) -> Value:
    if depth > DEPTH:
        raise ValueRefusedError(f"a value nested more than {DEPTH} deep")
    budget.spend(numbers=1)
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    if isinstance(value, int | np.integer):
        if not -(2**63) <= value < 2**63:
            raise ValueRefusedError("an integer of more than 64 bits")
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, str):
        budget.spend(text=len(value))
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueRefusedError("text with half of a surrogate pair")
        return str(value)
    if isinstance(value, np.ndarray):
        return _plain_array(value, budget, depth)
    if isinstance(value, list | tuple):
        return [_plain(item, budget, depth + 1) for item in value]
    if isinstance(value, Mapping):
        items: dict[str, Value] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueRefusedError(f"a dictionary with a key of type {type(key).__name__}; keys have to be text")
            items[str(_plain(key, budget, depth + 1))] = _plain(item, budget, depth + 1)
        return items
    if isinstance(value, Geometry):
        return Geometry(str(value.kind)[:40], _plain_coordinates(value.coordinates, budget, depth + 1))
    if hasattr(value, "geom_type") and type(value).__module__.startswith("shapely."):
        return _plain_geometry(value, budget, depth)
    raise ValueRefusedError(f"a value of type {type(value).__name__}")


def _plain_array(value: np.ndarray, budget: _Budget, depth: int) -> Value:
    if value.dtype.kind == "U":
        return _plain(value.tolist(), budget, depth)
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise ValueRefusedError(f"an array of {value.dtype}; arrays have to be of numbers")
    budget.spend(numbers=value.size)
    return np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(value.shape)


def _plain_geometry(value: Any, budget: _Budget, depth: int) -> Geometry:
    import shapely
    from shapely.geometry import mapping

    budget.spend(numbers=int(shapely.get_num_coordinates(value)) * 2)
    if value.geom_type == "GeometryCollection":
        raise ValueRefusedError("a GeometryCollection; hand over its parts")
    described = mapping(value)
    return Geometry(str(described["type"]), _plain_coordinates(described["coordinates"], budget, depth + 1))


def _plain_coordinates(value: Any, budget: _Budget, depth: int) -> list[Any]:
    if depth > DEPTH or not isinstance(value, list | tuple):
        raise ValueRefusedError("coordinates that are no nested lists of numbers")
    coordinates: list[Any] = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float):
            coordinates.append(_plain_coordinates(item, budget, depth + 1))
        else:
            budget.spend(numbers=1)
            coordinates.append(float(item))
    return coordinates


def pack(message: Mapping[str, Any]) -> bytes:
    """The bytes of a message whose values are `plain`."""
    return cast(bytes, msgpack.packb(message, default=_pack_ours))


def unpack(frame: bytes) -> dict[str, Any]:
    """The message in a frame.

    Raises:
        ChannelError: it is none.
    """
    try:
        message = msgpack.unpackb(frame, ext_hook=_unpack_ours, strict_map_key=True)
    except Exception as error:
        raise ChannelError(f"not a message: {error}") from None
    if not isinstance(message, dict):
        raise ChannelError(f"a message is a dictionary, not a {type(message).__name__}")
    return message


def _pack_ours(value: Any) -> msgpack.ExtType:
    if isinstance(value, np.ndarray):
        return msgpack.ExtType(_ARRAY, msgpack.packb([value.dtype.str, list(value.shape), value.tobytes()]))
    if isinstance(value, Geometry):
        return msgpack.ExtType(_GEOMETRY, msgpack.packb([value.kind, value.coordinates]))
    raise TypeError(f"no message can hold a {type(value).__name__}")


def _unpack_ours(code: int, payload: bytes) -> Any:
    if code == _ARRAY:
        name, shape, content = msgpack.unpackb(payload)
        dtype = np.dtype(str(name))
        if dtype.kind not in "biuf" or dtype.itemsize > 8 or len(shape) > 32:
            raise ChannelError(f"an array of {name}")
        return np.frombuffer(content, dtype).reshape([int(size) for size in shape]).copy()
    if code == _GEOMETRY:
        kind, coordinates = msgpack.unpackb(payload)
        return Geometry(str(kind), list(coordinates))
    raise ChannelError(f"an extension type {code}")


def send(descriptor: int, message: Mapping[str, Any]) -> None:
    """Write a message whole.

    Raises:
        OSError: the other side is gone.
        ChannelError: the message is too large.
    """
    frame = pack(message)
    if len(frame) > LARGEST_FRAME:
        raise ChannelError(f"a message of {len(frame)} bytes; at most {LARGEST_FRAME} pass")
    rest = memoryview(_HEADER.pack(len(frame)) + frame)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive_frame(descriptor: int, first: bytes = b"") -> bytes:
    """Read one frame; empty when the other side has closed.

    Args:
        first: what of it was read already.

    Raises:
        ChannelError: it announces more than a frame may hold, or ends in the middle.
    """
    header = _read(descriptor, _HEADER.size - len(first), first)
    if not header:
        return b""
    (size,) = _HEADER.unpack(header)
    if not 0 < size <= LARGEST_FRAME:
        raise ChannelError(f"a frame of {size} bytes; at most {LARGEST_FRAME} pass")
    return _read(descriptor, size, b"", whole=True)


def _read(descriptor: int, count: int, first: bytes, whole: bool = False) -> bytes:
    parts, missing = [first] if first else [], count
    while missing:
        part = os.read(descriptor, min(missing, 1 << 20))
        if not part:
            if parts or whole:
                raise ChannelError("the other side closed in the middle of a message")
            return b""
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
