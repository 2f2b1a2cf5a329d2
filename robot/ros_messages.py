"""What ROS 2 messages say, as arrays: read by the names of their fields, whichever library made the message.

rclpy, rosbags and cyclonedds give objects of different classes with the same fields, so nothing here imports any of
them. Times are whole nanoseconds, as in ROS. Every error is a TongsError that names the message's type and field.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError

FIELD = re.compile(r"[A-Za-z_]\w*(\[\d+\])?(\.[A-Za-z_]\w*(\[\d+\])?)*")
"""A path to a field: `pose.position.x`, `data[2]`, `wrench.force.z`."""

TYPE = re.compile(r"[a-z]\w*/(msg|srv|action)/[A-Z]\w*")
"""The name of a type: `sensor_msgs/msg/JointState`."""

_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


def type_name(message: Any) -> str:
    """The message's type, such as `sensor_msgs/msg/JointState`."""
    name = getattr(message, "__msgtype__", None)  # rosbags
    if name is None:
        package, _, _ = type(message).__module__.partition(".")  # rclpy: sensor_msgs.msg._joint_state
        name = f"{package}/msg/{type(message).__name__}"
    return str(name)


def header_stamp(message: Any) -> int | None:
    """Nanoseconds of `header.stamp`; None if the message has no header."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    return None if stamp is None else int(stamp.sec) * 10**9 + int(stamp.nanosec)


def frame_id(message: Any) -> str:
    """`header.frame_id`, or "" without a header."""
    return str(getattr(getattr(message, "header", None), "frame_id", ""))


def field(message: Any, path: str) -> Any:
    """The value at a path such as `data[2]`; an array stays an array."""
    value = message
    for part in path.split("."):
        name, _, index = part.partition("[")
        if not hasattr(value, name):
            raise TongsError(f"{type_name(message)} has no field {path!r}")
        value = getattr(value, name)
        if index:
            place = int(index[:-1])
            if not hasattr(value, "__len__") or place >= len(value):
                raise TongsError(f"{type_name(message)} has no entry {path!r}")
            value = value[place]
    return value


def numbers(message: Any, path: str) -> NDArray[np.float64]:
    """The number or the numbers at a path, shape (D,)."""
    try:
        return np.atleast_1d(np.asarray(field(message, path), np.float64)).ravel()
    except (TypeError, ValueError) as error:
        raise TongsError(f"field {path!r} of {type_name(message)} is no number") from error


def text(message: Any, path: str = "data") -> str:
    """The text at a path."""
    value = field(message, path)
    if not isinstance(value, str):
        raise TongsError(f"field {path!r} of {type_name(message)} is no text")
    return value


def joints(message: Any, path: str, names: Sequence[str]) -> NDArray[np.float64]:
    """One value per joint of a JointState, or of the last point of a JointTrajectory, found by the joint's name; `path`
    is position, velocity or effort."""
    if hasattr(message, "joint_names"):
        present, values = list(message.joint_names), _last_point(message, path)
    else:
        present, values = list(field(message, "name")), field(message, path)
    if missing := [name for name in names if name not in present]:
        raise TongsError(f"joint {', '.join(missing)} is missing; the message has {', '.join(present) or 'no joints'}")
    if len(values) != len(present):
        raise TongsError(f"{type_name(message)} has {len(present)} names and {len(values)} entries of {path}")
    return np.array([float(values[present.index(name)]) for name in names])


def _last_point(message: Any, path: str) -> Any:
    if not len(message.points):
        raise TongsError(f"{type_name(message)} has no points")
    return field(message.points[-1], {"position": "positions", "velocity": "velocities"}.get(path, path))


def pose(message: Any) -> NDArray[np.float64]:
    """Position (m) and unit quaternion w, x, y, z with w >= 0, shape (7,), of a Pose, PoseStamped, Transform,
    TransformStamped, or of a message that holds one with covariance."""
    body = message
    for name in ("transform", "pose", "pose"):
        body = getattr(body, name, body)
    position = getattr(body, "position", getattr(body, "translation", None))
    rotation = getattr(body, "orientation", getattr(body, "rotation", None))
    if position is None or rotation is None:
        raise TongsError(f"{type_name(message)} holds no pose")
    quaternion = np.array([rotation.w, rotation.x, rotation.y, rotation.z], np.float64)
    length = float(np.linalg.norm(quaternion))
    if not 0.9 < length < 1.1:
        raise TongsError(f"the quaternion {quaternion.tolist()} of {type_name(message)} is no rotation")
    quaternion *= np.copysign(1.0 / length, quaternion[0])
    return np.concatenate([[position.x, position.y, position.z], quaternion])


def image(message: Any, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture of an Image or CompressedImage, uint8 (H, W, 3) RGB; one grey channel is repeated.

    A raw `rgb8` picture is not copied: it cannot be written to.

    Args:
        message: of either type.
        size: (height, width) that it will be scaled down to. A JPEG file is then decoded smaller by 2, 4 or 8, which
            libjpeg does at a fraction of the cost, if what is left to do is a whole factor.
    """
    if hasattr(message, "encoding"):
        return _raw(message)
    if hasattr(message, "format"):
        return _compressed(message, size)
    raise TongsError(f"{type_name(message)} is no image")


def _raw(message: Any) -> NDArray[np.uint8]:
    encoding, height, width, step = message.encoding, int(message.height), int(message.width), int(message.step)
    if encoding not in _CHANNELS:
        kind = "a depth picture" if encoding in ("16UC1", "32FC1", "mono16") else "not a known colour picture"
        raise TongsError(f"an image of encoding {encoding!r} is {kind}; known are {', '.join(_CHANNELS)}")
    channels = _CHANNELS[encoding]
    data = np.asarray(message.data if hasattr(message.data, "__len__") else list(message.data), np.uint8)
    if step < width * channels or len(data) < height * step:
        raise TongsError(
            f"an image of {height}x{width} {encoding} needs {height * width * channels} bytes, "
            f"got {len(data)} in rows of {step}"
        )
    rows = data[: height * step].reshape(height, step)  # a row may be longer than its pixels
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., 2::-1] if encoding.startswith("bgr") else pixels[..., :3])


def _compressed(message: Any, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    if "compressedDepth" in message.format:
        raise TongsError(f"an image of format {message.format!r} is a depth picture; only colour can be read")
    data = message.data
    try:
        with Image.open(io.BytesIO(bytes(data) if isinstance(data, list) else data)) as picture:
            _draft(picture, size)
            if picture.mode.startswith(("I", "F")):
                raise TongsError(f"an image of format {message.format!r} and mode {picture.mode} is a depth picture")
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise TongsError(f"a compressed image ({message.format!r}) cannot be decoded: {error}") from error


def _draft(picture: Any, size: tuple[int, int] | None) -> None:
    """Have a JPEG file decoded smaller, by the largest factor that leaves a whole one to `size`."""
    if size is None or picture.format != "JPEG":
        return
    (width, height), (rows, columns) = picture.size, size
    for factor in (8, 4, 2):
        tall, wide = height // factor, width // factor
        if height % factor == width % factor == 0 and tall % rows == 0 and wide % columns == 0 and tall and wide:
            picture.draft(None, (wide, tall))
            return
