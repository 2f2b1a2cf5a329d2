"""One coordinate of a command that never breaks its limits: range, speed, acceleration and jerk, and can always stop.

Commands go out at a fixed rate, so speed, acceleration and jerk are the first, second and third differences of the
commanded position, which is all that a robot gets to see. Inside this file they are per period: d_k = p_k - p_(k-1),
e_k = d_k - d_(k-1), f_k = e_k - e_(k-1), with |d| <= V, |e| <= A, |f| <= J.

Safety is by induction. A step is taken only if a stop that obeys all limits is known from where it leads; otherwise the
axis takes the next step of the stop that it knows already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, sqrt

from robot.limits import Rates

_ROUNDING = 1e-12
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Motion:
    """One period of an axis, and where it can go from there until it stands still.

    Attributes:
        position, velocity, acceleration: p, d, e afterwards.
        low, high: the positions that its end and the stop after it stay between.
        fastest: the largest |d| until then.
        stop: the e of the stop that is left, None for the one that `stopping` gives.
    """

    position: float
    velocity: float
    acceleration: float
    low: float
    high: float
    fastest: float
    stop: tuple[float, ...] | None = None


class Axis:
    """A commanded coordinate and its limits.

    Args:
        rates: speed, acceleration and jerk, per s, s^2, s^3.
        period: s between two commands.
        low, high: range. An axis that begins outside may only come nearer.
    """

    def __init__(self, rates: Rates, period: float, low: float = -inf, high: float = inf) -> None:
        self.speed = rates.speed * period
        self.hardest = min(rates.acceleration * period**2, 2 * self.speed)
        self.jerk = min(rates.jerk * period**3, 2 * self.hardest)
        self.low, self.high = low, high
        self._released = max(self.jerk - self.hardest, 0.0)  # |e| from which braking at full may begin at once
        self._losses = _speed_losses(self.hardest, self.jerk, 2 * self.speed)
        self.reset(0.0)

    def reset(self, position: float) -> None:
        """Stand still there."""
        self.commit(Motion(position, 0.0, 0.0, position, position, 0.0))

    def commit(self, motion: Motion) -> None:
        """Take a step that `towards` or `brake` gave."""
        self.position, self.velocity, self.acceleration = motion.position, motion.velocity, motion.acceleration
        self._stop = motion.stop

    def shift(self, offset: float) -> None:
        """Count positions from elsewhere."""
        self.position += offset

    @property
    def resting(self) -> bool:
        return self.velocity == 0.0 and self.acceleration == 0.0

    def pursuit(self, lead: float, lag: float) -> float:
        """The velocity with which to follow a target that moves by `lead` a period and is now `lag` away: as fast as
        the limits allow, and in time to arrive with the target's own velocity."""
        if lag == 0.0:
            return lead
        least, most = self._accelerations()
        if lag < 0:
            least, most = most, least  # towards the target is down
        relative, far = self.velocity - lead, abs(lag)
        side = 1.0 if lag > 0 else -1.0

        def beyond(e: float) -> bool:
            return side * (relative + e + self._way_to_rest(relative + e, e)) > far + _ROUNDING

        fast = min(side * most, side * (lag - relative)) * side
        if side * fast <= side * least or not beyond(fast):
            return self.velocity + max(side * fast, side * least) * side
        slow = least
        for _ in range(_TRIES):
            middle = (slow + fast) / 2
            slow, fast = (slow, middle) if beyond(middle) else (middle, fast)
        return self.velocity + slow

    def _accelerations(self) -> tuple[float, float]:
        """The least and the most e of the next period, by acceleration, jerk and speed."""
        e, d = self.acceleration, self.velocity
        least = max(e - self.jerk, -self.hardest, -_strongest(self.speed + d, self.jerk))
        most = min(e + self.jerk, self.hardest, _strongest(self.speed - d, self.jerk))
        return least, most

    def towards(self, velocity: float) -> Motion:
        """The step with the velocity nearest to a wanted one (per period) from which a stop within the limits is
        known."""
        least, most = self._accelerations()
        wanted = min(max(velocity - self.velocity, least), most)
        best = self._step(wanted)
        if self._inside(best):
            return best
        best = self.brake()
        safe, unsafe = best.acceleration, wanted
        for _ in range(_TRIES):
            middle = (safe + unsafe) / 2
            tried = self._step(middle)
            if self._inside(tried):
                best, safe = tried, middle
            else:
                unsafe = middle
        return best

    def brake(self) -> Motion:
        """The next step of the stop that is known."""
        rest = self._stop if self._stop is not None else tuple(self.stopping())
        if not rest:
            return Motion(self.position, 0.0, 0.0, self.position, self.position, 0.0, ())
        e, after = rest[0], rest[1:]
        d = self.velocity + e if after else 0.0
        p = low = high = self.position + d
        fastest = abs(d)
        velocity, position = d, p
        for following in after:
            velocity += following
            position += velocity
            low, high, fastest = min(low, position), max(high, position), max(fastest, abs(velocity))
        return Motion(p, d, e if after else 0.0, low, high, fastest, after)

    def stopping(self) -> Iterator[float]:
        """The accelerations of a stop from here, one a period, until the axis stands still.

        First the acceleration is taken back as fast as the jerk allows; then the speed is lost along a trapezoid of
        accelerations w_i = min(i J, (K + 1 - i) J, A), i = 1..K, K the smallest with sum(w) >= |d|, scaled to lose
        exactly |d|.
        """
        e, d = self.acceleration, self.velocity
        while abs(e) > self._released:
            e = _released(e, self.jerk)
            d += e
            yield e
        if d == 0.0:
            if e != 0.0:
                yield 0.0
            return
        count = bisect_left(self._losses, abs(d)) + 1
        scale = -d / self._losses[count - 1]
        for i in range(1, count + 1):
            yield scale * min(i * self.jerk, (count + 1 - i) * self.jerk, self.hardest)
        yield 0.0

    def _step(self, e: float) -> Motion:
        """A period with this acceleration, with the reach of `stopping` from there (in closed form)."""
        d = self.velocity + e
        position = p = low = high = self.position + d
        rest, velocity, fastest = e, d, abs(d)
        while abs(rest) > self._released:
            rest = _released(rest, self.jerk)
            velocity += rest
            position += velocity
            low, high, fastest = min(low, position), max(high, position), max(fastest, abs(velocity))
        count = bisect_left(self._losses, abs(velocity)) + 1
        position += velocity * (count - 1) / 2  # the trapezoid is symmetric
        return Motion(p, d, e, min(low, position), max(high, position), fastest)

    def _way_to_rest(self, velocity: float, e: float) -> float:
        """How far `stopping` goes from a velocity and acceleration, in closed form."""
        way = 0.0
        while abs(e) > self._released:
            e = _released(e, self.jerk)
            velocity += e
            way += velocity
        return way + velocity * bisect_left(self._losses, min(abs(velocity), self._losses[-1])) / 2

    def _inside(self, motion: Motion) -> bool:
        low, high = min(self.low, self.position), max(self.high, self.position)
        return motion.low >= low - _ROUNDING and motion.high <= high + _ROUNDING


def _released(e: float, jerk: float) -> float:
    return max(e - jerk, 0.0) if e > 0 else min(e + jerk, 0.0)


def _strongest(room: float, jerk: float) -> float:
    """The largest e that can be taken back, e + (e - J) + (e - 2 J) + ..., within `room` of additional speed."""
    if room <= jerk:
        return max(room, 0.0)
    full = int((sqrt(1 + 8 * room / jerk) - 1) / 2)
    return (room + jerk * full * (full + 1) / 2) / (full + 1)


def _speed_losses(hardest: float, jerk: float, upto: float) -> list[float]:
    """How much speed the trapezoids of 1, 2, ... periods lose, until one loses `upto`."""
    losses: list[float] = []
    while not losses or losses[-1] < upto:
        count = len(losses) + 1
        losses.append(sum(min(i * jerk, (count + 1 - i) * jerk, hardest) for i in range(1, count + 1)))
        if count > 10_000:
            raise ValueError("the period is too short for such small accelerations")
    return losses
