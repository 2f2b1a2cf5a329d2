"""The two ways to run a policy: in closed loop, or asked twice for a key pose as in ARNOLD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from robot.errors import ContractError
from robot.interface import EE_DELTA, KEYPOSE, ActionSpace, PolicySpec, RobotSpec, require_compatible

Protocol = Literal["closed_loop", "keypose"]
PROTOCOLS: Mapping[Protocol, ActionSpace] = {"closed_loop": EE_DELTA, "keypose": KEYPOSE}
"""What the actions of a policy have to be in each protocol."""


def require_protocol(policy: PolicySpec, robot: RobotSpec, protocol: Protocol, name: str = "the policy") -> None:
    """Raise one ContractError unless the policy can be run on the robot in this protocol."""
    wanted, given = PROTOCOLS[protocol], policy.action_space
    if given.kind != wanted.kind:
        raise ContractError(f"{name} gives {given.kind} actions, and protocol={protocol} takes {wanted.kind} actions")
    require_compatible(policy, replace(robot, action_space=wanted), name)
