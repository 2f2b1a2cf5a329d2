"""What programs may ask of the scene: names, places, sizes, colours, openings, fillings."""

from __future__ import annotations

import re

import numpy as np
from scipy.spatial.transform import Rotation

from policies.lmp.errors import PerceptionError
from robot.interface import Scene, SceneObject

_EMPTY_WORDS = {"the", "a", "an", "all", "every", "each", "any", "of", "that", "is", "are"}
_EMPTY_WORDS |= {"one", "ones", "thing", "things", "object", "objects"}
_PLURAL = re.compile(r"(?<=[a-z]{2})s$")
_SAME = {"door": "cabinet"}


class Perception:
    """The scene, seen anew at every call. `begin` marks where a command starts."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._before: dict[str, SceneObject] = {}
        self._now: dict[str, SceneObject] = {}

    def reset(self) -> None:
        """A new episode starts."""
        self._before, self._now = {}, {}

    def begin(self) -> None:
        """A new command starts: what is now will be what was before, once the next one starts."""
        self._before, self._now = self._now, dict(self.scene.objects())

    def thing(self, name: str) -> SceneObject:
        """A thing by its exact name, or by words that fit no other.

        Raises:
            PerceptionError: it is not there, or several fit.
        """
        objects = self.scene.objects()
        if name in objects:
            return objects[name]
        fitting = [other for other in objects if fits(name, objects[other])]
        if len(fitting) == 1:
            return objects[fitting[0]]
        if fitting:
            raise PerceptionError(f"{name!r} may be any of {_list(fitting)}; say which")
        raise PerceptionError(f"there is no {name!r}; there are: {_list(objects)}")

    def get_obj_names(self) -> list[str]:
        """Names of all things, such as "red block" or "left drawer"; two that look alike are numbered from the left."""
        return list(self.scene.objects())

    def find_objects(self, phrase: str) -> list[str]:
        """Names of the things whose name or colour holds every word of a phrase such as "blocks" or "the red ones"."""
        return [name for name, thing in self.scene.objects().items() if fits(phrase, thing)]

    def is_obj_visible(self, obj: str) -> bool:
        """Whether there is anything that a name or phrase fits."""
        return bool(self.find_objects(obj))

    def get_obj_pos(self, obj: str) -> np.ndarray:
        """Middle of a thing, (2,): x (away from the arm) and y (to the arm's left) in m in the base frame."""
        return self.thing(obj).position[:2].copy()

    def get_obj_pose(self, obj: str) -> np.ndarray:
        """Pose of a thing, (7,): x, y, z of its middle in m, quaternion w, x, y, z; base frame, z up from the table."""
        thing = self.thing(obj)
        return np.concatenate([thing.position, thing.quaternion])

    def get_obj_pos_before(self, obj: str) -> np.ndarray:
        """Where a thing was before the command that came before this one, (2,): x, y in m in the base frame."""
        thing = self.thing(obj)
        return self._before.get(thing.name, self._now.get(thing.name, thing)).position[:2].copy()

    def get_joint_fraction_before(self, part: str) -> float:
        """How far a drawer or door was open before the command that came before this one: 0 closed, 1 open."""
        thing = self.thing(part)
        return _joint(self._before.get(thing.name, self._now.get(thing.name, thing)))

    def get_bbox(self, obj: str) -> np.ndarray:
        """The box around a thing seen from above, (4,): least x, least y, greatest x, greatest y in m, base frame."""
        thing = self.thing(obj)
        half = half_box(thing)[:2]
        return np.concatenate([thing.position[:2] - half, thing.position[:2] + half])

    def get_obj_size(self, obj: str) -> np.ndarray:
        """Full size of a thing along its own x, y, z, (3,) in m."""
        return self.thing(obj).extent.copy()

    def get_color(self, obj: str) -> str:
        """Colour word of a thing, or "" if it has none that matters."""
        return self.thing(obj).colour

    def get_joint_fraction(self, part: str) -> float:
        """How far a drawer or door is open: 0 closed, 1 fully open."""
        return _joint(self.thing(part))

    def get_fill(self, vessel: str) -> float:
        """The share, 0 to 1, of its water that a cup still holds; for a bowl the share of all water that is in it."""
        thing = self.thing(vessel)
        if thing.fill is None:
            raise PerceptionError(f"how full {thing.name!r} is cannot be seen")
        return thing.fill


def fits(phrase: str, thing: SceneObject) -> bool:
    """Whether a thing's name and colour hold every word of a phrase, but for words that name nothing."""
    words = [word for word in re.findall(r"[a-z0-9]+", phrase.lower()) if word not in _EMPTY_WORDS]
    said = {*thing.name.lower().split(), thing.colour}
    return all(word in said or _singular(word) in said for word in words)


def half_box(thing: SceneObject) -> np.ndarray:
    """Half size (3,) in m, along x, y, z of the base frame, of the box around a thing as it is turned now."""
    turn = Rotation.from_quat(thing.quaternion, scalar_first=True).as_matrix()
    return np.abs(turn) @ thing.extent / 2


def _joint(thing: SceneObject) -> float:
    if thing.joint_fraction is None:
        raise PerceptionError(f"{thing.name!r} is nothing that opens")
    return thing.joint_fraction


def _singular(word: str) -> str:
    word = _PLURAL.sub("", word)
    return _SAME.get(word, word)


def _list(names: object) -> str:
    return ", ".join(repr(str(name)) for name in names) or "nothing"  # type: ignore[attr-defined]
