"""The scene of a detector: right places from boxes alone, and transformers' detectors behind the interface."""

import numpy as np
import pytest

from policies.lmp.api.perception import Perception
from policies.lmp.detector import DetectedScene, Detection, OpenVocabularyDetector, PinholeView
from robot.errors import ContractError, TongsError
from robot.interface import Observation, Scene
from sim.model import CAMERAS
from sim.world import World

SIZE = 256
FRONT = CAMERAS[0]
FOCAL = SIZE / 2 / np.tan(np.radians(FRONT.fovy) / 2)
VIEW = PinholeView("front", np.array(FRONT.position), FRONT.rotation(), FOCAL)


class ByColour:
    """Finds red and green things by their pixels."""

    def detect(self, image, phrases):
        red, green, blue = (image[..., i].astype(int) for i in range(3))
        masks = {"red block": (red > 90) & (red > 2.5 * green) & (red > 2.5 * blue)}
        masks["green block"] = (green > 60) & (green > 1.7 * red) & (green > 1.7 * blue)
        found = []
        for phrase, mask in masks.items():
            rows, columns = np.nonzero(mask)
            if phrase in phrases and len(rows) > 20:
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                found.append(Detection(phrase, 0.9, tuple(map(float, box))))
        return found


def test_places_from_a_picture_are_those_of_the_simulator():
    """Within 1.5 cm, from pictures of the simulated camera and its pose alone."""
    world, checked = World("tabletop_spatial", {"front": (SIZE, SIZE)}), 0
    for index in range(12):
        world.reset("test", index)
        truth = world.objects()
        around = world.scene.surroundings
        camera = around.cameras[0]
        view = PinholeView("front", np.array(camera.position), camera.rotation(), FOCAL)
        scene = DetectedScene(world.observe, view, ByColour(), {"red block": 0.04, "green block": 0.04})
        assert isinstance(scene, Scene)
        for name, thing in scene.objects().items():
            if name in truth and f"{name.split()[0]} bowl" not in truth:
                assert np.linalg.norm(thing.position[:2] - truth[name].position[:2]) < 0.015, (index, name)
                assert thing.colour == name.split()[0]
                checked += 1
    world.close()
    assert checked >= 4


def test_boxes_of_one_thing_and_things_of_one_name():
    class Boxes:
        def detect(self, image, phrases):
            return [
                Detection("red block", 0.9, (100, 100, 120, 120)),
                Detection("red cup", 0.4, (101, 100, 120, 121)),
                Detection("red block", 0.8, (160, 100, 180, 120)),
                Detection("something", 0.9, (10, 10, 20, 20)),
            ]

    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    observation = Observation({"front": image}, np.zeros(1, np.float32), "", 0.0)
    scene = DetectedScene(lambda: observation, VIEW, Boxes(), {"red block": None, "red cup": 0.1})
    things = scene.objects()
    assert list(things) == ["red block 1", "red block 2"]
    assert things["red block 1"].position[1] > things["red block 2"].position[1]  # numbered from the arm's left
    assert Perception(scene).find_objects("red blocks") == ["red block 1", "red block 2"]
    sizes = things["red block 1"].extent
    assert sizes[2] == pytest.approx(sizes[0], rel=0.05)  # as high as wide


def test_what_is_missing_is_told():
    blind = Observation({}, np.zeros(1, np.float32), "", 0.0)
    with pytest.raises(ContractError, match="needs camera 'front'; the observation has: none"):
        DetectedScene(lambda: blind, VIEW, ByColour(), {"red block": 0.04}).objects()
    with pytest.raises(TongsError, match="vocabulary is empty"):
        DetectedScene(lambda: blind, VIEW, ByColour(), {})
    with pytest.raises(TongsError, match="cannot load the detector '/nowhere'"):
        OpenVocabularyDetector("/nowhere")
    with pytest.raises(ContractError, match="shows no point"):
        PinholeView("up", np.array([0, 0, 1.0]), np.diag([1.0, -1.0, -1.0]), 100.0).on_plane((5, 5), (10, 10), 0.0)


def test_the_adapter_gives_boxes_in_pixels(monkeypatch):
    """What transformers' pipeline answers, asked as it is documented to be asked."""
    import transformers

    asked = {}

    def pipeline(task, model):
        asked["made"] = task, model

        def find(image, candidate_labels, threshold):
            asked["with"] = image.size, candidate_labels, threshold
            return [{"label": "red block", "score": 0.7, "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}]

        return find

    monkeypatch.setattr(transformers, "pipeline", pipeline)
    detector = OpenVocabularyDetector("owl", 0.3)
    found = detector.detect(np.zeros((6, 8, 3), np.uint8), ["red block"])
    assert found == [Detection("red block", 0.7, (1.0, 2.0, 3.0, 4.0))]
    assert asked == {"made": ("zero-shot-object-detection", "owl"), "with": ((8, 6), ["red block"], 0.3)}
