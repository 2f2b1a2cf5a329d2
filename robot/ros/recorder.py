"""A recorder of episodes: one rosbag2 bag (MCAP) each, with the topic map that explains it inside."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from robot.errors import TongsError
from robot.ros.arm import quality_of, require_type
from robot.ros.definitions import store
from robot.ros.quality import LATCHED, Quality
from robot.ros.runner import NAME as RUNNER
from robot.ros.transport import Transport
from robot.topic_map import CONTRACT, SECOND, Source, TopicMap

NAME = "/episode_recorder"
SAID = "/said"
"""Topic of a bag that tells what the runner was told, for a map that names no instruction: std_msgs/String."""
_TEXT, _TRIGGER = "std_msgs/msg/String", "std_srvs/srv/Trigger"
_EPISODE = re.compile(r"episode_(\d{6})")
_UNFINISHED = "unfinished"


class EpisodeRecorder:
    """Services (Trigger) `~/start_recording`, `~/stop_recording`, `~/cancel_recording` and `~/delete_last_bag`.

    Every topic of the map is recorded, and of a policy runner the status, the instructions and the corrections. What is
    said once and holds from then on (instructions, commands that are sent when they change) is in every bag from its
    beginning. A bag is in the folder `unfinished` until it is whole.

    Args:
        transport: of the graph.
        content: of the topic map's file; every topic with its type.
        folder: for the bags.
        name: of the node; `~` above.
        runner: name of the policy runner.

    Raises:
        TongsError: the map is none, a topic lacks its type, or the folder cannot be made.
    """

    def __init__(
        self,
        transport: Transport,
        content: Mapping[str, Any],
        folder: Path | str,
        name: str = NAME,
        runner: str = RUNNER,
    ) -> None:
        topic_map = TopicMap.parse(content)
        self._content = dict(content)
        self._says = topic_map.instruction is None
        if self._says:
            self._content["instruction"] = {"topic": SAID, "type": _TEXT}
        self._transport, self._folder = transport, Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TongsError(f"bags cannot be kept in {folder}: {error}") from error
        self._lock = threading.RLock()
        self._kinds: dict[str, str] = {}
        self._lasting: set[str] = set()
        self._held: dict[str, bytes] = {}
        self._said = ""
        self._writer: Any = None
        self._path = self._folder / _UNFINISHED / "none"
        self._connections: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._began = 0
        for source in {source.topic: source for source in topic_map.sources}.values():
            self._listen(source.topic, require_type(source), quality_of(source), source in _lasting(topic_map))
        status = "tongs_msgs/msg/PolicyStatus"
        self._listen(f"{runner}/status", status, LATCHED, True, self._hear_status if self._says else None)
        self._listen(f"{runner}/instruction", "tongs_msgs/msg/Instruction", Quality(), False)
        self._listen(f"{runner}/correction", "tongs_msgs/msg/Correction", Quality(), False)
        if self._says:
            self._kinds[SAID] = _TEXT
            self._lasting.add(SAID)
        for service, action in (
            ("start_recording", self.start),
            ("stop_recording", self.stop),
            ("cancel_recording", self.cancel),
            ("delete_last_bag", self.delete_last),
        ):
            transport.serve(f"{name}/{service}", _TRIGGER, self._answer(action))

    # --- what is asked for

    def start(self) -> str:
        """Begin a bag; its name. Raises TongsError if one is being recorded, or nothing was heard on a topic yet."""
        from rosbags.rosbag2 import StoragePlugin, Writer

        with self._lock:
            if self._writer is not None:
                raise TongsError(f"{self._path.name} is being recorded; stop or cancel it first")
            self._path = self._folder / _UNFINISHED / f"episode_{self._next():06d}"
            self._path.parent.mkdir(exist_ok=True)
            self._writer = Writer(self._path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
            self._writer.set_custom_data(CONTRACT, yaml.safe_dump(self._content, sort_keys=False))
            self._connections = {
                topic: self._writer.add_connection(topic, kind, typestore=store())
                for topic, kind in self._kinds.items()
            }
            self._counts = dict.fromkeys(self._kinds, 0)
            self._began = self._transport.now()
            for topic, encoding in self._held.items():
                self._write(topic, encoding, self._began)
            return self._path.name

    def stop(self) -> str:
        """End the bag and keep it; what was recorded, in words."""
        with self._lock:
            path = self._folder / self._close().name
            seconds = (self._transport.now() - self._began) / SECOND
            shutil.move(self._path, path)
            silent = [topic for topic, count in self._counts.items() if not count and topic in self._needed]
            warning = f"; nothing came on {', '.join(silent)}" if silent else ""
            return f"{path}: {seconds:.1f} s, {sum(self._counts.values())} messages{warning}"

    def cancel(self) -> str:
        """End the bag and delete it."""
        with self._lock:
            shutil.rmtree(self._close())
            return "cancelled"

    def delete_last(self) -> str:
        """Delete the bag that was kept last. Raises TongsError if there is none, or one is being recorded."""
        with self._lock:
            if self._writer is not None:
                raise TongsError(f"{self._path.name} is being recorded; cancel it instead")
            kept = sorted(path for path in self._folder.iterdir() if _EPISODE.fullmatch(path.name))
            if not kept:
                raise TongsError(f"{self._folder} holds no bag")
            shutil.rmtree(kept[-1])
            return f"deleted {kept[-1].name}"

    def close(self) -> None:
        """Keep what is being recorded."""
        with self._lock:
            if self._writer is not None:
                self.stop()

    # --- topics

    @property
    def _needed(self) -> set[str]:
        return {source.topic for source in TopicMap.parse(self._content).sources}

    def _listen(
        self,
        topic: str,
        kind: str,
        quality: Quality,
        lasting: bool,
        then: Callable[[Any], None] | None = None,
    ) -> None:
        self._kinds[topic] = kind
        if lasting:
            self._lasting.add(topic)

        def heard(message: Any, arrived: int) -> None:
            with self._lock:
                self._take(topic, self._transport.encode(message, kind), arrived)
                if then is not None:
                    then(message)

        self._transport.subscribe(topic, kind, heard, quality)

    def _take(self, topic: str, encoding: bytes, arrived: int) -> None:
        if topic in self._lasting:
            self._held[topic] = encoding
        if self._writer is not None:
            self._write(topic, encoding, max(arrived, self._began))

    def _write(self, topic: str, encoding: bytes, at: int) -> None:
        self._writer.write(self._connections[topic], at, encoding)
        self._counts[topic] += 1

    def _hear_status(self, status: Any) -> None:
        if status.instruction and status.instruction != self._said:
            self._said = status.instruction
            message = self._transport.make(_TEXT, data=self._said)
            self._take(SAID, self._transport.encode(message, _TEXT), self._transport.now())

    # --- bags

    def _close(self) -> Path:
        """End the writer; the folder of its bag."""
        if self._writer is None:
            raise TongsError("nothing is being recorded")
        writer, self._writer = self._writer, None
        writer.close()
        return self._path

    def _next(self) -> int:
        there = [*self._folder.iterdir(), *self._path.parent.glob("*")]
        numbers = [int(found[1]) for path in there if (found := _EPISODE.fullmatch(path.name))]
        return max(numbers, default=-1) + 1

    def _answer(self, action: Callable[[], str]) -> Callable[[Any], Any]:
        def answer(request: Any) -> Any:
            kind = f"{_TRIGGER}_Response"
            try:
                return self._transport.make(kind, success=True, message=action())
            except TongsError as error:
                return self._transport.make(kind, success=False, message=str(error))

        return answer


def _lasting(topic_map: TopicMap) -> list[Source]:
    """Sources whose messages are in force until the next one."""
    commands = () if topic_map.action is None else topic_map.action.commands
    told = (topic_map.instruction,) if isinstance(topic_map.instruction, Source) else ()
    return [*commands, *told]
