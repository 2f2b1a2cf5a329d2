"""DPM-Solver with steps as long as a tolerance allows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from policies.beso.samplers.base import Denoiser, split_levels
from policies.beso.samplers.dpm_solver import DpmSolver
from policies.randomness import Randomness

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 0.05, 0.0078
"""Of DPM-Solver, appendix C, for data in [-1, 1]: 0.0078 is one step of an 8-bit colour."""
FIRST_STEP = 0.05
SAFETY = 0.81
"""A step is taken if the controller would at most shrink it to this share."""
SHORTEST = 1e-5
"""Of a step in ln(sigma): the end has been reached."""


def dpm_adaptive(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """Steps of order three, their length set by the difference to order two (DPM-Solver, algorithm 8). Deterministic.

    Only the ends of `sigmas` matter; the number of calls depends on the model. The whole batch shares the steps.
    """
    highest, lowest, _ = split_levels(sigmas)
    x = _integrate(DpmSolver(denoise), x, -math.log(highest), -math.log(lowest))
    return denoise(x, lowest) if sigmas[-1] == 0 else x


def _integrate(solver: DpmSolver, x: Tensor, t: float, end: float) -> Tensor:
    before, length = x, FIRST_STEP
    while t < end - SHORTEST:
        following = min(end, t + length)
        lower, higher = solver.second_and_third(x, t, following, solver.noise(x, t))
        size = RELATIVE_TOLERANCE * torch.maximum(lower.abs(), before.abs())
        scale = size.clamp(min=ABSOLUTE_TOLERANCE)
        error = ((lower - higher) / scale).square().mean().sqrt().item()
        if math.isnan(error):
            return higher  # whoever executes actions refuses it; no shorter step would help
        factor = 1 + math.atan((1 / (1e-8 + error)) ** (1 / 3) - 1)  # integral control, limited smoothly
        if factor >= SAFETY:
            x, before, t = higher, lower, following
        length *= factor
    return x
