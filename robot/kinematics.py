"""Where the hand is, and which joint angles bring it somewhere: forward and differential inverse kinematics (mink)."""

from __future__ import annotations

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

from robot import panda
from robot.compile import add_body


class ArmKinematics:
    """The Panda alone, without a world; `q` is always the seven joint angles in rad, poses are of the tool centre
    point in the base frame."""

    def __init__(self) -> None:
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        add_body(spec.worldbody, panda.panda())
        self.model = spec.compile()
        self._configuration = mink.Configuration(self.model)
        self._pose_task = mink.FrameTask(panda.TCP, "site", position_cost=1.0, orientation_cost=0.3, lm_damping=0.02)
        self._posture_task = mink.PostureTask(self.model, cost=2e-3)
        self._posture_task.set_target(self._full(np.asarray(panda.HOME)))
        self._limits = [mink.ConfigurationLimit(self.model, gain=1.0)]
        self._site = self.model.site(panda.TCP).id

    def _full(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([q, np.zeros(self.model.nq - 7)])

    def forward(self, q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) m and rotation matrix (3, 3) of the tool centre point."""
        data = self._configuration.data
        data.qpos[:7] = q
        mujoco.mj_kinematics(self.model, data)
        return data.site_xpos[self._site].copy(), data.site_xmat[self._site].reshape(3, 3).copy()

    def inverse(
        self,
        q: NDArray[np.float64],
        position: NDArray[np.float64],
        rotation: NDArray[np.float64],
        iterations: int = 2,
        tolerance: float = 2e-4,
    ) -> NDArray[np.float64]:
        """Joint angles near `q` that bring the tool centre point to `position` (3,) m and `rotation` (3, 3).

        Each iteration is one quadratic programme: pose error first, a weak pull to the home posture in the null
        space, joint limits as constraints. What cannot be reached is approached; limits are never left.
        """
        target = np.eye(4)
        target[:3, :3], target[:3, 3] = rotation, position
        self._pose_task.set_target(mink.SE3.from_matrix(target))
        self._configuration.update(self._full(q))
        for _ in range(iterations):
            velocity = mink.solve_ik(
                self._configuration,
                [self._pose_task, self._posture_task],
                1.0,
                solver="daqp",
                damping=1e-6,
                limits=self._limits,
            )
            self._configuration.integrate_inplace(velocity, 1.0)
            error = self._pose_task.compute_error(self._configuration)
            if np.abs(error).max() < tolerance:
                break
        return np.clip(self._configuration.q[:7], panda.JOINT_LOW, panda.JOINT_HIGH)
