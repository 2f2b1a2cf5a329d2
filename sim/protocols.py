"""The two ways to run a policy: in closed loop, or asked twice for a key pose as in ARNOLD."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from robot.errors import ContractError
from robot.interface import KEYPOSE, ActionSpace, PolicySpec, RobotSpec, require_compatible

Protocol = Literal["closed_loop", "keypose"]
PROTOCOLS: tuple[Protocol, ...] = ("closed_loop", "keypose")


def action_space(robot: RobotSpec, protocol: Protocol) -> ActionSpace:
    """What the actions of a policy have to be: the robot's own, or key poses."""
    return KEYPOSE if protocol == "keypose" else robot.action_space


def require_protocol(policy: PolicySpec, robot: RobotSpec, protocol: Protocol, name: str = "the policy") -> None:
    """Raise one ContractError unless the policy can be run on the robot in this protocol."""
    wanted, given = action_space(robot, protocol), policy.action_space
    if given.kind != wanted.kind:
        raise ContractError(f"{name} gives {given.kind} actions, and protocol={protocol} takes {wanted.kind} actions")
    require_compatible(policy, replace(robot, action_space=wanted), name)
