"""Values as rclpy's messages want them: plain numbers, `array.array` for sequences of numbers, bytes for an octet."""

from __future__ import annotations

import array
from typing import Any

import numpy as np

_CODES = {
    "double": "d",
    "float": "f",
    "int8": "b",
    "uint8": "B",
    "octet": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
}
"""The array's type code for each type of ROS 2's interface language."""


def convert(value: Any, kind: str) -> Any:
    """A value for a field.

    Args:
        value: a number, text, message, NumPy array or list.
        kind: the field's type as `get_fields_and_field_types` says it: `double`, `sequence<uint8>`, `float[9]`.
    """
    element = kind.removeprefix("sequence<").partition(">")[0].partition(",")[0] if kind.startswith("sequence<") else ""
    if element in _CODES:
        code = _CODES[element]
        numbers = np.ascontiguousarray(value, dtype=np.dtype(code))
        made = array.array(code)
        made.frombytes(numbers.tobytes())
        return made
    if kind == "octet":
        return value if isinstance(value, bytes) else bytes([int(value)])
    return value.item() if isinstance(value, np.generic) else value
