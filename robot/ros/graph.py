"""Being in a ROS 2 graph from a program of our own: through rclpy where ROS 2 is installed, else over Cyclone DDS."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from importlib.util import find_spec

from robot.errors import TongsError
from robot.ros.transport import Transport


def join_graph(name: str, domain: int | None, local: bool, on_error: Callable[[str], None] = print) -> Transport:
    """A participant; `close` leaves.

    With rclpy it is a node of that name, of the middleware that the ROS 2 installation is set to; that needs the
    package tongs_ros beside it (`ros_ws/`).

    Args:
        name: of the node.
        domain: 0 to 232; None takes ROS_DOMAIN_ID, or 0.
        local: speak with this machine alone.
        on_error: told what a callback raised.

    Raises:
        TongsError: neither is installed, or the domain cannot be joined.
    """
    if find_spec("rclpy") is not None:
        return _through_rclpy(name, domain, local)
    try:
        from robot.ros.dds import DdsTransport
    except ModuleNotFoundError as error:
        raise TongsError(f"robots behind ROS 2 need {error.name}: pip install 'tongs[ros]'") from error
    return DdsTransport(domain, local, lambda topic, error: on_error(f"{topic}: {error}"))


def _through_rclpy(name: str, domain: int | None, local: bool) -> Transport:
    try:
        spinning = importlib.import_module("tongs_ros.spinning")
    except ImportError as error:
        raise TongsError(
            f"rclpy is here and {error.name} is not: build ros_ws/ with colcon and source its install/setup.bash, or "
            "leave out ROS 2's setup to speak over Cyclone DDS"
        ) from error
    if local:  # rclpy reads them when it is initialised
        humble = os.environ.get("ROS_DISTRO") == "humble"
        variable, value = ("ROS_LOCALHOST_ONLY", "1") if humble else ("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        os.environ[variable] = value
    return spinning.OwnTransport(name, domain)
