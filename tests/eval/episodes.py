"""Made-up finished episodes and a made-up `results.json`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from eval.protocol import EvaluationConfig
from eval.results import Results
from eval.worker import PolicyDescription
from robot.interface import EE_DELTA, PolicySpec
from sim.episode import EpisodeResult

EPISODE = EpisodeResult(
    task="open_drawer",
    split="test",
    scene=0,
    variant="original",
    wording="seen",
    instruction="open the left drawer halfway",
    goal=0.5,
    start=0.0,
    reached=0.5,
    success=True,
    failure=None,
    length=50,
    latencies=(0.010, 0.012),
    duration=1.0,
    states=np.zeros((51, 3)),
)


def episode(**changes: Any) -> EpisodeResult:
    return replace(EPISODE, **changes)


def results(*episodes: EpisodeResult, complete: bool = True) -> Results:
    tasks = tuple(dict.fromkeys(episode.task for episode in episodes))
    config = EvaluationConfig("random", tasks, (0, 2), "unused")
    spec = PolicySpec({}, (), EE_DELTA, horizon=8)
    return Results(config, PolicyDescription(spec.to_json(), {}), episodes, 2.0, complete)
