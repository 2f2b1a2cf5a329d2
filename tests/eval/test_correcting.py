"""A made-up person beside a policy of two levels: when it speaks, what that does, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from data.cache import open_cache
from data.commands import CommandSamples
from data.reader import Dataset
from data.segments import SegmentRules, dataset_segments
from eval import correcting
from eval.correcting import CorrectedEpisode, Corrector, Help, collect_corrections, run_corrected
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec
from robot.session.recording import Frame
from sim.expert import ScriptedExpert
from sim.world import STATE_NAMES, World


def test_the_person_looks_for_a_while_before_it_speaks() -> None:
    person = Corrector(patience=0.5)
    heard = [(step, person.listen(step / 10, "wave" if step != 7 else "open it", "open it")) for step in range(40)]
    assert [step for step, text in heard if text] == [5, *range(13, 40, 6)]  # right at 0.7; wrong again since 0.8
    assert {text for _, text in heard} == {None, "open it"}


class Now(NamedTuple):
    command: str


class Stubborn:
    """Left to itself it wants to wave, and holds still; corrected, it does what it is told as an expert would."""

    spec = PolicySpec({}, (), EE_DELTA, horizon=1, commands=("wave",), command_time=4.0)

    def __init__(self, world: World) -> None:
        self.world, self.expert, self.task = world, ScriptedExpert(world), ""
        self.commanded = [Now("")]

    def reset(self, seed: int) -> None:
        self.expert.reset(seed)
        self.task = ""

    def act(self, observation: Observation) -> ActionChunk:
        self.task = self.task or observation.instruction
        told = "wave" if observation.instruction == self.task else observation.instruction
        self.commanded = [Now(told)]
        if told == self.world.command:
            return self.expert.act(observation)
        still = np.zeros((1, EE_DELTA.dimension), np.float32)
        still[0, 6] = self.world.commanded_opening
        return ActionChunk(still, np.array([observation.time]))

    def act_batch(self, observations: Any) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


def test_a_correction_helps_from_the_next_step_on_for_as_long_as_it_holds() -> None:
    world = World("close_drawer", {})
    policy = Stubborn(world)
    helped = run_corrected(world, policy, "test", 0, Corrector(patience=1.0), record=True)
    assert helped.success and helped.subgoals == helped.reached == 1
    times = [time for time, _ in helped.corrections]
    assert len(times) > 1 and times[0] == pytest.approx(1.1)
    assert np.diff(times) == pytest.approx(5.1)  # 4 s, a second of looking, and the step after that
    assert {text for _, text in helped.corrections} == {world.command}
    said = [frame.instruction for frame in helped.frames]
    assert len(said) == helped.length and said[:11] == [said[0]] * 11 and said[0] != world.command
    assert said[11:51] == [world.command] * 40 and said[51] == said[0]
    world.close()


def test_commands_are_few_and_say_the_present_goal() -> None:
    world, said = World("compose", {}), []
    for scene in range(6):
        world.reset("train", scene)
        for number in range(len(world.goals)):
            said.append((world.goal_spec, world.command))
            if number + 1 < len(world.goals):
                world._reach()
    for goal, command in said:
        kind = world.task.rules(goal).name
        assert command.startswith(
            {"put_in_drawer": "Put", "pickup_object": "Raise", "open_drawer": "Open"}.get(kind, "")
        )
        assert f"the {goal.body.replace('_', ' ')}" in command  # never "the one on the left"
        numbers = [int(word.strip("%")) for word in command.split() if word.strip("%").isdigit()]
        asked = round(goal.value * 100)
        if numbers and kind in ("open_drawer", "close_drawer"):
            assert numbers[0] % 5 == 0 and abs(numbers[0] - asked) <= 2.5
        elif numbers:
            assert abs(numbers[0] - asked) <= 1
    world.close()


def episode(scene: int, times: tuple[float, ...]) -> CorrectedEpisode:
    def frame(step: int) -> Frame:
        pictures = {name: np.full((16, 16, 3), 5 * step, np.uint8) for name in ("front", "wrist")}
        state = np.zeros(len(STATE_NAMES), np.float32)
        seen = Observation(pictures, state, "tidy up", step / 10)
        return Frame(seen, np.zeros(EE_DELTA.dimension, np.float32), False, "tidy up")

    frames = tuple(frame(step) for step in range(50))
    return CorrectedEpisode(scene, True, 2, 2, 50, tuple((time, f"command {scene}") for time in times), frames)


def test_corrections_become_a_dataset_to_learn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[range] = []

    def play(settings: Help, scenes: range, record: bool = False) -> Iterator[CorrectedEpisode]:
        asked.append(scenes)
        assert record and settings.split == "train"
        yield from (episode(7, (3.0,)), episode(8, ()), episode(9, (0.5, 2.5, 4.0)), episode(10, (1.0,)))

    monkeypatch.setattr(correcting, "corrected_episodes", play)
    settings = Help("unused", split="train")
    assert collect_corrections(settings, tmp_path / "said", 3, start=7) == 3
    assert asked == [range(7, 19)]
    dataset = Dataset(tmp_path / "said")
    told = [[(e.time, e.text) for e in dataset.events(n) if e.style == "interjection"] for n in range(2)]
    assert told == [[(3.0, "command 7")], [(0.5, "command 9"), (2.5, "command 9")]]  # no more than were wanted
    rules = SegmentRules()
    cache = open_cache(tmp_path / "said", {"front": (16, 16)})
    samples = CommandSamples([cache], [dataset_segments(dataset, rules)], ["front"], rules=rules)
    assert samples.commands == ("command 7", "command 9") and samples.instructions == ("tidy up",)
    assert samples.frames.tolist() == [*range(6, 50), *range(50, 100)]
    assert collect_corrections(settings, tmp_path / "said", 1, start=7) == 1  # made again
    assert len(Dataset(tmp_path / "said").episodes) == 1
    monkeypatch.setattr(correcting, "corrected_episodes", lambda *_, **__: (e for e in (episode(1, ()),)))
    assert collect_corrections(settings, tmp_path / "none", 3, start=7) == 0 and not (tmp_path / "none").exists()
