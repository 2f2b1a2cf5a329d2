"""ROS 2 messages without ROS, of the classes that `rosbags` has for them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("rosbags")

from rosbags.typesys import Stores, get_typestore  # noqa: E402

STORE = get_typestore(Stores.ROS2_JAZZY)
SECOND = 10**9


def make(kind: str, *fields: Any) -> Any:
    """A message such as `make("std_msgs/msg/Float64", 0.5)`, fields in their order."""
    return STORE.types[kind](*fields)


def header(stamp: int, frame: str = "base") -> Any:
    time = make("builtin_interfaces/msg/Time", stamp // SECOND, stamp % SECOND)
    return make("std_msgs/msg/Header", time, frame)


def text(words: str) -> Any:
    return make("std_msgs/msg/String", words)


def boolean(value: bool) -> Any:
    return make("std_msgs/msg/Bool", value)


def joint_state(stamp: int, positions: dict[str, float]) -> Any:
    values = np.array(list(positions.values()), np.float64)
    return make("sensor_msgs/msg/JointState", header(stamp), list(positions), values, np.zeros(0), np.zeros(0))


def float_array(*values: float) -> Any:
    layout = make("std_msgs/msg/MultiArrayLayout", [], 0)
    return make("std_msgs/msg/Float64MultiArray", layout, np.array(values, np.float64))


def _pose(position: Any, quaternion_xyzw: Any, kinds: tuple[str, str, str]) -> Any:
    point = make(f"geometry_msgs/msg/{kinds[1]}", *map(float, position))
    rotation = make("geometry_msgs/msg/Quaternion", *map(float, quaternion_xyzw))
    return make(f"geometry_msgs/msg/{kinds[0]}", point, rotation)


def pose(stamp: int, position: Any, quaternion_xyzw: Any, frame: str = "base") -> Any:
    body = _pose(position, quaternion_xyzw, ("Pose", "Point", ""))
    return make("geometry_msgs/msg/PoseStamped", header(stamp, frame), body)


def transform(stamp: int, position: Any, quaternion_xyzw: Any) -> Any:
    body = _pose(position, quaternion_xyzw, ("Transform", "Vector3", ""))
    return make("geometry_msgs/msg/TransformStamped", header(stamp), "tool", body)


def twist(stamp: int, linear: Any, angular: Any) -> Any:
    parts = [make("geometry_msgs/msg/Vector3", *map(float, part)) for part in (linear, angular)]
    return make("geometry_msgs/msg/TwistStamped", header(stamp), make("geometry_msgs/msg/Twist", *parts))


def raw_image(stamp: int, rows: NDArray[np.uint8], encoding: str, width: int) -> Any:
    """From rows (H, step) of bytes as they lie in the message."""
    height, step = rows.shape
    return make("sensor_msgs/msg/Image", header(stamp), height, width, encoding, 0, step, rows.ravel())


def rgb_image(stamp: int, pixels: NDArray[np.uint8], encoding: str = "rgb8") -> Any:
    """A colour picture (H, W, 3) RGB."""
    ordered = pixels[..., ::-1] if encoding == "bgr8" else pixels
    return raw_image(stamp, np.ascontiguousarray(ordered).reshape(len(pixels), -1), encoding, pixels.shape[1])


def compressed_image(stamp: int, pixels: NDArray[Any], kind: str) -> Any:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind.upper(), **({"quality": 95} if kind == "jpeg" else {}))
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    return make("sensor_msgs/msg/CompressedImage", header(stamp), f"rgb8; {kind} compressed bgr8", data)
