"""Pictures are where the geometry says, and a machine that cannot render says which package to install."""

import numpy as np
import pytest

from robot.errors import TongsError
from sim import rendering
from sim.model import CAMERAS
from sim.world import World


def test_known_points_are_where_a_pinhole_camera_puts_them():
    """A block's centre, projected by hand, falls on pixels of the block's colour."""
    world = World("pickup_object", {"front": (128, 128)})
    camera = CAMERAS[0]
    away = np.subtract(camera.position, camera.target)
    z = away / np.linalg.norm(away)
    x = np.cross((0, 0, 1), z) / np.linalg.norm(np.cross((0, 0, 1), z))
    y = np.cross(z, x)
    focal = 64 / np.tan(np.radians(camera.fovy) / 2)
    dominant = {"red": 0, "green": 1, "blue": 2}
    checked = 0
    for index in range(30):
        world.reset("test", index)
        image = world.observe().images["front"]
        for name, thing in world.objects().items():
            colour = name.split()[0]
            if colour not in dominant:
                continue
            offset = thing.position - camera.position
            column = 64 + focal * (x @ offset) / -(z @ offset)
            row = 64 - focal * (y @ offset) / -(z @ offset)
            pixel = image[round(row - 0.5), round(column - 0.5)].astype(int)
            others = [pixel[i] for i in range(3) if i != dominant[colour]]
            assert pixel[dominant[colour]] > 1.5 * max(others), (name, pixel)
            checked += 1
    assert checked > 10
    world.close()


def test_one_renderer_serves_many_worlds():
    world = World("open_drawer", {"front": (64, 64)})
    pictures = []
    for index in (0, 1, 0):
        world.reset("test", index)
        pictures.append(world.observe().images["front"])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert (pictures[0] != pictures[1]).any()
    world.close()


def test_presentation_quality_draws_shadows():
    darkest = {}
    for quality in ("fast", "presentation"):
        world = World("pickup_object", {"front": (128, 128)}, quality)
        world.reset("test", 0)
        darkest[quality] = world.observe().images["front"].astype(int).sum()
        world.close()
    assert darkest["presentation"] < darkest["fast"]


def test_no_back_end_names_the_packages(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "probe", lambda backend: rendering.Verdict(backend, False, "no library"))
    rendering.choose.cache_clear()
    with pytest.raises(TongsError, match=r"egl: no library; osmesa: no library.*libegl1.*libosmesa6"):
        rendering.choose()
    rendering.choose.cache_clear()


def test_an_unknown_back_end_is_refused(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    rendering.choose.cache_clear()
    with pytest.raises(TongsError, match="unknown render back end in MUJOCO_GL 'vulkan'"):
        rendering.choose()
    rendering.choose.cache_clear()


def test_probe_reports_what_failed():
    verdict = rendering.probe("nonsense")
    assert not verdict.usable and "nonsense" in verdict.reason
