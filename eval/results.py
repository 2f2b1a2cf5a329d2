"""The outcome of an evaluation, and its `results.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.goal_pictures import LANGUAGE
from eval.policies import PolicyChoice, choose_policy
from eval.protocol import EvaluationConfig
from eval.provenance import OPTIONAL, PACKAGES, file_hash, machine, package_versions
from eval.statistics import Rate, TaskStatistics, Timing, rate, task_statistics, timing
from sim.executors import LOCAL
from sim.worlds import TaskFacts, tasks_of

if TYPE_CHECKING:
    from eval.worker import PolicyDescription
    from sim.episode import EpisodeResult

FORMAT = 1


@dataclass(frozen=True)
class Results:
    """Finished episodes of an evaluation, ordered by task and scene.

    Attributes:
        config: the protocol.
        policy: what the policy was found to be.
        episodes: at least one.
        wall_s: duration of all rollouts in seconds.
        complete: False if the evaluation was interrupted.
        commit: of the code that ran the episodes; None if it is not known.
    """

    config: EvaluationConfig
    policy: PolicyDescription
    episodes: tuple[EpisodeResult, ...]
    wall_s: float
    complete: bool = True
    commit: str | None = None

    def of_task(self, task: str) -> list[EpisodeResult]:
        return [episode for episode in self.episodes if episode.task == task]

    @property
    def tasks(self) -> dict[str, TaskStatistics]:
        """Statistics of every task that has a finished episode."""
        return {task: task_statistics(self.of_task(task)) for task in self.config.tasks if self.of_task(task)}

    @property
    def overall(self) -> Rate:
        return rate(self.episodes)

    @property
    def timings(self) -> dict[str, Timing]:
        """Speed per task; it differs from run to run, unlike everything else."""
        return {task: timing(self.of_task(task)) for task in self.tasks}

    def to_json(self) -> dict[str, Any]:
        choice, tasks = choose_policy(self.config.policy), tasks_of(self.config.engine)
        return {
            "format": FORMAT,
            "complete": self.complete,
            "command": self.config.command,
            "policy": {
                "name": self.config.policy,
                "checkpoint": _checkpoint(choice, self.policy),
                "sampling": self.policy.sampling,
                **({"lerobot": dict(self.config.lerobot)} if self.config.lerobot else {}),
                **({"lmp": dict(self.config.lmp)} if self.config.lmp else {}),
                "spec": self.policy.spec,
            },
            "protocol": self._protocol(),
            "overall": asdict(self.overall),
            "tasks": {task: asdict(statistics) | _goal(tasks[task]) for task, statistics in self.tasks.items()},
            "timing": {
                "wall_s": self.wall_s,
                "executor": self.config.executor,
                "processes": self.config.processes if self.config.executor == LOCAL else None,
                "overall": asdict(timing(self.episodes)),
                "tasks": {task: asdict(timing) for task, timing in self.timings.items()},
            },
            "episodes": [_episode(episode) for episode in self.episodes],
            "machine": machine(),
            "versions": package_versions((*PACKAGES, *OPTIONAL)),
            "commit": self.commit,
        }

    def _protocol(self) -> dict[str, Any]:
        config = self.config
        return {
            "tasks": list(config.tasks),
            "split": config.split,
            "scenes": list(config.scenes),
            "variant": config.variant,
            "wording": config.wording,
            "engine": config.engine,
            "protocol": config.protocol,
            "execute": config.execute,
            "control_rate_hz": self.policy.spec["action_space"]["rate"],
            "image_size": config.image_size,
            "quality": config.quality,
            **config.real_time_words,
            **({} if config.goal == LANGUAGE else {"goal": config.goal}),
            **({"corrector": dict(config.corrector)} if config.corrector else {}),
        }


def _checkpoint(choice: PolicyChoice, policy: PolicyDescription) -> dict[str, Any] | None:
    """The path of a checkpoint, the SHA-256 of its weights, and the robots whose data it was trained on."""
    if choice.folder is None:
        served = {"path": choice.name, "sha256": policy.served.get("model.safetensors"), "trained_on": []}
        return served if choice.learned else None
    weights = file_hash(choice.folder / "model.safetensors")
    return {"path": str(choice.folder), "sha256": weights, "trained_on": choice.trained_on}


def _goal(task: TaskFacts) -> dict[str, Any]:
    return {"unit": task.unit, "tolerance": task.tolerance, "range": list(task.goal_range)}


def _episode(episode: EpisodeResult) -> dict[str, Any]:
    return {
        "task": episode.task,
        "scene": episode.scene,
        "instruction": episode.instruction,
        "goal": float(episode.goal),
        "start": float(episode.start),
        "reached": float(episode.reached),
        "success": bool(episode.success),
        "failure": episode.failure,
        "length": int(episode.length),
        **({"subgoals": list(episode.subgoals)} if episode.subgoals else {}),
        **({"events": dict(episode.events)} if episode.events else {}),
        **({"corrections": episode.corrections} if episode.corrections else {}),
    }


def write_json(fields: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file so that a reader finds either the old one or the whole new one."""
    write_text(json.dumps(fields, indent=1, ensure_ascii=False) + "\n", path)


def write_text(text: str, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def in_order(episodes: Sequence[EpisodeResult], tasks: Sequence[str]) -> tuple[EpisodeResult, ...]:
    """Episodes by task, in the order of `tasks`, then by scene."""
    return tuple(sorted(episodes, key=lambda episode: (tasks.index(episode.task), episode.scene)))
