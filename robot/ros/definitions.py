"""Message classes from their definitions: ROS 2's own as `rosbags` has them, ours as `ros_ws/src/tongs_msgs` says.

They are dataclasses with NumPy arrays for sequences of numbers, and go to and from CDR without a copy per element.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot.errors import TongsError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

_CHECKOUT = Path(__file__).parents[2] / "ros_ws/src/tongs_msgs"
_INSTALLED = Path(sysconfig.get_path("data")) / "share/tongs_msgs"
PACKAGE = "tongs_msgs"
STANDARD_SERVICES: Mapping[str, str] = {
    "std_srvs/srv/Trigger": "---\nbool success\nstring message\n",
    "std_srvs/srv/SetBool": "bool data\n---\nbool success\nstring message\n",
    "moveit_msgs/srv/ServoCommandType": "int8 command_type\n---\nbool success\n",
}
"""Services of ROS 2 and MoveIt that `rosbags`, which knows only messages, does not have."""
_EMPTY = "uint8 structure_needs_at_least_one_member\n"


@cache
def store() -> Typestore:
    """Every message type known: ROS 2 Jazzy's, whose definitions that we use are Humble's too, and ours."""
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError as error:
        raise TongsError("ROS 2 messages without ROS need rosbags: pip install 'tongs[ros]'") from error
    known = get_typestore(Stores.ROS2_JAZZY)
    ours = _CHECKOUT if _CHECKOUT.is_dir() else _INSTALLED
    texts = {f"{PACKAGE}/msg/{path.stem}": path.read_text() for path in sorted(ours.glob("msg/*.msg"))}
    services = {f"{PACKAGE}/srv/{path.stem}": path.read_text() for path in sorted(ours.glob("srv/*.srv"))}
    for name, text in {**STANDARD_SERVICES, **services}.items():
        request, _, response = text.partition("---\n")
        texts[f"{name}_Request"] = request
        texts[f"{name}_Response"] = response
    types: dict[str, Any] = {}
    for name, text in texts.items():
        fields = [line for line in text.splitlines() if line.split("#")[0].strip()]
        parsed = get_types_from_msg("\n".join(fields) + "\n" if fields else _EMPTY, name)
        types |= {known_as.replace("/srv/msg/", "/srv/"): parts for known_as, parts in parsed.items()}
    known.register(types)
    return known


def require(kind: str) -> None:
    """Raise a TongsError unless the type is known."""
    if kind not in store().fielddefs:
        package = kind.split("/")[0]
        alike = sorted(name for name in store().fielddefs if name.startswith(f"{package}/"))
        hint = f"{package} has {', '.join(alike)}" if alike else "write it as in sensor_msgs/msg/JointState"
        raise TongsError(f"unknown message type {kind!r}; {hint}")


def make(kind: str, /, **fields: Any) -> Any:
    """A message; fields that are not given are zero, empty or false. Raises TongsError for an unknown type or field."""
    require(kind)
    definitions = dict(store().fielddefs[kind][1])
    if strange := sorted(set(fields) - set(definitions)):
        raise TongsError(f"{kind} has no field {', '.join(strange)}; it has {', '.join(definitions)}")
    values = {name: fields[name] if name in fields else _zero(kind) for name, kind in definitions.items()}
    return store().types[kind](**values)


def _zero(description: Any) -> Any:
    """The value of a field that nobody has set."""
    from rosbags.interfaces import Nodetype

    form, detail = description
    if form == Nodetype.NAME:
        return make(detail)
    if form == Nodetype.BASE:
        return {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}.get(detail[0], 0)
    element, count = detail
    length = count if form == Nodetype.ARRAY else 0
    if element[0] == Nodetype.BASE and element[1][0] != "string":
        return np.zeros(length, {"byte": "uint8", "octet": "uint8", "char": "uint8"}.get(element[1][0], element[1][0]))
    return [_zero(element) for _ in range(length)]
