"""Numbered scenes: (task, split, index) is the same scene on every machine, and no two splits share one."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from robot.errors import TongsError, unknown
from sim.language import Wording
from sim.tasks import find_task
from sim.tasks.base import Candidate, SceneSpec

SPLITS = ("train", "val", "test")
VARIANTS = ("original", "other_target", "other_goal")
"""`other_target` asks for the distractor, `other_goal` for another value, in the otherwise unchanged scene."""
WORDINGS: tuple[Wording, ...] = ("seen", "unseen")


def generator(task: str, split: str, index: int, purpose: str) -> np.random.Generator:
    """A random generator that belongs to one scene and one purpose ("scene", "words", "policy", "expert")."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if index < 0:
        raise TongsError(f"scene index must be 0 or more, got {index}")
    return np.random.default_rng([crc32(task.encode()), crc32(split.encode()), index, crc32(purpose.encode())])


def draw_scene(task: str, split: str, index: int) -> SceneSpec:
    """The scene with this number. Indices have no upper bound."""
    return find_task(task).draw(generator(task, split, index, "scene"))


def asked_for(scene: SceneSpec, variant: str) -> tuple[Candidate, float]:
    """Which thing the instruction means in a variant of the scene, and the goal value it asks for."""
    first, second = scene.candidates
    if variant == "original":
        return first, first.goal
    if variant == "other_target":
        return second, second.goal
    if variant == "other_goal":
        return first, first.other_goal
    raise unknown("variant", variant, VARIANTS)
