"""The simulated robot and the arm behind topics, in simulated time: what a policy does through topics, it does here."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags")

from robot import panda  # noqa: E402
from robot.control.controller import Controller  # noqa: E402
from robot.control.inference import SimulatedInference  # noqa: E402
from robot.control.settings import Execution, Settings  # noqa: E402
from robot.control.tool_robot import ToolRobot  # noqa: E402
from robot.errors import ContractError, TongsError  # noqa: E402
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec  # noqa: E402
from robot.kinematics import ArmKinematics  # noqa: E402
from robot.ros.arm import TopicArm  # noqa: E402
from robot.skills import Skills  # noqa: E402
from robot.topic_map import TopicMap  # noqa: E402
from sim.ros_robot import RATE, SimulatedRobot  # noqa: E402
from sim.world import World  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402

MAP = Path(str(resources.files("configs"))) / "topic_map" / "simulated.yaml"


def changed(**changes: Any) -> TopicMap:
    return TopicMap.parse({**yaml.safe_load(MAP.read_text()), **changes})


class Expert:
    """The scripted expert as a policy: it reads the measured state that came over the topics."""

    spec = PolicySpec({}, (), EE_DELTA, 1)

    def __init__(self, world: World, robot: ToolRobot) -> None:
        self._actions = world.demonstration(Skills(robot.spec, robot.observe), np.random.default_rng(0))

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Observation) -> ActionChunk:
        return ActionChunk(next(self._actions)[None], np.array([observation.time]))

    def act_batch(self, observations: Any) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


def test_the_expert_opens_a_drawer_through_topics() -> None:
    graph = MemoryTransport()
    robot = SimulatedRobot(graph, "open_drawer")
    problems: list[str] = []
    robot._on_error = problems.append
    world, scenes = robot.world, []
    graph.subscribe("/simulated_robot/scene", "tongs_msgs/msg/SceneStatus", lambda message, _: scenes.append(message))
    arm = TopicArm(graph, TopicMap.read(MAP), panda.LIMITS, RATE)
    robot.tell()
    tool = ToolRobot(arm.open(), ArmKinematics(), panda.LIMITS)
    before = world.observe(images=False)
    seen = tool.observe()
    names = world.spec.state_names
    there = [tool.spec.state_names.index(name) for name in names]
    np.testing.assert_allclose(seen.state[there], before.state, atol=1e-5)
    assert (seen.images["front"] == world.render("front", 128, 128)).all()

    inference = SimulatedInference(Expert(world, tool), 0.0, 0.0, 0)
    controller = Controller(
        tool.spec, Expert.spec, inference, panda.LIMITS, 1 / RATE, Settings(Execution("synchronous", 1)), None, False
    )
    controller.tick(seen.time, seen)
    controller.start(seen.time, world.instruction)
    while not world.finished:
        graph.time += round(1e9 / RATE)
        robot.step()
        seen = tool.observe()
        controller.begin(seen.time)
        filtered = controller.tick(seen.time, seen)
        assert inference.error is None and filtered is not None, controller.status().reason
        tool.command(filtered.action)
    robot.tell(again=True)
    assert world.success and scenes[-1].success and not problems
    world.close()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"action": {"kind": "ee_delta", "pose": {"topic": "/p"}, "gripper": {"topic": "/g", "fields": ["data"],
          "range": [0, 1]}}}, "told joint_position or ee_twist, the topic map has the action ee_delta"),
        ({"state": [{"topic": "/joint_states", "joints": ["joint_1"], "unit": "rad"}]}, "not measured"),
    ],
)  # fmt: skip
def test_a_map_that_describes_no_arm(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        TopicArm(MemoryTransport(), changed(**change), panda.LIMITS)


def test_a_topic_without_type_or_of_an_unknown_one() -> None:
    cameras = {"front": {"topic": "/front"}}
    with pytest.raises(ContractError, match="does not say the type of /front"):
        TopicArm(MemoryTransport(), changed(cameras=cameras), panda.LIMITS)
    with pytest.raises(TongsError, match="must be a message type such as .*, got 'Image'"):
        changed(cameras={"front": {"topic": "/front", "type": "Image"}})


def test_a_missing_joint_and_a_future_stamp_are_one_sentence() -> None:
    graph = MemoryTransport()
    arm = TopicArm(graph, changed(cameras={}), panda.LIMITS)
    graph.subscribe("/arm_controller/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", lambda *_: None)
    graph.subscribe("/hand_controller/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", lambda *_: None)
    states = graph.publisher("/joint_states", "sensor_msgs/msg/JointState")

    def say(ahead: int) -> None:
        now = graph.time + ahead
        stamp = graph.make("builtin_interfaces/msg/Time", sec=now // 10**9, nanosec=now % 10**9)
        header = graph.make("std_msgs/msg/Header", stamp=stamp)
        kind = "sensor_msgs/msg/JointState"
        states.publish(graph.make(kind, header=header, name=["finger_left"], position=np.zeros(1)))

    say(0)
    with pytest.raises(TongsError, match="/joint_states: joint joint_1, .* is missing; the message has finger_left"):
        arm.open(0.05)
    graph = MemoryTransport()
    arm = TopicArm(graph, changed(cameras={}), panda.LIMITS)
    states = graph.publisher("/joint_states", "sensor_msgs/msg/JointState")
    say(10**9)
    with pytest.raises(TongsError, match="/joint_states is stamped 1.000 s after it arrived"):
        arm.open(0.05)
