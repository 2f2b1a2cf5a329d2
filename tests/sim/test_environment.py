"""The gymnasium face of the tasks."""

import importlib
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sim.registration import IDS
from sim.tasks import TASKS


def test_every_task_has_an_environment():
    assert set(IDS) == set(TASKS)


@pytest.mark.parametrize("name", IDS.values())
def test_gymnasium_checker(name):
    environment = gymnasium.make(name, cameras={"front": (32, 32)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(environment.unwrapped, skip_render_check=True)
    environment.close()


def test_scenes_by_number_and_reward_only_for_success():
    environment = gymnasium.make("tongs/OpenDrawer-v0", cameras={})
    first, info = environment.reset(options={"index": 3, "split": "test"})
    second, _ = environment.reset(options={"index": 3, "split": "test"})
    assert first["instruction"] == second["instruction"] and info["scene"] == 3
    np.testing.assert_array_equal(first["state"], second["state"])
    _, reward, terminated, truncated, info = environment.step(np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
    assert (reward, terminated, truncated, info["is_success"]) == (0.0, False, False, False)
    environment.close()


def test_vectorised_over_processes():
    environments = gymnasium.make_vec(
        "tongs/CloseDrawer-v0",
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},  # a forked process cannot use its parent's OpenGL
        cameras={"wrist": (32, 32)},
    )
    observations, _ = environments.reset(seed=0)
    assert observations["wrist"].shape == (2, 32, 32, 3)
    assert not np.array_equal(observations["wrist"][0], observations["wrist"][1])
    observations, rewards, *_ = environments.step(np.tile(np.float32([0, 0, 0, 0, 0, 0, 1]), (2, 1)))
    assert rewards.shape == (2,)
    environments.close()


def test_the_engine_can_be_chosen():
    pytest.importorskip("pybullet")
    environment = gymnasium.make("tongs/OpenDrawer-v0", cameras={"wrist": (32, 32)}, engine="bullet")
    observation, _ = environment.reset(seed=1)
    assert isinstance(environment.unwrapped.world.engine, importlib.import_module("sim.engines.bullet").BulletEngine)
    assert observation["wrist"].std() > 5
    environment.close()
