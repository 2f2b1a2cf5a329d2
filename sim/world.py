"""A simulated table with an arm: a `Robot` that also knows the truth, and whether the goal is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from robot import panda
from robot.description import Vector
from robot.errors import ContractError, TongsError, unknown
from robot.interface import EE_DELTA, KEYPOSE, Observation, RobotSpec, SceneObject
from robot.kinematics import ArmKinematics
from robot.skills import POSE_STATE, Pose
from sim.engines import DEFAULT, make_engine
from sim.language import Wording, negate
from sim.model import CAMERAS, WorldModel
from sim.scenes import WORDINGS, asked_for, draw_scene, generator
from sim.tasks import find_task
from sim.tasks.base import HELD_WITHIN, HOLD, HORIZON, Goal

STATE_NAMES = (*POSE_STATE, "gripper_opening", "gripper_command", "path_x", "path_y", "path_z", *panda.JOINTS)
"""Tool pose, gripper opening and the opening it was last told to take (0 to 1), the way (m) that the tool has gone
since the gripper was last told to close, and joint angles (rad)."""
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
in units of the task's scale, whether the target is held, and how it still has to move (m, rotation vector in rad)."""
CAMERA_SIZE = (128, 128)
_LEASH, _LEASH_TURN = 0.05, 0.35
_WORKSPACE = np.array([KEYPOSE.low[:3], KEYPOSE.high[:3]])
_FINGER_SPEED = 0.12
_CLOSING, _OPENING = 0.3, 0.5


_EPISODE = (
    *("instruction", "steps", "success", "goal_spec"),
    *("_held", "_q", "_velocity", "_position", "_rotation", "_finger", "_gripper", "_anchor"),
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
    """

    def __init__(
        self,
        task: str,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        quality: str = "fast",
        engine: str = DEFAULT,
    ) -> None:
        self.task = find_task(task)
        known = [camera.name for camera in CAMERAS]
        self._cameras = dict.fromkeys(known, CAMERA_SIZE) if cameras is None else dict(cameras)
        for camera in self._cameras:
            if camera not in known:
                raise unknown("camera", camera, known)
        self.spec = RobotSpec(self._cameras, STATE_NAMES, EE_DELTA)
        self.engine = make_engine(engine, quality)
        self._kinematics = ArmKinematics()
        self._period = 1.0 / EE_DELTA.rate
        self._times = np.linspace(0.0, self._period, round(self._period / self.engine.timestep) + 1)[1:]
        self._hold_steps = round(HOLD / self.engine.timestep)
        self.horizon = round(HORIZON * EE_DELTA.rate)
        self.instruction = ""
        self.steps = 0
        self._ready = False

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
        reference = self.task.reference(self.engine, candidate.body)
        self.goal_spec = Goal(candidate.body, candidate.words, value, reference)
        self._words = generator(self.task.name, split, index, f"words {variant} {wording}")
        self._wording: Wording = wording
        self._variant = variant
        self.instruction = self.paraphrase()
        self.restart_clock()
        self._q, self._velocity = self.engine.arm(), np.zeros(7)
        self._position, rotation = self.engine.tool()
        self._rotation = Rotation.from_matrix(rotation)
        self._finger = panda.FINGER_TRAVEL
        self._gripper = 1.0
        self._anchor: NDArray[np.float64] | None = None
        self._ready = True

    def _start_pose(self, rng: np.random.Generator, shift: Vector) -> NDArray[np.float64]:
        position = np.add((0.42, 0.0, 0.34), shift) + rng.uniform((-0.03, -0.06, -0.03), (0.03, 0.06, 0.03))
        down = np.diag([1.0, -1.0, -1.0])
        return self._kinematics.inverse(np.asarray(panda.HOME), position, down, iterations=30)

    def paraphrase(self) -> str:
        """Another wording of what is asked for in this episode."""
        sentence = self.task.instruct(self._words, self.goal_spec, self._wording)
        if self._variant == "negated":
            return negate(sentence)
        return "" if self._variant == "empty" else sentence

    @property
    def goal(self) -> float:
        return self.goal_spec.value

    @property
    def value(self) -> float:
        """The goal variable now, in the task's unit."""
        return self.task.value(self.engine, self.goal_spec)

    @property
    def finished(self) -> bool:
        return self.success or self.steps >= self.horizon

    @property
    def commanded_opening(self) -> float:
        """The gripper opening (0 to 1) that the fingers are on their way to."""
        return self._finger / panda.FINGER_TRAVEL

    def restart_clock(self) -> None:
        """Count the episode's time, and the time for which the goal is held, from now on."""
        self.steps, self._held, self.success = 0, 0, False

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
        path = np.zeros(3) if self._anchor is None else position - self._anchor
        state = np.concatenate(
            [
                position,
                rotation[:, 0],
                rotation[:, 1],
                [self.engine.finger() / panda.FINGER_TRAVEL, self._gripper],
                path,
                self.engine.arm(),
            ]
        )
        return Observation(pictures, state.astype(np.float32), self.instruction, self.steps * self._period)

    def execute(self, action: NDArray[np.float32]) -> None:
        """One control period. Raises ContractError for an action with NaN or of the wrong size."""
        self._require_reset()
        if np.shape(action) != (EE_DELTA.dimension,):
            raise ContractError(f"an action has {EE_DELTA.dimension} entries, got shape {np.shape(action)}")
        action = EE_DELTA.clip(action)
        self._command(action)
        q = self._kinematics.inverse(self._q, self._position, self._rotation.as_matrix())
        velocity = (q - self._q) / self._period
        velocity /= max(1.0, float(np.max(np.abs(velocity) / _FASTEST)))
        path = CubicHermiteSpline(
            (0.0, self._period),
            (self._q, self._q + velocity * self._period),
            (self._velocity, velocity),
        )
        targets, velocities = path(self._times), path(self._times, 1)
        self._gripper = float(action[6])
        finger = self._gripper * panda.FINGER_TRAVEL
        finger_step = _FINGER_SPEED * self.engine.timestep
        engine, task, goal = self.engine, self.task, self.goal_spec
        for target, speed in zip(targets, velocities, strict=True):
            self._finger += min(max(finger - self._finger, -finger_step), finger_step)
            engine.step(target, speed, self._finger)
            met = task.met(task.value(engine, goal), task.speed(engine, goal), goal.value)
            met = met and task.allowed(engine, goal)
            self._held = self._held + 1 if met else 0
            self.success = self.success or self._held > self._hold_steps
        self._q, self._velocity = targets[-1], velocity
        self.steps += 1

    def _command(self, action: NDArray[np.float32]) -> None:
        """Move the commanded pose, on its leash around the measured one."""
        measured, rotation = self.engine.tool()
        if action[6] < _CLOSING:
            if self._anchor is None:
                self._anchor = measured
        elif action[6] > _OPENING:
            self._anchor = None
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

    def near(self, pose: Pose, distance: float) -> bool:
        """Whether the tool is within `distance` m of a pose."""
        return float(np.linalg.norm(self.engine.tool()[0] - pose.position)) < distance

    def gripping(self) -> bool:
        """Whether the fingers are closed on something."""
        closed = self._anchor is not None and self._finger < 0.5 * panda.FINGER_TRAVEL
        return closed and self.engine.finger() > 0.004

    def holding(self) -> bool:
        """Whether the target is between the closed fingers."""
        return self.gripping() and self.near(self.task.grasp_pose(self.engine, self.goal_spec), HELD_WITHIN)

    def environment_state(self) -> NDArray[np.float32]:
        """(14,) as in ENVIRONMENT_STATE_NAMES."""
        grasp = self.task.grasp_pose(self.engine, self.goal_spec)
        closing = grasp.rotation.apply([1.0, 0.0, 0.0])
        truth = [*grasp.position, closing[1], closing[0]]
        truth += [self.value / self.task.scale, self.goal / self.task.scale, float(self.holding())]
        return np.asarray([*truth, *self.task.remaining(self.engine, self.goal_spec)], np.float32)

    def objects(self) -> Mapping[str, SceneObject]:
        """The movable things in the scene (the `Scene` protocol)."""
        found = {}
        for candidate in self.scene.candidates:
            position, quaternion = self.engine.pose(candidate.body)
            joint = candidate.body in self.scene.joints
            name = candidate.body.replace("_", " ")
            body = next(b for top in self.scene.bodies for b in top.walk() if b.name == candidate.body)
            found[name] = SceneObject(
                name,
                position,
                quaternion,
                _extent(body),
                "" if joint else name.split()[0],
                self.task.value(self.engine, Goal(candidate.body, (), 0.0)) if joint else None,
            )
        return found

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB from one of the cameras."""
        self._require_reset()
        return self.engine.render(camera, height, width)

    def close(self) -> None:
        self.engine.close()

    def _require_reset(self) -> None:
        if not self._ready:
            raise TongsError(f"the world of {self.task.name} has no scene yet; call reset() first")


_FASTEST = 0.6 * np.asarray(panda.JOINT_VELOCITY)
"""Mean joint speed over a control period; at its fastest point the cubic is then within the arm's limits."""


def _extent(body: object) -> NDArray[np.float64]:
    """Full size (3,) of the box around a body's shapes in its own axes, shapes taken as unrotated."""
    from robot.description import Body

    assert isinstance(body, Body)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for geom in body.geoms:
        size = geom.size
        half = {
            "box": lambda s: np.array(s),
            "sphere": lambda s: np.full(3, s[0]),
            "cylinder": lambda s: np.array([s[0], s[0], s[1]]),
            "capsule": lambda s: np.array([s[0], s[0], s[0] + s[1]]),
        }[geom.shape](size)
        low, high = np.minimum(low, np.subtract(geom.position, half)), np.maximum(high, np.add(geom.position, half))
    return high - low
