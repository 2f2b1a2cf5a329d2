"""The configuration of LeRobot's policy type "tongs": which checkpoint of ours, and how it is run."""

# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import NormalizationMode

from robot.errors import TongsError


@PreTrainedConfig.register_subclass("tongs")
@dataclass
class TongsConfig(PreTrainedConfig):
    """A checkpoint of ours under LeRobot. It normalises by itself, so LeRobot's processors leave all numbers alone.

    Attributes:
        checkpoint: name of a shipped checkpoint, or a checkpoint folder; not read where a saved LeRobot folder is
            given (`--policy.path`), which holds its own.
        execute: actions of a chunk that are followed before the policy is asked again, as in `tongs eval`.
        state_names: what the entries of `observation.state` are, in order; by default those of our simulated arm.
        scenes: "task/split/first", such as "open_drawer/test/0": the n-th episode gets the random seed that `tongs
            eval` gives scene first + n. By default the seeds follow from LeRobot's own.
    """

    checkpoint: str = "beso"
    execute: int = 4
    state_names: list[str] | None = None
    scenes: str | None = None
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> NoReturn:
        raise TongsError("a policy of type tongs is trained by `tongs train`, not by lerobot-train")

    def get_scheduler_preset(self) -> None:
        return None

    def validate_features(self) -> None:
        """Nothing here: the policy compares what it needs with what there is when it is bound to the features."""
