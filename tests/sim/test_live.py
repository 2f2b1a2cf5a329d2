"""A simulated table for a session: what a person sees of it, and that looking changes nothing."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from sim.live import LiveWorld

FORWARD = np.array([0.02, 0, 0, 0, 0, 0, 1], np.float32)


def test_a_person_sees_the_middle_of_every_control_step_and_changes_nothing_by_it(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("sim.live.time", SimpleNamespace(monotonic=lambda: clock.now))
    seen, unseen = LiveWorld("open_drawer", view_size=48), LiveWorld("open_drawer", view_size=0)
    try:
        for world in (seen, unseen):
            world.observe()
            world.execute(FORWARD)
            world.observe()
        begun = seen.pictures()["front"]
        seen.execute(FORWARD)
        assert seen.pictures()["front"] is begun  # the step has been computed, and has only begun
        clock.now += 0.5 / seen.spec.action_space.rate
        halfway = seen.pictures()["front"]
        unseen.execute(FORWARD)
        assert np.array_equal(seen.observe().state, unseen.observe().state)
        ended = seen.pictures()["front"]
        assert begun.shape == halfway.shape == (48, 48, 3)
        assert (begun != halfway).any() and (halfway != ended).any()
        assert not unseen.pictures()
    finally:
        for world in (seen, unseen):
            world.close()


def test_scenes_are_put_up_from_every_split_that_is_named():
    world = LiveWorld("open_drawer", view_size=0, image_size=16)
    try:
        world.observe()
        told = set()
        for split in world.splits:
            world.put("open_drawer", split, 1)
            told.add(world.observe().instruction)
            assert world.scene["split"] == split
        assert len(world.splits) >= 8 and len(told) > 1
    finally:
        world.close()


def test_it_can_be_closed_after_the_thread_that_drew_has_ended():
    world = LiveWorld("open_drawer", view_size=16, image_size=16)
    drawing = threading.Thread(target=world.observe)
    drawing.start()
    drawing.join()
    world.close()
    world = LiveWorld("open_drawer", view_size=16, image_size=16)  # and another one draws as before
    assert world.observe().images["front"].std() > 0
    world.close()
