"""Samplers: from noise to actions along falling noise levels, by asking a denoiser a few times."""

from __future__ import annotations

from functools import partial

from policies.beso.samplers.base import Denoiser, Sampler
from policies.beso.samplers.churn import Churn
from policies.beso.samplers.ddim import ddim
from policies.beso.samplers.dpm2 import dpm_2, dpm_2_ancestral
from policies.beso.samplers.dpm_adaptive import dpm_adaptive
from policies.beso.samplers.dpm_fast import dpm_fast
from policies.beso.samplers.dpmpp_2m import dpmpp_2m, dpmpp_2m_sde
from policies.beso.samplers.dpmpp_2s import dpmpp_2s, dpmpp_2s_ancestral
from policies.beso.samplers.euler import euler, euler_ancestral
from policies.beso.samplers.heun import heun
from policies.beso.samplers.lms import lms
from robot.errors import TongsError, unknown

__all__ = ["CHURNED", "SAMPLERS", "Churn", "Denoiser", "Sampler", "sampler"]

CHURNED = {"euler": euler, "heun": heun, "dpm_2": dpm_2}
"""Samplers that can add noise before each step, EDM's churn."""

SAMPLERS: dict[str, Sampler] = {
    **CHURNED,
    "ddim": ddim,
    "dpm_2_ancestral": dpm_2_ancestral,
    "dpm_adaptive": dpm_adaptive,
    "dpm_fast": dpm_fast,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "dpmpp_2s": dpmpp_2s,
    "dpmpp_2s_ancestral": dpmpp_2s_ancestral,
    "euler_ancestral": euler_ancestral,
    "lms": lms,
}


def sampler(name: str, churn: float = 0.0) -> Sampler:
    """The sampler of that name, with so much churn (S_churn of EDM).

    Raises:
        TongsError: there is none of that name, or it knows no churn.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, list(SAMPLERS))
    if not churn:
        return SAMPLERS[name]
    if churn < 0:
        raise TongsError(f"churn adds noise, so it must be at least 0, got {churn}")
    if name not in CHURNED:
        raise TongsError(f"sampler {name!r} has no churn; {', '.join(CHURNED)} have")
    return partial(CHURNED[name], churn=Churn(churn))
