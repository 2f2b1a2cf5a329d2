"""Importing ROS 2 bags that `rosbags` itself wrote: values, times, episodes, interruptions, bad bags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

pytest.importorskip("rosbags")

from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402

import tongs  # noqa: E402
from data.features import ACTION, IMAGES, STATE  # noqa: E402
from data.importers import run as importing  # noqa: E402
from data.importers.run import ImportConfig, run_import  # noqa: E402
from data.reader import Dataset  # noqa: E402
from data.timing import MEASURED  # noqa: E402
from robot.errors import TongsError  # noqa: E402
from robot.interface import EE_DELTA  # noqa: E402
from robot.resample import Resampler  # noqa: E402
from robot.topic_map import TopicMap  # noqa: E402
from tests.robot import bag_messages as bag  # noqa: E402

MS = 10**6
SECOND = 10**9
T0 = 1_700_000_000 * SECOND
SIZE = (16, 24)

MAP: dict[str, Any] = {
    "robot_type": "test_arm",
    "rate": 10,
    "cameras": {"front": {"topic": "/front"}, "wrist": {"topic": "/wrist/compressed"}},
    "state": [
        {"topic": "/tool", "pose": "rotation_vector"},
        {"topic": "/joints", "joints": ["j1", "j2"], "unit": "rad"},
    ],
    "action": {
        "kind": "ee_delta",
        "pose": {"topic": "/target"},
        "gripper": {"topic": "/gripper", "fields": ["data[0]"], "range": [0.0, 0.08], "time": "reception"},
    },
    "instruction": {"topic": "/instruction"},
}


def position(seconds: float) -> NDArray[np.float64]:
    return np.array([0.4 + 0.1 * np.sin(seconds), 0.05 * seconds, 0.3])


def rotation(seconds: float) -> Rotation:
    return Rotation.from_rotvec([0.2 * seconds, 0.0, 0.1])


def picture(number: int) -> NDArray[np.uint8]:
    """A picture that tells its number."""
    return np.full((*SIZE, 3), [number % 256, number // 256, 77], np.uint8)


def messages(begin: float, end: float) -> list[tuple[int, str, str, Any]]:
    """(arrived, topic, type, message) of an arm that was watched from one second to another."""
    found: list[tuple[int, str, str, Any]] = []

    def every(period: int, latency: int, topic: str, kind: str, make: Any) -> None:
        for number, stamp in enumerate(range(T0 + round(begin * SECOND), T0 + round(end * SECOND), period)):
            found.append((stamp + latency + (number * 7919 % 5) * MS, topic, kind, make(stamp, number)))

    image, compressed = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
    every(33 * MS, 15 * MS, "/front", image, lambda s, n: bag.rgb_image(s, picture(n), "bgr8"))
    every(50 * MS, 30 * MS, "/wrist/compressed", compressed, lambda s, n: bag.compressed_image(s, picture(n), "png"))

    def joints(stamp: int, number: int) -> Any:
        seconds = (stamp - T0) / SECOND
        values = {"j2": 2.0 * seconds, "finger": 9.0, "j1": seconds}
        return bag.joint_state(stamp, dict(sorted(values.items(), key=lambda item: (ord(item[0][-1]) + number) % 7)))

    def tool(stamp: int, ahead: float) -> Any:
        seconds = (stamp - T0) / SECOND + ahead
        return bag.pose(stamp, position(seconds), rotation(seconds).as_quat())

    every(10 * MS, 1 * MS, "/joints", "sensor_msgs/msg/JointState", joints)
    every(20 * MS, 1 * MS, "/tool", "geometry_msgs/msg/PoseStamped", lambda s, n: tool(s, 0.0))
    every(40 * MS, 1 * MS, "/target", "geometry_msgs/msg/PoseStamped", lambda s, n: tool(s, 0.1))
    changes = [(begin, 0.08), ((begin + end) / 2, 0.0)]
    for when, width in changes:  # said only when it changes
        arrived = T0 + round(when * SECOND)
        found.append((arrived, "/gripper", "std_msgs/msg/Float64MultiArray", bag.float_array(width)))
    return found


def told(seconds: float, words: str) -> tuple[int, str, str, Any]:
    return T0 + round(seconds * SECOND), "/instruction", "std_msgs/msg/String", bag.text(words)


def write_bag(path: Path, content: list[tuple[int, str, str, Any]], plugin: str = "mcap") -> Path:
    """A bag of these messages, in the order of their arrival."""
    storage = StoragePlugin.MCAP if plugin == "mcap" else StoragePlugin.SQLITE3
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections: dict[str, Any] = {}
        for arrived, topic, kind, message in sorted(content, key=lambda entry: entry[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=bag.STORE)
            writer.write(connections[topic], arrived, bag.STORE.serialize_cdr(message, kind))
    return path


def write_map(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**MAP, **changes}))
    return path


def config(tmp_path: Path, **changes: Any) -> ImportConfig:
    fields = {"source": [str(tmp_path / "bag")], "output": str(tmp_path / "out"), "map": str(tmp_path / "map.yaml")}
    return ImportConfig(**{**fields, "storage": "png", **changes})


def newest(content: list[tuple[int, str, str, Any]], topic: str, time: int) -> tuple[int, Any]:
    """Stamp and message by brute force: the largest stamp that is not after the time and had arrived by then."""
    stamped = [
        (message.header.stamp.sec * SECOND + message.header.stamp.nanosec, message)
        for arrived, name, _, message in content
        if name == topic and arrived <= time
    ]
    return max((entry for entry in stamped if entry[0] <= time), key=lambda entry: entry[0])


def journal(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out/meta/import.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("plugin", ["mcap", "sqlite3"])
def test_every_value_of_a_bag(tmp_path: Path, plugin: str) -> None:
    content = [*messages(0, 4), told(-1, "open the drawer"), told(2, "close it")]
    write_bag(tmp_path / "bag", content, plugin)
    write_map(tmp_path / "map.yaml")
    report = run_import(config(tmp_path))
    dataset = Dataset(tmp_path / "out")
    assert (dataset.robot_type, dataset.fps, len(dataset.episodes)) == ("test_arm", 10, 1)
    assert report.frames == dataset.total_frames
    assert dataset.features[STATE].names == ("x", "y", "z", "rx", "ry", "rz", "j1", "j2")
    assert dataset.features[ACTION].names == EE_DELTA.names
    assert dataset.features[MEASURED].names == (IMAGES + "front", IMAGES + "wrist", STATE)

    start = journal(tmp_path)[1]["start_ns"]
    assert 30 * MS <= start - T0 <= 35 * MS  # the wrist camera's first picture takes 30 ms to arrive
    columns, zero = dataset.columns, None
    front, wrist = (dataset.images(0, IMAGES + name) for name in ("front", "wrist"))
    for frame in range(dataset.total_frames):
        time = start + frame * 100 * MS
        stamps = {}
        for pixels, topic in ((front, "/front"), (wrist, "/wrist/compressed")):
            stamps[topic], _ = newest(content, topic, time)
            period = 33 if topic == "/front" else 50
            np.testing.assert_array_equal(pixels[frame], picture((stamps[topic] - T0) // (period * MS)))
        stamps["/tool"], _ = newest(content, "/tool", time)
        stamps["/joints"], _ = newest(content, "/joints", time)
        seconds, joint_seconds = ((stamps[topic] - T0) / SECOND for topic in ("/tool", "/joints"))
        wanted = [*position(seconds), *rotation(seconds).as_rotvec(), joint_seconds, 2 * joint_seconds]
        np.testing.assert_allclose(columns[STATE][frame], wanted, atol=1e-6)

        ends = [newest(content, "/target", time + step * 100 * MS)[0] for step in (0, 1)]
        first, second = ((stamp - T0) / SECOND + 0.1 for stamp in ends)
        action = columns[ACTION][frame]
        np.testing.assert_allclose(action[:3], position(second) - position(first), atol=1e-6)
        reached = Rotation.from_rotvec(action[3:6]) * rotation(first)
        assert (reached.inv() * rotation(second)).magnitude() < 1e-5
        assert action[6] == (1.0 if time + 100 * MS < T0 + 2 * SECOND else 0.0)
        assert dataset.frame_tasks(0)[frame] == ("open the drawer" if time < T0 + 2 * SECOND else "close it")

        real = [stamps["/front"], stamps["/wrist/compressed"], min(stamps["/tool"], stamps["/joints"])]
        zero = min(real) if zero is None else zero
        np.testing.assert_allclose(columns[MEASURED][frame], [(stamp - zero) / SECOND for stamp in real], atol=1e-6)
    assert start + dataset.total_frames * 100 * MS <= T0 + 4 * SECOND < start + (dataset.total_frames + 2) * 100 * MS


def test_rate_and_jitter_are_reported(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", [*messages(0, 4), told(0, "open it")])
    write_map(tmp_path / "map.yaml")
    run_import(config(tmp_path))
    timing = journal(tmp_path)[1]["timing"]
    assert set(timing) == {"front", "wrist", "/tool", "/joints"}
    assert timing["front"]["rate"] == pytest.approx(10, abs=0.3)
    assert 0 < timing["front"]["jitter"] < 0.03
    assert timing["/joints"]["age"] < 0.02


def test_the_importer_feeds_the_resampler_of_the_live_robot(tmp_path: Path) -> None:
    """A robot that pushes the same messages when they arrive, and samples on the same grid, sees the same."""
    content = sorted([*messages(0, 3), told(0, "open it")], key=lambda entry: entry[0])
    write_bag(tmp_path / "bag", content)
    write_map(tmp_path / "map.yaml")
    run_import(config(tmp_path))
    dataset, live = Dataset(tmp_path / "out"), Resampler(TopicMap.read(tmp_path / "map.yaml"))
    start = journal(tmp_path)[1]["start_ns"]
    for frame in range(dataset.total_frames):
        time = start + frame * 100 * MS
        while content and content[0][0] <= time:
            arrived, topic, _, message = content.pop(0)
            live.push(topic, message, arrived)
        sample = live.sample_at(time)
        np.testing.assert_array_equal(sample.state, dataset.columns[STATE][frame])
        np.testing.assert_array_equal(sample.images["wrist"], dataset.images(0, IMAGES + "wrist")[frame])


def test_pictures_by_their_own_time_whenever_they_arrived(tmp_path: Path) -> None:
    """With `delay: null`, a recorder whose clock is 100 days off does not matter; without, it is said."""
    shift = 100 * 86400 * SECOND
    content = [(arrived + shift, *rest) for arrived, *rest in messages(0, 3)]
    content = [entry for entry in content if entry[1] != "/gripper"]  # type: ignore[misc]
    write_bag(tmp_path / "bag", content)  # type: ignore[arg-type]
    command = {"kind": "ee_pose", "commands": [{"topic": "/target", "pose": "quaternion"}]}
    told_so = {"instruction": {"text": "open it"}, "action": command}
    write_map(tmp_path / "map.yaml", **told_so)
    with pytest.raises(TongsError, match="stamped 8.64e.06 s before it arrived.*delay: null"):
        run_import(config(tmp_path))
    write_map(tmp_path / "map.yaml", **told_so, delay=None)
    run_import(config(tmp_path))
    dataset = Dataset(tmp_path / "out")
    assert dataset.features[ACTION].names == ("x", "y", "z", "qw", "qx", "qy", "qz")
    ages = dataset.columns["timestamp"] - dataset.columns[MEASURED][:, :1]
    assert ages.max() - ages.min() < 0.034


def test_reception_time_by_choice(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", [*messages(0, 3), told(0, "open it")])
    write_map(tmp_path / "map.yaml", time="reception")
    run_import(config(tmp_path))
    dataset = Dataset(tmp_path / "out")
    number = int(dataset.images(0, IMAGES + "wrist")[0][0, 0, 0])
    start = journal(tmp_path)[1]["start_ns"]
    arrivals = sorted(arrived for arrived, topic, *_ in messages(0, 3) if topic == "/wrist/compressed")
    assert arrivals[number] <= start < arrivals[number + 1]


def test_episodes_by_gap(tmp_path: Path) -> None:
    content = [*messages(0, 2), *messages(5, 7.5), *messages(12, 14), told(0, "open it"), told(10, "close it")]
    write_bag(tmp_path / "bag", content)
    write_map(tmp_path / "map.yaml", episodes={"by": "gap", "seconds": 1.0})
    report = run_import(config(tmp_path))
    dataset = Dataset(tmp_path / "out")
    assert report.episodes == len(dataset.episodes) == 3
    assert [set(dataset.frame_tasks(number)) for number in range(3)] == [{"open it"}, {"open it"}, {"close it"}]
    assert [abs(e.length - wanted) <= 2 for e, wanted in zip(dataset.episodes, (20, 25, 20), strict=True)] == [True] * 3
    starts = [(line["start_ns"] - T0) / SECOND for line in journal(tmp_path)[1:]]
    np.testing.assert_allclose(starts, [0.03, 5.03, 12.03], atol=0.01)


def test_episodes_by_topic(tmp_path: Path) -> None:
    def mark(seconds: float, value: bool) -> tuple[int, str, str, Any]:
        return T0 + round(seconds * SECOND), "/recording", "std_msgs/msg/Bool", bag.boolean(value)

    marks = [mark(1, True), mark(2.5, False), mark(2.6, False), mark(4, True), mark(4.2, True), mark(5.55, False)]
    write_bag(tmp_path / "bag", [*messages(0, 7), told(0, "open it"), *marks])
    write_map(tmp_path / "map.yaml", episodes={"by": "topic", "topic": "/recording"})
    run_import(config(tmp_path))
    dataset = Dataset(tmp_path / "out")
    assert [episode.length for episode in dataset.episodes] == [14, 15]
    starts = [(line["start_ns"] - T0) / SECOND for line in journal(tmp_path)[1:]]
    assert 1 <= starts[0] < 1.06 and 4 <= starts[1] < 4.06


def test_a_bag_per_episode_and_going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the second of three bags, the same command brings the rest, once."""
    for number in range(3):
        words = f"task {number}"
        write_bag(tmp_path / f"bag/{number}", [*messages(3 * number, 3 * number + 2), told(3 * number, words)])
    write_map(tmp_path / "map.yaml")
    real, count = importing.DatasetWriter.add_episode, 0

    def killed(writer: Any, *given: Any, **more: Any) -> int:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return real(writer, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(importing.DatasetWriter, "add_episode", killed)
        with pytest.raises(KeyboardInterrupt):
            run_import(config(tmp_path))
    assert len(Dataset(tmp_path / "out").episodes) == 1
    report = run_import(config(tmp_path))
    assert (report.known, report.episodes) == (1, 2)
    assert [episode.tasks for episode in Dataset(tmp_path / "out").episodes] == [(f"task {n}",) for n in range(3)]
    again = run_import(config(tmp_path))
    assert (again.known, again.episodes) == (3, 0)
    assert [line["episode"] for line in journal(tmp_path)[1:]] == [0, 1, 2]


def test_going_on_with_other_settings_is_refused(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", [*messages(0, 2), told(0, "open it")])
    write_map(tmp_path / "map.yaml")
    run_import(config(tmp_path))
    with pytest.raises(TongsError, match="was imported with instruction = None, this import has 'pull'"):
        run_import(config(tmp_path, instruction="pull"))
    write_map(tmp_path / "map.yaml", phase=0.01)
    with pytest.raises(TongsError, match="was imported with map = "):
        run_import(config(tmp_path))


def test_stale_messages_refuse_or_end_the_episode(tmp_path: Path) -> None:
    content = [entry for entry in messages(0, 4) if entry[1] != "/front" or entry[0] < T0 + 2 * SECOND]
    write_bag(tmp_path / "bag", [*content, told(0, "open it")])
    write_map(tmp_path / "map.yaml")
    with pytest.raises(TongsError, match=r"bag: at frame 2\d: the newest message of /front is 0\.2\d+ s old, 0\.2 s"):
        run_import(config(tmp_path))
    assert not (tmp_path / "out").exists()
    write_map(tmp_path / "map.yaml", stale="end")
    run_import(config(tmp_path))
    assert 19 <= Dataset(tmp_path / "out").total_frames <= 23
    assert "/front" in journal(tmp_path)[1]["ended"]


def test_a_slow_sensor_is_refused(tmp_path: Path) -> None:
    content = messages(0, 4)
    slow = [entry for number, entry in enumerate(e for e in content if e[1] == "/front") if number % 5 == 0]
    write_bag(tmp_path / "bag", [*(e for e in content if e[1] != "/front"), *slow, told(0, "open it")])
    write_map(tmp_path / "map.yaml")
    with pytest.raises(TongsError, match=r"front gave [56]\.\d+ new messages per second.*at least 8"):
        run_import(config(tmp_path))
    write_map(tmp_path / "map.yaml", timing={"min_rate": 0.4, "max_jitter": 0.1})
    assert run_import(config(tmp_path)).episodes == 1


def test_a_bad_bag_stops_or_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        content = [*messages(0, 2), told(0, "open it")]
        if number == 1:
            content = [entry for entry in content if entry[1] != "/joints"]
        write_bag(tmp_path / f"bag/{number}", content)
    cut = next((tmp_path / "bag/2").glob("*.mcap"))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    write_map(tmp_path / "map.yaml")
    words = [f"source={tmp_path / 'bag'}", f"map={tmp_path / 'map.yaml'}", f"output={tmp_path / 'out'}"]
    assert tongs.main(["import", *words]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("tongs: ") and "bag/1: the bag has no topic /joints; it has /front, " in said
    assert len(Dataset(tmp_path / "out").episodes) == 1
    assert tongs.main(["import", *words, "bad=skip"]) == 0
    out = capsys.readouterr().out
    assert "0 episodes with 0 frames were added" in out and "1 were there already" in out
    assert "left out: " in out and "bag/2: the bag is damaged or cut short" in out
    assert len(Dataset(tmp_path / "out").episodes) == 1


def test_what_a_bag_importer_needs_is_said(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", messages(0, 2))
    with pytest.raises(TongsError, match="needs a topic map"):
        run_import(config(tmp_path, map=None))
    without = {key: value for key, value in MAP.items() if key != "instruction"}
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(without))
    with pytest.raises(TongsError, match="names no instruction, so give one"):
        run_import(config(tmp_path))
    run_import(config(tmp_path, instruction="open it"))
    assert Dataset(tmp_path / "out").tasks == ["open it"]
    with pytest.raises(TongsError, match="flip is not a setting of the format rosbag, only of robomimic, libero"):
        run_import(config(tmp_path, flip="rotate"))
    (tmp_path / "other").mkdir()
    with pytest.raises(TongsError, match="other is no ROS 2 bag, no robomimic"):
        run_import(config(tmp_path, source=[str(tmp_path / "other")]))
