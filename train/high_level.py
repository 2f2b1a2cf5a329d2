"""From settings to the training of a high level: commands, and a policy over a frozen low level (YAY Robot)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data.cache import open_cache
from data.commands import CommandSamples
from data.reader import Dataset
from data.segments import SegmentRules, dataset_segments
from policies.configuration import configuration
from robot.errors import TongsError, unknown
from train.run import find_datasets

if TYPE_CHECKING:
    from policies.yay.model import Yay

POST = "post"


@dataclass(frozen=True)
class HighLevelSettings:
    """What a high level is trained on, and over what.

    Attributes:
        policy: settings of `policies.yay.config.YayConfig`, with `low`, the checkpoint folder of the low level, and
            `family`.
        data: dataset folders, or folders that hold datasets; in stage "post" the last one holds the corrections.
        cameras, image_size: what a new high level sees, sides in pixels.
        held_out, seed: fraction of the scenes kept for the held-out loss, and of their choice.
        stage: None, or "post": go on with a trained one, learn from corrections, and learn new commands.
        start_from: checkpoint folder to go on with; needed in stage "post".
        segment: fields of `data.segments.SegmentRules` but `skill`, which the policy has.
        newest: how much of every batch of stage "post" comes from the last dataset (the DAgger ratio).
    """

    policy: Mapping[str, Any]
    data: Sequence[str]
    cameras: Sequence[str]
    image_size: int
    held_out: float
    seed: int
    stage: str | None = None
    start_from: str | None = None
    segment: Mapping[str, float] = field(default_factory=dict)
    newest: float = 0.1


def open_high_level(settings: HighLevelSettings) -> tuple[Yay, CommandSamples, CommandSamples]:
    """The policy to train, and its training and held-out samples.

    Raises:
        TongsError: bad settings, a low level that cannot be told in words, or data that tells no commands.
    """
    from policies.base import load_policy
    from policies.yay.model import Yay

    if settings.stage not in (None, POST):
        raise unknown("stage of a yay training", settings.stage, [POST])
    own = {name: value for name, value in settings.policy.items() if name not in ("family", "low")}
    if settings.start_from:
        policy = load_policy(settings.start_from)
        if not isinstance(policy, Yay):
            raise TongsError(f"{settings.start_from} holds a {policy.family} policy, and this is a yay training")
        training, heldout = _samples(settings, vars(policy.config), policy.config.cameras, dict(policy.spec.cameras))
        return policy.learning(training.commands) if settings.stage == POST else policy, training, heldout
    if settings.stage == POST:
        raise TongsError("stage=post learns from corrections of a trained policy; give start_from=<its checkpoint>")
    if not settings.policy.get("low"):
        raise TongsError(
            "a high level needs a low level; give policy.low=<checkpoint folder of a policy told in words>"
        )
    low = load_policy(str(settings.policy["low"]))
    sizes = dict.fromkeys(settings.cameras, (settings.image_size, settings.image_size))
    training, heldout = _samples(settings, own, settings.cameras, sizes)
    return Yay.over(low, own, training.commands, sizes).train(), training, heldout


def _samples(
    settings: HighLevelSettings,
    policy: Mapping[str, Any],
    cameras: Sequence[str],
    sizes: Mapping[str, tuple[int, int]],
) -> tuple[CommandSamples, CommandSamples]:
    """Of all datasets together, by the times that the policy's settings name."""
    rules = configuration(SegmentRules, {**settings.segment, "skill": policy["skill"]})
    folders = find_datasets(settings.data)
    samples = CommandSamples(
        [open_cache(folder, {camera: sizes[camera] for camera in cameras}) for folder in folders],
        [dataset_segments(Dataset(folder), rules) for folder in folders],
        cameras,
        policy["history"],
        policy["spacing"],
        policy["offset"],
        rules,
        settings.newest if settings.stage == POST else None,
    )
    return samples.split(settings.held_out, np.random.default_rng(settings.seed))
