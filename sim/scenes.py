"""Numbered scenes: (task, split, index) is the same scene on every machine; no two splits share one, but `perturbed`
shows those of `test`, changed."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

import numpy as np

from robot.errors import TongsError, unknown
from sim.language import Wording
from sim.splits import find_split
from sim.surroundings import novel_surroundings, perturbed, seen_surroundings
from sim.tasks import find_task
from sim.tasks.base import Candidate, SceneSpec

VARIANTS = ("original", "other_target", "other_goal", "negated", "empty")
"""`other_target` asks for the distractor, `other_goal` for another value, in the otherwise unchanged scene; `negated`
says not to do what `original` asks for, `empty` says nothing, and the goal stays the original one."""
WORDINGS: tuple[Wording, ...] = ("seen", "unseen")


def generator(task: str, split: str, index: int, purpose: str) -> np.random.Generator:
    """A random generator that belongs to one scene and one purpose ("scene", "words", "policy", "expert")."""
    if index < 0:
        raise TongsError(f"scene index must be 0 or more, got {index}")
    seed = find_split(split).seed
    return np.random.default_rng([crc32(task.encode()), crc32(seed.encode()), index, crc32(purpose.encode())])


def draw_scene(task: str, split: str, index: int) -> SceneSpec:
    """The scene with this number. Indices have no upper bound."""
    kind = find_split(split)
    scene = find_task(task).draw(generator(task, split, index, "scene"), kind)
    room = generator(task, split, index, "surroundings")
    if kind.surroundings == "novel":
        return replace(scene, surroundings=novel_surroundings(room))
    around = seen_surroundings(room)
    if kind.strength == 0.0:
        return replace(scene, surroundings=around)
    shaking = generator(task, split, index, "perturbation")
    x, y, z = kind.strength * shaking.uniform(-0.08, 0.08, 3)
    around = perturbed(around, shaking, kind.strength)
    return replace(scene, surroundings=around, arm_shift=(float(x), float(y), float(z)))


def asked_for(scene: SceneSpec, variant: str) -> tuple[Candidate, float]:
    """Which thing the instruction means in a variant of the scene, and the goal value it asks for."""
    first, second = scene.candidates
    if variant in ("original", "negated", "empty"):
        return first, first.goal
    if variant == "other_target":
        return second, second.goal
    if variant == "other_goal":
        return first, first.other_goal
    raise unknown("variant", variant, VARIANTS)
