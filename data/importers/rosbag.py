"""ROS 2 bags (MCAP and SQLite), read by the pure-Python `rosbags` and sampled by the resampler of the live robot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from data.features import ACTION, STATE
from data.importers.episode import Columns, Episode, Recorded
from robot import ros_messages
from robot.errors import TongsError
from robot.resample import Resampler, Sample, StaleError, measure, message_stamp
from robot.settings_file import read_yaml
from robot.topic_map import CONTRACT, SECOND, TopicMap

if TYPE_CHECKING:
    from data.importers.run import ImportConfig

Times = NDArray[np.int64]
_ONE_CLOCK = 10.0
"""Seconds between stamp and arrival beyond which they are taken to be of different clocks."""


class RosbagImporter:
    """Bags whose topics a topic map explains; one or more episodes per bag, as the map says."""

    def __init__(self, paths: Sequence[Path], config: ImportConfig) -> None:
        self._bags = [bag for path in paths for bag in _bags(path)]
        content, named = _contract(self._bags) if config.map is None else (read_yaml(config.map), config.map)
        topic_map = TopicMap.parse(content, named)
        if config.instruction is not None:
            topic_map = replace(topic_map, instruction=config.instruction)
        if topic_map.instruction is None:
            raise TongsError(f"{named} names no instruction, so give one with instruction=...")
        if topic_map.action is None:
            raise TongsError(f"{named} has no action; a dataset needs one")
        if int(topic_map.rate) != topic_map.rate:
            raise TongsError(f"{named}: rate must be a whole number of Hz for a dataset, got {topic_map.rate:g}")
        self._map = topic_map
        self.fps = int(topic_map.rate)
        self.robot_type = config.robot_type or topic_map.robot_type
        action = topic_map.action
        self.columns = Columns(
            {STATE: topic_map.state_names, ACTION: action.names}, {STATE: topic_map.state_units, ACTION: action.units}
        )
        space = {"kind": action.kind, "at": action.at, "rate": self.fps, "gripper_open": 1.0}
        self.description: Mapping[str, Any] = {"action_space": space, "map": content}
        self.total: int | None = len(self._bags) if topic_map.episodes.by == "bag" else None

    def episodes(self) -> Iterator[Recorded]:
        for path in self._bags:
            name = str(path.resolve())
            if self._map.episodes.by == "bag":
                yield Recorded(name, partial(self._load_whole, path))
                continue
            try:
                index = self._index(path)
                spans = _spans(self._map, index)
            except TongsError as error:
                yield Recorded(name, partial(_fail, error))
                continue
            for number, span in enumerate(spans):
                yield Recorded(f"{name}: episode {number}", partial(self._load, path, index, span))

    def _load_whole(self, path: Path) -> Episode:
        index = self._index(path)
        (span,) = _spans(self._map, index)
        return self._load(path, index, span)

    def _index(self, path: Path) -> _Index:
        """When the messages of every mapped topic were made and arrived, without keeping them."""
        boundaries = self._map.episodes
        wanted = {*self._map.clocks, *([boundaries.topic] if boundaries.by == "topic" else [])}
        arrivals: dict[str, list[int]] = {topic: [] for topic in wanted}
        stamps: dict[str, list[int]] = {topic: [] for topic in wanted}
        marks = []
        with _Bag(path) as bag:
            if missing := sorted(wanted - bag.topics):
                has = ", ".join(sorted(bag.topics)) or "none"
                raise TongsError(f"the bag has no topic {', '.join(missing)}; it has {has}")
            for topic, arrived, decode in bag.messages(wanted):
                arrivals[topic].append(arrived)
                clock = self._map.clocks.get(topic, "reception")
                message = decode() if clock == "header" or topic == boundaries.topic else None
                stamps[topic].append(message_stamp(topic, message, arrived, clock))
                if topic == boundaries.topic:
                    marks.append((arrived, ros_messages.field(message, boundaries.field)))
        order = {topic: np.argsort(np.array(times, np.int64), kind="stable") for topic, times in stamps.items()}
        index = _Index(
            {topic: np.array(stamps[topic], np.int64)[order[topic]] for topic in self._map.clocks},
            {topic: np.array(arrivals[topic], np.int64)[order[topic]] for topic in self._map.clocks},
            marks,
        )
        if self._map.delay is not None:
            index.require_one_clock()
        return index

    def _load(self, path: Path, index: _Index, span: tuple[int, int]) -> Episode:
        """The episode between two times."""
        topic_map = self._map
        period = round(SECOND / topic_map.rate)
        start = index.ready(topic_map, span[0]) + topic_map.phase
        count = (span[1] - start) // period + 1
        ahead = 1 if topic_map.action is not None and topic_map.action.at == "end" else 0
        if count - ahead < 2:
            raise TongsError(
                f"there is less than a second frame at {topic_map.rate:g} Hz where all topics have messages"
            )
        ticks = start + period * np.arange(count, dtype=np.int64)
        samples, actions, ended = self._sample(path, index, ticks, ahead)
        times = ticks[: len(samples)]
        stamps = {sensor: np.array([s.stamps[sensor] for s in samples], np.int64) for sensor in topic_map.sensors}
        notes: dict[str, Any] = {"start_ns": int(start), "timing": self._require_timing(stamps, times)}
        if ended is not None:
            notes["ended"] = ended
        measured = {name: stamps[name] for name in topic_map.cameras}
        measured[STATE] = np.min([stamps[entry.topic] for entry in topic_map.state], axis=0)
        return Episode(
            {STATE: np.stack([sample.state for sample in samples]), ACTION: np.stack(actions)},
            {name: _stack(name, [sample.images[name] for sample in samples]) for name in topic_map.cameras},
            [sample.instruction for sample in samples],
            {name: values / SECOND for name, values in measured.items()},
            notes,
        )

    def _sample(
        self, path: Path, index: _Index, ticks: Times, ahead: int
    ) -> tuple[list[Sample], list[NDArray[np.float32]], str | None]:
        """Samples and actions at the ticks, and why they end early, if they do.

        Messages are pushed in the order of their arrival, and each tick is sampled as soon as nothing that it or its
        action could need is missing; so few messages are in memory at a time.
        """
        resampler = Resampler(self._map)
        samples: list[Sample] = []
        actions: list[NDArray[np.float32]] = []
        due = index.complete(ticks)[ahead:]

        def advance(arrived: int | None) -> None:
            while len(samples) < len(due) and (arrived is None or due[len(samples)] < arrived):
                time = int(ticks[len(samples)])
                sample, action = resampler.sample_at(time), resampler.action_at(time)
                samples.append(sample)
                actions.append(action)
                resampler.forget_before(time)

        try:
            with _Bag(path) as bag:
                for topic, arrived, decode in self._messages(bag, index, ticks):
                    advance(arrived)
                    if len(samples) == len(due):
                        break
                    resampler.push(topic, decode(), arrived)
                advance(None)
        except StaleError as error:
            if self._map.stale == "end" and len(samples) >= 2:
                return samples, actions, str(error)
            hint = "; `stale: end` ends the episode there" if self._map.stale == "error" else ""
            raise TongsError(f"at frame {len(samples)}: {error}{hint}") from error
        except TongsError as error:
            raise TongsError(f"at frame {len(samples)}: {error}") from error
        return samples, actions, None

    def _messages(self, bag: _Bag, index: _Index, ticks: Times) -> Iterator[tuple[str, int, Callable[[], Any]]]:
        """Every message that the ticks can need: first those from before that still hold, then the rest in order."""
        first, last = index.window(self._map, int(ticks[0]), int(ticks[-1]))
        for topic in self._map.clocks:
            held = index.held(self._map, topic, int(ticks[0]))
            if held is not None and held < first:
                yield from bag.messages([topic], held, held + 1)
        yield from bag.messages(self._map.clocks, first, last + 1)

    def _require_timing(self, stamps: Mapping[str, Times], times: Times) -> dict[str, dict[str, float]]:
        """Rate, jitter and age of every sensor. Raises TongsError if one did not keep up with the grid."""
        report = {}
        for sensor, values in stamps.items():
            timing = measure(values, times)
            least = self._map.min_rate * self._map.rate
            if timing.rate < least or timing.jitter > self._map.max_jitter:
                raise TongsError(
                    f"{sensor} gave {timing.rate:.2f} new messages per second with a jitter of "
                    f"{1e3 * timing.jitter:.1f} ms; the topic map wants at least {least:g} and at most "
                    f"{1e3 * self._map.max_jitter:g} ms"
                )
            report[sensor] = {"rate": timing.rate, "jitter": timing.jitter, "age": timing.age}
        return report


@dataclass(frozen=True)
class _Index:
    """The messages of a bag by topic, in the order of their stamps: when each was made and arrived, ns; and the marks
    (arrived, value) of the episodes' topic."""

    stamps: Mapping[str, Times]
    arrivals: Mapping[str, Times]
    marks: Sequence[tuple[int, Any]]

    def require_one_clock(self) -> None:
        """Raise if header stamps and reception are so far apart that they cannot be of one clock."""
        for topic, stamps in self.stamps.items():
            apart = float(np.median(self.arrivals[topic] - stamps)) / SECOND if len(stamps) else 0.0
            if abs(apart) > _ONE_CLOCK:
                raise TongsError(
                    f"{topic} is stamped {apart:g} s before it arrived, so its header and the recorder have different "
                    "clocks; choose `delay: null` (do not look at arrivals) or `time: reception`"
                )

    def ready(self, topic_map: TopicMap, begin: int) -> int:
        """The first time from `begin` on at which every source has said something, and every sensor something new."""
        result = begin
        for source in topic_map.sources:
            stamps, arrivals = self.stamps[source.topic], self.arrivals[source.topic]
            usable = stamps if topic_map.delay is None else np.maximum(stamps, arrivals - topic_map.delay)
            if source.max_age is not None:
                usable = usable[stamps >= begin]
            if len(usable) == 0:
                raise TongsError(f"{source.topic} has no message in the episode")
            result = max(result, int(usable.min()))
        return result

    def complete(self, ticks: Times) -> Times:
        """For each tick, when the last message arrives that is not newer than it."""
        stamps = np.concatenate(list(self.stamps.values()))
        order = np.argsort(stamps, kind="stable")
        latest = np.maximum.accumulate(np.concatenate(list(self.arrivals.values()))[order])
        places = np.searchsorted(stamps[order], ticks, side="right") - 1
        return latest[np.maximum(places, 0)]

    def window(self, topic_map: TopicMap, first: int, last: int) -> tuple[int, int]:
        """Arrivals of the first and the last message that samples from one time to another can need."""
        earliest, latest = [], []
        for source in topic_map.sources:
            stamps, arrivals = self.stamps[source.topic], self.arrivals[source.topic]
            oldest = first if source.max_age is None else first - source.max_age
            wanted = arrivals[(stamps >= oldest) & (stamps <= last)]
            if len(wanted):
                earliest.append(int(wanted.min()))
                latest.append(int(wanted.max()))
        if not earliest:
            raise TongsError("the episode has no messages")
        return min(earliest), max(latest)

    def held(self, topic_map: TopicMap, topic: str, first: int) -> int | None:
        """When the message arrived that a topic's first sample is, if it may be of any age."""
        if all(source.max_age is not None for source in topic_map.sources if source.topic == topic):
            return None
        stamps, arrivals = self.stamps[topic], self.arrivals[topic]
        before = stamps <= first
        if topic_map.delay is not None:
            before &= arrivals <= first + topic_map.delay
        return int(arrivals[before][-1]) if before.any() else None


def _spans(topic_map: TopicMap, index: _Index) -> list[tuple[int, int]]:
    """First and last time (ns) of every episode of a bag."""
    moving = {source.topic for source in topic_map.observed}
    stamps = np.unique(np.concatenate([index.stamps[topic] for topic in moving]))
    if len(stamps) == 0:
        raise TongsError("the bag has no messages of cameras and state")
    boundaries = topic_map.episodes
    if boundaries.by == "bag":
        return [(int(stamps[0]), int(stamps[-1]))]
    if boundaries.by == "gap":
        cuts = np.flatnonzero(np.diff(stamps) > boundaries.gap * SECOND) + 1
        return [(int(part[0]), int(part[-1])) for part in np.split(stamps, cuts)]
    spans, begun = [], None
    for arrived, value in index.marks:
        if value == boundaries.start and begun is None:
            begun = arrived
        elif value == boundaries.stop and begun is not None:
            spans.append((begun, arrived))
            begun = None
    if begun is not None:
        spans.append((begun, int(stamps[-1])))
    if not spans:
        raise TongsError(f"{boundaries.topic} never says {boundaries.start!r}, so there is no episode")
    return spans


def _contract(bags: Sequence[Path]) -> tuple[Any, str]:
    """The topic map that bags of our recorder hold themselves, and what to call it."""
    found: dict[str, Path] = {}
    for path in bags:
        text = ((_metadata(path).get("custom_data") or {}) if path.is_dir() else {}).get(CONTRACT)
        if text is None:
            raise TongsError(
                f"{path} does not say what its topics mean; a ROS 2 bag needs a topic map, a YAML file: give map=..."
            )
        found.setdefault(str(text), path)
    if len(found) > 1:
        first, second, *_ = found.values()
        raise TongsError(f"{first} and {second} hold different topic maps; import them apart, or give map=...")
    ((text, path),) = found.items()
    return yaml.safe_load(text), f"the topic map in {path}"


def _metadata(path: Path) -> Mapping[str, Any]:
    content = read_yaml(path / "metadata.yaml")
    return content.get("rosbag2_bagfile_information", {}) if isinstance(content, Mapping) else {}


def _bags(path: Path) -> list[Path]:
    """Bags of a path: itself, or those of a folder in the order of their names."""
    if path.is_file() or (path / "metadata.yaml").is_file():
        return [path]
    found = {file.parent for file in path.rglob("metadata.yaml")}
    single = {file for kind in ("*.mcap", "*.db3") for file in path.rglob(kind) if file.parent not in found}
    if not found | single:
        raise TongsError(f"{path} holds no ROS 2 bag")
    return sorted(found | single)


class _Bag:
    """An open bag; whatever `rosbags` stumbles over becomes one sentence."""

    def __init__(self, path: Path) -> None:
        try:
            from rosbags.highlevel import AnyReader
        except ImportError as error:
            raise TongsError("reading ROS 2 bags needs the extra `import`: pip install 'tongs[import]'") from error
        self._reader = _reading(lambda: AnyReader([path], default_typestore=_common_types()))

    def __enter__(self) -> _Bag:
        _reading(self._reader.open)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def topics(self) -> set[str]:
        return {connection.topic for connection in self._reader.connections}

    def messages(
        self, topics: Collection[str], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[str, int, Callable[[], Any]]]:
        """Topic, arrival (ns) and a way to decode it, of each message that arrived from `start` until before `stop`."""
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        if not connections:
            return
        stream = self._reader.messages(connections, start, stop)
        while (found := _reading(partial(next, stream, None))) is not None:
            connection, arrived, raw = found
            yield (
                connection.topic,
                arrived,
                partial(_reading, partial(self._reader.deserialize, raw, connection.msgtype)),
            )


@cache
def _common_types() -> Any:
    """The message types of the common packages, for bags of Humble and older, which do not say what theirs are."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def _reading(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # rosbags, SQLite, zstd and lz4 each have their own
        raise TongsError(f"the bag is damaged or cut short ({str(error) or type(error).__name__})") from error


def _stack(camera: str, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    if sizes := {frame.shape for frame in frames} - {frames[0].shape}:
        raise TongsError(f"camera {camera} changes its size from {frames[0].shape} to {sizes.pop()}")
    return np.stack(frames)


def _fail(error: TongsError) -> Episode:
    raise error
