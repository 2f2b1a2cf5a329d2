"""One episode as a person asks for it: instructions of their own in a simulated scene, with a log and a film."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.policies import LMP
from eval.protocol import EvaluationConfig
from eval.results import write_json
from eval.worker import Worker
from robot.chunk_queue import ChunkQueue
from robot.errors import TongsError
from robot.interface import Policy, Scene
from sim.scenes import draw_scene
from sim.tasks import PLANNING, TASKS
from sim.tasks.base import SceneSpec
from sim.worlds import SimulatedWorld

AUTO = "auto"
_SEARCHED = 120
"""Scenes of each task in which the things that an instruction names are looked for."""
_OPEN = 0.5
_FILM_SIZE, _FILM_EVERY = 320, 1
_AFTER = 10
"""Control steps after a program has ended, in which things come to rest."""


@dataclass(frozen=True)
class RunConfig:
    """What to say to whom in which scene; see `configs/run.yaml`."""

    instructions: tuple[str, ...]
    policy: str
    output: str
    task: str = AUTO
    split: str = "test"
    scene: int | None = None
    engine: str = "mujoco"
    seconds: float = 60.0
    execute: int = 4
    sampling: Mapping[str, Any] = field(default_factory=dict)
    lerobot: Mapping[str, Any] = field(default_factory=dict)
    lmp: Mapping[str, Any] = field(default_factory=dict)
    video: bool = True

    def __post_init__(self) -> None:
        if not self.instructions:
            raise TongsError('run needs an instruction in quotes, such as: tongs run "put the red block in the drawer"')
        if self.seconds <= 0:
            raise TongsError(f"seconds must be above 0, got {self.seconds:g}")


@dataclass(frozen=True)
class RunResult:
    """What came of it: the scene that was taken, and for each thing in it where it was and is."""

    task: str
    scene: int
    steps: int
    moved: Mapping[str, str]
    ended: tuple[str, ...]


def run(config: RunConfig, tell: Callable[[str], None], answer: Callable[[str], str] | None = None) -> RunResult:
    """Say the instructions one after another and let the policy act on each until it has ended, or the time is up.

    Args:
        config: see there.
        tell: hears what happens, line by line.
        answer: what the person answers to a question; None if nobody is there.

    Raises:
        TongsError: bad settings, or a policy that does not fit.
    """
    task, scene = choose_scene(config)
    protocol = EvaluationConfig(
        policy=config.policy,
        tasks=(task,),
        scenes=(scene, scene + 1),
        output=config.output,
        split=config.split,
        engine=config.engine,
        execute=config.execute,
        sampling=config.sampling,
        lerobot=config.lerobot,
        lmp=config.lmp,
        processes=1,
    )
    worker = Worker(protocol)
    world, policy = worker.world(task), worker.policy(task)
    world.reset(config.split, scene)
    tell(f"scene {scene} of {task} ({config.split}): {', '.join(things(world)) or 'nothing that has a name'}")
    before, frames, ended = things(world), [], []
    if config.policy == LMP:
        from policies.lmp.policy import LmpPolicy

        assert isinstance(policy, LmpPolicy)
        policy.listen(lambda text: tell(f"  robot: {text}"), answer)
    policy.reset(0)
    queue = ChunkQueue(policy, config.execute)
    try:
        for instruction in config.instructions:
            tell(f"you: {instruction}")
            world.instruction = instruction
            for _ in _steps(world, policy, queue, config.seconds):
                if config.video and world.steps % _FILM_EVERY == 0:
                    frames.append(world.render("front", _FILM_SIZE, _FILM_SIZE))
            ended.append(_report(policy, tell))
        moved = changes(before, things(world))
        for name, what in moved.items():
            tell(f"  {name}: {what}")
        _write(config, task, scene, policy, frames, worker)
        return RunResult(task, scene, world.steps, moved, tuple(ended))
    finally:
        if config.policy == LMP:
            policy.close()  # type: ignore[attr-defined]
        world.close()


def _steps(world: SimulatedWorld, policy: Policy, queue: ChunkQueue, seconds: float) -> Iterator[None]:
    """Carry out one instruction, step by step."""
    last = round(seconds * world.spec.action_space.rate)
    resting = 0
    for _ in range(last):
        world.execute(queue.action(world.observe(images=queue.wants_images(world.instruction))))
        yield
        resting = resting + 1 if not getattr(policy, "busy", True) else 0
        if resting >= _AFTER:
            return


def _report(policy: Policy, tell: Callable[[str], None]) -> str:
    """Tell what program was run and how that ended."""
    log = getattr(policy, "log", None)
    if log is None or not log.commands:
        return "the time is up"
    command = log.commands[-1]
    for attempt in command.attempts:
        for line in attempt.code.splitlines():
            tell(f"  {attempt.program}> {line}")
        for call in attempt.calls:
            given = ", ".join(f"{value!r}" for value in call["arguments"].values())
            result = f" = {call['result']!r}" if call["result"] is not None else ""
            tell(f"    {call['name']}({given}){result}{' FAILED: ' + call['error'] if 'error' in call else ''}")
        if attempt.error:
            tell(f"  failed: {attempt.error.strip().splitlines()[-1]}")
    ending = "the time is up" if command.ending == "running" else command.ending
    tell(f"  {ending}")
    return ending


def _write(
    config: RunConfig, task: str, scene: int, policy: Policy, frames: Sequence[NDArray[np.uint8]], worker: Worker
) -> None:
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    log = getattr(policy, "log", None)
    fields = log.to_json() if log is not None else {"instructions": list(config.instructions)}
    write_json({"task": task, "split": config.split, "scene": scene, **fields}, folder / "log.json")
    if frames:
        from data.video import encode_video

        rate = worker.world(task).spec.action_space.rate
        encode_video(folder / "film.mp4", np.stack(frames), round(rate / _FILM_EVERY), quality=24, key_interval=30)


def things(world: SimulatedWorld) -> dict[str, tuple[NDArray[np.float64], float | None, float | None]]:
    """Place (3,) m, opening and filling of every thing of a scene that tells."""
    if not isinstance(world, Scene):
        return {}
    return {name: (thing.position, thing.joint_fraction, thing.fill) for name, thing in world.objects().items()}


def changes(before: Mapping[str, tuple], after: Mapping[str, tuple]) -> dict[str, str]:
    """What is different now, in words."""
    found = {}
    for name, (position, opening, fill) in after.items():
        was_at, was_open, was_full = before[name]
        if opening is not None:
            if abs(opening - was_open) > 0.01:
                found[name] = f"{was_open:.0%} open before, {opening:.0%} now"
        elif fill is not None and abs(fill - was_full) > 0.01:
            found[name] = f"{was_full:.0%} full before, {fill:.0%} now"
        elif np.linalg.norm(position - was_at) > 0.01:
            x, y, z = position - was_at
            found[name] = f"moved by x {x:+.2f}, y {y:+.2f}, z {z:+.2f} m"
    return found


# --- which scene


def choose_scene(config: RunConfig) -> tuple[str, int]:
    """The task and the scene number; where they are not given, the first scene with most of the things named."""
    if config.task != AUTO and config.scene is not None:
        return config.task, config.scene
    if config.task != AUTO and config.task not in TASKS:
        return config.task, 0  # another engine's, or an error that is told where the world is made
    tasks = [config.task] if config.task != AUTO else [name for name in TASKS if name not in PLANNING]
    numbers = range(_SEARCHED) if config.scene is None else (config.scene,)
    drawn = [(task, number, _named(draw_scene(task, config.split, number))) for number in numbers for task in tasks]
    vocabulary = frozenset().union(*(name for _, _, names in drawn for name in names))
    wanted = _wanted(" ".join(config.instructions), vocabulary)
    task, number, _ = max(drawn, key=lambda entry: sum(any(w <= name for name in entry[2]) for w in wanted))
    return task, number


def _wanted(text: str, vocabulary: frozenset[str]) -> set[frozenset[str]]:
    """What a text names: runs of words that name things, such as {red, block} and {open, left, drawer}."""
    found, run = set(), set[str]()
    for word in [*re.findall(r"[a-z]+", text.lower()), "."]:
        known = next((form for form in (word, word.removesuffix("s")) if form in vocabulary), None)
        if known is not None:
            run.add(known)
        elif run:
            found.add(frozenset(run))
            run = set()
    return found


def _named(scene: SceneSpec) -> list[frozenset[str]]:
    """For each thing in a scene the words that name it, with "open" for a drawer or door that is wide open."""
    names = []
    for top in scene.bodies:
        for body in top.walk():
            free = body.joint is not None and body.joint.kind == "free"
            if free or body.name in scene.joints or body.name == "tray":
                words = {word for word in body.name.split("_") if word.isalpha()}
                if body.name in scene.joints and body.joint and scene.joints[body.name] > _OPEN * body.joint.high:
                    words.add("open")
                names.append(frozenset(words))
    return names
