"""Goals told by a picture: what the expert's pictures show, who takes them, and how the report shows them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from eval.evaluation import evaluate
from eval.goal_pictures import GoalPictures, goal_file, require_goal
from eval.policies import RandomPolicy
from eval.protocol import EvaluationConfig
from eval.worker import Film, Worker
from robot.errors import TongsError
from robot.interface import EE_DELTA, PolicySpec
from sim.episode import run_episode
from sim.goal_pictures import expert_picture
from sim.world import World

QUIET = Console(quiet=True)
SPEC = PolicySpec({"front": (32, 32)}, (), EE_DELTA, 8, goals=("language", "image"))


@pytest.fixture(scope="module")
def world() -> World:
    return World("open_drawer", {"front": (64, 64)})


def config(goal: str, **changes: object) -> EvaluationConfig:
    fields = {"policy": "random", "tasks": ("open_drawer",), "scenes": (3, 4), "output": "unused", "image_size": 64}
    return EvaluationConfig(**fields | {"goal": goal} | changes)  # type: ignore[arg-type]


def test_the_expert_leaves_the_world_with_the_goal_reached(world: World) -> None:
    picture = expert_picture(world, "test", 3, "front", (64, 64))
    assert world.success and abs(world.value - world.goal) < world.task.tolerance
    np.testing.assert_array_equal(picture, world.render("front", 64, 64))
    np.testing.assert_array_equal(picture, expert_picture(world, "test", 3, "front", (64, 64)))
    world.reset("test", 3)
    before = world.render("front", 64, 64).astype(float)
    assert np.abs(picture - before).mean() > 2
    other = expert_picture(world, "test", 3, "front", (64, 64), "other_target")
    assert np.abs(other.astype(float) - picture).mean() > 2


def test_each_kind_of_goal_gives_its_picture(world: World, tmp_path: Path) -> None:
    own = GoalPictures(config("image:expert"), SPEC)
    np.testing.assert_array_equal(own.picture(world, 3), expert_picture(world, "test", 3, "front", (64, 64)))  # type: ignore[arg-type]
    of_scene = GoalPictures(config("image:5"), SPEC)
    wanted = expert_picture(world, "test", 5, "front", (64, 64))
    for scene in (3, 4):
        np.testing.assert_array_equal(of_scene.picture(world, scene), wanted)  # type: ignore[arg-type]
    file = tmp_path / "goal.png"
    Image.fromarray(wanted).save(file)
    np.testing.assert_array_equal(GoalPictures(config(f"image:{file}"), SPEC).picture(world, 3), wanted)  # type: ignore[arg-type]
    elsewhere = GoalPictures(config(f"image:{file}"), SPEC, file.read_bytes())
    np.testing.assert_array_equal(elsewhere.picture(world, 3), wanted)  # type: ignore[arg-type]
    assert GoalPictures(config("language"), SPEC).picture(world, 3) is None
    assert goal_file(f"image:{file}") == file and goal_file("image:expert") is None and goal_file("image:5") is None


def test_every_observation_of_the_episode_has_the_picture(world: World) -> None:
    seen: list[np.ndarray | None] = []

    class Watching(RandomPolicy):
        def act(self, observation):  # type: ignore[no-untyped-def]
            seen.append(observation.goal_image)
            return super().act(observation)

    picture = np.full((64, 64, 3), 7, np.uint8)
    result = run_episode(world, Watching(EE_DELTA), "test", 0, execute=8, goal_image=picture)
    assert len(seen) > 5 and all(given is picture for given in seen)
    assert result.goal_image is picture


def test_bad_goals_are_told(tmp_path: Path) -> None:
    for goal in ("picture", "image:", "images:expert"):
        with pytest.raises(TongsError, match="goal must be language, image:expert"):
            require_goal(goal)
    with pytest.raises(TongsError, match="there is no goal picture nowhere.png"):
        config("image:nowhere.png")
    text = tmp_path / "goal.png"
    text.write_text("no picture")
    with pytest.raises(TongsError, match="goal picture .*goal.png cannot be read"):
        GoalPictures(config(f"image:{text}"), SPEC)
    with pytest.raises(TongsError, match="means nothing to protocol=keypose"):
        config("image:expert", protocol="keypose")
    with pytest.raises(TongsError, match=r"random cannot be told its goal by a picture \(it takes language\)"):
        evaluate(config("image:expert", output=str(tmp_path / "out")), QUIET)


def test_a_policy_that_takes_pictures_only_says_so(tmp_path: Path) -> None:
    from tests.policies.small_grif import policy

    policy(goal="image").save(tmp_path / "policy")
    with pytest.raises(TongsError, match="give goal=image:expert"):
        Worker(config("language", policy=str(tmp_path / "policy"))).policy("open_drawer")


def test_the_command_and_the_results_name_the_goal_only_where_it_is_a_picture() -> None:
    assert "goal=image:expert" in config("image:expert").command
    assert "goal" not in config("language").command


def test_the_picture_stands_in_the_report(tmp_path: Path) -> None:
    from eval.report import write_report
    from tests.eval.episodes import episode, results

    fields = results(episode(scene=0), episode(scene=1)).to_json()
    fields["protocol"]["goal"] = "image:expert"
    write_report(
        fields, {("open_drawer", 0): Film(b"one", b"png"), ("open_drawer", 1): Film(b"two")}, tmp_path / "r.html"
    )
    page = (tmp_path / "r.html").read_text()
    assert page.count('<img src="data:image/png;base64,cG5n"') == 1 and page.count("<video") == 2
    assert "told by a picture (image:expert" in page
    assert json.loads(json.dumps(fields))["protocol"]["goal"] == "image:expert"
