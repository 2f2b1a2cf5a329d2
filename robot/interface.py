"""The contract between every policy and every robot, simulated or real.

SI units; frames are right-handed with x forward, y left, z up (REP 103); images are uint8 RGB, upright.
Everything here is NumPy and the standard library, so that it runs beside ROS 2 on a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError

ActionKind = Literal["ee_delta", "ee_pose", "joint_position"]
GoalKind = Literal["language", "image", "state", "motion"]
Images = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class ActionSpace:
    """What one action means. Two spaces fit only if every field is equal, but for the ranges of joints; nothing is
    converted silently.

    Attributes:
        kind: `ee_delta` (change of the commanded end-effector pose), `ee_pose`, or `joint_position`.
        names: one name per dimension, in order.
        units: one unit per dimension ("m", "rad", "1").
        low, high: bounds per dimension in those units.
        frame: the frame that positions and rotation vectors are expressed in.
        rate: actions per second in Hz.
        gripper_open: the gripper value that means fully open (1.0 or 0.0); the other end means closed.
    """

    kind: ActionKind
    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    frame: str = "base"
    rate: float = 10.0
    gripper_open: float = 1.0

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.units), len(self.low), len(self.high)}
        if len(lengths) != 1:
            raise ContractError(
                f"action space {self.kind}: names, units, low and high must have one length, "
                f"got {len(self.names)}, {len(self.units)}, {len(self.low)} and {len(self.high)}"
            )
        if self.rate <= 0:
            raise ContractError(f"action space {self.kind}: rate must be positive, got {self.rate} Hz")

    @property
    def dimension(self) -> int:
        return len(self.names)

    def differences(self, other: ActionSpace) -> list[str]:
        """One phrase per field in which the two spaces differ, own value first; empty if they fit.

        The ranges of joints are not compared: they are those of the arm at hand, and its safety filter's part.
        """
        mine, theirs = asdict(self), asdict(other)
        open_to = ("low", "high") if self.kind == other.kind == "joint_position" else ()
        differing = [key for key in mine if mine[key] != theirs[key] and key not in open_to]
        return [f"{key} is {mine[key]} here and {theirs[key]} there" for key in differing]

    def clip(self, action: NDArray[np.floating]) -> NDArray[np.float32]:
        """The action limited to the bounds, shape (..., A). Raises ContractError on NaN, infinity or another size."""
        if np.shape(action)[-1:] != (self.dimension,):
            raise ContractError(f"expected an action of {self.dimension} numbers, got shape {np.shape(action)}")
        if not np.isfinite(action).all():
            raise ContractError(f"action holds NaN or infinity: {np.asarray(action).tolist()}")
        return np.clip(action, self.low, self.high).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ActionSpace:
        return cls(
            kind=fields["kind"],
            names=tuple(fields["names"]),
            units=tuple(fields["units"]),
            low=tuple(fields["low"]),
            high=tuple(fields["high"]),
            frame=fields["frame"],
            rate=float(fields["rate"]),
            gripper_open=float(fields["gripper_open"]),
        )


GRIPPER = "gripper"
"""What actions call the opening of the gripper."""
EE_DELTA = ActionSpace(
    kind="ee_delta",
    names=("dx", "dy", "dz", "rx", "ry", "rz", GRIPPER),
    units=("m", "m", "m", "rad", "rad", "rad", "1"),
    low=(-0.05, -0.05, -0.05, -0.3, -0.3, -0.3, 0.0),
    high=(0.05, 0.05, 0.05, 0.3, 0.3, 0.3, 1.0),
)
"""The default: per control step, the change of the commanded end-effector position (m) and orientation (rotation
vector in the base frame, applied on the left), and the absolute gripper opening (1 = open)."""

PLANAR_DELTA = ActionSpace(
    kind="ee_delta",
    names=("dx", "dy"),
    units=("m", "m"),
    low=(-0.03, -0.03),
    high=(0.03, 0.03),
    frame="table",
)
"""Per control step, the change of the commanded position (m) of an end effector that stays at one height."""

LEARNED_SPACES = (EE_DELTA, PLANAR_DELTA)
"""The action spaces of demonstrations that policies learn from."""

KEYPOSE = ActionSpace(
    kind="ee_pose",
    names=("x", "y", "z", "qw", "qx", "qy", "qz"),
    units=("m", "m", "m", "1", "1", "1", "1"),
    low=(0.20, -0.50, 0.008, -1.0, -1.0, -1.0, -1.0),
    high=(0.80, 0.50, 0.80, 1.0, 1.0, 1.0, 1.0),
)
"""A pose for a motion planner to bring the end effector to: its position (m) within the workspace and its quaternion
in the base frame. The rate is that of the planner's own steps."""


@dataclass(frozen=True)
class Observation:
    """What a robot sees and is told at one instant.

    Attributes:
        images: {camera name: uint8 (H, W, 3) RGB}.
        state: float32 (D,), named by the robot's spec.
        instruction: what the person wants, now; it may change from one observation to the next.
        time: seconds on the robot's clock.
        goal_image: optional uint8 RGB picture of the wanted outcome (H, W, 3), or pictures of the last G moments of
            the way there (G, H, W, 3).
        goal_state: optional float32 (D,), the wanted state by the robot's names, or the last G states (G, D).
        image_times: {camera: seconds on the robot's clock at which its picture was taken}, where that is known.
        motion: the language motion that somebody has chosen for the policy, now, such as "move arm left"; empty
            where the policy is to choose. Only for policies whose spec has the goal `motion`.
    """

    images: Images
    state: NDArray[np.float32]
    instruction: str
    time: float
    goal_image: NDArray[np.uint8] | None = None
    goal_state: NDArray[np.float32] | None = None
    image_times: Mapping[str, float] = field(default_factory=dict)
    motion: str = ""

    def __post_init__(self) -> None:
        for camera, image in self.images.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ContractError(
                    f"camera {camera!r}: expected uint8 (H, W, 3), got {image.dtype} {tuple(image.shape)}"
                )
        if self.state.dtype != np.float32 or self.state.ndim != 1:
            raise ContractError(f"state: expected float32 (D,), got {self.state.dtype} {tuple(self.state.shape)}")
        if not np.isfinite(self.state).all():
            raise ContractError(f"state holds NaN or infinity: {self.state.tolist()}")
        if self.goal_state is not None and (
            self.goal_state.dtype != np.float32
            or self.goal_state.ndim not in (1, 2)
            or self.goal_state.shape[-1] != len(self.state)
            or not np.isfinite(self.goal_state).all()
        ):
            raise ContractError(
                f"goal_state: expected finite float32 (D,) or (G, D) with D = {len(self.state)} as in the state, "
                f"got {self.goal_state.dtype} {tuple(self.goal_state.shape)}"
            )


@dataclass(frozen=True)
class ActionChunk:
    """Actions with the times at which each is to be executed.

    Attributes:
        actions: float32 (H, A) in the physical units of the policy's action space.
        times: float64 (H,) seconds on the robot's clock, strictly increasing.
        motion: the language motion that the actions carry out, of a policy that has such; otherwise empty.
        motion_source: who chose it.
        command: what a policy of two levels chose to do here, for people to read; "" for all others.
    """

    actions: NDArray[np.float32]
    times: NDArray[np.float64]
    motion: str = ""
    motion_source: Literal["human", "model"] = "model"
    command: str = ""

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or len(self.actions) == 0 or self.times.shape != (len(self.actions),):
            raise ContractError(
                f"action chunk: expected actions (H, A) and times (H,) with H >= 1, "
                f"got {self.actions.shape} and {self.times.shape}"
            )
        if not np.isfinite(self.actions).all():
            raise ContractError("action chunk holds NaN or infinity")
        if (np.diff(self.times) <= 0).any():
            raise ContractError("action chunk: times must increase strictly")

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class PolicySpec:
    """What a policy needs and gives.

    Attributes:
        cameras: {camera name: (H, W) in pixels that the policy works at; larger images are scaled down}.
        state_names: names of the state entries it reads, in order.
        action_space: what its actions mean.
        horizon: actions in one chunk.
        goals: which goals it takes; empty if it can be asked for nothing.
        history: the newest observations, a control period apart, that a chunk follows from; see `RememberingPolicy`.
        commands: what a policy of two levels tells itself one after another. An instruction that changes within an
            episode is such a command too, a correction, and not another task. Empty for all others.
        command_time: s for which a command holds.
    """

    cameras: Mapping[str, tuple[int, int]]
    state_names: tuple[str, ...]
    action_space: ActionSpace
    horizon: int
    goals: tuple[GoalKind, ...] = ("language",)
    history: int = 1
    commands: tuple[str, ...] = ()
    command_time: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> PolicySpec:
        return cls(
            cameras={name: (int(size[0]), int(size[1])) for name, size in fields["cameras"].items()},
            state_names=tuple(fields["state_names"]),
            action_space=ActionSpace.from_json(fields["action_space"]),
            horizon=int(fields["horizon"]),
            goals=tuple(fields["goals"]),
            history=int(fields.get("history", 1)),  # the first checkpoints say none of these
            commands=tuple(fields.get("commands", ())),
            command_time=float(fields.get("command_time", 0.0)),
        )


@dataclass(frozen=True)
class RobotSpec:
    """What a robot offers: its cameras and their size in pixels, the names of its state, its action space."""

    cameras: Mapping[str, tuple[int, int]]
    state_names: tuple[str, ...]
    action_space: ActionSpace


@dataclass(frozen=True)
class Correction:
    """A language correction: an event with a time (s, robot's clock), a source and a text.

    The same event travels from GUI, keyboard, ROS topic or script to the policy and into the dataset.
    """

    time: float
    text: str
    source: Literal["human", "model"] = "human"


@runtime_checkable
class Policy(Protocol):
    """Anything that turns observations into actions."""

    @property
    def spec(self) -> PolicySpec: ...

    def reset(self, seed: int) -> None:
        """Forget the episode; all randomness until the next reset follows from `seed`."""

    def act(self, observation: Observation) -> ActionChunk:
        """The chunk that starts at `observation.time`."""
        ...

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per observation, of independent episodes."""
        ...


@runtime_checkable
class RememberingPolicy(Policy, Protocol):
    """A policy with `spec.history` above 1: it is shown also what is seen while a chunk is being followed, images
    included, so that its observations are a control period apart however many actions of a chunk are executed."""

    def remember(self, observations: Sequence[Observation]) -> None:
        """One observation per episode, at a control step at which no chunk is asked for."""


@dataclass(frozen=True)
class Continuation:
    """What a new chunk has to go on from: the part of the one before that is not over when it begins.

    Attributes:
        actions: float32 (N, A) in physical units, for the times of the new chunk's first N actions.
        frozen: how many of them will have been executed before the new chunk is known.
    """

    actions: NDArray[np.float32]
    frozen: int

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or not 0 <= self.frozen <= len(self.actions):
            raise ContractError(
                f"a continuation has actions (N, A) and 0 to N of them frozen, "
                f"got {self.actions.shape} and {self.frozen}"
            )


@runtime_checkable
class ContinuingPolicy(Policy, Protocol):
    """A policy whose chunks can go on from the one before: what real-time chunking needs."""

    def continue_chunk(self, observation: Observation, previous: Continuation) -> ActionChunk:
        """The chunk that starts at `observation.time`, equal to `previous` where that is frozen, and close to it after
        that."""
        ...


def episode_seed(seed: int, row: int) -> int:
    """The seed of one of several episodes that `Policy.reset(seed)` begins together: its own for every row, and `seed`
    itself for the first, so that an episode alone and the first of a batch are the same."""
    return seed if row == 0 else int(np.random.SeedSequence([seed, row]).generate_state(1, np.uint32)[0])


@runtime_checkable
class SharedPolicy(Policy, Protocol):
    """A policy that follows many episodes side by side which begin and end when they like: for several robots.

    What an episode gets depends on its own seed and observations only, apart from the rounding of batched arithmetic.
    """

    def begin(self, seed: int) -> Any:
        """A new episode, as after `reset(seed)`; the episode of `reset` and `act` stays what it is."""

    def act_episodes(self, episodes: Sequence[Any], observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per episode. If it raises, all episodes are as they were."""
        ...


@runtime_checkable
class SharedRememberingPolicy(SharedPolicy, Protocol):
    """A shared policy with `spec.history` above 1, see `RememberingPolicy`."""

    def remember_episodes(self, episodes: Sequence[Any], observations: Sequence[Observation]) -> None:
        """One observation per episode, at a control step at which no chunk is asked for."""


@runtime_checkable
class Robot(Protocol):
    """Anything that observes and executes: what a simulated and a real arm share."""

    @property
    def spec(self) -> RobotSpec: ...

    def observe(self) -> Observation: ...

    def execute(self, action: NDArray[np.float32]) -> None:
        """Carry out one action (A,) and return when its control period is over."""

    def stop(self) -> None:
        """Hold the present pose."""


@runtime_checkable
class StreamedRobot(Protocol):
    """A robot that a control loop sends commands to at a fixed rate, usually higher than that of a policy's actions.

    `observe` and `command` return at once: the loop waits, not the robot.
    """

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def command_rate(self) -> float:
        """Commands per second that it wants, in Hz."""
        ...

    def observe(self) -> Observation:
        """The newest observation."""
        ...

    def command(self, command: NDArray[np.float32]) -> None:
        """An action (A,) of the robot's space, for one period of `command_rate`: a delta is the change in that period,
        a position where to be at its end."""

    def stop(self) -> None:
        """Hold the present pose, at once and without any further command."""


@dataclass(frozen=True)
class Articulation:
    """How a part such as a drawer or a door moves, and where it is taken hold of; all in the base frame, now.

    Attributes:
        kind: `slide` along an axis, or `hinge` about one.
        axis: (3,) unit vector: the direction in which a slide opens, or about which a hinge turns as it opens.
        origin: (3,) m, a point on a hinge's axis; anywhere on a slide.
        travel: from closed to open, in m or rad.
        grasp: (7,) the pose of the tool that holds the handle: position m, quaternion w, x, y, z.
    """

    kind: Literal["slide", "hinge"]
    axis: NDArray[np.float64]
    origin: NDArray[np.float64]
    travel: float
    grasp: NDArray[np.float64]


@dataclass(frozen=True)
class Cavity:
    """The room in a container that things can be let down into from above: what of it is not covered now.

    Attributes:
        floor: (3,) m in the base frame, the middle of its floor.
        size: (3,) m along the container's own x, y and up.
    """

    floor: NDArray[np.float64]
    size: NDArray[np.float64]


@dataclass(frozen=True)
class SceneObject:
    """A named thing in the world, in the base frame.

    Attributes:
        name: unique in the scene, such as "red block".
        position: (3,) m, centre.
        quaternion: (4,) w, x, y, z.
        extent: (3,) m, full size along the object's own axes.
        colour: colour word, or "" if it has none that matters.
        joint_fraction: 0 closed to 1 open for things with a joint, otherwise None.
        articulation: how it moves, for things with a joint.
        cavity: the room in a container, otherwise None.
        fill: the share of its water that a vessel still holds, or has received, 0 to 1; None where that is not known.
    """

    name: str
    position: NDArray[np.float64]
    quaternion: NDArray[np.float64]
    extent: NDArray[np.float64]
    colour: str = ""
    joint_fraction: float | None = None
    articulation: Articulation | None = None
    cavity: Cavity | None = None
    fill: float | None = None


@runtime_checkable
class Scene(Protocol):
    """What a program may ask of the world: ground truth in simulation, a detector on a real table."""

    def objects(self) -> Mapping[str, SceneObject]: ...


def require_compatible(policy: PolicySpec, robot: RobotSpec, policy_name: str = "policy") -> None:
    """Raise one ContractError that names both sides unless the policy can run on the robot."""
    problems = policy.action_space.differences(robot.action_space)
    missing = sorted(set(policy.cameras) - set(robot.cameras))
    if missing:
        problems.append(f"it needs camera {', '.join(missing)} and the robot has {', '.join(sorted(robot.cameras))}")
    for camera, (height, width) in policy.cameras.items():
        if camera in robot.cameras and (robot.cameras[camera][0] < height or robot.cameras[camera][1] < width):
            problems.append(
                f"camera {camera} is wanted at {height}x{width} and the robot gives "
                f"{robot.cameras[camera][0]}x{robot.cameras[camera][1]}"
            )
    absent = [name for name in policy.state_names if name not in robot.state_names]
    if absent:
        problems.append(f"it reads state {', '.join(absent)} which the robot does not have")
    if problems:
        raise ContractError(f"{policy_name} does not fit the robot (policy here, robot there): {'; '.join(problems)}")
