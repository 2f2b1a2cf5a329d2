"""The episode recorder as a node: one MCAP bag per episode, with its topic map inside."""

from __future__ import annotations

import threading
from importlib import resources
from typing import Any

from robot.ros.recorder import EpisodeRecorder
from robot.settings_file import read_yaml
from tongs_ros.spinning import run_plain


def _run(node: Any, transport: Any, parameters: dict[str, Any], ended: threading.Event) -> None:
    path = parameters["topic_map"] or str(resources.files("configs") / "topic_map" / "simulated.yaml")
    namespace = node.get_namespace().rstrip("/")
    recorder = EpisodeRecorder(
        transport,
        read_yaml(path),
        parameters["output"],
        node.get_fully_qualified_name(),
        f"{namespace}/policy_runner",
    )
    try:
        ended.wait()
    finally:
        recorder.close()


def main() -> None:
    run_plain("episode_recorder", _run)
