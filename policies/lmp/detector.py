"""Where things are on a real table: an open-vocabulary detector on a camera, and the `Scene` made of what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError
from robot.interface import Observation, SceneObject

_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Detection:
    """Something that was found in a picture: the phrase it fits, how sure that is (0 to 1), and its box (left, top,
    right, bottom) in pixels."""

    phrase: str
    score: float
    box: tuple[float, float, float, float]


class Detector(Protocol):
    """Finds things that phrases name in a picture."""

    def detect(self, image: NDArray[np.uint8], phrases: Sequence[str]) -> list[Detection]:
        """What of the phrases is in an image (H, W, 3) RGB."""
        ...


class OpenVocabularyDetector:
    """A zero-shot detector of transformers, such as OWLv2 or Grounding DINO.

    Args:
        model: folder or hub id of a model for the task `zero-shot-object-detection`.
        threshold: least score.
    """

    def __init__(self, model: str = "google/owlv2-base-patch16-ensemble", threshold: float = 0.2) -> None:
        from transformers import pipeline

        try:
            self._find: Any = pipeline("zero-shot-object-detection", model=model)  # type: ignore[call-overload]
        except (OSError, ValueError, KeyError) as error:
            said = " ".join(str(error).split())[:300]
            raise TongsError(f"cannot load the detector {model!r}: {said}") from error
        self._threshold = threshold

    def detect(self, image: NDArray[np.uint8], phrases: Sequence[str]) -> list[Detection]:
        from PIL import Image

        found = self._find(Image.fromarray(image), candidate_labels=list(phrases), threshold=self._threshold)
        return [
            Detection(each["label"], float(each["score"]), tuple(float(each["box"][side]) for side in _BOX))  # type: ignore[arg-type]
            for each in found
        ]


_BOX = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class PinholeView:
    """A calibrated camera.

    Attributes:
        name: in the robot's observations.
        position: (3,) m, of its centre in the base frame.
        rotation: (3, 3), columns: what is right, up and towards the viewer in the picture, in the base frame.
        focal: of the picture, in pixels; its middle is the principal point.
    """

    name: str
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    focal: float

    def on_plane(self, pixel: tuple[float, float], shape: tuple[int, ...], height: float) -> NDArray[np.float64]:
        """The point (3,) m at a height (m) above the table that a pixel (column, row) shows.

        Raises:
            ContractError: it shows nothing at that height.
        """
        column, row = pixel[0] - shape[1] / 2, shape[0] / 2 - pixel[1]
        ray = self.rotation @ np.array([column, row, -self.focal])
        if abs(ray[2]) < 1e-9 or (height - self.position[2]) / ray[2] <= 0:
            raise ContractError(f"camera {self.name}: pixel {pixel} shows no point {height:g} m above the table")
        return self.position + ray * (height - self.position[2]) / ray[2]


class DetectedScene:
    """The `Scene` of a camera over a table: phrases are looked for; what is found stands upright on the table.

    A box gives the middle and the width of a thing; its height is that of the phrase, or as its width. Several things
    of one phrase are numbered from the left. The picture is looked at once per control step.

    Args:
        observe: gives the robot's newest observation, with the camera's picture.
        view: of that camera.
        detector: finds things.
        vocabulary: {phrase: height of such a thing in m, None if not known}; what can be found at all.
        overlap: share of the smaller box from which on two boxes show one thing, of which the surer name counts.
    """

    def __init__(
        self,
        observe: Callable[[], Observation],
        view: PinholeView,
        detector: Detector,
        vocabulary: Mapping[str, float | None],
        overlap: float = 0.6,
    ) -> None:
        if not vocabulary:
            raise TongsError("a detector has to be told what to look for: the vocabulary is empty")
        self._observe, self._view, self._detector = observe, view, detector
        self._vocabulary, self._overlap = dict(vocabulary), overlap
        self._seen: tuple[float, Mapping[str, SceneObject]] | None = None

    def objects(self) -> Mapping[str, SceneObject]:
        observation = self._observe()
        if self._seen is None or self._seen[0] != observation.time:
            self._seen = observation.time, self._look(observation)
        return self._seen[1]

    def _look(self, observation: Observation) -> Mapping[str, SceneObject]:
        image = observation.images.get(self._view.name)
        if image is None:
            has = ", ".join(sorted(observation.images)) or "none"
            raise ContractError(f"the detector needs camera {self._view.name!r}; the observation has: {has}")
        kept: list[Detection] = []
        for found in sorted(self._detector.detect(image, list(self._vocabulary)), key=lambda found: -found.score):
            if found.phrase in self._vocabulary and all(_shared(found, other) < self._overlap for other in kept):
                kept.append(found)
        things = [(found.phrase, *self._place(found, image.shape)) for found in kept]
        things.sort(key=lambda thing: (thing[0], -thing[1][1]))
        phrases = [phrase for phrase, _, _ in things]
        objects = {}
        for number, (phrase, position, extent) in enumerate(things):
            same = phrases[:number].count(phrase) + 1
            name = f"{phrase} {same}" if phrases.count(phrase) > 1 else phrase
            objects[name] = SceneObject(
                name, position, _UPRIGHT.copy(), extent, phrase.split()[0] if " " in phrase else ""
            )
        return objects

    def _place(self, found: Detection, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middle and size (3,) in m."""
        left, top, right, bottom = found.box
        middle = ((left + right) / 2, (top + bottom) / 2)
        height = self._vocabulary[found.phrase]
        level = 0.0 if height is None else height / 2
        for _ in range(3):  # the height of its middle decides how wide it is, and for a cube the other way round
            position = self._view.on_plane(middle, shape, level)
            edge = self._view.on_plane((right, middle[1]), shape, level)
            width = 2 * float(np.linalg.norm(edge - position))
            level = (width if height is None else height) / 2
        return position, np.array([width, width, 2 * level])


def _shared(one: Detection, other: Detection) -> float:
    """The area that two boxes share, as a part of the smaller one."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(d.box[2] - d.box[0]) * (d.box[3] - d.box[1]) for d in (one, other)]
    return width * height / min(areas)
