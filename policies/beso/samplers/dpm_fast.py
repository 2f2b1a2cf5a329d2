"""DPM-Solver-fast: a fixed number of network calls spent on steps of order three."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from policies.beso.samplers.base import Denoiser, split_levels
from policies.beso.samplers.dpm_solver import DpmSolver
from policies.randomness import Randomness


def dpm_fast(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """As many calls as there are steps, in steps of order 3, the last ones 2 and 1 (DPM-Solver, section 3.4).

    Only the ends and the number of `sigmas` matter: its own levels are equal steps of ln(sigma). Deterministic.
    """
    highest, lowest, calls = split_levels(sigmas)
    if calls:
        x = _steps(DpmSolver(denoise), x, -math.log(highest), -math.log(lowest), calls)
    return denoise(x, lowest) if sigmas[-1] == 0 else x


def _steps(solver: DpmSolver, x: Tensor, start: float, end: float, calls: int) -> Tensor:
    full, rest = divmod(calls, 3)
    orders = [3] * full + [rest] if rest else [3] * (full - 1) + [2, 1]
    times = np.linspace(start, end, len(orders) + 1).tolist()
    for order, t, following in zip(orders, times[:-1], times[1:], strict=True):
        step = (solver.first, solver.second, solver.third)[order - 1]
        x = step(x, t, following, solver.noise(x, t))
    return x
