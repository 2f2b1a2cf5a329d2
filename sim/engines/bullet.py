"""PyBullet as the physics engine: the same scenes with another solver's contacts, friction and pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot import panda
from robot.errors import TongsError, unknown
from sim.engines.base import OTHER_SCENE
from sim.engines.bullet_bodies import Link, Multibody, Transform, add_body, compose, sites, transform, xyzw
from sim.engines.bullet_camera import draw
from sim.engines.bullet_client import Client, pybullet
from sim.model import WorldModel

TIMESTEP = 0.005
SUBSTEPS = 4
"""Solver steps in one physics step: what is held creeps at up to 0.4 mm/s with four, 0.9 with two, 1.1 with one (and
0.1 in MuJoCo)."""
RESPONSE = np.array([0.05] * 7 + [0.02] * 2)
"""Time in s in which a servo makes up for 63 % of an error, per joint and finger; MuJoCo's damping / stiffness."""
_FORCES = [*panda.JOINT_TORQUE, panda.FINGER_FORCE, panda.FINGER_FORCE]
_GRAVITY = -9.81
_MOVING = 9


class BulletEngine:
    """Position servos as velocity constraints with limited force: each wants the velocity target + error / response.

    A constraint carries the arm's weight by itself, so nothing needs to compensate gravity, and free motion follows
    as in MuJoCo; against an obstacle these servos are stiffer, up to the same forces.
    """

    timestep = TIMESTEP

    def __init__(self, quality: str = "fast") -> None:
        if quality not in ("fast", "presentation"):
            raise unknown("render quality", quality, ("fast", "presentation"))
        self._shadow = quality == "presentation"
        self._client = Client()
        self._files = tempfile.TemporaryDirectory(prefix="tongs-bullet-")
        self._sites = sites(panda.panda())
        self._loaded = 0

    def load(self, model: WorldModel) -> None:
        client, folder = self._client, Path(self._files.name)
        client.resetSimulation()
        self._loaded += 1
        client.setPhysicsEngineParameter(
            fixedTimeStep=TIMESTEP / SUBSTEPS, numSolverIterations=50, deterministicOverlappingPairs=1
        )
        client.setGravity(0.0, 0.0, _GRAVITY)
        self._multibodies = [add_body(client, body, folder) for body in (panda.panda(), *model.bodies)]
        arm = self._multibodies[0]
        self._links: dict[str, Link] = {}
        self._joints: dict[str, tuple[int, int]] = {}
        for multibody in self._multibodies:
            self._links |= multibody.links
            self._joints |= {name: (multibody.number, index) for name, index in multibody.joints.items()}
        self._cameras = {camera.name: camera for camera in model.cameras}
        self._light = model.light
        self._arm, self._servos = arm.number, [arm.joints[name] for name in (*panda.JOINTS, *panda.FINGERS)]
        self._couple_fingers()
        self._time = 0.0
        self.set_arm(np.asarray(panda.HOME), panda.FINGER_TRAVEL)

    def _couple_fingers(self) -> None:
        """The real fingers share one spindle."""
        gear = self._client.createConstraint(
            *(self._arm, self._servos[7], self._arm, self._servos[8]),
            jointType=pybullet.JOINT_GEAR,
            jointAxis=(0, 1, 0),
            parentFramePosition=(0, 0, 0),
            childFramePosition=(0, 0, 0),
        )
        self._client.changeConstraint(gear, gearRatio=-1, erp=0.2, maxForce=1000)

    def step(self, arm: NDArray[np.float64], velocity: NDArray[np.float64], finger: float) -> None:
        self._command(np.asarray(arm), np.asarray(velocity), finger)
        for _ in range(SUBSTEPS):
            self._client.stepSimulation()
        self._time += TIMESTEP

    def _command(self, arm: NDArray[np.float64], velocity: NDArray[np.float64], finger: float) -> None:
        self._targets = np.array([*arm, finger, finger, *velocity, 0.0, 0.0])
        self._client.setJointMotorControlArray(
            self._arm,
            self._servos,
            pybullet.POSITION_CONTROL,
            targetPositions=self._targets[:_MOVING].tolist(),
            targetVelocities=self._targets[_MOVING:].tolist(),
            forces=_FORCES,
            positionGains=_GAINS,
            velocityGains=_UNIT_GAINS,
        )

    def settle(self, steps: int) -> None:
        arm = self.arm()
        for _ in range(steps):
            self.step(arm, np.zeros(7), float(self._targets[7]))
        self._time = 0.0

    def arm(self) -> NDArray[np.float64]:
        return np.array([state[0] for state in self._client.getJointStates(self._arm, self._servos[:7])])

    def set_arm(self, q: NDArray[np.float64], finger: float) -> None:
        for joint, value in zip(self._servos, [*q, finger, finger], strict=True):
            self._client.resetJointState(self._arm, joint, float(value))
        self._command(np.asarray(q), np.zeros(7), finger)

    def finger(self) -> float:
        left, right = self._client.getJointStates(self._arm, self._servos[7:])
        return (left[0] + right[0]) / 2

    def tool(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._site(panda.TCP)

    def _site(self, name: str) -> Transform:
        body, place = self._sites[name]
        return compose(self._transform(body), place)

    def joint(self, name: str) -> float:
        return self._client.getJointState(*self._joints[name])[0]

    def joint_velocity(self, name: str) -> float:
        return self._client.getJointState(*self._joints[name])[1]

    def set_joint(self, name: str, value: float) -> None:
        self._client.resetJointState(*self._joints[name], value)

    def pose(self, body: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        position, rotation = self._transform(body)
        return position, Rotation.from_matrix(rotation).as_quat(scalar_first=True)

    def set_pose(self, body: str, position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> None:
        link = self._links[body]
        centre, turn = compose(transform(position.tolist(), xyzw(quaternion)), link.centre)
        quaternion = Rotation.from_matrix(turn).as_quat()
        self._client.resetBasePositionAndOrientation(link.multibody, centre.tolist(), quaternion.tolist())
        self._client.resetBaseVelocity(link.multibody, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))

    def positions(self, bodies: tuple[str, ...]) -> NDArray[np.float64]:
        return np.array([self._transform(body)[0] for body in bodies])

    def _transform(self, body: str) -> Transform:
        """Where a body's own frame is; of a root, PyBullet tells the centre of mass."""
        link = self._links[body]
        if link.index < 0:
            return compose(transform(*self._client.getBasePositionAndOrientation(link.multibody)), link.frame)
        state = self._client.getLinkState(link.multibody, link.index, computeForwardKinematics=True)
        return transform(state[4], state[5])

    def height(self, body: str) -> float:
        return float(self._transform(body)[0][2])

    def uprightness(self, body: str) -> float:
        return float(self._transform(body)[1][2, 2])

    def vertical_speed(self, body: str) -> float:
        """Of the body's origin, as in MuJoCo: that of the centre of mass and what the turning about it adds."""
        link = self._links[body]
        (_, _, speed), (x, y, _) = self._client.getBaseVelocity(link.multibody)
        _, quaternion = self._client.getBasePositionAndOrientation(link.multibody)
        arm = transform((0.0, 0.0, 0.0), quaternion)[1] @ link.frame[0]
        return float(speed + x * arm[1] - y * arm[0])

    def state(self) -> NDArray[np.float64]:
        """Time, servo targets, then of every tree the root's pose and velocity if it is free, and its joints."""
        parts = [np.array([self._time]), self._targets]
        for multibody in self._multibodies:
            if multibody.free:
                parts += [*self._client.getBasePositionAndOrientation(multibody.number)]
                parts += [*self._client.getBaseVelocity(multibody.number)]
            parts += [state[:2] for state in self._joint_states(multibody)]
        return np.concatenate(parts)

    def _joint_states(self, multibody: Multibody) -> list[tuple[float, ...]]:
        if not multibody.joints:
            return []
        return self._client.getJointStates(multibody.number, list(multibody.joints.values()))

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Exact for pictures. Going on from here is close to the first run and not bit-exact: Bullet remembers contact
        points from step to step, and its interface does not give them away."""
        values = np.asarray(state, np.float64).tolist()

        def take(count: int) -> list[float]:
            taken, values[:count] = values[:count], []
            return taken

        (self._time,), targets = take(1), np.array(take(2 * _MOVING))
        for multibody in self._multibodies:
            if multibody.free:
                self._client.resetBasePositionAndOrientation(multibody.number, take(3), take(4))
                self._client.resetBaseVelocity(multibody.number, take(3), take(3))
            for joint in multibody.joints.values():
                self._client.resetJointState(multibody.number, joint, *take(2))
        self._command(targets[:7], targets[_MOVING : _MOVING + 7], targets[7])

    def snapshot(self) -> tuple[int, NDArray[np.float64]]:
        return self._loaded, self.state()

    def restore(self, snapshot: object) -> None:
        if not isinstance(snapshot, tuple) or snapshot[0] != self._loaded:
            raise TongsError(OTHER_SCENE)
        self.set_state(snapshot[1])

    def jacobian(self) -> NDArray[np.float64]:
        body, (point, _) = self._sites[panda.TCP]
        link = self._links[body]
        q = [state[0] for state in self._client.getJointStates(self._arm, self._servos)]
        zeros = [0.0] * _MOVING
        linear, angular = self._client.calculateJacobian(link.multibody, link.index, point.tolist(), q, zeros, zeros)
        return np.concatenate([linear, angular])[:, :7]

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        view = self._cameras[camera]
        pose = self._site(view.mount) if view.mount else (np.array(view.position), view.rotation())
        return draw(self._client, pose, view.fovy, self._light, height, width, self._shadow)

    def close(self) -> None:
        self._client.close()
        self._files.cleanup()


_GAINS = (TIMESTEP / SUBSTEPS / RESPONSE).tolist()
_UNIT_GAINS = [1.0] * _MOVING
