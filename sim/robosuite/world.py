"""One of robosuite's tasks as a `Robot` that also knows the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot import panda
from robot.errors import ContractError, TongsError, unknown
from robot.interface import ActionSpace, Observation, RobotSpec, SceneObject
from robot.skills import POSE_STATE, Skill, Skills
from sim.language import Wording, told
from sim.outcome import REACHED_WITHIN, Failure
from sim.rendering import Renderer
from sim.robosuite.package import global_randomness, require_robosuite, robosuite
from sim.robosuite.tasks import TASKS, require_scenes
from sim.scenes import WORDINGS, generator

CAMERAS = {"front": "agentview", "wrist": "robot0_eye_in_hand"}
"""Our name of a camera -> robosuite's."""
CAMERA_SIZE = (128, 128)
RATE = 20
"""Control steps per second, robosuite's default."""
_ARM, _GRIPPER = "right", "right_gripper"
_COLLISION_SHAPES = 0
_TOOL = Rotation.from_euler("z", 90, degrees=True)
"""From robosuite's grip site to our tool frame, whose y axis is the one along which the fingers close."""


class RobosuiteWorld:
    """One of robosuite's environments with a Panda and its default controller; `reset` puts up a numbered scene.

    An action is what robosuite's OSC_POSE controller takes, in m and rad instead of its -1 to 1: the commanded pose of
    the grip site is the *measured* one, moved and turned by so much in the base frame. The bounds of the action space
    are the controller's own. The gripper's commanded opening goes towards the wanted one by a tenth per step, as
    robosuite's Panda hand does. `wipe` has a sponge instead of fingers, so neither action nor state has a gripper.

    Args:
        task: a name from `sim.robosuite.tasks.TASKS`.
        cameras: {`front` or `wrist`: (height, width)}; both by default, none for state only.
        quality: `fast` or `presentation` pictures.

    Raises:
        TongsError: robosuite is not installed, or there is no such task or camera.
    """

    def __init__(self, task: str, cameras: Mapping[str, tuple[int, int]] | None = None, quality: str = "fast") -> None:
        require_robosuite()
        if task not in TASKS:
            raise unknown("task of robosuite", task, list(TASKS))
        self.task = TASKS[task]
        self._cameras = dict.fromkeys(CAMERAS, CAMERA_SIZE) if cameras is None else dict(cameras)
        for camera in self._cameras:
            if camera not in CAMERAS:
                raise unknown("camera", camera, list(CAMERAS))
        self._quality = quality
        self._renderer: Renderer | None = None
        package = robosuite()
        with global_randomness(0):
            self._env = package.make(
                self.task.environment,
                robots="Panda",
                has_renderer=False,
                has_offscreen_renderer=False,
                use_camera_obs=False,
                use_object_obs=False,
                renderer="mujoco",
                control_freq=RATE,
                ignore_done=True,
            )
        self._has_fingers = self._robot.gripper[_ARM].dof > 0
        self.horizon = self.task.horizon
        self.goal = 1.0
        self.instruction = ""
        self.steps, self.success = 0, False
        self._ready = False
        names = [*POSE_STATE, *(("gripper_opening", "gripper_command") if self._has_fingers else ()), *panda.JOINTS]
        self.spec = RobotSpec(self._cameras, tuple(names), self._action_space())

    @property
    def _robot(self) -> Any:
        return self._env.robots[0]

    @property
    def _controller(self) -> Any:
        return self._robot.part_controllers[_ARM]

    def _action_space(self) -> ActionSpace:
        """What the controller takes, in its physical units."""
        controller = self._controller
        low, high = controller.output_min.tolist(), controller.output_max.tolist()
        names, units = ["dx", "dy", "dz", "rx", "ry", "rz"], ["m"] * 3 + ["rad"] * 3
        if self._has_fingers:
            names, units, low, high = [*names, "gripper"], [*units, "1"], [*low, 0.0], [*high, 1.0]
        return ActionSpace(
            "ee_delta",
            tuple(names),
            tuple(units),
            tuple(low),
            tuple(high),
            frame=controller.input_ref_frame,
            rate=float(RATE),
        )

    # --- episodes

    def reset(self, split: str = "test", index: int = 0, variant: str = "original", wording: Wording = "seen") -> None:
        """Put up scene `index` of the split: train, val or test, each with any number of scenes of its own.

        Variants are original, negated and empty; the goal is the same in all of them.
        """
        require_scenes(split, variant)
        if wording not in WORDINGS:
            raise unknown("wording", wording, WORDINGS)
        seed = generator(self.task.name, split, index, "scene").integers(2**32)
        with global_randomness(int(seed)):
            self._env.reset()
        self._words = generator(self.task.name, split, index, f"words {variant} {wording}")
        self._wording: Wording = wording
        self._variant = variant
        self.instruction = self.paraphrase()
        self.steps, self.success, self._ended = 0, False, False
        self._ready = True

    def paraphrase(self) -> str:
        """Another wording of what is asked for in this episode."""
        return told(self.task.instruct(self._words, self._wording), self._variant)

    @property
    def value(self) -> float:
        """The share of the task that is done now, 0 to 1."""
        return float(np.clip(self.task.progress(self._env), 0.0, 1.0))

    @property
    def subgoals(self) -> tuple[str, ...]:
        return ()

    @property
    def reached(self) -> int:
        return 0

    @property
    def finished(self) -> bool:
        return self.success or self._ended or self.steps >= self.horizon

    # --- the robot

    def observe(self, images: bool = True) -> Observation:
        """What the arm sees and feels now; without images for callers that need only the state."""
        self._require_reset()
        pictures = {name: self.render(name, *size) for name, size in self._cameras.items()} if images else {}
        position, rotation = self._tool()
        fingers = [self._opening(), self._commanded_opening()] if self._has_fingers else []
        joints = self._robot._joint_positions
        state = np.concatenate([position, rotation[:, 0], rotation[:, 1], fingers, joints])
        return Observation(pictures, state.astype(np.float32), self.instruction, self.steps / RATE)

    def execute(self, action: NDArray[np.float32]) -> None:
        """One control period. Raises ContractError for an action with NaN or of the wrong size."""
        self._require_reset()
        space = self.spec.action_space
        if np.shape(action) != (space.dimension,):
            raise ContractError(f"an action has {space.dimension} entries, got shape {np.shape(action)}")
        action = space.clip(action)
        parts = {_ARM: self._scaled(action[:6].astype(np.float64))}
        if self._has_fingers:
            parts[_GRIPPER] = np.array([self._finger_direction(float(action[6]))])
        _, _, ended, _ = self._env.step(self._robot.create_action_vector(parts))
        self.steps += 1
        self.success = self.success or bool(self._env._check_success())
        self._ended = self._ended or ended
        self._settle_poses()

    def _settle_poses(self) -> None:
        """Bring poses up to the joint angles; a physics step leaves them one step of 2 ms behind. Changes no motion."""
        model, data = self._env.sim.model._model, self._env.sim.data._data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)

    def _scaled(self, motion: NDArray[np.float64]) -> NDArray[np.float64]:
        """(6,) m and rad as the controller's own input, by the scaling that it declares."""
        controller = self._controller
        share = (motion - controller.output_min) / (controller.output_max - controller.output_min)
        return controller.input_min + share * (controller.input_max - controller.input_min)

    def _finger_direction(self, opening: float) -> float:
        """robosuite's gripper input: -1 opens and 1 closes by one step, 0 stays; within half a step it stays."""
        missing = opening - self._commanded_opening()
        half_a_step = 0.25 * self._robot.gripper[_ARM].speed
        return 0.0 if abs(missing) <= half_a_step + 1e-6 else -float(np.sign(missing))

    def stop(self) -> None:
        """Hold the present pose."""
        self._require_reset()
        self._controller.reset_goal()

    # --- the truth

    def _base(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) and rotation matrix (3, 3) of the arm's base in robosuite's world."""
        return self._robot.composite_controller.get_controller_base_pose(_ARM)

    def in_base(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """A point (3,) of robosuite's world in the base frame."""
        origin, turn = self._base()
        return turn.T @ (point - origin)

    def _tool(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) and rotation matrix (3, 3) of the tool in the base frame."""
        site, data = self._robot.eef_site_id[_ARM], self._env.sim.data
        rotation = self._base()[1].T @ data.site_xmat[site].reshape(3, 3) @ _TOOL.as_matrix()
        return self.in_base(data.site_xpos[site]), rotation

    def _opening(self) -> float:
        """How far the fingers are apart, 0 to 1."""
        left, right = self._env.sim.data.qpos[self._robot._ref_gripper_joint_pos_indexes[_ARM]]
        return float((left - right) / (2 * panda.FINGER_TRAVEL))

    def _commanded_opening(self) -> float:
        """The opening that the fingers are told to take, from robosuite's -1 (closed) to 1 of the first finger."""
        return float((self._robot.gripper[_ARM].current_action[0] + 1) / 2)

    def objects(self) -> Mapping[str, SceneObject]:
        """The movable things in the scene (the `Scene` protocol)."""
        self._require_reset()
        data, found = self._env.sim.data, {}
        turn = Rotation.from_matrix(self._base()[1]).inv()
        for thing in self._env.model.mujoco_objects:
            name = {**self.task.targets, **self.task.others}.get(thing.name)
            if name is None:
                continue
            body = self._env.sim.model.body_name2id(thing.root_body)
            rotation = turn * Rotation.from_quat(data.body_xquat[body], scalar_first=True)
            found[name] = SceneObject(
                name,
                self.in_base(data.body_xpos[body]),
                rotation.as_quat(scalar_first=True),
                2 * np.asarray(thing.get_bounding_box_half_size()),
                name.split()[0] if name.endswith("cube") else "",
                self.value if thing.name == "Door" else None,
            )
        return found

    def demonstration(self, skills: Skills, rng: np.random.Generator) -> Skill:
        """The task as the scripted expert does it, from wherever the arm is; never ends by itself."""
        if self.task.expert is None:
            able = ", ".join(task.name for task in TASKS.values() if task.expert)
            raise TongsError(f"there is no scripted expert for robosuite's {self.task.name}, only for: {able}")
        return self.task.expert(self, skills, rng)

    def watch(self) -> RobosuiteOutcome:
        """Look why the episode fails, if it does."""
        return RobosuiteOutcome(self)

    def state(self) -> NDArray[np.float64]:
        """Everything that a picture of the scene depends on, for `set_state`."""
        return np.concatenate([self._env.sim.get_state().flatten(), self._env.sim.model.geom_rgba[:, 3]])

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Show a state of the same scene."""
        sim = self._env.sim
        sim.set_state_from_flattened(state[: -sim.model.ngeom])
        sim.model.geom_rgba[:, 3] = state[-sim.model.ngeom :]
        sim.forward()

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB from `front` or `wrist`, upright."""
        self._require_reset()
        model, data = self._env.sim.model._model, self._env.sim.data._data
        if self._renderer is None:  # one for all scenes: they differ in places and sizes, not in meshes and textures
            self._renderer = Renderer(model, self._quality, hidden_group=_COLLISION_SHAPES)
        return self._renderer.render(model, data, CAMERAS[camera], height, width)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._env.close()

    def _require_reset(self) -> None:
        if not self._ready:
            raise TongsError(f"the world of {self.task.name} has no scene yet; call reset() first")


class RobosuiteOutcome:
    """Why an episode failed, in the labels of `sim.outcome`; the first line that applies:

    - wrong object: something else was held, and never what is asked for;
    - did not reach: nothing of the task was done or held, and the tool was never within 5 cm of a thing to take;
    - did not grasp: as before, but it came that near;
    - dropped: something was held, nothing is at the end, and nothing of the task is done;
    - undershot: part of the task is done, or about to be.
    """

    def __init__(self, world: RobosuiteWorld) -> None:
        self._world = world
        self._reached = self._held = self._ever_held = self._held_other = self._moved = False

    def look(self) -> None:
        """Take note of one control step."""
        world = self._world
        self._moved = self._moved or world.value > 0.05
        self._reached = self._reached or any(
            np.linalg.norm(point - world._tool()[0]) < REACHED_WITHIN for point in self._grasp_points()
        )
        self._held = self._holds(world.task.targets)
        self._ever_held = self._ever_held or self._held
        self._held_other = self._held_other or self._holds(world.task.others)

    def failure(self) -> Failure | None:
        """The label of the episode so far; None if it succeeded."""
        if self._world.success:
            return None
        if not (self._ever_held or self._moved):
            if self._held_other:
                return "wrong object"
            return "did not grasp" if self._reached else "did not reach"
        lost = self._ever_held and not self._held
        return "dropped" if lost and self._world.value < 0.05 else "undershot"

    def _grasp_points(self) -> list[NDArray[np.float64]]:
        """Where the things to take are (3,), in the base frame; a door is taken by its handle."""
        world = self._world
        if "Door" in world.task.targets:
            return [world.in_base(world._env._handle_xpos)]
        there = world.objects()
        return [there[name].position for name in world.task.targets.values()]

    def _holds(self, names: Mapping[str, str]) -> bool:
        world = self._world
        if not (names and world._has_fingers):
            return False
        things = [thing for thing in world._env.model.mujoco_objects if thing.name in names]
        return any(world._env._check_grasp(world._robot.gripper[_ARM], thing) for thing in things)
