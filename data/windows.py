"""Training windows cut from cached episodes: a history of observations and the action chunk that follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import EpisodeCache
from data.features import ACTION, ENVIRONMENT_STATE, STATE
from data.frames import FrameReader
from data.statistics import Statistics, column_statistics
from robot.errors import TongsError

Batch = dict[str, Any]


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
        hold_tolerance: an action whose changes are all at most this (m, rad) is part of the hold.
    """

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
    ) -> None:
        _check_arguments(caches, cameras, window, horizon, hold_weight)
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
        self._instructions = np.array([task for cache in caches for task in cache.tasks], dtype=object)
        shifts = np.cumsum([0, *(len(cache.tasks) for cache in caches)])[:-1]
        self._task_index = np.concatenate([c.task_index + shift for c, shift in zip(caches, shifts, strict=True)])
        joined = list(zip(caches, self._offsets[:-1], strict=True))
        self.starts = np.concatenate([cache.starts + offset for cache, offset in joined])
        self.ends = np.concatenate([cache.ends + offset for cache, offset in joined])
        self._episode = np.repeat(np.arange(len(self.starts)), self.ends - self.starts)
        self._scene = _number_scenes(caches)
        self._weight = np.where(self._holds(hold_tolerance), hold_weight, 1.0).astype(np.float32)
        self.frames = np.arange(len(self._state))

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def weights(self) -> NDArray[np.float32]:
        """Sampling weight of each window, (len(self),)."""
        return self._weight[self.frames]

    @property
    def episodes(self) -> NDArray[np.int64]:
        """The episodes that these windows come from."""
        return np.unique(self._episode[self.frames])

    @property
    def instructions(self) -> tuple[str, ...]:
        """The distinct instructions that occur in these windows, sorted."""
        return tuple(sorted(set(self._instructions[np.unique(self._task_index[self.frames])])))

    def batch(self, indices: NDArray[np.integer] | Sequence[int]) -> Batch:
        """Windows as arrays; B = len(indices).

        Returns:
            images {camera: uint8 (B, T, h, w, 3)}, state float32 (B, T, D), actions float32 (B, T-1+H, A),
            action_is_pad bool (B, T-1+H), instruction list of B (at the newest frame), and environment_state float32
            (B, E) at the newest frame if asked for.
        """
        newest = self.frames[np.asarray(indices)]  # (B,)
        start, end = self.starts[self._episode[newest]], self.ends[self._episode[newest]]
        history = newest[:, None] + np.arange(1 - self.window, 1)  # (B, T)
        history = np.maximum(history, start[:, None])
        actions, is_pad = self._action_windows(newest, start, end)
        batch: Batch = {
            "images": {name: self._gather(self._images[name], history) for name in self.cameras},
            "state": self._state[history],
            "actions": actions,
            "action_is_pad": is_pad,
            "instruction": list(self._instructions[self._task_index[newest]]),
        }
        if self._environment_state is not None:
            batch["environment_state"] = self._environment_state[newest]
        return batch

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

    def statistics(self) -> dict[str, Statistics]:
        """Exact statistics of state, action and environment state over these windows' frames, LeRobot's keys."""
        columns = {STATE: self._state, ACTION: self._actions, ENVIRONMENT_STATE: self._environment_state}
        return {key: column_statistics(values[self.frames]) for key, values in columns.items() if values is not None}

    def _with_frames(self, frames: NDArray[np.int64]) -> Windows:
        part = object.__new__(Windows)
        part.__dict__.update(self.__dict__)
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


def _number_scenes(caches: Sequence[EpisodeCache]) -> NDArray[np.int64]:
    """A number (E,) for each episode that is the same for those of one scene; every other one has its own."""
    numbers: list[NDArray[np.int64]] = []
    for cache in caches:
        own = np.arange(len(cache.starts)) if cache.scenes is None else np.unique(cache.scenes, return_inverse=True)[1]
        numbers.append(own + sum(int(part.max()) + 1 for part in numbers))
    return np.concatenate(numbers)


def _check_arguments(
    caches: Sequence[EpisodeCache], cameras: Sequence[str], window: int, horizon: int, hold_weight: float
) -> None:
    if not caches:
        raise TongsError("windows need at least one dataset, got none")
    if window < 1 or horizon < 1:
        raise TongsError(f"window and horizon must be at least 1, got {window} and {horizon}")
    if not 0 <= hold_weight <= 1:
        raise TongsError(f"hold_weight must lie in 0..1, got {hold_weight}")
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
