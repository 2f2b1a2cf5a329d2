"""An evaluation that was killed goes on where it was, and nowhere else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import tongs
from eval import evaluation
from eval.evaluation import evaluate
from eval.journal import NAME, Journal
from eval.protocol import EvaluationConfig
from eval.worker import PolicyDescription
from robot.errors import TongsError
from tests.eval.episodes import episode

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["eval", "policy=expert", "task=open_drawer,pickup_object", "scenes=0:6", "processes=1", "videos=1"]


def start(output: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tongs", *WORDS, *words, f"output={output}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_episodes(output: Path, number: int) -> None:
    """Until the journal has a heading and `number` episodes."""
    deadline = time.monotonic() + 60
    while not (output / NAME).is_file() or (output / NAME).read_bytes().count(b"\n") <= number:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def workers(parent: int) -> list[int]:
    children = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def lasting(output: Path) -> dict[str, Any]:
    """`results.json` without what may differ from run to run."""
    fields = json.loads((output / "results.json").read_text())
    return {key: value for key, value in fields.items() if key != "timing"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    assert tongs.main([*WORDS, f"output={output}"]) == 0
    return output


def test_a_killed_evaluation_is_finished_by_the_same_command(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed as hard as possible, with half a line written, and its workers end too."""
    running = start(tmp_path)
    wait_for_episodes(tmp_path, 2)
    (worker,) = workers(running.pid)
    running.kill()
    running.communicate()
    kept = (tmp_path / NAME).read_bytes()
    assert 3 <= kept.count(b"\n") < 13 and not (tmp_path / "results.json").exists()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}/cmdline").exists() and Path(f"/proc/{worker}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with (tmp_path / NAME).open("ab") as journal:
        journal.write(kept.splitlines()[-1][:40])

    assert tongs.main([*WORDS, f"output={tmp_path}"]) == 0
    assert "going on after" in capsys.readouterr().out
    assert lasting(tmp_path) == lasting(uninterrupted)
    assert (tmp_path / NAME).read_bytes().startswith(kept)
    assert (tmp_path / "report.html").read_text().count("data:video/mp4") == 2


def test_a_lost_worker_loses_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    running = start(tmp_path, "videos=0")
    wait_for_episodes(tmp_path, 1)
    os.kill(*workers(running.pid), signal.SIGKILL)
    _, said = running.communicate()
    assert running.returncode == 2
    assert "a worker process died" in said and f"output={tmp_path} continues after" in said
    done = lasting(tmp_path)
    assert done["complete"] is False and 1 <= len(done["episodes"]) < 12
    assert tongs.main([*WORDS, "videos=0", f"output={tmp_path}"]) == 0
    assert lasting(tmp_path) == lasting(uninterrupted)


def test_a_finished_evaluation_is_not_run_again(
    uninterrupted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file: file.read_bytes() for file in uninterrupted.iterdir()}
    monkeypatch.setattr(evaluation, "make_executor", None)
    results = tongs.evaluate("expert", ["open_drawer", "pickup_object"], scenes="0:6", videos=1, output=uninterrupted)
    assert "nothing had to be run" in " ".join(capsys.readouterr().out.split())
    assert results.complete and results.overall.episodes == 12
    assert {file: file.read_bytes() for file in uninterrupted.iterdir()} == before


# --- the file itself


def config(output: Path, **changes: Any) -> EvaluationConfig:
    fields: dict[str, Any] = {"policy": "random", "tasks": ("open_drawer",), "scenes": (0, 9)}
    return EvaluationConfig(output=str(output), **fields | changes)


DESCRIPTION = PolicyDescription({"horizon": 8}, {"steps": 3})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder whose journal has three episodes."""
    with Journal(config(tmp_path)) as journal:
        journal.begin(DESCRIPTION)
        for scene in range(3):
            journal.add(episode(scene=scene, reached=0.1 + scene / 3))
    return tmp_path


def scenes(output: Path, **changes: Any) -> list[int]:
    with Journal(config(output, **changes)) as journal:
        return [episode.scene for episode in journal.episodes]


def test_what_was_written_is_read(written: Path) -> None:
    with Journal(config(written)) as journal:
        assert journal.description == DESCRIPTION
        assert [e.reached for e in journal.episodes] == [0.1 + scene / 3 for scene in range(3)]
        assert journal.episodes[1].latencies == episode().latencies
        assert journal.videos is None
        journal.finish(2.5, 4)
    with Journal(config(written)) as journal:
        assert (journal.wall_s, journal.videos) == (2.5, 4)


def test_subgoals_are_kept_and_need_not_be_there(written: Path) -> None:
    """Journals from before there were longer tasks know nothing of them."""
    subgoals = ("open_drawer", "put_in_drawer")
    with Journal(config(written)) as journal:
        journal.add(episode(scene=5, subgoals=subgoals))
    file = written / NAME
    file.write_text(file.read_text().replace(', "subgoals": []', ""))
    with Journal(config(written)) as journal:
        assert [e.subgoals for e in journal.episodes] == [(), (), (), subgoals]


@pytest.mark.parametrize("cut", [1, 2, 30, 200])
def test_a_last_line_cut_short_is_forgotten(written: Path, cut: int) -> None:
    file = written / NAME
    os.truncate(file, file.stat().st_size - cut)
    assert scenes(written) == [0, 1]
    with Journal(config(written)) as journal:
        journal.add(episode(scene=7))
    assert scenes(written) == [0, 1, 7]


def test_a_last_line_that_the_disk_lost_is_forgotten(written: Path) -> None:
    with (written / NAME).open("ab") as file:
        file.write(bytes(50) + b"\n")
    assert scenes(written) == [0, 1, 2]


def test_damage_in_the_middle_is_one_sentence(written: Path) -> None:
    lines = (written / NAME).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:50] + b"\n"
    (written / NAME).write_bytes(b"".join(lines))
    with pytest.raises(TongsError, match=r"episodes.jsonl: line 3 is damaged; start anew with resume=false"):
        Journal(config(written))
    lines[2] = b'{"episode": {"scene": 1}}\n'
    (written / NAME).write_bytes(b"".join(lines))
    with pytest.raises(TongsError, match="damaged"):
        Journal(config(written))
    assert scenes(written, resume=False) == []


def test_another_protocol_is_refused_and_named(written: Path) -> None:
    with pytest.raises(TongsError, match="wording was seen and is unseen, execute was 4 and is 8; choose another"):
        Journal(config(written, wording="unseen", execute=8))
    with pytest.raises(TongsError, match="engine was mujoco and is bullet, protocol was closed_loop and is keypose"):
        Journal(config(written, engine="bullet", protocol="keypose"))
    with pytest.raises(TongsError, match="policy was random and is expert"):
        Journal(config(written, policy="expert"))
    with pytest.raises(TongsError, match="engine was mujoco and is bullet"):
        Journal(config(written, engine="bullet"))
    assert scenes(written, processes=7, videos=0) == [0, 1, 2]


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "policy"
    checkpoint.mkdir()
    for name in ("config.json", "model.safetensors", "statistics.json"):
        (checkpoint / name).write_text("1")
    with Journal(config(tmp_path, policy=str(checkpoint))) as journal:
        journal.begin(DESCRIPTION)
    moved = checkpoint.rename(tmp_path / "moved")
    assert scenes(tmp_path, policy=str(moved)) == []
    (moved / "model.safetensors").write_text("2")
    with pytest.raises(TongsError, match=r"checkpoint's model.safetensors was 6b86b273ff34... and is d4735e3a265e"):
        Journal(config(tmp_path, policy=str(moved)))


def test_two_evaluations_do_not_share_a_folder(written: Path) -> None:
    with Journal(config(written)), pytest.raises(TongsError, match="another evaluation is writing"):
        Journal(config(written))


def test_the_commits_of_all_parts_are_kept(written: Path) -> None:
    with Journal(config(written)) as journal:
        first = journal.commit
        journal._commit = "another"
        journal.add(episode(scene=8))
        assert journal.commit == (f"{first} and another" if first else "another")


def test_starting_anew_runs_everything_again(written: Path) -> None:
    """The journal of a made-up run is replaced by that of a real one."""
    results = evaluate(config(written, policy="expert", scenes=(0, 1), videos=0, resume=False), Console(quiet=True))
    assert [e.scene for e in results.episodes] == [0]
    assert scenes(written, policy="expert", scenes=(0, 1)) == [0]
