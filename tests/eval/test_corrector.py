"""A simulated person: what it would do, when it speaks, how often, and what is kept of that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.motions import motion_track
from data.reader import Dataset
from data.recorder import INTERVENTION
from eval import corrections
from eval.corrections import CorrectionsConfig, collect_corrections
from eval.corrector import CorrectorConfig, MotionLog, SimulatedCorrector, Teacher, require_corrector
from eval.protocol import EvaluationConfig
from robot.errors import TongsError
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec, RobotSpec
from robot.motions import TABLE, clauses, parse_motion
from sim.episode import EpisodeResult, run_episode
from sim.world import STATE_NAMES, World

SPEED, TURNING = 0.1, 0.6


class Obedient:
    """Holds still, and does what it is told: a policy that takes motions and has no ideas of its own."""

    spec = PolicySpec({}, (), EE_DELTA, horizon=4, goals=("language", "motion"))

    def __init__(self, own: str = TABLE.idle) -> None:
        self.own = own

    def bind(self, robot: RobotSpec) -> None:
        pass

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Observation) -> ActionChunk:
        motion = parse_motion(observation.motion or self.own)
        assert motion is not None
        told = float(observation.state[STATE_NAMES.index("gripper_command")])
        opening = told if motion.opening is None else motion.opening
        velocity = np.array(motion.velocity) * ([SPEED] * 3 + [TURNING] * 3) / EE_DELTA.rate
        actions = np.tile([*velocity, opening], (4, 1)).astype(np.float32)
        source = "human" if observation.motion else "model"
        times = observation.time + np.arange(4) / EE_DELTA.rate
        return ActionChunk(actions, times, motion=motion.text, motion_source=source)

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    made = {task: World(task, {}) for task in ("pickup_object", "open_drawer")}
    yield made
    for world in made.values():
        world.close()


def play(world: World, scene: int, config: CorrectorConfig) -> tuple[EpisodeResult, SimulatedCorrector]:
    corrector = SimulatedCorrector(config)
    return run_episode(world, Obedient(), "test", scene, execute=4, companion=corrector), corrector


@pytest.mark.parametrize(
    ("task", "by"), [("pickup_object", "motions"), ("pickup_object", "driving"), ("open_drawer", "driving")]
)
def test_corrections_alone_do_a_task(worlds: dict[str, World], task: str, by: Any) -> None:
    """A policy without ideas succeeds on corrections alone, in most scenes: they and their rate are enough. (A drawer's
    handle wants the gripper half open, for which there is no word.)"""
    played = [play(worlds[task], scene, CorrectorConfig(by, interval=0.4, patience=0.2, most=60)) for scene in range(4)]
    assert sum(bool(result.success) for result, _ in played) >= 3
    for _, corrector in played:
        assert corrector.corrections
        for _, said in corrector.corrections:
            motion = parse_motion(said)
            assert motion is not None and motion.text == said and len(clauses(said)) <= TABLE.most


def test_it_speaks_at_a_bounded_rate_and_only_so_often(worlds: dict[str, World]) -> None:
    config = CorrectorConfig(interval=2.0, hold=0.8, patience=0.4, most=3)
    _, corrector = play(worlds["pickup_object"], 0, config)
    times = [time for time, _ in corrector.corrections]
    assert len(times) == 3 and times[0] >= 0.4
    assert all(later - earlier >= 2.0 - 1e-6 for earlier, later in pairwise(times))
    told = [step for step in corrector.steps if step["source"] == "human"]
    assert 0 < len(told) <= 3 * 14  # held for 0.8 s, and looked at every 0.2 s


def test_what_is_right_is_not_corrected(worlds: dict[str, World]) -> None:
    """A chunk that does what the person would say is left alone, its opposite is not."""
    world = worlds["pickup_object"]
    for own, corrected in (("right", False), ("wrong", True)):
        corrector = SimulatedCorrector(CorrectorConfig(patience=0.2, look=0.1))
        world.reset("test", 1)
        corrector.begin(world)
        way = Teacher(world).way()
        assert not way.grip and np.linalg.norm(way.shift) > 0.02
        step = np.zeros(7)
        step[:6] = np.clip(way.shift * (1 if own == "right" else -1), -0.02, 0.02)
        step[6] = 1.0
        chunk = ActionChunk(np.tile(step, (4, 1)).astype(np.float32), np.arange(4) / 10)
        for _ in range(8):
            assert corrector.motion(chunk) == "" or corrected
            world.execute(np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
        assert bool(corrector.corrections) == corrected


def test_every_step_is_kept(worlds: dict[str, World], tmp_path: Path) -> None:
    result, corrector = play(worlds["open_drawer"], 0, CorrectorConfig())
    corrector.write(tmp_path / "motions" / "one.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "motions" / "one.jsonl").read_text().splitlines()]
    assert len(lines) == result.length and [line["step"] for line in lines] == list(range(result.length))
    assert {line["task"] for line in lines} == {result.instruction}
    assert {(line["motion"], line["source"]) for line in lines} > {(TABLE.idle, "model")}
    assert all(len(line["action"]) == 7 for line in lines)
    silent = MotionLog()
    run_episode(worlds["open_drawer"], Obedient(), "test", 0, companion=silent)
    assert silent.chose and {step["source"] for step in silent.steps} == {"model"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corrector": {"by": "shouting"}}, "unknown corrector.by 'shouting'; known are: driving, motions"),
        ({"corrector": {"interval": 1.0}}, "say how it corrects: corrector.by=motions or driving"),
        ({"corrector": {"by": "motions", "hold": 0}}, "corrector.hold must be a number above 0, got 0"),
        ({"corrector": {"by": "motions"}, "realtime": True}, "corrector.by=motions is for protocol=closed_loop"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        EvaluationConfig("random", ("open_drawer",), (0, 1), "unused", **settings)


def test_who_can_be_corrected_how() -> None:
    flat = PolicySpec({}, (), EE_DELTA, horizon=4)
    with pytest.raises(TongsError, match="'x' takes no motions, so it can only be corrected by driving"):
        require_corrector(CorrectorConfig(), flat, "x")
    require_corrector(CorrectorConfig("driving"), flat, "x")


# --- recorded


class Chosen:
    learned = True

    def load(self, sampling: Any = None) -> Obedient:
        return Obedient()


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("by", ["motions", "driving"])
def test_corrected_successes_become_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    monkeypatch.setattr(corrections, "choose_policy", lambda name: Chosen())
    monkeypatch.setattr(corrections, "CAMERAS", ("front",))
    settings: dict[str, Any] = {
        "policy": "obedient",
        "task": "pickup_object",
        "output": str(tmp_path),
        "corrector": {"by": by, "interval": 0.4, "patience": 0.2, "most": 60},
        "image_size": 16,
        "split": "test",
        "start": 0,
    }
    (first,) = collect_corrections(CorrectionsConfig(episodes=1, **settings))
    assert first.episodes == 1 and first.corrections >= 1
    (both,) = collect_corrections(CorrectionsConfig(episodes=2, **settings))
    dataset = Dataset(tmp_path / "pickup_object")
    assert (both.episodes, len(dataset.episodes)) == (2, 2) and both.corrections > first.corrections
    track = motion_track(dataset)
    assert track.table == TABLE and 0 < track.corrected.mean() < 1
    if by == "motions":
        said = {motion for motion, person in zip(track.motions, track.corrected, strict=True) if person}
        assert said and TABLE.idle not in said and not dataset.columns[INTERVENTION].any()
        assert {motion for motion, person in zip(track.motions, track.corrected, strict=True) if not person} == {
            TABLE.idle
        }
    else:
        np.testing.assert_array_equal(track.corrected, dataset.columns[INTERVENTION][:, 0])
        still = dataset.columns["action"][~track.corrected, :6]
        assert (still == 0).all() and np.abs(dataset.columns["action"][track.corrected, :6]).max() > 0.005
    assert not collect_corrections(CorrectionsConfig(episodes=2, **settings))[0].attempts < both.attempts


def test_only_a_learned_policy_learns(tmp_path: Path) -> None:
    config = CorrectionsConfig("expert", ("open_drawer",), str(tmp_path), corrector={"by": "driving"})
    with pytest.raises(TongsError, match="only a learned policy learns from corrections, and 'expert' is none"):
        collect_corrections(config)
