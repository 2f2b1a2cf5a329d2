"""How chunks become motion, and what is done when something is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from robot.errors import TongsError, unknown

Mode = Literal["synchronous", "asynchronous", "ensemble", "rtc"]
MODES: tuple[Mode, ...] = ("synchronous", "asynchronous", "ensemble", "rtc")

Behaviour = Literal["ignore", "slow", "hold", "stop"]
BEHAVIOURS: tuple[Behaviour, ...] = ("ignore", "slow", "hold", "stop")
"""From the mildest to the sternest."""


@dataclass(frozen=True)
class Execution:
    """How chunks are followed.

    Attributes:
        mode: `synchronous` follows `execute` actions, holds, and asks again; `asynchronous` asks while it moves, and a
            new chunk takes over by time; `ensemble` asks as often as it can and averages all chunks by time; `rtc`
            asks while it moves and has the new chunk go on from the old one (real-time chunking, Black et al. 2025,
            arXiv 2506.07339), for policies that can.
        execute: actions from one request to the next; `ensemble` has no use for it.
        decay: of the weights of older and newer chunks in `ensemble`.
    """

    mode: Mode = "asynchronous"
    execute: int = 4
    decay: float = 0.01

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("execution", self.mode, MODES)
        if isinstance(self.execute, bool) or not isinstance(self.execute, int) or self.execute < 1:
            raise TongsError(f"execute must be a whole number of at least 1, got {self.execute!r}")


@dataclass(frozen=True)
class Behaviours:
    """What is done while a fault is present: `slow` goes on at a quarter of the speed to the end of what is known,
    `hold` decelerates along the path, waits, and goes on by itself when the fault is gone; `stop` decelerates and
    waits for a person. The sternest of those that are present counts.

    Attributes:
        stale_observation: no newer observation for `Patience.observation`.
        camera_lost: a camera of the policy gives no picture, or none newer than `Patience.camera`.
        policy_dead: the policy raised, gave nonsense, or no answer within `Patience.policy`.
        operator_gone: a person had taken over and sent nothing for `Patience.operator`.
        commands_rejected: `Patience.rejections` commands in a row were rejected by the safety filter.
        not_following: the robot is further from its command than `Patience.astray` times what is allowed.
    """

    stale_observation: Behaviour = "hold"
    camera_lost: Behaviour = "slow"
    policy_dead: Behaviour = "hold"
    operator_gone: Behaviour = "hold"
    commands_rejected: Behaviour = "hold"
    not_following: Behaviour = "stop"

    def __post_init__(self) -> None:
        for name, behaviour in vars(self).items():
            if behaviour not in BEHAVIOURS:
                raise unknown(f"behaviour of {name}", behaviour, BEHAVIOURS)


@dataclass(frozen=True)
class Patience:
    """After how many seconds, or how many times, something is a fault; see `Behaviours`."""

    observation: float = 0.25
    camera: float = 0.5
    policy: float = 2.0
    operator: float = 0.3
    rejections: int = 5
    astray: float = 2.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise TongsError(f"the patience for {name} must be positive, got {value}")


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a control loop beyond robot, policy and limits.

    Attributes:
        stop_time: s in which the speed along the path goes from full to none, at the end of what is known and in a
            fault.
        slow: share of the speed with behaviour `slow`.
    """

    execution: Execution = field(default_factory=Execution)
    behaviours: Behaviours = field(default_factory=Behaviours)
    patience: Patience = field(default_factory=Patience)
    stop_time: float = 0.2
    slow: float = 0.25

    def __post_init__(self) -> None:
        if not self.stop_time > 0 or not 0 < self.slow < 1:
            raise TongsError(f"need stop_time > 0 and 0 < slow < 1, got {self.stop_time} and {self.slow}")
