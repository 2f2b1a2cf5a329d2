"""A scripted pusher that knows the true state and has many equally good ways of doing the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.interface import PLANAR_DELTA, ActionChunk, Observation, PolicySpec
from sim.block_push.scene import HALF_BLOCK, PUSHER_RADIUS, SQUARES
from sim.block_push.world import STATE_NAMES, PushWorld

CLEAR = HALF_BLOCK * 2**0.5 + PUSHER_RADIUS + 0.015
"""Distance (m) from a block's centre at which the pusher passes it."""
PUSH_STEP, TRAVEL_STEP = 0.012, 0.025
DEEP = 0.01
"""A block is pushed until its centre is this near to the middle of its square (m)."""


@dataclass(frozen=True)
class Mode:
    """One of the ways: which block first, which square it goes to (the other block gets the other), and on which side
    the pusher passes a block that is in its way (+1 left, -1 right)."""

    first: int
    square: int
    side: int

    @property
    def wanted(self) -> tuple[int, int]:
        """The square of each block."""
        return (self.square, 1 - self.square) if self.first == 0 else (1 - self.square, self.square)


MODES = tuple(Mode(first, square, side) for first in (0, 1) for square in (0, 1) for side in (1, -1))


class PushExpert:
    """A policy that pushes in a given mode.

    It goes behind a block, on a circle around it on the side of its mode, and pushes towards the square; when it has
    slipped off the line through block and square it goes behind the block again.

    Args:
        world: whose true state it reads.
        mode: its way of doing it.
        noise: standard deviation (m) added to every action, so that demonstrations show how to recover.
    """

    def __init__(self, world: PushWorld, mode: Mode, noise: float = 0.002) -> None:
        self.mode = mode
        self._world = world
        self._noise = noise
        self.reset(0)

    @property
    def spec(self) -> PolicySpec:
        return PolicySpec({}, STATE_NAMES, PLANAR_DELTA, 1, goals=())

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._pushing = False

    def act(self, observation: Observation) -> ActionChunk:
        action = self.direction() + self._noise * self._rng.standard_normal(2)
        return ActionChunk(PLANAR_DELTA.clip(action)[None], np.array([observation.time]))

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]

    @property
    def done(self) -> bool:
        """Whether both blocks lie well inside their squares."""
        return all(self._remaining(block) <= DEEP for block in (0, 1))

    def _remaining(self, block: int) -> float:
        return float(np.linalg.norm(np.array(SQUARES[self.mode.wanted[block]]) - self._world.blocks()[block]))

    def direction(self) -> NDArray[np.float64]:
        """The noiseless action (2,), in m."""
        order = (self.mode.first, 1 - self.mode.first)
        block = next((one for one in order if self._remaining(one) > DEEP), None)
        if block is None:
            return np.zeros(2)
        place, pusher = self._world.blocks()[block], self._world.pusher()
        towards = np.array(SQUARES[self.mode.wanted[block]]) - place
        towards /= np.linalg.norm(towards)
        offset = pusher - place
        along, aside = float(offset @ towards), float(offset @ np.array([-towards[1], towards[0]]))
        self._pushing = along < -0.5 * PUSHER_RADIUS and abs(aside) < (0.012 if self._pushing else 0.004)
        if self._pushing:  # steer to the side the pusher is on, so that it comes back to the line
            step = PUSH_STEP * towards + 0.4 * (-aside) * np.array([-towards[1], towards[0]])
            ahead = min(1.0, self._remaining(block) / 0.03)
            return step * max(ahead, 0.4)
        return self._travel(place - CLEAR * towards, pusher)

    def _travel(self, target: NDArray[np.float64], pusher: NDArray[np.float64]) -> NDArray[np.float64]:
        """A step towards the target, along the circle around a block that is in the way."""
        way = target - pusher
        distance = float(np.linalg.norm(way))
        if distance < 1e-6:
            return np.zeros(2)
        step = way / distance * min(TRAVEL_STEP, distance)
        for place in self._world.blocks():
            offset = pusher - place
            gap = float(np.linalg.norm(offset))
            nearest = float(np.clip(-(offset @ way) / distance**2, 0.0, 1.0))
            passes = float(np.linalg.norm(offset + nearest * way))
            if gap > CLEAR + TRAVEL_STEP or passes >= CLEAR - 0.004:
                continue
            outward = offset / max(gap, 1e-6)
            around = self.mode.side * np.array([outward[1], -outward[0]])
            return TRAVEL_STEP * around + np.clip(CLEAR + 0.003 - gap, -0.01, 0.01) * outward
        return step
