"""`tongs data`: what it prints, what it writes, and one sentence for every mistake."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest

import tongs
from data.console import COMMANDS
from data.features import ACTION, IMAGES
from data.reader import Dataset
from data.video import decode_video
from data.view.page import write_page
from data.view.rerun import view_in_rerun
from data.writer import DatasetWriter
from robot.errors import TongsError
from tests.data.episodes import FPS, features, images, numbers, said, tasks, write_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set")
    return tmp_path / "set"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    status = tongs.main(["data", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def test_info_and_statistics(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "info", folder)
    assert status == 0 and "3 of 1.5 to 2.5 s" in text and "60 at 10 per second" in text and "video 48x32" in text
    status, text = run(capsys, "stats", folder, "write=true")
    assert status == 0 and "gripper" in text
    dataset = Dataset(folder)
    exact = np.quantile(dataset.columns[ACTION].astype(float), 0.9, axis=0)
    np.testing.assert_allclose(dataset.statistics[ACTION]["q90"], exact)
    with DatasetWriter(folder, FPS, features(), "test_arm") as writer:  # it still goes on
        writer.add_episode(numbers(7, 8), tasks(7, 8), images=images(7, 8))
    assert len(Dataset(folder).episodes) == 4


def test_check_tells_and_fails_on_what_is_serious(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "check", folder, "images=false")
    assert status == 0 and "finding" in text
    with DatasetWriter(folder, FPS, features(), "test_arm") as writer:
        still = images(7, 20)
        still[IMAGES + "wrist"][:] = still[IMAGES + "wrist"][0]
        writer.add_episode(numbers(7, 20), tasks(7, 20), images=still)
    status, text = run(capsys, "check", folder)
    assert status == 1 and "SERIOUS frozen: camera wrist repeats one picture" in text and "(episode 3)" in text


def test_editing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder.parent
    assert run(capsys, "delete", folder, "episodes=0,2:", f"output={root / 'one'}")[0] == 0
    assert len(Dataset(root / "one").episodes) == 1
    assert run(capsys, "merge", folder, root / "one", f"output={root / 'both'}")[0] == 0
    assert len(Dataset(root / "both").episodes) == 4
    status, text = run(
        capsys, "split", root / "both", f"output={root / 'parts'}", "parts.a=0.5", "parts.b=0.5", "seed=3"
    )
    assert status == 0 and "a: 2 episodes" in text and len(Dataset(root / "parts/b").episodes) == 2
    renaming = ("rename", folder, f"{IMAGES}front={IMAGES}top", "pull it open=open, please", f"output={root / 'new'}")
    assert run(capsys, *renaming)[0] == 0
    assert Dataset(root / "new").camera_keys == [f"{IMAGES}top", f"{IMAGES}wrist"]
    assert "open, please" in Dataset(root / "new").tasks
    assert run(capsys, "export", folder, f"output={root / 'old'}")[0] == 0 and Dataset(root / "old").version == "v2.1"
    status, text = run(capsys, "repair", folder)
    assert status == 0 and "is whole: 3 episodes, 60 frames" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "unknown command of `tongs data` ''; known are: .*check"),
        (["chekc", "x"], "unknown command of `tongs data` 'chekc'.*check"),
        (["info"], "data info needs a dataset folder"),
        (["info", "nowhere"], "nowhere is not a dataset"),
        (["delete", "{set}", "episodes=1"], "output is missing"),
        (["delete", "{set}", "episodes=1:x", "output=no"], "episodes are numbers and ranges such as 3,7:9, got '1:x'"),
        (["delete", "{set}", "episodes=2:9", "output=no"], "there are episodes 0 to 2, asked for 2:9"),
        (["rename", "{set}", "output=no"], "rename needs OLD=NEW"),
        (["view", "{set}", "{set}"], "one dataset is needed here, got 2"),
        (["view", "{set}", "episode=9"], "has episodes 0 to 2, asked for 9"),
        (["export", "{set}", "output=no", "format=v1"], "unknown format 'v1'"),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str) -> None:
    status, text = run(capsys, *(word.format(set=folder) for word in words))
    assert status == 2 and re.search(sentence, text) and text.count("\n") == 1


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "--help")
    names = re.findall(r"(?m)^  (\w+) ", text)
    assert status == 0 and names == list(COMMANDS)
    for name in names:
        status, text = run(capsys, name, "--help")
        assert status == 0 and text.startswith(f"tongs data {name} FOLDER")


@pytest.mark.parametrize("storage", ["video", "png"])
def test_the_page_of_an_episode_shows_all_of_it(tmp_path: Path, storage: str) -> None:
    with DatasetWriter(tmp_path / "set", FPS, features(), "arm", storage, "episodes") as writer:  # type: ignore[arg-type]
        for seed, length in enumerate((20, 15, 25)):
            writer.add_episode(
                numbers(seed, length), tasks(seed, length), images=images(seed, length), events=said(seed)
            )
    dataset = Dataset(tmp_path / "set")
    write_page(dataset, 2, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    videos = re.findall(r"data:video/mp4;base64,([\w+/=]+)", page)
    assert len(videos) == 2
    for key, video in zip(dataset.camera_keys, videos, strict=True):
        (tmp_path / "video.mp4").write_bytes(base64.b64decode(video))
        shown, wanted = decode_video(tmp_path / "video.mp4", 0.0, 2.5), dataset.images(2, key)
        assert shown.shape == wanted.shape and np.abs(shown.astype(int) - wanted).mean() < (
            1e-9 if storage == "video" else 3
        )
    assert page.count("<svg") == 3 and page.count('class="cursor"') == 4 + 2 + 3
    for words in ("grasp the handle", "more to the left", "interjection (user)", "2.5 s at 10 frames"):
        assert words in page


def test_rerun_gets_every_frame_and_number(tmp_path: Path) -> None:
    rerun = pytest.importorskip("rerun")
    write_dataset(tmp_path / "set")
    dataset = Dataset(tmp_path / "set")
    view_in_rerun(dataset, 1, tmp_path / "episode.rrd")
    recording = rerun.dataframe.load_recording(tmp_path / "episode.rrd")
    table = recording.view(index="time", contents="/action/dx").select().read_all()
    values = [row[0] for row in table.column(table.num_columns - 1).to_pylist()]
    np.testing.assert_allclose(values, dataset.columns[ACTION][20:35, 0])
    pictures = recording.view(index="time", contents="/cameras/**").select().read_all()
    assert pictures.num_rows == 15


def test_without_rerun_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rerun", None)
    write_dataset(tmp_path / "set")
    with pytest.raises(TongsError, match=r"pip install 'tongs\[rerun\]'"):
        view_in_rerun(Dataset(tmp_path / "set"), 0, tmp_path / "x.rrd")
