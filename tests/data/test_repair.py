"""Repair: what is intact stays, what is not is moved aside, and the outcome loads."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data import atomic, layout
from data.features import IMAGES
from data.reader import Dataset
from data.repair import Report, repair
from data.timing import MEASURED, measured_times
from data.video import encode_video
from data.writer import DatasetWriter
from robot.errors import TongsError
from tests.data.episodes import (
    CAMERAS,
    FPS,
    add_episode,
    features,
    images,
    numbers,
    pictures,
    said,
    stamps,
    tasks,
    write_dataset,
)
from tests.data.test_writer import snapshot

LENGTHS = (20, 15, 25, 12)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "set"
    write_dataset(folder, LENGTHS)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "set"))


def cut(path: Path, part: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def tear(path: Path) -> bytes:
    """Cut through the rows of a parquet file, not only through its footer; what is left."""
    content = path.read_bytes()
    rows = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    path.write_bytes(content[: rows // 2])
    return content[: rows // 2]


def data(number: int) -> str:
    return f"data/chunk-000/file-{number:03d}.parquet"


def mp4(camera: str, number: int) -> str:
    return f"videos/{IMAGES}{camera}/chunk-000/file-{number:03d}.mp4"


def meta(number: int) -> str:
    return f"meta/episodes/chunk-000/file-{number:03d}.parquet"


def holds(folder: Path, seeds: list[int], original: Path) -> None:
    """The dataset is the episodes `seeds` of the original, in order, and nothing else."""
    dataset, before = Dataset(folder), Dataset(original)
    assert [episode.length for episode in dataset.episodes] == [LENGTHS[seed] for seed in seeds]
    assert dataset.columns["index"][:, 0].tolist() == list(range(dataset.total_frames))
    for number, seed in enumerate(seeds):
        now, then = dataset.episodes[number], before.episodes[seed]
        assert dataset.frame_tasks(number) == before.frame_tasks(seed) and now.tasks == then.tasks
        for key, values in before.columns.items():
            if key not in ("index", "episode_index"):
                np.testing.assert_array_equal(
                    dataset.columns[key][now.start : now.stop], values[then.start : then.stop]
                )
        for key in before.camera_keys:
            np.testing.assert_array_equal(dataset.images(number, key), before.images(seed, key))
    assert int(dataset.statistics["index"]["count"][0]) == dataset.total_frames
    columns = dataset.columns["action"].astype(float)
    np.testing.assert_allclose(dataset.statistics["action"]["mean"], columns.mean(axis=0))
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["splits"] == {"train": f"0:{len(seeds)}"} and info["total_episodes"] == len(seeds)
    assert repair(folder).was_whole
    with DatasetWriter(folder, FPS, features(), "test_arm") as writer:
        add_episode(writer, 9, 10)
    again = Dataset(folder)
    assert len(again.episodes) == len(seeds) + 1
    np.testing.assert_array_equal(again.images(0, IMAGES + "front"), before.images(seeds[0], IMAGES + "front"))
    np.testing.assert_array_equal(again.columns["action"][again.episodes[-1].start :], numbers(9, 10)["action"])


def test_a_whole_dataset_is_not_touched(folder: Path) -> None:
    before = snapshot(folder)
    report = repair(folder)
    assert report.was_whole and (report.episodes, report.frames) == (4, 72) and "is whole" in str(report)
    assert snapshot(folder) == before


def test_a_lost_footer_costs_nothing(folder: Path, whole: Path) -> None:
    path = folder / data(1)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    path.write_bytes(content[: -8 - length])
    report = repair(folder)
    assert report.dropped == () and "15 rows of it are intact" in report.found[0]
    assert (folder / report.moved[0]).read_bytes() == content[: -8 - length]
    holds(folder, [0, 1, 2, 3], whole)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (data(2), "episode 2 (25 frames): its rows in data/chunk-000/file-002.parquet are missing"),
        (mp4("wrist", 2), f"episode 2 (25 frames): its video {mp4('wrist', 2)} is incomplete"),
    ],
)
def test_an_episode_that_is_cut_short_is_dropped(folder: Path, whole: Path, file: str, reason: str) -> None:
    if file.endswith(".parquet"):
        left = tear(folder / file)
    else:
        cut(folder / file)
        left = (folder / file).read_bytes()
    report = repair(folder)
    assert report.dropped == (reason,) and report.episodes == 3
    assert (folder / "damaged/000" / file).read_bytes() == left
    assert (folder / "damaged/000" / mp4("front", 2)).read_bytes() == (whole / mp4("front", 2)).read_bytes()
    assert not (folder / mp4("front", 2)).exists(), "nobody speaks of it any more"
    assert str(report).count("\n") >= 4
    holds(folder, [0, 1, 3], whole)


@pytest.mark.parametrize("file", [data(0), mp4("front", 3), data(3)])
def test_an_episode_whose_file_is_missing_is_dropped(folder: Path, whole: Path, file: str) -> None:
    (folder / file).unlink()
    number = int(Path(file).stem[5:])
    report = repair(folder)
    assert len(report.dropped) == 1 and report.dropped[0].startswith(f"episode {number} ")
    holds(folder, [seed for seed in range(4) if seed != number], whole)


@pytest.mark.parametrize("remove", [True, False])
def test_metadata_is_made_anew(folder: Path, whole: Path, remove: bool) -> None:
    """Also the gap that it leaves, which would make LeRobot show every later episode the video of its neighbour."""
    before = {row: pq.read_table(whole / meta(row)).to_pylist()[0] for row in range(4)}
    (folder / meta(1)).unlink() if remove else cut(folder / meta(1))
    report = repair(folder)
    assert report.dropped == ()
    rows = pq.read_table(folder / meta(0)).to_pylist()
    assert [row["episode_index"] for row in rows] == [0, 1, 2, 3]
    for number, row in enumerate(rows):
        for name, value in before[number].items():
            if name == "tasks":
                assert row[name] == value
            elif not name.startswith("meta/episodes"):  # images: measured on compressed frames this time
                np.testing.assert_allclose(row[name], value, atol=0.06 if "images" in name else 1e-12, err_msg=name)
    holds(folder, [0, 1, 2, 3], whole)


def test_a_gap_in_the_numbers_is_closed(folder: Path, whole: Path) -> None:
    """As where an episode was deleted by hand: data, video and metadata of 1 are gone."""
    for file in (data(1), meta(1), mp4("front", 1), mp4("wrist", 1)):
        (folder / file).unlink()
    report = repair(folder)
    assert report.dropped == () and any("2 episodes get other numbers" in item for item in report.found)
    holds(folder, [0, 2, 3], whole)


@pytest.mark.parametrize(("episodes", "frames"), [(3, 60), (7, 99), (0, 0)])
def test_totals_follow_what_is_there(folder: Path, whole: Path, episodes: int, frames: int) -> None:
    """Fewer: the recorder was killed before its last step, and what it had finished is kept."""
    info = json.loads((folder / "meta/info.json").read_text())
    (folder / "meta/info.json").write_text(json.dumps(info | {"total_episodes": episodes, "total_frames": frames}))
    report = repair(folder)
    assert f"meta/info.json says total_episodes {episodes}, there are 4" in report.found
    holds(folder, [0, 1, 2, 3], whole)


def test_statistics_are_made_anew(folder: Path, whole: Path) -> None:
    cut(folder / "meta/stats.json")
    assert repair(folder).rebuilt == ("meta/info.json", "meta/stats.json")
    theirs, ours = Dataset(whole).statistics, Dataset(folder).statistics
    for key, entry in theirs.items():
        for name, value in entry.items():
            np.testing.assert_allclose(ours[key][name], value, rtol=1e-9, atol=1e-12)
    holds(folder, [0, 1, 2, 3], whole)


def test_leftovers_of_an_interrupted_write_are_moved(folder: Path, whole: Path) -> None:
    (folder / (data(4) + ".partial")).write_bytes(b"half")
    encode_video(folder / mp4("front", 4), pictures(0, 5), FPS)
    report = repair(folder)
    assert set(report.moved) >= {f"damaged/000/{data(4)}.partial", f"damaged/000/{mp4('front', 4)}"}
    holds(folder, [0, 1, 2, 3], whole)


def test_everything_at_once(folder: Path, whole: Path) -> None:
    tear(folder / data(0))
    cut(folder / meta(2))
    (folder / mp4("wrist", 3)).unlink()
    (folder / "meta/stats.json").unlink()
    report = repair(folder)
    assert len(report.dropped) == 2
    holds(folder, [1, 2], whole)


def shared(folder: Path) -> None:
    """Rearrange as LeRobot writes: one parquet with a row group per episode, one mp4 with its index in front."""
    tables = [pq.read_table(folder / data(number)) for number in range(4)]
    rows = [pq.read_table(folder / meta(number)).to_pylist()[0] for number in range(4)]
    for number in range(4):
        (folder / data(number)).unlink()
        (folder / meta(number)).unlink()
    with pq.ParquetWriter(folder / data(0), tables[0].schema, compression="snappy", use_dictionary=True) as writer:
        for table in tables:
            writer.write_table(table)
    start = 0.0
    for row in rows:
        end = start + row["length"] / FPS
        for key in [key for key in row if key.endswith("file_index")]:
            row[key] = 0
        for name in CAMERAS:
            row |= {f"videos/{IMAGES}{name}/from_timestamp": start, f"videos/{IMAGES}{name}/to_timestamp": end}
        start = end
    layout.write_rows(folder / meta(0), rows)
    for camera, name in enumerate(CAMERAS):
        for number in range(4):
            (folder / mp4(name, number)).unlink()
        parts = [pictures(seed + 7 * camera, length) for seed, length in enumerate(LENGTHS)]
        encode_video(folder / "whole.mp4", np.concatenate(parts), FPS)
        index_in_front(folder / "whole.mp4", folder / mp4(name, 0))
        (folder / "whole.mp4").unlink()


def index_in_front(source: Path, target: Path) -> None:
    import av

    with av.open(str(source)) as container, av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        for packet in container.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)


@pytest.fixture
def in_one_file(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A folder to damage, and the same whole."""
    shared(folder)
    return folder, Path(shutil.copytree(folder, tmp_path / "before"))


def test_shared_files_lose_only_their_tail(in_one_file: tuple[Path, Path]) -> None:
    folder, before = in_one_file
    assert repair(folder).was_whole
    column = pq.ParquetFile(folder / data(0)).metadata.row_group(2).column(3)
    (folder / data(0)).write_bytes((folder / data(0)).read_bytes()[: column.data_page_offset])
    report = repair(folder)
    assert [item.split(":")[0] for item in report.dropped] == ["episode 2 (25 frames)", "episode 3 (12 frames)"]
    holds(folder, [0, 1], before)


def test_a_shared_video_is_kept_up_to_where_it_is_cut(in_one_file: tuple[Path, Path]) -> None:
    folder, before = in_one_file
    cut(folder / mp4("front", 0), 0.75)
    report = repair(folder)
    assert 1 <= report.episodes <= 3 and len(report.dropped) == 4 - report.episodes
    holds(folder, list(range(report.episodes)), before)


def test_metadata_of_shared_files_is_made_anew(in_one_file: tuple[Path, Path]) -> None:
    """What LeRobot leaves that is killed before `finalize()`: rows and videos, no footers, no metadata of episodes."""
    folder, before = in_one_file
    content = (folder / data(0)).read_bytes()
    (folder / data(0)).write_bytes(content[: -8 - int.from_bytes(content[-8:-4], "little")])
    (folder / meta(0)).write_bytes((folder / meta(0)).read_bytes()[:500])
    report = repair(folder)
    assert report.dropped == ()
    holds(folder, [0, 1, 2, 3], before)


def test_damage_within_a_file_costs_the_row_group(in_one_file: tuple[Path, Path]) -> None:
    folder, before = in_one_file
    group = pq.ParquetFile(folder / data(0)).metadata.row_group(1).column(0)
    content = bytearray((folder / data(0)).read_bytes())
    content[group.data_page_offset : group.data_page_offset + 60] = bytes(60)
    (folder / data(0)).write_bytes(bytes(content))
    report = repair(folder)
    assert [item.split(":")[0] for item in report.dropped] == ["episode 1 (15 frames)"]
    holds(folder, [0, 2, 3], before)


def test_times_and_events_stay(tmp_path: Path) -> None:
    timed = features() | {MEASURED: measured_times(features())}
    with DatasetWriter(tmp_path, FPS, timed, "arm", language="episodes") as writer:
        for seed in range(3):
            columns = numbers(seed, 20) | {MEASURED: stamps(20)}
            writer.add_episode(columns, tasks(seed, 20), images=images(seed, 20), events=said(seed))
    before = Dataset(tmp_path).measured_times(2)
    tear(tmp_path / data(0))
    cut(tmp_path / meta(1))
    report = repair(tmp_path)
    assert any("what was said" in item for item in report.found)
    dataset = Dataset(tmp_path)
    assert dataset.events(1) == said(2) and dataset.events(0) == []
    np.testing.assert_array_equal(dataset.measured_times(1), before)
    timing = dataset.episodes[0].timing
    assert timing is not None and np.isnan(timing.start) and timing.rates[0] == pytest.approx(FPS, rel=0.01)


def failing(after: int, error: BaseException) -> Callable:
    real, done = atomic.os.replace, 0

    def replace(source: Path, target: Path) -> None:
        nonlocal done
        done += 1
        if done > after:
            raise error
        real(source, target)

    return replace


@pytest.mark.parametrize("after", range(6))
def test_an_interrupted_repair_is_undone_by_the_next(
    folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    tear(folder / data(1))
    before = snapshot(folder)
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", failing(after, KeyboardInterrupt()))
        patch.setattr("data.repair.undo", lambda *_: None)  # as if killed: nobody tidies up
        try:
            repair(folder)
        except KeyboardInterrupt:
            assert list((folder / "damaged").glob("*/unfinished.json"))
    repair(folder)
    holds(folder, [0, 2, 3], whole)
    assert before.keys()


def test_a_full_disk_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tear(folder / data(1))
    before = snapshot(folder)
    with monkeypatch.context() as patch:
        patch.setattr(layout, "write_rows", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(TongsError, match="the disk is full: .* was not repaired and is as it was"):
            repair(folder)
    assert snapshot(folder) == before


def test_what_cannot_be_repaired_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="is not a dataset"):
        repair(tmp_path / "nothing")
    with (
        DatasetWriter(folder, FPS, features(), "test_arm"),
        pytest.raises(TongsError, match="being written by another process"),
    ):
        repair(folder)
    tasks_file = (folder / "meta/tasks.parquet").read_bytes()
    cut(folder / "meta/tasks.parquet")
    with pytest.raises(TongsError, match="tasks.parquet is missing or damaged .* restore it from a copy"):
        repair(folder)
    (folder / "meta/tasks.parquet").write_bytes(tasks_file)
    info = json.loads((folder / "meta/info.json").read_text())
    (folder / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(TongsError, match="of version v2.1; only v3.0 can be repaired"):
        repair(folder)


def test_nothing_left_is_an_empty_dataset(tmp_path: Path) -> None:
    write_dataset(tmp_path, (20,))
    tear(tmp_path / data(0))
    report = repair(tmp_path)
    assert isinstance(report, Report) and (report.episodes, report.frames) == (0, 0)
    with DatasetWriter(tmp_path, FPS, features(), "test_arm") as writer:
        add_episode(writer, 1, 15)
    assert len(Dataset(tmp_path).episodes) == 1


def test_the_report_can_be_read_by_a_person(folder: Path) -> None:
    tear(folder / data(1))
    text = str(repair(folder))
    assert "3 episodes, 57 frames" in text and "dropped: episode 1 (15 frames)" in text and "damaged/000" in text
