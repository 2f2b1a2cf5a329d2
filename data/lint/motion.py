"""Checks of how actions and proprioception belong together: delay, and which way the gripper runs."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data.lint.recording import Finding, Recording

LONGEST_LAG = 1.0
"""Seconds, in both directions, in which an answer to an action is looked for."""
CLEAR = 0.5
"""A correlation above this says that a state entry answers an action entry."""
BY_CHANCE = 4.0
"""Over N frames, a correlation below this / sqrt(N) may be chance: many entries and delays are tried."""
BETTER = 0.15
"""A delay is reported if it explains this much more correlation than none."""
LATE = 0.5
"""An arm that answers after more seconds than this is reported."""


def lag(recording: Recording) -> Iterator[Finding]:
    """Each action entry against the state entry, or its change, that answers it best."""
    if not recording.action.shape[1] or not recording.state.shape[1]:
        return
    longest = round(LONGEST_LAG * recording.fps)
    lags = np.arange(-longest, longest + 1)
    correlation = np.abs(np.stack([_correlation(recording, int(steps)) for steps in lags]))  # (L, A, 2 D)
    names = [*recording.state_names, *(f"the change of {name}" for name in recording.state_names)]
    prompt = (lags >= 0) & (lags <= max(1, round(LATE * recording.fps)))
    for number, action in enumerate(recording.action_names):
        best, answer = np.unravel_index(correlation[:, number].argmax(), correlation[:, number].shape)
        found, steps = correlation[best, number, answer], int(lags[best])
        if found < _clear(len(recording.action)) or found < correlation[prompt, number, answer].max() + BETTER:
            continue
        if steps < 0:
            late = f"action {action} comes {-steps / recording.fps:.2g} s after what {names[answer]} does"
            yield Finding("lag", f"{late}; a policy learns to repeat what has just happened", serious=True)
        else:
            yield Finding("lag", f"{names[answer]} answers action {action} after {steps / recording.fps:.2g} s")


def gripper(recording: Recording) -> Iterator[Finding]:
    """Does the measured opening follow the command, or run against it?"""
    pair = [_gripper_entry(names) for names in (recording.action_names, recording.state_names)]
    if None in pair:
        return
    command, opening = recording.action[:, pair[0]], recording.state[:, pair[1]]  # type: ignore[index]
    signs = {episode: _polarity(command[span], opening[span], recording.fps) for episode, span in recording.spans}
    usual = np.sign(sum(signs.values()))
    names = f"action {recording.action_names[pair[0]]} and state {recording.state_names[pair[1]]}"  # type: ignore[index]
    if usual < 0:
        yield Finding("gripper", f"{names} run against each other: one of them counts closed as 1", serious=True)
    if other := tuple(episode for episode, sign in signs.items() if sign * usual < 0):
        yield Finding("gripper", f"{names} have the opposite polarity of the other episodes", other, serious=True)


def _gripper_entry(names: tuple[str, ...]) -> int | None:
    entries = [number for number, name in enumerate(names) if "gripper" in name and "command" not in name]
    return entries[0] if len(entries) == 1 else None


def _polarity(command: NDArray[np.float64], opening: NDArray[np.float64], fps: int) -> int:
    """1 if the opening follows the command within a second, -1 if it runs against it, 0 if neither is clear."""
    along = against = 0.0
    for steps in range(min(fps, len(command) - 2)):
        first, second = command[: len(command) - steps], opening[steps:]
        if np.ptp(first) > 0 and np.ptp(second) > 0:
            value = float(np.corrcoef(first, second)[0, 1])
            along, against = max(along, value), max(against, -value)
    if max(along, against) < _clear(len(command)) or min(along, against) > CLEAR / 2:
        return 0
    return 1 if along > against else -1


def _clear(frames: int) -> float:
    return max(CLEAR, BY_CHANCE / math.sqrt(frames))


def _correlation(recording: Recording, steps: int) -> NDArray[np.float64]:
    """Correlation (A, 2 D) of actions with the state, and with its change, `steps` frames later in the episode."""
    actions, answers = [], []
    for _, span in recording.spans:
        action, state = recording.action[span], recording.state[span]
        change = np.diff(state, axis=0, append=state[-1:])
        first, last = max(0, -steps), len(action) - max(0, steps)
        if last - first > 2:
            actions.append(action[first:last])
            answers.append(np.concatenate([state, change], axis=1)[first + steps : last + steps])
    if not actions:
        return np.zeros((recording.action.shape[1], 2 * recording.state.shape[1]))
    first, second = (_standardised(np.concatenate(parts)) for parts in (actions, answers))
    return first.T @ second / len(first)


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean(axis=0)
    return np.divide(centred, centred.std(axis=0), out=np.zeros_like(centred), where=centred.std(axis=0) > 1e-9)
