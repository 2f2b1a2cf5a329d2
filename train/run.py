"""From settings to a training run: the datasets, the windows cut from them, and the policy that fits them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data import layout
from data.cache import EpisodeCache, open_cache
from data.features import ACTION, ENVIRONMENT_STATE, STATE
from data.listening import why_words_are_idle
from data.reader import read_info
from data.windows import Windows
from policies.configuration import configuration
from robot.errors import TongsError
from robot.interface import EE_DELTA, PolicySpec

if TYPE_CHECKING:
    from policies.beso.model import Beso

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSettings:
    """What a policy is trained on.

    Attributes:
        data: dataset folders, or folders that hold datasets.
        cameras: cameras that the policy sees.
        image_size: side in pixels that images are scaled down to.
        state: entries of the proprioception that the policy reads; None for all of the dataset's.
        horizon: actions in one chunk.
        window: observations of one prediction.
        held_out: fraction of the episodes kept for the held-out loss.
        hold_weight: sampling weight of the frames in which a demonstration only holds its goal.
        seed: of the choice of held-out episodes.
    """

    data: Sequence[str]
    cameras: Sequence[str]
    image_size: int
    state: Sequence[str] | None
    horizon: int
    window: int
    held_out: float
    hold_weight: float
    seed: int


def find_datasets(folders: Sequence[str]) -> list[Path]:
    """Every dataset among the folders and one level below.

    Raises:
        TongsError: a folder is not there or holds none.
    """
    found = []
    for name in folders:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise TongsError(f"there is no dataset folder {name}")
        candidates = [folder] if (folder / layout.INFO).is_file() else sorted(folder.iterdir())
        datasets = [candidate for candidate in candidates if (candidate / layout.INFO).is_file()]
        if not datasets:
            raise TongsError(f"{name} holds no dataset (a dataset has a {layout.INFO})")
        found += datasets
    return found


def robot_types(folders: Sequence[str]) -> set[str]:
    """The `robot_type` of every dataset among the folders, such as "panda_mujoco"."""
    return {str(read_info(folder)["robot_type"]) for folder in find_datasets(folders)}


def open_windows(settings: DataSettings) -> tuple[Windows, Windows]:
    """Training and held-out windows of all datasets together; warns if their instructions teach nothing."""
    sizes = dict.fromkeys(settings.cameras, (settings.image_size, settings.image_size))
    caches = [open_cache(folder, sizes) for folder in find_datasets(settings.data)]
    _require_actions(caches)
    if reason := why_words_are_idle(caches):
        LOG.warning("warning: %s", reason)
    names = caches[0].names
    windows = Windows(
        caches,
        settings.cameras,
        names[STATE] if settings.state is None else settings.state,
        settings.window,
        settings.horizon,
        environment_state=names.get(ENVIRONMENT_STATE, ()),
        pad_hold=True,
        hold_weight=settings.hold_weight,
    )
    return windows.split(settings.held_out, np.random.default_rng(settings.seed))


def build_beso(settings: Mapping[str, Any], windows: Windows, image_size: int) -> Beso:
    """A new BESO policy with the shapes and the statistics of its training windows.

    Args:
        settings: fields of `policies.beso.config.BesoConfig`, as in configs/policy/beso.yaml.
        windows: the training windows.
        image_size: side in pixels of their images.
    """
    from policies.beso.config import BesoConfig
    from policies.beso.model import Beso

    spec = PolicySpec(
        cameras=dict.fromkeys(windows.cameras, (image_size, image_size)),
        state_names=windows.state_names,
        action_space=EE_DELTA,
        horizon=windows.horizon,
    )
    config = configuration(BesoConfig, {**settings, "environment_names": windows.environment_state_names})
    statistics = {
        feature: {name: values.tolist() for name, values in of_feature.items()}
        for feature, of_feature in windows.statistics().items()
    }
    return Beso(config, spec, statistics)


def continue_beso(folder: str, windows: Windows, image_size: int) -> Beso:
    """A trained BESO policy, to be trained further on these windows; its settings and statistics stay its own.

    Raises:
        TongsError: the checkpoint is no BESO policy, or sees or does something else than the windows hold.
    """
    from policies.base import load_policy
    from policies.beso.model import Beso

    policy = load_policy(folder)
    if not isinstance(policy, Beso):
        raise TongsError(f"{folder} holds a {policy.family} policy, and this is a beso training")
    spec = policy.spec
    sees = {camera: (image_size, image_size) for camera in windows.cameras}
    pairs = {
        "cameras": (dict(spec.cameras), sees),
        "state": (spec.state_names, windows.state_names),
        "horizon": (spec.horizon, windows.horizon),
    }
    for name, (its, ours) in pairs.items():
        if its != ours:
            raise TongsError(f"{folder} was trained with {name} {its}, and this training has {ours}")
    return policy


def _require_actions(caches: Sequence[EpisodeCache]) -> None:
    """The datasets must hold actions of the default action space; theirs is known by its names and rate."""
    for cache in caches:
        names = cache.names.get(ACTION)
        if names != EE_DELTA.names or cache.fps != EE_DELTA.rate:
            raise TongsError(
                f"a policy for {EE_DELTA.kind} actions ({', '.join(EE_DELTA.names)} at {EE_DELTA.rate:g} Hz) cannot "
                f"learn from a dataset with actions {', '.join(names or ('without names',))} at {cache.fps} Hz"
            )
