"""Real time stamps of sensors and actions beside the regular grid, and what they say about the achieved rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.features import ACTION, IMAGES, STATE, Feature, vector
from robot.errors import TongsError

MEASURED = "measured_timestamp"
"""Column of real time stamps, float64 (N, S), one entry per sensor and one for the action, in seconds since `start` of
the episode. The name begins neither with `observation` nor with `action`, for LeRobot takes every such column for an
input or an output of the policy."""


@dataclass(frozen=True)
class Timing:
    """How regularly an episode was recorded.

    Attributes:
        start: the robot's clock (s) at which the column's zero lies: the earliest stamp of the first frame.
        rates: achieved rate per entry of the column, Hz: the slope of the line fitted to its stamps. NaN for one frame.
        jitters: root mean square distance of its stamps from that line, s.
    """

    start: float
    rates: tuple[float, ...]
    jitters: tuple[float, ...]

    def to_row(self) -> dict[str, Any]:
        """Columns of the episode's metadata."""
        return {"timing/start": self.start, "timing/rate": list(self.rates), "timing/jitter": list(self.jitters)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Timing | None:
        """What `to_row` wrote; None if the row has none of it."""
        if row.get("timing/start") is None:
            return None
        return cls(float(row["timing/start"]), tuple(row["timing/rate"]), tuple(row["timing/jitter"]))


@dataclass(frozen=True)
class TimingLimits:
    """How far an episode may be from what it declares.

    Attributes:
        rate: largest relative difference of the achieved from the declared rate; 0.05 is 5 %.
        jitter: largest jitter in frame periods.
    """

    rate: float = 0.05
    jitter: float = 1.0


LIMITS = TimingLimits()


def measured_times(features: Mapping[str, Feature]) -> Feature:
    """The column `MEASURED` for these features: an entry for each camera, for the state and for the action."""
    return vector([key for key in features if key.startswith(IMAGES) or key in (STATE, ACTION)], "float64")


def measure(times: NDArray[np.float64]) -> Timing:
    """Rates and jitters of stamps (N, S) on the robot's clock, s."""
    start = float(times[0].min())
    if len(times) == 1:
        return Timing(start, (float("nan"),) * times.shape[1], (0.0,) * times.shape[1])
    frame = np.arange(len(times)) - (len(times) - 1) / 2
    relative = times - start
    centred = relative - relative.mean(axis=0)
    period = frame @ centred / (frame @ frame)  # least squares: s per frame, (S,)
    residual = centred - frame[:, None] * period
    with np.errstate(divide="ignore"):
        rates = 1 / period
    return Timing(start, tuple(rates.tolist()), tuple(np.sqrt((residual**2).mean(axis=0)).tolist()))


def check_times(times: NDArray[np.float64], names: Sequence[str], fps: int, limits: TimingLimits) -> Timing:
    """Measure stamps (N, S) on the robot's clock and refuse what would be replayed at another speed.

    Raises TongsError, naming entry, achieved rate, declared rate and jitter, if a clock runs backwards or a limit is
    exceeded.
    """
    backwards = np.argwhere(np.diff(times, axis=0) < 0)
    if len(backwards):
        frame, entry = (int(number) for number in backwards[0])
        raise TongsError(
            f"the time stamps of {names[entry]} run backwards at frame {frame + 1}: {times[frame + 1, entry]:.6f} s "
            f"after {times[frame, entry]:.6f} s"
        )
    timing = measure(times)
    for name, rate, jitter in zip(names, timing.rates, timing.jitters, strict=True):
        if abs(rate - fps) > limits.rate * fps or jitter * fps > limits.jitter:
            raise TongsError(
                f"{name} was recorded at {rate:.2f} Hz with a jitter of {1e3 * jitter:.1f} ms, but the dataset "
                f"declares {fps} Hz; at most {100 * limits.rate:g} % and {1e3 * limits.jitter / fps:.1f} ms are "
                f"accepted, so resample the episode or declare the rate that is reached"
            )
    return timing
