"""Whether an arm would touch itself or a place it must keep out of, by MuJoCo's collision detection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from robot.control.quaternions import Quaternion
from robot.description import Body, Geom
from robot.errors import ContractError
from robot.limits import Limits


class ArmModel:
    """The arm alone with its boxes to keep out of: shapes that come nearer to each other than `limits.clearance` touch.

    Bodies that hang on each other, or on the same one, are never compared: their shapes meet by design. So do pairs
    that touch with every joint at `home`.

    Args:
        arm: the tree of bodies, base at the origin.
        joints: names of the joints in the order of the angles; other joints stay at 0.
        limits: clearance and boxes.
        home: angles at which the arm touches nothing.
    """

    def __init__(self, arm: Body, joints: Sequence[str], limits: Limits, home: Sequence[float]) -> None:
        import mujoco

        from robot.compile import add_body

        self.joints = tuple(joints)
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        for number, box in enumerate(limits.keep_out):
            middle = tuple((low + high) / 2 for low, high in zip(box.low, box.high, strict=True))
            half = tuple((high - low) / 2 for low, high in zip(box.low, box.high, strict=True))
            body = Body(f"keep_out[{number}]", middle, geoms=(Geom("box", half),))  # type: ignore[arg-type]
            add_body(spec.worldbody, body)
        add_body(spec.worldbody, arm)
        for geom in spec.geoms:
            geom.contype = geom.conaffinity = 1
            geom.margin = limits.clearance / 2  # MuJoCo adds those of the two shapes
        for first, second in _neighbours(arm):
            spec.add_exclude(bodyname1=first, bodyname2=second)
        for first, second in combinations([f"keep_out[{number}]" for number in range(len(limits.keep_out))], 2):
            spec.add_exclude(bodyname1=first, bodyname2=second)
        for number in range(len(limits.keep_out)):
            spec.add_exclude(bodyname1=f"keep_out[{number}]", bodyname2=arm.name)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._addresses = [int(self._model.joint(name).qposadr[0]) for name in joints]
        self._kinematics = None
        if touching := self.touching(np.asarray(home, dtype=np.float64)):
            raise ContractError(f"at its home pose {touching[0]} touches {touching[1]}; home must be clear")

    def columns(self, state_names: Sequence[str]) -> list[int]:
        """Where the joints are in a state. Raises ContractError if one is missing."""
        missing = [name for name in self.joints if name not in state_names]
        if missing:
            raise ContractError(f"the self-collision check needs the state {', '.join(missing)}")
        return [list(state_names).index(name) for name in self.joints]

    def touching(self, angles: NDArray[np.float64]) -> tuple[str, str] | None:
        """The first two bodies that are too near to each other at these angles (n,), if any."""
        import mujoco

        self._data.qpos[self._addresses] = angles
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        if self._data.ncon == 0:
            return None
        contact = self._data.contact[0]
        first, second = (self._model.body(int(self._model.geom_bodyid[geom])).name for geom in contact.geom)
        return first, second

    def reach(
        self, angles: NDArray[np.float64], position: NDArray[np.float64], turn: Quaternion
    ) -> NDArray[np.float64]:
        """The angles near `angles` that bring the tool to a pose (inverse kinematics of the Panda)."""
        import mujoco

        from robot.kinematics import ArmKinematics

        if self._kinematics is None:
            self._kinematics = ArmKinematics()
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, np.asarray(turn))
        return self._kinematics.inverse(angles, position, matrix.reshape(3, 3))

    def tool(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """The tool's point (3,) m at these angles."""
        import mujoco

        from robot.panda import TCP

        self._data.qpos[self._addresses] = angles
        mujoco.mj_kinematics(self._model, self._data)
        return self._data.site(TCP).xpos.copy()


def _neighbours(arm: Body) -> set[tuple[str, str]]:
    """Pairs of bodies that are at most two joints apart."""
    parents = {child.name: body.name for body in arm.walk() for child in body.children}
    near = set(parents.items())
    for child, parent in parents.items():
        if parent in parents:
            near.add((child, parents[parent]))
        near |= {(child, other) for other, its in parents.items() if its == parent and other < child}
    return near


def panda_model(limits: Limits) -> ArmModel:
    """The Panda of this project."""
    from robot import panda

    return ArmModel(panda.panda(), panda.JOINTS, limits, panda.HOME)
