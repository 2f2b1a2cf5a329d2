"""A simulated table with an arm: a `Robot` that also knows the truth, and whether the goal is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from robot import panda
from robot.description import Vector
from robot.errors import ContractError, TongsError, unknown
from robot.grip import GRIP_STATE, Grip
from robot.interface import EE_DELTA, KEYPOSE, Observation, RobotSpec, SceneObject
from robot.kinematics import ArmKinematics
from robot.skills import POSE_STATE, Pose, Skill, Skills
from robot.turning import TURNING_STATE, Turning
from sim.engines import DEFAULT, make_engine
from sim.language import Wording, told
from sim.model import CAMERAS, WorldModel
from sim.outcome import Outcome
from sim.scenes import WORDINGS, asked_for, draw_scene, generator
from sim.tasks import SINGLE, find_task
from sim.tasks.base import HELD_WITHIN, Candidate, Goal, Task
from sim.truth import scene_objects

STATE_NAMES = (*POSE_STATE, "gripper_opening", *GRIP_STATE, *TURNING_STATE, *panda.JOINTS)
"""Tool pose, gripper opening (0 to 1), what the gripper was told (`robot.grip`), how the tool has turned lately
(`robot.turning`), and joint angles (rad)."""
ENVIRONMENT_STATE_NAMES = (
    "target_x",
    "target_y",
    "target_z",
    "target_yaw_sin",
    "target_yaw_cos",
    "value",
    "goal",
    "holding",
    "remaining_x",
    "remaining_y",
    "remaining_z",
    "remaining_rx",
    "remaining_ry",
    "remaining_rz",
)
"""Privileged truth for training only: where to grasp the target (m, yaw of the hand), the goal variable and the goal
in units of the task's scale, whether the target is held, and how it still has to move (m, rotation vector in rad);
all of the present goal, in a task of several."""
GOAL_NAMES = ("goal_left", "goal_value")
"""What the instruction asks for, in numbers, for policies that cannot read: which of the two things that may be meant
(1 the one that is further left when the episode begins, -1 the other), and the value in units of the task's scale."""
CAMERA_SIZE = (128, 128)
_LEASH, _LEASH_TURN = 0.05, 0.35
_WORKSPACE = np.array([KEYPOSE.low[:3], KEYPOSE.high[:3]])
_FINGER_SPEED = 0.12
_WORDINGS, _VAGUE = 500, {"one", "on", "please", "could"}


_EPISODE = (
    *("instruction", "steps", "success", "goals", "reached", "goal_spec", "horizon"),
    *("_held", "_lasting", "_q", "_velocity", "_position", "_rotation", "_finger", "_grip", "_turning", "_ticks"),
)


@dataclass(frozen=True)
class Snapshot:
    """A running episode: the engine's copy of itself, and what the world knows beside it. Nothing in it is changed
    in place by going on."""

    engine: object
    own: Mapping[str, Any]
    words: Mapping[str, Any]


class World:
    """One task's world. `reset` puts up a numbered scene; then it is driven like any robot.

    An action moves the *commanded* pose, which is kept within 5 cm and 20 degrees of the measured one and inside the
    workspace; inverse kinematics gives joint targets within the joint limits and speeds, reached over the period
    along a cubic in joint space whose velocity goes on from the last period's: a jump of it would shake what is held
    out of the fingers. The goal is checked at every physics step.

    Args:
        task: its name.
        cameras: {name: (height, width)}; both by default, none for state only.
        quality: `fast` or `presentation` pictures.
        engine: `mujoco` or `bullet`.
        tell_goal: append GOAL_NAMES to the state; not for longer tasks, which ask for several things.

    Attributes:
        halfway: called in the middle of every control step, to look at the world; it must not change it.
    """

    def __init__(
        self,
        task: str,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        quality: str = "fast",
        engine: str = DEFAULT,
        tell_goal: bool = False,
    ) -> None:
        self.task = find_task(task)
        if tell_goal and task not in SINGLE:
            raise TongsError(f"task {task} asks for several things, so its goal cannot be told as {GOAL_NAMES}")
        known = [camera.name for camera in CAMERAS]
        self._cameras = dict.fromkeys(known, CAMERA_SIZE) if cameras is None else dict(cameras)
        for camera in self._cameras:
            if camera not in known:
                raise unknown("camera", camera, known)
        self._tell_goal = tell_goal
        self._told = np.zeros(0)
        self.spec = RobotSpec(self._cameras, (*STATE_NAMES, *GOAL_NAMES) if tell_goal else STATE_NAMES, EE_DELTA)
        self.engine = make_engine(engine, quality)
        self._kinematics = ArmKinematics()
        self._period = 1.0 / EE_DELTA.rate
        self._times = np.linspace(0.0, self._period, round(self._period / self.engine.timestep) + 1)[1:]
        self.instruction = ""
        self.steps = 0
        self._told_goal: Goal | None = None
        self._command = ""
        self._ready = False
        self.halfway: Callable[[], None] | None = None

    # --- episodes

    def reset(self, split: str = "test", index: int = 0, variant: str = "original", wording: Wording = "seen") -> None:
        """Put up scene `index` of the split; the arm starts near its home pose with an open gripper."""
        if wording not in WORDINGS:
            raise unknown("wording", wording, WORDINGS)
        scene = draw_scene(self.task.name, split, index)
        candidate, value = asked_for(scene, variant)
        self.scene = scene
        around = scene.surroundings
        self.engine.load(WorldModel((*around.bodies, *scene.bodies), around.cameras, around.light))
        for joint, position in scene.joints.items():
            self.engine.set_joint(joint, position)
        start = self._start_pose(generator(self.task.name, split, index, "arm"), scene.arm_shift)
        self.engine.set_arm(start, panda.FINGER_TRAVEL)
        self.engine.settle(20)
        self.pursue(self.task.ask(self.engine, candidate, value, wording))
        if self._tell_goal:
            self._told = np.array([self._side(candidate), value / self.rules.scale])
        self._words = generator(self.task.name, split, index, f"words {variant} {wording}")
        self._wording: Wording = wording
        self._variant = variant
        self.instruction = self.paraphrase()
        self.restart_clock()
        self._q, self._velocity = self.engine.arm(), np.zeros(7)
        self._position, rotation = self.engine.tool()
        self._rotation = Rotation.from_matrix(rotation)
        self._finger = panda.FINGER_TRAVEL
        self._grip = Grip()
        self._ready = True

    def pursue(self, goals: tuple[Goal, ...]) -> None:
        """From now on these goals count, in this order, each from the moment the one before is reached."""
        self.goals, self.reached, self.success = goals, 0, False
        self.horizon = round(sum(goal.patience for goal in goals) * EE_DELTA.rate)
        self._take_up()

    def _reach(self) -> None:
        """The present goal was held for long enough."""
        if self.success:
            return
        self.reached += 1
        self.success = self.reached == len(self.goals)
        if not self.success:
            self._take_up()
            if self.task.one_by_one:
                self.instruction = self.paraphrase()

    def _take_up(self) -> None:
        """Begin with the next goal. Those before it have to last, unless it or a later one moves the same thing, or the
        task has each replace the one before."""
        before, after = self.goals[: self.reached], self.goals[self.reached :]
        self.goal_spec, self._held = after[0], 0
        moved = {goal.body for goal in after}
        lasting = () if self.task.one_by_one else before
        self._lasting = tuple(goal for goal in lasting if goal.body not in moved)

    def _start_pose(self, rng: np.random.Generator, shift: Vector) -> NDArray[np.float64]:
        position = np.add((0.42, 0.0, 0.34), shift) + rng.uniform((-0.03, -0.06, -0.03), (0.03, 0.06, 0.03))
        down = np.diag([1.0, -1.0, -1.0])
        return self._kinematics.inverse(np.asarray(panda.HOME), position, down, iterations=30)

    def _side(self, candidate: Candidate) -> float:
        """1 if a candidate is the one further left of the two, otherwise -1."""
        (other,) = (one for one in self.scene.candidates if one.body != candidate.body)
        return 1.0 if self.engine.pose(candidate.body)[0][1] >= self.engine.pose(other.body)[0][1] else -1.0

    def paraphrase(self) -> str:
        """Another wording of what is asked for in this episode."""
        goals = (self.goal_spec,) if self.task.one_by_one else self.goals
        return told(self.task.tell(self._words, goals, self._wording), self._variant)

    @property
    def command(self) -> str:
        """What a person would tell the arm to do now: the present goal alone, always in the same words (the plainest of
        many wordings) and with its value rounded to half the tolerance, so that there are few different commands."""
        goal, rules = self.goal_spec, self.rules
        if self._told_goal is not goal:
            step = max(int(rules.tolerance / 2 / rules.grain + 1e-6), 1) * rules.grain
            rounded, rng = replace(goal, value=round(goal.value / step) * step), np.random.default_rng(0)
            wordings = {self.task.instruct(rng, rounded, "seen") for _ in range(_WORDINGS)}
            self._command = min(wordings, key=lambda text: (len(_VAGUE & set(text.lower().split())), len(text), text))
            self._told_goal = goal
        return self._command

    @property
    def rules(self) -> Task:
        """The task whose unit, tolerance and scale the present goal has; of a longer task that of the present step."""
        return self.task.rules(self.goal_spec)

    @property
    def goal(self) -> float:
        """The value that the goal variable shall take now."""
        return self.goal_spec.value

    @property
    def value(self) -> float:
        """The goal variable now, in the unit of its rules."""
        return self.task.value(self.engine, self.goal_spec)

    def lasting(self) -> bool:
        """Whether all that was reached before, and is to stay as it is, still holds."""
        return all(self.task.holds(self.engine, goal) for goal in self._lasting)

    @property
    def subgoals(self) -> tuple[str, ...]:
        """The single tasks that a longer one is made of, in order; empty for a single one."""
        return tuple(self.task.rules(goal).name for goal in self.goals) if len(self.goals) > 1 else ()

    @property
    def finished(self) -> bool:
        return self.success or self.steps >= self.horizon

    @property
    def commanded_joints(self) -> NDArray[np.float64]:
        """(7,) rad, where the arm was told to be last."""
        return self._q.copy()

    @property
    def commanded_opening(self) -> float:
        """The gripper opening (0 to 1) that the fingers are on their way to."""
        return self._finger / panda.FINGER_TRAVEL

    def restart_clock(self) -> None:
        """Count the episode's time, and the time for which the goal is held, from now on, and remember no turning."""
        self.steps, self._ticks, self._held, self.success = 0, 0, 0, False
        self._turning = Turning(self._orientation())

    def snapshot(self) -> Snapshot:
        """The running episode as it is now; taking one changes nothing."""
        self._require_reset()
        own = {name: getattr(self, name) for name in _EPISODE}
        return Snapshot(self.engine.snapshot(), own, self._words.bit_generator.state)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of the same scene; from there the same actions give the same episode to the last bit.

        Raises TongsError after another `reset`.
        """
        self.engine.restore(snapshot.engine)
        for name, value in snapshot.own.items():
            setattr(self, name, value)
        self._words.bit_generator.state = snapshot.words

    # --- the robot

    def observe(self, images: bool = True) -> Observation:
        """What the arm sees and feels now; without images for callers that need only the state."""
        self._require_reset()
        pictures = {name: self.engine.render(name, *size) for name, size in self._cameras.items()} if images else {}
        position, rotation = self.engine.tool()
        state = np.concatenate(
            [
                position,
                rotation[:, 0],
                rotation[:, 1],
                [self.engine.finger() / panda.FINGER_TRAVEL],
                self._grip.state(position),
                self._turning.state(Rotation.from_matrix(rotation)),
                self.engine.arm(),
                self._told,
            ]
        )
        return Observation(pictures, state.astype(np.float32), self.instruction, self.steps * self._period)

    def execute(self, action: NDArray[np.float32]) -> None:
        """One control period. Raises ContractError for an action with NaN or of the wrong size."""
        self._require_reset()
        if np.shape(action) != (EE_DELTA.dimension,):
            raise ContractError(f"an action has {EE_DELTA.dimension} entries, got shape {np.shape(action)}")
        action = EE_DELTA.clip(action)
        self._move_command(action)
        q = self._kinematics.inverse(self._q, self._position, self._rotation.as_matrix())
        velocity = (q - self._q) / self._period
        targets, velocities = self._path(velocity)
        while (np.abs(velocities) > _FASTEST).any():
            velocity = 0.8 * velocity
            targets, velocities = self._path(velocity)
        self.follow(targets, velocities, float(action[6]))
        self._velocity = velocity

    def follow(self, targets: NDArray[np.float64], velocities: NDArray[np.float64], opening: float) -> None:
        """Joint targets (n, 7) rad and their speeds, one per physics step, and the opening (0 to 1) that the fingers go
        to meanwhile: what an action becomes, and what an arm that takes joint trajectories is told."""
        self._require_reset()
        self._grip = self._grip.told(opening, self.engine.tool()[0])
        finger = opening * panda.FINGER_TRAVEL
        finger_step = _FINGER_SPEED * self.engine.timestep
        engine, task = self.engine, self.task
        for number, (target, speed) in enumerate(zip(targets, velocities, strict=True)):
            if self.halfway is not None and number == len(targets) // 2:
                self.halfway()
            self._finger += min(max(finger - self._finger, -finger_step), finger_step)
            engine.step(target, speed, self._finger)
            met = task.holds(engine, self.goal_spec) and self.lasting()
            self._held = self._held + 1 if met else 0
            if self._held > round(self.goal_spec.hold / engine.timestep):
                self._reach()
        self._q, self._velocity = targets[-1], velocities[-1]
        self._ticks += len(targets)
        self._turning = self._turning.after(len(targets) * engine.timestep, self._orientation())
        self.steps = self._ticks // len(self._times)

    def _orientation(self) -> Rotation:
        return Rotation.from_matrix(self.engine.tool()[1])

    def _path(self, velocity: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Joint targets and speeds (n, 7) at the physics steps of a period with this mean and final velocity (7,)."""
        end = self._q + velocity * self._period
        path = CubicHermiteSpline((0.0, self._period), (self._q, end), (self._velocity, velocity))
        return path(self._times), path(self._times, 1)

    def _move_command(self, action: NDArray[np.float32]) -> None:
        """Move the commanded pose, on its leash around the measured one."""
        measured, rotation = self.engine.tool()
        offset = self._position + action[:3] - measured
        distance = float(np.linalg.norm(offset))
        self._position = np.clip(measured + offset * min(1.0, _LEASH / max(distance, 1e-9)), *_WORKSPACE)
        here = Rotation.from_matrix(rotation)
        turn = (Rotation.from_rotvec(action[3:6]) * self._rotation * here.inv()).as_rotvec()
        angle = float(np.linalg.norm(turn))
        self._rotation = Rotation.from_rotvec(turn * min(1.0, _LEASH_TURN / max(angle, 1e-9))) * here

    def stop(self) -> None:
        """Hold the present pose."""
        self._require_reset()
        self._q, self._velocity = self.engine.arm(), np.zeros(7)
        self._position, rotation = self.engine.tool()
        self._rotation = Rotation.from_matrix(rotation)

    # --- the truth

    def demonstration(self, skills: Skills, rng: np.random.Generator) -> Skill:
        """The task as the scripted expert does it, from wherever the arm is; never ends by itself."""
        return self.task.demonstrate(self, skills, rng)

    def watch(self) -> Outcome:
        """Look why the episode fails, if it does."""
        return Outcome(self)

    def state(self) -> NDArray[np.float64]:
        """The engine's state vector, for `set_state`."""
        return self.engine.state()

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Show a state of the same scene."""
        self.engine.set_state(state)

    def near(self, pose: Pose, distance: float) -> bool:
        """Whether the tool is within `distance` m of a pose."""
        return float(np.linalg.norm(self.engine.tool()[0] - pose.position)) < distance

    def gripping(self) -> bool:
        """Whether the fingers are closed on something."""
        closed = self._grip.anchor is not None and self._finger < 0.5 * panda.FINGER_TRAVEL
        return closed and self.engine.finger() > 0.004

    def holding(self) -> bool:
        """Whether the target is between the closed fingers."""
        return self.gripping() and self.near(self.task.grasp_pose(self.engine, self.goal_spec), HELD_WITHIN)

    def environment_state(self) -> NDArray[np.float32]:
        """(14,) as in ENVIRONMENT_STATE_NAMES."""
        grasp = self.task.grasp_pose(self.engine, self.goal_spec)
        closing = grasp.rotation.apply([1.0, 0.0, 0.0])
        truth = [*grasp.position, closing[1], closing[0]]
        scale = self.rules.scale
        truth += [self.value / scale, self.goal / scale, float(self.holding())]
        return np.asarray([*truth, *self.task.remaining(self.engine, self.goal_spec)], np.float32)

    def objects(self) -> Mapping[str, SceneObject]:
        """The things in the scene (the `Scene` protocol)."""
        self._require_reset()
        return scene_objects(self.engine, self.scene)

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB from one of the cameras."""
        self._require_reset()
        return self.engine.render(camera, height, width)

    def close(self) -> None:
        self.engine.close()

    def _require_reset(self) -> None:
        if not self._ready:
            raise TongsError(f"the world of {self.task.name} has no scene yet; call reset() first")


_FASTEST = np.asarray(panda.JOINT_VELOCITY)
