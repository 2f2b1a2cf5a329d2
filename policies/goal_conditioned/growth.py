"""A trained policy that goes on with other settings, or is told more of the robot's state than before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from policies.normalisation import Statistics
from robot.errors import TongsError

if TYPE_CHECKING:
    from policies.goal_conditioned.model import GoalConditioned

_STATE_READER = "observation_encoder.fusion.0.weight"
"""The one weight that the state's entries go through: columns for the cameras, the state and the instruction."""


def widened_statistics(
    own: Statistics, names: Sequence[str], given: Statistics, wanted: Sequence[str], feature: str
) -> dict[str, dict[str, list[float]]]:
    """A policy's own statistics, with those of the entries that it did not have from the data.

    Args:
        own, names: of the policy, and what its feature's entries are called.
        given, wanted: of the data, and what its feature's entries are called.
        feature: which one grows.
    """
    wider = {
        key: [values[names.index(name)] if name in names else given[feature][key][at] for at, name in enumerate(wanted)]
        for key, values in own[feature].items()
        if len(values) == len(names)
    }
    return {**own, feature: wider}  # type: ignore[dict-item]


def take_over(policy: GoalConditioned, older: GoalConditioned) -> None:
    """Give a new policy the weights of an older one: parts that it lacked stay as they are at first, entries of the
    state that it was not told are silent.

    Raises:
        TongsError: a part has another shape than before, or is gone.
    """
    weights = policy.state_dict()
    for name, value in older.state_dict().items():
        if name == _STATE_READER:
            value = _with_silent_columns(value, older.spec.state_names, policy.spec.state_names, policy.token_width)
        wanted = tuple(weights[name].shape) if name in weights else "nothing"
        if wanted != tuple(value.shape):
            raise TongsError(
                f"the policy to start from has {name} of shape {tuple(value.shape)}, and with the settings of this "
                f"training it would be {wanted}; only parts that it lacks can be added"
            )
        weights[name] = value
    policy.load_state_dict(weights)


def _with_silent_columns(weight: Tensor, names: Sequence[str], wanted: Sequence[str], language: int) -> Tensor:
    """The fusion's first weight (out, cameras + state + language) for a state of other entries."""
    cameras = weight.shape[1] - len(names) - language
    before, state, after = weight.split([cameras, len(names), language], dim=1)
    columns = [state[:, names.index(name)] if name in names else torch.zeros_like(state[:, 0]) for name in wanted]
    return torch.cat([before, *(column[:, None] for column in columns), after], dim=1)
