"""The pushing world: physics against friction's laws, the protocol's reward and result, and every way of the expert."""

from __future__ import annotations

import time

import numpy as np
import pytest

from robot.errors import ContractError, TongsError
from robot.interface import PLANAR_DELTA
from sim.block_push.expert import MODES, Mode, PushExpert
from sim.block_push.scene import BLOCKS, SQUARES, TOLERANCE, draw_scene, square_of
from sim.block_push.world import GOAL_NAMES, MAX_STEPS, STATE_NAMES, PushWorld
from tests.conformance import check_robot


@pytest.fixture
def world() -> PushWorld:
    return PushWorld()


def place(world: PushWorld, block: int, position: tuple[float, float]) -> None:
    """Put a block somewhere and let one step pass."""
    world._data.qpos[3 * block : 3 * block + 2] = position
    world.execute(np.zeros(2, np.float32))


def test_it_is_a_robot(world: PushWorld) -> None:
    check_robot(world)


def test_scenes_are_numbered() -> None:
    assert draw_scene("train", 3) == draw_scene("train", 3)
    assert draw_scene("train", 3) != draw_scene("train", 4)
    assert draw_scene("train", 3) != draw_scene("test", 3)
    scenes = [draw_scene("train", index) for index in range(200)]
    assert 70 < sum(scene.wanted == (0, 1) for scene in scenes) < 130
    assert 70 < sum(scene.blocks[0][1] > 0 for scene in scenes) < 130  # either block may begin on either side
    assert all(square_of(np.array(block[:2])) is None for scene in scenes for block in scene.blocks)


def test_the_pusher_follows_the_command_and_stays_on_the_table(world: PushWorld) -> None:
    begin = world.pusher()
    world.execute(np.array([-0.02, 0.01], np.float32))
    world.execute(np.zeros(2, np.float32))
    np.testing.assert_allclose(world.pusher() - begin, [-0.02, 0.01], atol=1e-3)
    commanded = world.state[-2:]
    world.execute(np.array([5.0, 0.0], np.float32))
    np.testing.assert_allclose(world.state[-2:] - commanded, [PLANAR_DELTA.high[0], 0.0], atol=1e-6)
    for _ in range(40):
        world.execute(np.array([0.0, -0.03], np.float32))
    assert abs(world.pusher()[1]) <= 0.2405
    with pytest.raises(ContractError, match="NaN"):
        world.execute(np.array([np.nan, 0.0], np.float32))


def test_a_central_push_moves_a_block_straight_and_friction_stops_it(world: PushWorld) -> None:
    world._data.qpos[:] = [0.0, 0.0, 0.0, 0.2, 0.2, 0.0, -0.05, 0.0]
    world._data.ctrl[:] = [-0.05, 0.0]
    for _ in range(10):
        world.execute(np.array([0.01, 0.0], np.float32))
    moved = world.state[:3]
    # The pusher went from -0.05 to 0.05; it touches at a centre distance of 0.03.
    np.testing.assert_allclose(moved, [0.08, 0.0, 0.0], atol=0.004)
    for _ in range(5):
        world.execute(np.array([-0.01, 0.0], np.float32))
    np.testing.assert_allclose(world.state[:3], moved, atol=0.003)


def test_a_push_beside_the_centre_turns_the_block(world: PushWorld) -> None:
    world._data.qpos[:] = [0.0, 0.0, 0.0, 0.2, 0.2, 0.0, -0.05, 0.015]
    world._data.ctrl[:] = [-0.05, 0.015]
    for _ in range(8):
        world.execute(np.array([0.01, 0.0], np.float32))
    assert world.state[2] < -0.1  # pushed on its left, it turns to the right


def test_reward_and_result(world: PushWorld) -> None:
    world.reset("test", 0, wanted=(0, 1))
    assert (world.reward, world.result, world.finished) == (0.0, 0.0, False)
    place(world, 0, SQUARES[1])  # red, in the wrong one
    assert (world.reward, world.result) == (0.5, 0.0)
    place(world, 1, (SQUARES[1][0] - 0.045, SQUARES[1][1]))  # green, in the same square: it is taken
    assert (world.reward, world.result) == (0.5, 0.0)
    place(world, 0, (0.0, 0.0))  # what has been delivered stays delivered
    assert world.reward == 0.5
    place(world, 1, SQUARES[0])
    assert (world.reward, world.result, world.finished) == (1.0, 0.0, True)
    world.reset("test", 0, wanted=(0, 1))
    place(world, 1, SQUARES[1])
    assert (world.reward, world.result) == (0.5, 0.5)
    assert world.delivered == {1: 1}


def test_the_border_of_a_square() -> None:
    x, y = SQUARES[0]
    assert square_of(np.array([x - TOLERANCE + 1e-6, y])) == 0
    assert square_of(np.array([x - TOLERANCE - 1e-6, y])) is None


def test_an_episode_ends_after_300_steps(world: PushWorld) -> None:
    for _ in range(MAX_STEPS):
        assert not world.finished
        world.execute(np.zeros(2, np.float32))
    assert world.finished and MAX_STEPS == 300


def test_the_goal_is_where_the_blocks_end(world: PushWorld) -> None:
    world.reset("test", 1)
    goal = dict(zip(STATE_NAMES, world.goal_state(), strict=True))
    for block, square in zip(BLOCKS, world.scene.wanted, strict=True):
        assert (goal[f"{block}_x"], goal[f"{block}_y"]) == pytest.approx(SQUARES[square])
    assert all(value == 0 for name, value in goal.items() if name not in GOAL_NAMES)
    observation = world.observe()
    np.testing.assert_array_equal(observation.goal_state, world.goal_state())
    side = ("left", "right")[world.scene.wanted[0]]
    assert observation.instruction.startswith(f"push the red block into the {side} square")


@pytest.mark.parametrize("mode", MODES)
def test_every_way_of_the_expert_works_and_is_what_it_says(world: PushWorld, mode: Mode) -> None:
    done = 0
    for index in range(4):
        world.reset("val", index, mode.wanted)
        expert = PushExpert(world, mode)
        expert.reset(index)
        while not world.finished:
            world.execute(expert.act(world.observe()).actions[0])
        done += world.result == 1.0
        assert next(iter(world.delivered.items()), None) in ((mode.first, mode.square), None)
    assert done >= 3


def test_both_sides_of_a_block_are_ways(world: PushWorld) -> None:
    """A block between the pusher and the place behind another one is passed on the side of the mode."""
    passed = []
    for side in (1, -1):
        mode = next(mode for mode in MODES if mode.side == side and (mode.first, mode.square) == (0, 0))
        world.reset("val", 0, mode.wanted)
        world._data.qpos[:] = [0.06, 0.0, 0.0, -0.08, 0.0, 0.0, -0.2, 0.0]  # green is in the way to red
        world._data.ctrl[:] = [-0.2, 0.0]
        expert = PushExpert(world, mode, noise=0.0)
        while world.pusher()[0] < -0.08:
            world.execute(expert.act(world.observe()).actions[0])
        passed.append(world.pusher()[1])
    assert min(passed) < -0.03 and max(passed) > 0.03


def test_two_thousand_control_steps_per_second(world: PushWorld) -> None:
    actions = np.random.default_rng(0).uniform(-0.02, 0.02, (1000, 2)).astype(np.float32)
    begin = time.process_time()
    for action in actions:
        world.execute(action)
    assert 1000 / (time.process_time() - begin) >= 2000


def test_an_unknown_camera_is_refused() -> None:
    with pytest.raises(TongsError, match="no camera 'front'; it has: top"):
        PushWorld({"front": (64, 64)})
    with pytest.raises(TongsError, match="without its camera"):
        PushWorld().goal_image()


def test_pictures_show_the_goal() -> None:
    world = PushWorld({"top": (64, 64)})
    try:
        world.reset("test", 0)
        now, goal = world.observe().images["top"], world.goal_image()
        assert now.shape == goal.shape == (64, 64, 3)
        red = (goal[..., 0] > 150) & (goal[..., 1] < 110) & (goal[..., 2] < 110)
        rows, columns = np.nonzero(red)
        x, y = SQUARES[world.scene.wanted[0]]
        # From above, x to the right and y up: half of the height shows 0.62 tan(23 degrees) = 0.263 m.
        assert (columns.mean() - 31.5) / 32 * 0.263 == pytest.approx(x, abs=0.02)
        assert (31.5 - rows.mean()) / 32 * 0.263 == pytest.approx(y, abs=0.02)
        assert not np.array_equal(now, goal)
    finally:
        world.close()
