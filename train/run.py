"""From settings to a training run: the datasets, the windows cut from them, and the policy that fits them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data import layout
from data.cache import EpisodeCache, open_cache
from data.features import ACTION, ENVIRONMENT_STATE, STATE
from data.goals import GoalRelabelling
from data.listening import told_in_cache, why_words_are_idle
from data.motions import CorrectionWeights, motion_track
from data.paraphrases import read_paraphrases
from data.reader import Dataset, read_info
from data.segments import SegmentRules, by_segments, dataset_segments
from data.windows import Windows
from policies.configuration import configuration
from robot.errors import TongsError
from robot.interface import LEARNED_SPACES, ActionSpace, PolicySpec
from train.configuration import TrainConfig

if TYPE_CHECKING:
    from policies.base import PolicyModule, TrainingData

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
        start_weight: sampling weight of the first frames of a demonstration, see `Windows`.
        seed: of the choice of held-out episodes.
        shares: {dataset: how much of the samples it gives}, by the names of the dataset folders; empty: by their size.
        goals: fields of `GoalRelabelling`; empty for policies that are told their goal in words.
        goal_window: consecutive frames of which a goal consists.
        labelled: which episodes have an instruction, arguments of `Windows.with_labels`; of the training windows only.
        paraphrases: a JSON file {instruction: other wordings of it}, drawn from in training; None for none.
        motion_ahead: frames by which the language motion that is to be predicted lies ahead; None for policies that
            learn none.
        corrections: fields of `CorrectionWeights`; of the training windows' sampling only.
        segments: how parts of episodes with a sub-task or a correction of their own become windows, told that; None for
            whole episodes and what was asked for in them.
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
    start_weight: float = 1.0
    goal_window: int = 1
    shares: Mapping[str, float] = field(default_factory=dict)
    goals: Mapping[str, float] = field(default_factory=dict)
    labelled: Mapping[str, Any] = field(default_factory=dict)
    paraphrases: str | None = None
    motion_ahead: int | None = None
    corrections: Mapping[str, Any] = field(default_factory=dict)
    segments: SegmentRules | None = None


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
    folders = find_datasets(settings.data)
    caches = [open_cache(folder, sizes) for folder in folders]
    _require_actions(caches)
    if (rules := settings.segments) is not None:
        told_in = [dataset_segments(Dataset(folder), rules) for folder in folders]
        caches = [by_segments(cache, told, rules) for cache, told in zip(caches, told_in, strict=True)]
    told = (
        [] if settings.goals or settings.segments else [told_in_cache(cache) for cache in caches]
    )  # goals that are seen need no words
    if told and (reason := why_words_are_idle(told)):
        LOG.warning("warning: %s", reason)
    names = caches[0].names
    windows = Windows(
        caches,
        settings.cameras,
        names[STATE] if settings.state is None else settings.state,
        settings.window,
        settings.horizon,
        environment_state=names.get(ENVIRONMENT_STATE, ()) if all(ENVIRONMENT_STATE in c.names for c in caches) else (),
        pad_hold=settings.segments is None,  # after a segment the arm goes on with something else
        hold_weight=settings.hold_weight,
        start_weight=settings.start_weight,
        shares=_shares(settings.shares, [folder.name for folder in folders]),
        goals=configuration(GoalRelabelling, settings.goals) if settings.goals else None,
        goal_window=settings.goal_window,
        paraphrases=read_paraphrases(settings.paraphrases, {task for cache in caches for task in cache.tasks}),
        motions=None if settings.motion_ahead is None else [motion_track(Dataset(folder)) for folder in folders],
        motion_ahead=settings.motion_ahead or 0,
        corrections=configuration(CorrectionWeights, settings.corrections),
    )
    training, heldout = windows.split(settings.held_out, np.random.default_rng(settings.seed))
    return training.with_labels(**{"fraction": 1.0, **settings.labelled}), heldout


def seed_weights(seed: int) -> None:
    """Let the first weights of a policy that is built next follow from the seed."""
    import torch

    torch.manual_seed(seed)


def goal_rules(policy: Mapping[str, Any], goals: Mapping[str, float]) -> Mapping[str, float]:
    """How later frames become goals: as told, or as the policy's family does.

    Raises:
        TongsError: goals are relabelled for a policy (its settings) that is told none it sees, or the reverse.
    """
    from policies.base import policy_class

    told = policy.get("goal", "language")
    seen = told in ("state", "image", "aligned")
    if seen and not goals:
        goals = policy_class(policy["family"]).goal_rules
    if goals and not seen:
        raise TongsError(
            f"goals.* make goals of later states and pictures, and this policy's goal is {told} (policy.goal); "
            "leave them out, or take policy.goal=state or image where the policy has it"
        )
    if not goals and seen:
        raise TongsError(f"policy.goal={told} needs goals from the data, such as goals.last=0.5 goals.future=0.5")
    return goals


def motion_ahead(policy: Mapping[str, Any]) -> int | None:
    """By how many frames the motions lie ahead that a policy (its settings) learns to predict; None if it learns
    none."""
    from policies.base import policy_class

    return policy_class(policy["family"]).motion_ahead(policy)


def require_labels(policy: PolicyModule, windows: Windows) -> None:
    """Raise a TongsError if a policy that can only be told in words would learn without any."""
    if "language" in policy.spec.goals and len(set(policy.spec.goals) - {"motion"}) == 1 and not windows.instructions:
        raise TongsError("this policy is told its task in words, and no episode has any; raise labelled.fraction")


def align(
    policy: PolicyModule,
    windows_train: Windows,
    windows_heldout: Windows,
    config: TrainConfig,
    settings: Mapping[str, Any],
    folder: Path,
    resume: bool,
) -> PolicyModule:
    """The first stage of a policy that has two: words and transitions of whole episodes, in a run `folder`/align.

    Args:
        policy: a new one.
        windows_train, windows_heldout: of the whole training.
        config: of the whole training.
        settings: `steps`, `batch_size`, `learning_rate` of this stage, and `in_order`, see `Windows.trajectories`.
        folder: of the whole training.
        resume: go on with a run that was cut short, or read one that is finished.

    Returns:
        The policy as this stage leaves it, with averaged weights, ready for the next.
    """
    from policies.base import load_policy
    from train.state import has_state
    from train.trainer import Trainer

    budget = {name: settings[name] for name in ("steps", "batch_size", "learning_rate")}
    own = replace(config, **budget, max_minutes=None, warmup_steps=settings["steps"] // 10, evaluate_every=0, freeze=())
    policy.enter("align")
    heldout = windows_heldout.trajectories() if len(windows_heldout.episodes) > 1 else None
    trainer = Trainer(policy, windows_train.trajectories(settings["in_order"]), heldout, own, folder / "align")
    trainer.train(resume and has_state(folder / "align"))
    trainer.processes.wait()
    aligned = load_policy(trainer.folder / "last")
    aligned.trained_on = policy.trained_on
    aligned.enter("control")
    return aligned.train()


def build_policy(settings: Mapping[str, Any], windows: Windows, image_size: int) -> PolicyModule:
    """A new policy with the shapes and the statistics of its training windows.

    Args:
        settings: a file of configs/policy: its `family`, and fields of that family's configuration.
        windows: the training windows.
        image_size: side in pixels of their images.
    """
    from policies.base import policy_class

    spec = PolicySpec(
        cameras=dict.fromkeys(windows.cameras, (image_size, image_size)),
        state_names=windows.state_names,
        action_space=action_space(windows.action_names, windows.fps),
        horizon=windows.horizon,
    )

    own = {name: value for name, value in settings.items() if name != "family"}
    return policy_class(settings["family"]).new(own, spec, _training_data(windows))


def _training_data(windows: Windows) -> TrainingData:
    from policies.base import TrainingData

    def chunks(count: int) -> NDArray[np.float32]:
        generator = np.random.default_rng(0)  # the same policy for the same data, whatever the run's seed
        return windows.chunks(generator.permutation(len(windows))[:count])[:, windows.window - 1 :]

    return TrainingData(
        data_statistics(windows),
        windows.instructions,
        windows.environment_state_names,
        chunks,
        windows.motions,
        windows.motion_table,
    )


def data_statistics(windows: Windows) -> dict[str, dict[str, list[float]]]:
    """The statistics of the data that windows are cut from, in their order of entries."""
    return {
        feature: {name: values.tolist() for name, values in of_feature.items()}
        for feature, of_feature in windows.statistics().items()
    }


def continue_policy(
    folder: str, family: str, changes: Mapping[str, Any], windows: Windows, image_size: int
) -> PolicyModule:
    """A trained policy, to be trained further on these windows; its settings and statistics stay its own.

    Args:
        folder: its checkpoint.
        family: of this training.
        changes: settings of the policy that shall be others from now on, see `PolicyModule.continued`.
        windows: the training windows; they may tell more of the robot's state than it was told.
        image_size: side in pixels of their images.

    Raises:
        TongsError: the checkpoint is of another family, or sees or does something else than the windows hold, or
            cannot change so.
    """
    from policies.base import load_policy

    policy = load_policy(folder)
    if policy.family != family:
        raise TongsError(f"{folder} holds a {policy.family} policy, and this is a {family} training")
    spec = policy.spec
    sees = {camera: (image_size, image_size) for camera in windows.cameras}
    pairs = {
        "cameras": (dict(spec.cameras), sees),
        "actions": (spec.action_space.names, windows.action_names),
        "horizon": (spec.horizon, windows.horizon),
    }
    for name, (its, ours) in pairs.items():
        if its != ours:
            raise TongsError(f"{folder} was trained with {name} {its}, and this training has {ours}")
    if absent := [name for name in spec.state_names if name not in windows.state_names]:
        has = ", ".join(windows.state_names) or "none"
        raise TongsError(
            f"{folder} was trained with state {', '.join(absent)}, and the state of this training has {has}"
        )
    grown = policy.continued(changes, replace(spec, state_names=windows.state_names), _training_data(windows))
    if grown is not policy:
        told = [name for name in windows.state_names if name not in spec.state_names]
        LOG.info("starting from %s with changed settings: %s; newly told: %s", folder, dict(changes), told)
    grown.hear(windows.motions, windows.motion_table)
    return grown


def _shares(shares: Mapping[str, float], names: Sequence[str]) -> list[float] | None:
    """In the order of the datasets."""
    if not shares:
        return None
    if set(shares) != set(names) or len(set(names)) < len(names):
        raise TongsError(f"shares must name each dataset once ({', '.join(names)}), got {', '.join(shares)}")
    return [float(shares[name]) for name in names]


def _require_actions(caches: Sequence[EpisodeCache]) -> None:
    """The datasets must hold actions of one action space that we know."""
    for cache in caches:
        action_space(cache.names.get(ACTION, ()), cache.fps)


def action_space(names: Sequence[str], rate: float) -> ActionSpace:
    """The action space of a dataset; it is known by its names and rate."""
    for space in LEARNED_SPACES:
        if space.names == tuple(names) and space.rate == rate:
            return space
    known = " or ".join(f"{space.kind} ({', '.join(space.names)} at {space.rate:g} Hz)" for space in LEARNED_SPACES)
    raise TongsError(
        f"a policy for actions {known} cannot learn from a dataset with actions "
        f"{', '.join(names) or 'without names'} at {rate} Hz"
    )
