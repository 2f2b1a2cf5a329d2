"""Training windows cut from cached episodes: a history of observations and the action chunk that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import EpisodeCache
from data.features import ACTION, ENVIRONMENT_STATE, STATE
from data.frames import FrameReader
from data.goals import GoalRelabelling
from data.motions import ALIKE, CorrectionWeights, MotionTrack
from data.statistics import Statistics, column_statistics
from robot.errors import TongsError
from robot.motions import MotionTable

Batch = dict[str, Any]
CHANCES = 3
"""Uniform random numbers that a window needs: the goal's rule, the goal's frame, the wording."""

_START_SECONDS = 0.8


class Windows:
    """Windows over one or several caches; window i ends its history at frame `frames[i]`.

    With T = `window`, H = `horizon` and t the newest observed frame, a window has the observations t-T+1 .. t and the
    actions t-T+1 .. t+H-1. Before the start of the episode the first frame repeats. Past the end the last action
    repeats and counts as padding; with `pad_hold` the arm holds still instead (every entry zero, except the last
    value of those in `held`), which is a real target for episodes that end in a hold.

    Args:
        caches: episodes; every cache must have the cameras, names and fps asked for.
        cameras: names of the cameras.
        state_names: entries of the proprioception, in order.
        window: T, observations.
        horizon: H, actions from the newest observation on.
        environment_state: names of the privileged entries to hand out, in order; empty for none.
        pad_hold: what lies past the end of an episode, see above; for actions that are changes (`ee_delta`).
        held: action entries that are absolute, so that holding still means keeping their value.
        hold_weight: sampling weight of the frames of an episode's final hold, 1 for all others.
        start_weight: sampling weight of the frames of an episode's first 0.8 s, in which the arm does not show yet
            what it is after, so that only words and pictures tell.
        hold_tolerance: an action whose changes are all at most this (m, rad) is part of the hold.
        shares: how much of the samples comes from each cache, whatever their sizes; in proportion to them if None.
        goals: how a later frame of the episode is chosen as the goal; None hands out no goals.
        goal_window: G, consecutive frames of which a goal consists, the last one the goal itself.
        paraphrases: other wordings of some instructions; each window draws one of them or the original.
        motions: for each cache the language motions at its frames; None hands out no motions.
        motion_ahead: frames by which the motion that is to be predicted lies after the newest one (0 for the present
            motion), see `batch`.
        corrections: how much frames count in which a person corrected.

    Attributes:
        in_order: share of a batch to be taken in the order of the data, see `EpochSampler`.
        motion_table: by which the motions are meant, None if there are none.
    """

    newest: tuple[int, float] | None = None

    def __init__(
        self,
        caches: Sequence[EpisodeCache],
        cameras: Sequence[str],
        state_names: Sequence[str],
        window: int = 1,
        horizon: int = 12,
        environment_state: Sequence[str] = (),
        pad_hold: bool = False,
        held: Sequence[str] = ("gripper",),
        hold_weight: float = 1.0,
        hold_tolerance: float = 1e-3,
        start_weight: float = 1.0,
        shares: Sequence[float] | None = None,
        goals: GoalRelabelling | None = None,
        goal_window: int = 1,
        paraphrases: Mapping[str, Sequence[str]] | None = None,
        motions: Sequence[MotionTrack] | None = None,
        motion_ahead: int = 0,
        corrections: CorrectionWeights = ALIKE,
    ) -> None:
        _check_arguments(caches, cameras, window, horizon, hold_weight, start_weight)
        self.cameras = tuple(cameras)
        self.state_names = tuple(state_names)
        self.action_names = caches[0].names.get(ACTION, ())
        self.environment_state_names = tuple(environment_state)
        self.window = window
        self.horizon = horizon
        self.fps = caches[0].fps
        self._pad_hold = pad_hold
        self._is_held = np.array([name in held for name in self.action_names])
        self._images = {name: [FrameReader(cache.images[name]) for cache in caches] for name in self.cameras}
        self._offsets = np.cumsum([0, *(len(cache) for cache in caches)])
        self._state = np.concatenate([cache.select(STATE, self.state_names) for cache in caches])
        self._actions = np.concatenate([cache.select(ACTION, self.action_names) for cache in caches])
        self._environment_state = (
            np.concatenate([cache.select(ENVIRONMENT_STATE, self.environment_state_names) for cache in caches])
            if environment_state
            else None
        )
        self._wordings = [(task, *(paraphrases or {}).get(task, ())) for cache in caches for task in cache.tasks]
        shifts = np.cumsum([0, *(len(cache.tasks) for cache in caches)])[:-1]
        self._task_index = np.concatenate([c.task_index + shift for c, shift in zip(caches, shifts, strict=True)])
        joined = list(zip(caches, self._offsets[:-1], strict=True))
        self.starts = np.concatenate([cache.starts + offset for cache, offset in joined])
        self.ends = np.concatenate([cache.ends + offset for cache, offset in joined])
        self._episode = np.repeat(np.arange(len(self.starts)), self.ends - self.starts)
        self._scene = number_scenes(caches)
        self._weight = np.where(self._holds(hold_tolerance), hold_weight, 1.0).astype(np.float32)
        since_start = np.arange(len(self._state)) - np.repeat(self.starts, self.ends - self.starts)
        self._weight[since_start < _START_SECONDS * self.fps] *= start_weight
        self._motions: list[str] | None = None
        self._corrected = np.zeros(len(self._state), bool)
        self._correction_share = corrections.share
        self.motion_ahead = motion_ahead
        self.motion_table: MotionTable | None = None
        if motions is not None:
            self._add_motions(motions, corrections)
        self._shares = None if shares is None else _normalised_shares(shares, caches)
        self._goals = goals
        self._goal_window = goal_window
        self._varies = goals is not None or any(len(wordings) > 1 for wordings in self._wordings)
        self._labelled = np.ones(len(self.starts), dtype=bool)
        self._labelled_share: float | None = None
        self._whole = False
        self.in_order = 0.0
        sampled = [np.ones(len(cache), dtype=bool) if cache.sampled is None else cache.sampled for cache in caches]
        self.frames = np.flatnonzero(np.concatenate(sampled))

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def weights(self) -> NDArray[np.float32]:
        """Sampling weight of each window, (len(self),)."""
        weights = np.ones(len(self), np.float32) if self._whole else self._weight[self.frames]
        if self._labelled_share is not None:
            weights = self._with_labelled_share(weights, self._labelled_share)
        if self._correction_share is not None:
            weights = _with_share(weights, self._corrected[self.frames], self._correction_share)
        if self._shares is None:
            return weights
        source = np.searchsorted(self._offsets, self.frames, side="right") - 1
        totals = np.bincount(source, weights, minlength=len(self._shares))
        if missing := np.flatnonzero((totals == 0) & (self._shares > 0)).tolist():
            raise TongsError(f"datasets number {missing} have a share of the samples, but no window to take it from")
        return (weights * (self._shares / np.maximum(totals, 1e-12))[source] * weights.sum()).astype(np.float32)

    @property
    def episodes(self) -> NDArray[np.int64]:
        """The episodes that these windows come from."""
        return np.unique(self._episode[self.frames])

    @property
    def instructions(self) -> tuple[str, ...]:
        """The distinct instructions that can occur in these windows, sorted."""
        told = self.frames[self._labelled[self._episode[self.frames]]]
        if self._whole:
            told = np.flatnonzero(np.isin(self._episode, self._episode[told]))
        used = np.unique(self._task_index[told])
        return tuple(sorted({wording for index in used for wording in self._wordings[index]}))

    def batch(self, indices: NDArray[np.integer] | Sequence[int], chances: NDArray[np.float64] | None = None) -> Batch:
        """Windows as arrays; B = len(indices).

        Args:
            indices: which windows.
            chances: uniform random numbers in [0, 1), (B, CHANCES); needed where goals or wordings are drawn.

        Returns:
            images {camera: uint8 (B, T, h, w, 3)}, state float32 (B, T, D), actions float32 (B, T-1+H, A),
            action_is_pad bool (B, T-1+H), instruction list of B (at the newest frame, empty without a label), labelled
            bool (B,), episode and dataset int64 (B,), environment_state float32 (B, E) at the newest frame if asked
            for, with motions motion and motion_ahead lists of B (at the newest frame, and so many frames later but
            within the episode; empty where none is known) and corrected bool (B,), whether a person chose the latter,
            and with goals goal_images {camera: uint8 (B, G, h, w, 3)}, goal_state float32 (B, G, D),
            initial_images {camera: uint8 (B, 1, h, w, 3)}, the episode's first frame, and goal_distance int64 (B,), in
            frames from the newest one to the last of the goal's. A goal that is nearer than G frames begins with the
            frame after the newest one, repeated.
        """
        if chances is None:
            if self._varies:
                raise TongsError("windows with goals or paraphrases need random numbers for each batch")
            chances = np.zeros((len(indices), CHANCES))
        newest = self.frames[np.asarray(indices)]  # (B,)
        episode = self._episode[newest]
        start, end = self.starts[episode], self.ends[episode]
        if self._whole:
            newest = start + np.floor(chances[:, 0] * (end - start)).astype(np.int64)
        labelled = self._labelled[episode]
        kept = labelled if self._goals is None else self._goals.keeps_language(labelled, chances[:, :2])
        history = newest[:, None] + np.arange(1 - self.window, 1)  # (B, T)
        history = np.maximum(history, start[:, None])
        actions, is_pad = self._action_windows(newest, start, end)
        batch: Batch = {
            "images": {name: self._gather(self._images[name], history) for name in self.cameras},
            "state": self._state[history],
            "actions": actions,
            "action_is_pad": is_pad,
            "instruction": [
                words if told else "" for words, told in zip(self._worded(newest, chances[:, 2]), kept, strict=True)
            ],
            "labelled": kept,
            "episode": episode,
            "dataset": np.searchsorted(self._offsets, newest, side="right") - 1,
        }
        if self._environment_state is not None:
            batch["environment_state"] = self._environment_state[newest]
        if self._motions is not None:
            later = np.minimum(newest + self.motion_ahead, end - 1)
            batch["motion"] = [self._motions[frame] for frame in newest]
            batch["motion_ahead"] = [self._motions[frame] for frame in later]
            batch["corrected"] = self._corrected[newest]
        if self._goals is not None:
            goal = self._goals.frames(newest, end - 1, chances[:, :2], labelled)
            shown = goal[:, None] + np.arange(1 - self._goal_window, 1)  # (B, G)
            shown = np.maximum(shown, np.minimum(newest + 1, goal)[:, None])
            batch["goal_images"] = {name: self._gather(self._images[name], shown) for name in self.cameras}
            batch["initial_images"] = {name: self._gather(self._images[name], start[:, None]) for name in self.cameras}
            batch["goal_state"] = self._state[shown]
            batch["goal_distance"] = goal - newest
        return batch

    def chunks(self, indices: NDArray[np.integer] | Sequence[int]) -> NDArray[np.float32]:
        """The actions alone of some windows, (B, T-1+H, A)."""
        newest = self.frames[np.asarray(indices)]
        episode = self._episode[newest]
        return self._action_windows(newest, self.starts[episode], self.ends[episode])[0]

    def split(self, fraction: float, generator: np.random.Generator) -> tuple[Windows, Windows]:
        """Training and held-out windows; about `fraction` of the episodes (at least one, not all) is held out.

        Episodes of one scene stay together, or the held-out loss would be that of scenes seen in training.
        """
        scenes, sizes = np.unique(self._scene[self.episodes], return_counts=True)
        if not 0 < fraction < 1 or len(scenes) < 2:
            raise TongsError(
                f"cannot hold out a fraction {fraction} of {len(self.episodes)} episodes in {len(scenes)} scenes"
            )
        order = generator.permutation(len(scenes))
        wanted = max(round(fraction * len(self.episodes)), 1)
        count = min(int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1, len(scenes) - 1)
        is_held_out = np.isin(self._scene[self._episode[self.frames]], scenes[order[:count]])
        return self._with_frames(self.frames[~is_held_out]), self._with_frames(self.frames[is_held_out])

    def with_labels(self, fraction: float, share: float | None = None, seed: int = 0) -> Windows:
        """The same windows with instructions on a part of the episodes only.

        A smaller part lies inside a larger one of the same seed and episodes.

        Args:
            fraction: of these windows' episodes, at least one of them unless it is 0.
            share: of the samples that come from episodes with an instruction; None for as many as there are, 1 to
                leave out the others.
            seed: of which episodes are chosen.
        """
        for name, value in (("fraction", fraction), ("share", share)):
            if value is not None and not 0 <= value <= 1:
                raise TongsError(f"labelled.{name} must lie in 0..1, got {value}")
        episodes = self.episodes
        count = max(round(fraction * len(episodes)), int(fraction > 0))
        if not count and share:
            raise TongsError(f"labelled.share={share} needs episodes with instructions, and labelled.fraction is 0")
        chosen = np.random.default_rng(seed).permutation(episodes)[:count]
        part = self._with_frames(self.frames)
        part._labelled = np.zeros(len(self.starts), dtype=bool)
        part._labelled[chosen] = self._labelled[chosen]
        part._labelled_share = None if count == len(episodes) else share
        return part

    def trajectories(self, in_order: float = 0.0) -> Windows:
        """One window for each episode that has an instruction, for learning what whole episodes are about.

        Its observation and wording are those of a random frame, its goal is the last one; `in_order` as in
        `EpochSampler`.

        Raises:
            TongsError: no episode has an instruction.
        """
        episodes = self.episodes[self._labelled[self.episodes]]
        if not len(episodes):
            raise TongsError("no episode has an instruction; give labelled.fraction a value above 0")
        part = self._with_frames(self.starts[episodes])
        part._goals = GoalRelabelling(last=1.0)
        part._varies = part._whole = True
        part._labelled_share = None
        part.in_order = in_order
        return part

    def statistics(self) -> dict[str, Statistics]:
        """Exact statistics of state, action and environment state over these windows' frames, LeRobot's keys."""
        columns = {STATE: self._state, ACTION: self._actions, ENVIRONMENT_STATE: self._environment_state}
        return {key: column_statistics(values[self.frames]) for key, values in columns.items() if values is not None}

    def _with_labelled_share(self, weights: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        """Weights whose labelled part has this share of the sum."""
        return _with_share(weights, self._labelled[self._episode[self.frames]], share)

    def _add_motions(self, tracks: Sequence[MotionTrack], corrections: CorrectionWeights) -> None:
        """Take in what is said at the frames of every cache, and weigh what was corrected."""
        self._motions = [motion for track in tracks for motion in track.motions]
        if len(self._motions) != len(self._state):
            raise TongsError(f"there are {len(self._motions)} motions for {len(self._state)} frames")
        tables = [track.table for track in tracks if track.table is not None]
        if any(table != tables[0] for table in tables):
            raise TongsError("datasets are labelled by different tables of motions; label them by one")
        self.motion_table = tables[0] if tables else None
        later = np.minimum(np.arange(len(self._state)) + self.motion_ahead, self.ends[self._episode] - 1)
        self._corrected = np.concatenate([track.corrected for track in tracks])[later]
        source = np.searchsorted(self._offsets, np.arange(len(self._state)), side="right") - 1
        beside = np.array([bool(track.corrected.any()) for track in tracks])[source] & ~self._corrected
        self._weight[self._corrected] *= corrections.weight
        self._weight[beside] *= corrections.uncorrected

    @property
    def motions(self) -> tuple[str, ...]:
        """The distinct motions of these windows, the most frequent first."""
        said = Counter(self._motions[frame] for frame in self.frames) if self._motions is not None else Counter()
        return tuple(motion for motion, _ in sorted(said.items(), key=lambda item: (-item[1], item[0])) if motion)

    def _with_frames(self, frames: NDArray[np.int64]) -> Windows:
        part = copy(self)
        part.frames = frames
        return part

    def _action_windows(
        self, newest: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        frame = newest[:, None] + np.arange(1 - self.window, self.horizon)  # (B, T-1+H)
        before, after = frame < start[:, None], frame >= end[:, None]
        actions = self._actions[np.clip(frame, start[:, None], end[:, None] - 1)]  # (B, T-1+H, A)
        if not self._pad_hold:
            return actions, before | after
        actions[after[..., None] & ~self._is_held] = 0.0
        return actions, before

    def _worded(self, frames: NDArray[np.int64], chance: NDArray[np.float64]) -> list[str]:
        """One of the wordings of each frame's instruction, all equally likely."""
        wordings = [self._wordings[index] for index in self._task_index[frames]]
        return [options[int(place * len(options))] for options, place in zip(wordings, chance, strict=True)]

    def _gather(self, parts: Sequence[FrameReader], frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        pictures = np.empty((*frames.shape, *parts[0].shape), dtype=np.uint8)
        source = np.searchsorted(self._offsets, frames, side="right") - 1
        for number, part in enumerate(parts):
            here = source == number
            pictures[here] = part.read(frames[here] - self._offsets[number])
        return pictures

    def _holds(self, tolerance: float) -> NDArray[np.bool_]:
        """Which frames belong to a final hold: from there on no entry changes and those in `held` keep their value."""
        changes = (np.abs(self._actions) > tolerance) & ~self._is_held
        last = self._actions[self.ends[self._episode] - 1]
        changes |= (np.abs(self._actions - last) > tolerance) & self._is_held
        moving = np.where(changes.any(axis=1), np.arange(len(changes)), -1)
        last_moving = np.maximum.reduceat(moving, self.starts)  # (E,)
        return np.arange(len(changes)) > last_moving[self._episode]


def _with_share(weights: NDArray[np.float32], part: NDArray[np.bool_], share: float) -> NDArray[np.float32]:
    """Weights of which a part has this share of the sum."""
    ours, theirs = float(weights[part].sum()), float(weights[~part].sum())
    factor = np.where(part, share / max(ours, 1e-12), (1 - share) / max(theirs, 1e-12))
    return (weights * factor * weights.sum()).astype(np.float32)


def number_scenes(caches: Sequence[EpisodeCache]) -> NDArray[np.int64]:
    """A number (E,) for each episode that is the same for those of one scene; every other one has its own."""
    numbers: list[NDArray[np.int64]] = []
    for cache in caches:
        groups = cache.scenes if cache.together is None else cache.together
        own = np.arange(len(cache.starts)) if groups is None else np.unique(groups, return_inverse=True)[1]
        numbers.append(own + sum(int(part.max()) + 1 for part in numbers))
    return np.concatenate(numbers)


def _normalised_shares(shares: Sequence[float], caches: Sequence[EpisodeCache]) -> NDArray[np.float64]:
    values = np.asarray(shares, dtype=np.float64)
    if len(values) != len(caches) or not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise TongsError(
            f"shares of the samples must be {len(caches)} numbers, one per dataset, at least zero and not all zero; "
            f"got {list(shares)}"
        )
    return values / values.sum()


def _check_arguments(
    caches: Sequence[EpisodeCache],
    cameras: Sequence[str],
    window: int,
    horizon: int,
    hold_weight: float,
    start_weight: float,
) -> None:
    if not caches:
        raise TongsError("windows need at least one dataset, got none")
    if window < 1 or horizon < 1:
        raise TongsError(f"window and horizon must be at least 1, got {window} and {horizon}")
    if not 0 <= hold_weight <= 1:
        raise TongsError(f"hold_weight must lie in 0..1, got {hold_weight}")
    if not 1 <= start_weight < float("inf"):
        raise TongsError(f"start_weight must be at least 1, got {start_weight}")
    first = caches[0]
    for cache in caches:
        if absent := [name for name in cameras if name not in cache.images]:
            raise TongsError(f"dataset has no camera {', '.join(absent)}; it has: {', '.join(cache.images)}")
        if cache.fps != first.fps:
            raise TongsError(f"datasets differ in frame rate: {first.fps} and {cache.fps} frames/s")
        if cache.names.get(ACTION) != first.names.get(ACTION) or ACTION not in cache.names:
            raise TongsError(f"datasets differ in actions: {first.names.get(ACTION)} and {cache.names.get(ACTION)}")
        if any(cache.images[name].shape[1:] != first.images[name].shape[1:] for name in cameras):
            raise TongsError("datasets differ in the size of a camera; open all caches with the same sizes")
