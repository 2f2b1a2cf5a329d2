"""Does a policy fit a robot's topic map, or its recordings? Asked open loop, before anything moves: `tongs check`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from data.features import ACTION, IMAGES, STATE
from data.reader import Dataset
from eval.policies import choose_policy
from robot.chunk_queue import ChunkQueue
from robot.errors import ContractError, TongsError
from robot.interface import ActionSpace, Observation, PolicySpec, RobotSpec, require_compatible

OUTSIDE = 0.5
"""A state entry does not fit if more than this share of its values is outside what the policy was trained on."""
SCALE = 4.0
"""Sizes that differ by less than this factor may be another task; by more, they are another unit."""
AGREES, DISAGREES = 0.7, -0.5
"""Correlations that say that a policy knows the motion, and that it has it the wrong way round."""
UNITS = {1000.0: "metres and millimetres", 100.0: "metres and centimetres", 180 / math.pi: "radians and degrees"}


@dataclass(frozen=True)
class CheckConfig:
    """What to check.

    Attributes:
        policy: name or folder of a learned policy.
        data: a dataset folder, or None.
        map: the file of a topic map, or None; one of the two is needed.
        limits, urdf: of the map's arm, as for the policy runner.
        episodes: how many are replayed, spread evenly.
        execute: actions of a chunk that are followed before the policy is asked again.
        sampling, lerobot: settings that replace the checkpoint's; see `PolicyChoice.load`.
        seed: of the policy.
    """

    policy: str
    data: str | None = None
    map: str | None = None
    limits: str | None = None
    urdf: str | None = None
    episodes: int = 5
    execute: int = 4
    sampling: Mapping[str, Any] = field(default_factory=dict)
    lerobot: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.data is None and self.map is None:
            raise TongsError("check the policy against what? give data=<a dataset folder>, map=<a topic map>, or both")
        if self.map is None and (self.limits or self.urdf):
            raise TongsError("limits and urdf are of a topic map's arm; give map=<its file>")
        if self.episodes < 1 or self.execute < 1:
            raise TongsError(f"episodes and execute must be at least 1, got {self.episodes} and {self.execute}")


@dataclass(frozen=True)
class Agreement:
    """One entry of the action: what the policy gave against what was recorded.

    Attributes:
        name, unit: of the entry.
        error: mean absolute difference.
        spread: mean absolute difference of the recorded values from their mean: the error of knowing nothing.
        correlation: of both; NaN where one of them never changes.
    """

    name: str
    unit: str
    error: float
    spread: float
    correlation: float


@dataclass(frozen=True)
class CheckResult:
    """What does not fit, a sentence each, and how well the actions agree; no actions where the names already differ."""

    mismatches: list[str]
    agreements: list[Agreement]
    frames: int


def check(config: CheckConfig, advance: Callable[[], object] = lambda: None) -> CheckResult:
    """Compare declarations and statistics, then replay episodes and compare actions.

    Args:
        config: see there.
        advance: called after each replayed episode.

    Raises:
        TongsError: there is no such policy or dataset, or one is damaged.
    """
    policy = choose_policy(config.policy).load(config.sampling, config.lerobot)
    declared = [] if config.map is None else list(_mapped(config, config.map, policy.spec))
    if config.data is None:
        return CheckResult(declared, [], 0)
    dataset = Dataset(config.data)
    robot = recorded_robot(dataset, policy.spec)
    if declared := [*declared, *_declared(dataset, robot, policy.spec)]:
        return CheckResult(declared, [], 0)
    policy.bind(robot)
    count = min(config.episodes, len(dataset.episodes))
    chosen = np.linspace(0, len(dataset.episodes) - 1, count).round().astype(int).tolist()
    queue, given, recorded = ChunkQueue(policy, config.execute), [], []
    for episode in chosen:
        span = dataset.episodes[episode]
        queue.reset(config.seed)
        given += [queue.action(observation) for observation in recorded_observations(dataset, episode, policy.spec)]
        recorded.append(dataset.columns[ACTION][span.start : span.stop])
        advance()
    actions, wanted = np.stack(given).astype(np.float64), np.concatenate(recorded).astype(np.float64)
    space = policy.spec.action_space
    statistics = cast(Mapping[str, Mapping[str, Any]], getattr(policy, "statistics", {}))
    mismatches = [
        *_states(dataset, policy.spec, statistics),
        *_units(wanted, space, statistics),
        *_gripper(actions, wanted, space),
        *_frame(actions, wanted, space),
    ]
    return CheckResult(mismatches, _agreements(actions, wanted, space), len(wanted))


def mapped_robot(
    path: str, limits_file: str | None, urdf: str | None, cameras: Mapping[str, tuple[int, int]]
) -> RobotSpec:
    """The robot that a topic map describes, as a policy runner would open it, but for what only its topics can say.

    Args:
        path: the map's file.
        limits_file, urdf: as for the runner.
        cameras: {camera: (H, W)} that is taken for those whose size the map leaves open.

    Raises:
        TongsError: a file is wrong, a topic has an unknown type or none, or the map's arm cannot be driven.
    """
    from eval.robots import arm_limits, driven
    from robot.ros import definitions
    from robot.ros.arm import arm_commands, require_type
    from robot.topic_map import TopicMap

    topic_map = TopicMap.read(path)
    for source in topic_map.sources:
        definitions.require(require_type(source))
    limits = arm_limits(topic_map, urdf, limits_file)
    _, space = arm_commands(topic_map, limits)
    sizes = {name: camera.size or cameras.get(name, (0, 0)) for name, camera in topic_map.cameras.items()}
    return driven(topic_map, urdf, limits, _Described(RobotSpec(sizes, topic_map.state_names, space))).spec


@dataclass(frozen=True)
class _Described:
    """A robot of which only the description is there."""

    spec: RobotSpec
    command_rate: float = 50.0

    def observe(self) -> Observation:
        raise TongsError("a robot that is only described has nothing to see")

    def command(self, command: NDArray[np.float32]) -> None:
        raise TongsError("a robot that is only described cannot be told anything")

    def stop(self) -> None:
        pass


def _mapped(config: CheckConfig, path: str, spec: PolicySpec) -> Iterator[str]:
    """Where the policy and a topic map differ."""
    try:
        require_compatible(spec, mapped_robot(path, config.limits, config.urdf, spec.cameras), "the policy")
    except ContractError as error:
        yield str(error)


def recorded_robot(dataset: Dataset, spec: PolicySpec) -> RobotSpec:
    """The robot of a dataset: what its columns say, and the policy's own action space, which they do not say."""
    cameras = {key.removeprefix(IMAGES): dataset.features[key].shape[:2] for key in dataset.camera_keys}
    names = dataset.features[STATE].names if STATE in dataset.features else ()
    return RobotSpec(cast(Mapping[str, tuple[int, int]], cameras), names or (), spec.action_space)


def _declared(dataset: Dataset, robot: RobotSpec, spec: PolicySpec) -> Iterator[str]:
    """What can be told from names, sizes and rates."""
    space = spec.action_space
    names = dataset.features[ACTION].names if ACTION in dataset.features else None
    if names != space.names:
        recorded = ", ".join(names) if names else "nameless"
        yield f"the policy gives {', '.join(space.names)}, and the recorded actions are {recorded}"
    if dataset.fps != space.rate:
        yield f"the policy acts at {space.rate:g} Hz, and the recording has {dataset.fps} frames per second"
    try:
        require_compatible(spec, robot, "the policy")
    except ContractError as error:
        yield str(error)


def recorded_observations(dataset: Dataset, episode: int, spec: PolicySpec) -> Iterator[Observation]:
    """An episode as the robot would show it."""
    span = dataset.episodes[episode]
    images = {camera: dataset.images(episode, IMAGES + camera) for camera in spec.cameras}
    states = dataset.columns[STATE][span.start : span.stop].astype(np.float32)
    for frame, (state, task) in enumerate(zip(states, dataset.frame_tasks(episode), strict=True)):
        pictures = {camera: frames[frame] for camera, frames in images.items()}
        yield Observation(pictures, state, task, frame / dataset.fps)


def _states(dataset: Dataset, spec: PolicySpec, statistics: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """State entries whose values are mostly outside the span (1 % to 99 %) of the training data and one more of it."""
    if STATE not in statistics or not {"q01", "q99"} <= set(statistics[STATE]):
        return
    names = dataset.features[STATE].names or ()
    low, high = (np.asarray(statistics[STATE][key], dtype=np.float64).ravel() for key in ("q01", "q99"))
    for number, name in enumerate(spec.state_names):
        values = dataset.columns[STATE][:, names.index(name)].astype(np.float64)
        span = max(high[number] - low[number], 1e-3)
        outside = float(((values < low[number] - span) | (values > high[number] + span)).mean())
        if outside > OUTSIDE:
            here = np.quantile(values, [0.01, 0.99])
            larger = np.abs(here).max() / max(abs(low[number]), abs(high[number]), 1e-9)
            yield (
                f"state {name} was {low[number]:.3g} to {high[number]:.3g} in training and is {here[0]:.3g} to "
                f"{here[1]:.3g} here: {_unit_words(larger) or 'another unit, frame or robot'}"
            )


def _units(wanted: NDArray, space: ActionSpace, statistics: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Recorded actions of another size than those of the training data, all entries of a unit together."""
    if ACTION not in statistics or "std" not in statistics[ACTION]:
        return
    trained = np.hypot(*(np.asarray(statistics[ACTION][key], dtype=np.float64).ravel() for key in ("std", "mean")))
    for unit in dict.fromkeys(space.units):
        entries = [number for number, its in enumerate(space.units) if its == unit]
        here, there = float(np.sqrt((wanted[:, entries] ** 2).mean())), float(np.sqrt((trained[entries] ** 2).mean()))
        larger = here / max(there, 1e-12)
        if here > 0 and not 1 / SCALE**2 < larger < SCALE:
            names = ", ".join(space.names[number] for number in entries)
            yield (
                f"the recorded {names} are {larger:.3g} times the size of those in training, which were in {unit}: "
                f"{_unit_words(larger) or 'another unit or rate'}"
            )


def _gripper(actions: NDArray, wanted: NDArray, space: ActionSpace) -> Iterator[str]:
    for number, name in enumerate(space.names):
        if "gripper" in name and _correlation(actions[:, number], wanted[:, number]) < DISAGREES:
            end = "open" if space.gripper_open else "closed"
            yield f"{name} runs the other way: for the policy 1 is {end}, and the recording has it the other way round"


def _frame(actions: NDArray, wanted: NDArray, space: ActionSpace) -> Iterator[str]:
    """Motion that agrees once it is turned belongs to another frame."""
    metres = [number for number, unit in enumerate(space.units) if unit == "m"]
    if space.kind != "ee_delta" or len(metres) != 3:
        return
    given, real = actions[:, metres], wanted[:, metres]
    sizes = np.linalg.norm(given, axis=1) * np.linalg.norm(real, axis=1)
    moving = sizes > np.quantile(sizes, 0.5)
    if not moving.any() or sizes.max() == 0:
        return
    given, real = given[moving], real[moving]
    turn: Rotation = Rotation.align_vectors(given, real)[0]
    before, after = (_cosine(given, vectors) for vectors in (real, turn.apply(real)))
    if before < 0.5 and after > AGREES:
        vector = turn.as_rotvec(degrees=True)
        angle = float(np.linalg.norm(vector))
        axis = ", ".join(f"{part:.2f}" for part in vector / angle)
        yield (
            f"the policy's motion is the recorded one turned by {angle:.0f} degrees about ({axis}): the frame of the "
            f"recording is not {space.frame!r}, or its arm is mounted another way"
        )


def _agreements(actions: NDArray, wanted: NDArray, space: ActionSpace) -> list[Agreement]:
    error = np.abs(actions - wanted).mean(axis=0)
    spread = np.abs(wanted - wanted.mean(axis=0)).mean(axis=0)
    return [
        Agreement(name, unit, float(error[n]), float(spread[n]), _correlation(actions[:, n], wanted[:, n]))
        for n, (name, unit) in enumerate(zip(space.names, space.units, strict=True))
    ]


def _correlation(first: NDArray, second: NDArray) -> float:
    return float(np.corrcoef(first, second)[0, 1]) if np.ptp(first) > 0 and np.ptp(second) > 0 else math.nan


def _cosine(first: NDArray, second: NDArray) -> float:
    """Of two lists of vectors (N, 3), long ones counting more."""
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))


def _unit_words(larger: float) -> str | None:
    """The mistake that such a factor is likely to be; None if it is far from all of them."""
    far = {words: abs(abs(math.log(larger)) - math.log(factor)) for factor, words in UNITS.items()}
    nearest = min(far, key=lambda words: far[words])
    return nearest if far[nearest] < math.log(1.8) else None


def print_result(result: CheckResult) -> None:
    """The table, then a sentence for each thing that does not fit."""
    from rich.console import Console
    from rich.table import Table

    if result.agreements:
        table = Table(box=None, header_style="bold", title=f"{result.frames} frames, open loop", title_justify="left")
        for column in ("action", "unit", "mean error", "of the recorded spread", "correlation"):
            table.add_column(column, justify="left" if column in ("action", "unit") else "right")
        for entry in result.agreements:
            share = f"{100 * entry.error / entry.spread:.0f} %" if entry.spread > 0 else "-"
            correlation = "-" if math.isnan(entry.correlation) else f"{entry.correlation:.2f}"
            table.add_row(entry.name, entry.unit, f"{entry.error:.4f}", share, correlation)
        Console().print(table)
    for sentence in result.mismatches:
        print(f"MISMATCH {sentence}")
    if not result.mismatches:
        print("names, units, rate, polarity and frame fit" if result.frames else "names, units, rate and sizes fit")
