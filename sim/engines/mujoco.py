"""MuJoCo as the physics engine, with a renderer that outlives the worlds it draws."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot import panda
from robot.compile import add_bodies, add_body
from robot.errors import TongsError
from sim.engines.base import OTHER_SCENE
from sim.model import Camera, WorldModel
from sim.rendering import Renderer

TIMESTEP = 0.005
STIFFNESS = np.array([4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0])
DAMPING = 0.05 * STIFFNESS
FINGER_STIFFNESS = 2000.0
FINGER_DAMPING = 40.0


@dataclass(frozen=True)
class Snapshot:
    """A moment of a loaded scene: what decides the future, and where things were when they were last looked at.

    A step ends by moving the joints, so poses in `MjData` are those of the step before: they do not follow from the
    state, and are kept beside it.
    """

    scene: object
    state: NDArray[np.float64]
    poses: tuple[NDArray[np.float64], ...]


class MujocoEngine:
    """Joint position servos with velocity feed-forward (ctrl = target + damping / stiffness * velocity) and gravity
    compensation; without the feed-forward the arm trails a moving target by centimetres."""

    timestep = TIMESTEP

    def __init__(self, quality: str = "fast") -> None:
        self._quality = quality
        self._renderer: Renderer | None = None
        self._built: WorldModel | None = None

    def load(self, model: WorldModel) -> None:
        """Compiles, unless the world is the one that is loaded already, as when only the goal changes."""
        if model == self._built:
            mujoco.mj_resetData(self.model, self.data)
        else:
            self._build(model)
        self._scene = object()
        self.set_arm(np.asarray(panda.HOME), panda.FINGER_TRAVEL)

    def _build(self, model: WorldModel) -> None:
        self.model, self._built = build(model), model
        self.data = mujoco.MjData(self.model)
        self._tool = self.model.site(panda.TCP).id
        self._joints = {self.model.joint(i).name: i for i in range(self.model.njnt)}
        self._bodies = {self.model.body(i).name: i for i in range(self.model.nbody)}
        self._groups: dict[tuple[str, ...], NDArray[np.intp]] = {}
        self._finger = int(self.model.jnt_qposadr[self._joints[panda.FINGERS[0]]])

    def step(self, arm: NDArray[np.float64], velocity: NDArray[np.float64], finger: float) -> None:
        ctrl = self.data.ctrl
        ctrl[:7] = arm + _FEED_FORWARD * velocity
        ctrl[7:9] = finger
        mujoco.mj_step(self.model, self.data)

    def settle(self, steps: int) -> None:
        self.data.ctrl[:7] = self.data.qpos[:7]
        mujoco.mj_step(self.model, self.data, nstep=steps)
        self.data.time = 0.0

    def arm(self) -> NDArray[np.float64]:
        return self.data.qpos[:7].copy()

    def set_arm(self, q: NDArray[np.float64], finger: float) -> None:
        self.data.qpos[:7] = q
        self.data.qpos[self._finger : self._finger + 2] = finger
        self.data.qvel[:9] = 0.0
        self.data.ctrl[:7] = q
        self.data.ctrl[7:9] = finger
        mujoco.mj_forward(self.model, self.data)

    def finger(self) -> float:
        return float(self.data.qpos[self._finger] + self.data.qpos[self._finger + 1]) / 2

    def tool(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.data.site_xpos[self._tool].copy(), self.data.site_xmat[self._tool].reshape(3, 3).copy()

    def joint(self, name: str) -> float:
        return float(self.data.qpos[self.model.jnt_qposadr[self._joints[name]]])

    def joint_velocity(self, name: str) -> float:
        return float(self.data.qvel[self.model.jnt_dofadr[self._joints[name]]])

    def set_joint(self, name: str, value: float) -> None:
        self.data.qpos[self.model.jnt_qposadr[self._joints[name]]] = value
        mujoco.mj_forward(self.model, self.data)

    def pose(self, body: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        index = self._bodies[body]
        return self.data.xpos[index].copy(), self.data.xquat[index].copy()

    def positions(self, bodies: tuple[str, ...]) -> NDArray[np.float64]:
        if bodies not in self._groups:
            self._groups[bodies] = np.array([self._bodies[body] for body in bodies])
        return self.data.xpos[self._groups[bodies]]

    def set_pose(self, body: str, position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> None:
        index = self._bodies[body]
        dof, joint = int(self.model.body_dofadr[index]), int(self.model.body_jntadr[index])
        qpos = self.data.qpos[int(self.model.jnt_qposadr[joint]) :]
        if self.model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
            qpos[:7] = np.concatenate([position, quaternion])
        else:
            qpos[:3] = position - self.model.body_pos[index]
        self.data.qvel[dof : dof + int(self.model.body_dofnum[index])] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def height(self, body: str) -> float:
        return float(self.data.xpos[self._bodies[body], 2])

    def uprightness(self, body: str) -> float:
        return float(self.data.xmat[self._bodies[body], 8])

    def vertical_speed(self, body: str) -> float:
        return float(self.data.qvel[self.model.body_dofadr[self._bodies[body]] + 2])

    def state(self) -> NDArray[np.float64]:
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state

    def set_state(self, state: NDArray[np.float64]) -> None:
        mujoco.mj_setState(self.model, self.data, state, _STATE)
        mujoco.mj_forward(self.model, self.data)

    def snapshot(self) -> Snapshot:
        return Snapshot(self._scene, self.state(), tuple(getattr(self.data, name).copy() for name in _POSES))

    def restore(self, snapshot: object) -> None:
        if not isinstance(snapshot, Snapshot) or snapshot.scene is not self._scene:
            raise TongsError(OTHER_SCENE)
        mujoco.mj_setState(self.model, self.data, snapshot.state, _STATE)
        for name, values in zip(_POSES, snapshot.poses, strict=True):
            getattr(self.data, name)[:] = values

    def jacobian(self) -> NDArray[np.float64]:
        full = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, full[:3], full[3:], self._tool)
        return full[:, :7]

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        if self._renderer is None:
            self._renderer = Renderer(self.model, self._quality)
        return self._renderer.render(self.model, self.data, camera, height, width)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


_FEED_FORWARD = DAMPING / STIFFNESS
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_POSES = (
    *("xpos", "xquat", "xmat", "site_xpos", "site_xmat", "geom_xpos", "geom_xmat"),
    *("cam_xpos", "cam_xmat", "light_xpos", "light_xdir", "subtree_com", "cdof"),
)
"""Everything in `MjData` beside the state that the engine reads, draws, or computes a Jacobian from."""


def build(world: WorldModel) -> mujoco.MjModel:
    """Compile the arm, its servos, the bodies and the cameras into one MuJoCo model."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.visual.map.znear = 0.005
    spec.visual.headlight.ambient = (world.light.ambient,) * 3
    spec.visual.headlight.diffuse = (0.28, 0.28, 0.28)
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=(0.2, -0.9, 2.2),
        dir=world.light.direction,
        diffuse=(world.light.brightness,) * 3,
        specular=(0.1, 0.1, 0.1),
    )
    add_body(spec.worldbody, panda.panda())
    add_bodies(spec, world.bodies)
    for camera in world.cameras:
        _add_camera(spec, camera)
    _add_servos(spec)
    return spec.compile()


def _add_servos(spec: mujoco.MjSpec) -> None:
    fingers = [(name, FINGER_STIFFNESS, FINGER_DAMPING, panda.FINGER_FORCE) for name in panda.FINGERS]
    for name, stiffness, damping, force in [
        *zip(panda.JOINTS, STIFFNESS, DAMPING, panda.JOINT_TORQUE, strict=True),
        *fingers,
    ]:
        servo = spec.add_actuator(
            name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, biastype=mujoco.mjtBias.mjBIAS_AFFINE
        )
        servo.gainprm[0], servo.biasprm[1], servo.biasprm[2] = stiffness, -stiffness, -damping
        servo.forcelimited, servo.forcerange = True, (-force, force)
    # the real fingers share one spindle; were it soft, both at full force would drift to a side with what they hold
    spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT,
        name1=panda.FINGERS[0],
        name2=panda.FINGERS[1],
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        data=[0, 1] + [0] * 9,
        solref=(0.01, 1.0),
        solimp=(0.99, 0.999, 0.0001, 0.5, 2.0),
    )


def _add_camera(spec: mujoco.MjSpec, camera: Camera) -> None:
    if camera.mount:
        site = spec.site(camera.mount)
        site.parent.add_camera(name=camera.name, pos=site.pos, quat=site.quat, fovy=camera.fovy)
        return
    rotation = Rotation.from_matrix(camera.rotation())
    spec.worldbody.add_camera(
        name=camera.name, pos=camera.position, quat=rotation.as_quat(scalar_first=True), fovy=camera.fovy
    )
