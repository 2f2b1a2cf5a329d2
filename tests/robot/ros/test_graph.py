"""Which way a program of ours joins a ROS 2 graph: through rclpy where it is, else over Cyclone DDS."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from robot.errors import TongsError
from robot.ros import graph
from robot.ros.graph import join_graph


def test_with_rclpy_it_is_a_node_of_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int | None, str | None]] = []

    def transport(name: str, domain: int | None) -> str:
        made.append((name, domain, os.environ.get("ROS_LOCALHOST_ONLY")))
        return "the node's"

    monkeypatch.setattr(graph, "find_spec", lambda name: object() if name == "rclpy" else None)
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.delenv("ROS_LOCALHOST_ONLY", raising=False)
    spinning = SimpleNamespace(OwnTransport=transport)
    monkeypatch.setattr(graph.importlib, "import_module", {"tongs_ros.spinning": spinning}.__getitem__)
    assert join_graph("one", 7, local=False) == "the node's"
    assert join_graph("two", None, local=True) == "the node's"
    assert made == [("one", 7, None), ("two", None, "1")]


def test_rclpy_without_our_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name}", name="tongs_ros")

    monkeypatch.setattr(graph, "find_spec", lambda name: object())
    monkeypatch.setattr(graph.importlib, "import_module", missing)
    with pytest.raises(TongsError, match="rclpy is here and tongs_ros is not: build ros_ws/ with colcon"):
        join_graph("one", None, local=True)


def test_without_rclpy_it_is_cyclone_dds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cyclonedds")
    pytest.importorskip("rosbags")
    from robot.ros.dds import DdsTransport

    monkeypatch.setattr(graph, "find_spec", lambda name: None)
    transport = join_graph("one", 98, local=True)
    assert isinstance(transport, DdsTransport)
    transport.close()
    with pytest.raises(TongsError, match="domain"):
        join_graph("one", 999, local=True)
