"""What can be known of the ROS 2 packages where there is no ROS: their files fit each other and the nodes' logic."""

from __future__ import annotations

import array
import ast
import importlib
import json
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2] / "ros_ws" / "src"
PACKAGE, MESSAGES = ROOT / "tongs_ros", ROOT / "tongs_msgs"
OURS = {"robot", "sim", "eval", "tongs_ros", "numpy", *sys.stdlib_module_names}
LAUNCH_FILES = sorted(path.name for path in (PACKAGE / "launch").glob("*.launch.py"))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PACKAGE))
    yield
    for name in [name for name in sys.modules if name == "tongs_ros" or name.startswith("tongs_ros.")]:
        del sys.modules[name]


def module(name: str) -> Any:
    return importlib.import_module(f"tongs_ros.{name}")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    import setuptools

    handed: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", handed.update)
    monkeypatch.chdir(PACKAGE)
    exec(compile((PACKAGE / "setup.py").read_text(), "setup.py", "exec"), {"__name__": "__main__"})
    return handed


def executables(settings: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split(" = ") for entry in settings["entry_points"]["console_scripts"])


def dependencies(package: Path) -> set[str]:
    root = ElementTree.parse(package / "package.xml").getroot()
    assert root.findtext("name") == package.name and root.get("format") == "3"
    return {element.text or "" for tag in ("depend", "exec_depend") for element in root.iter(tag)}


def test_every_executable_is_a_main_and_every_file_is_installed(settings: dict[str, Any]) -> None:
    assert set(executables(settings)) == set(module("parameters").NODES)
    for place in executables(settings).values():
        name, _, function = place.partition(":")
        tree = ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    installed = {file for _, files in settings["data_files"] for file in files}
    for folder in ("launch", "config", "rviz", "foxglove"):
        assert {str(path.relative_to(PACKAGE)) for path in (PACKAGE / folder).glob("*.*")} <= installed
    assert (PACKAGE / "resource" / "tongs_ros").is_file()


def test_whatever_is_imported_is_depended_on() -> None:
    imported = set()
    for path in [*(PACKAGE / "tongs_ros").glob("*.py"), *(PACKAGE / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    assert imported - OURS <= dependencies(PACKAGE)


def test_every_interface_is_built_and_parses() -> None:
    pytest.importorskip("rosbags")
    from robot.ros import definitions

    built = (MESSAGES / "CMakeLists.txt").read_text()
    files = [path for kind in ("msg", "srv", "action") for path in (MESSAGES / kind).glob("*.*")]
    assert files and all(f'"{path.parent.name}/{path.name}"' in built for path in files)
    for path in files:
        if path.suffix == ".msg":
            definitions.make(f"tongs_msgs/msg/{path.stem}")
        elif path.suffix == ".srv":
            for part in ("Request", "Response"):
                kind = f"tongs_msgs/srv/{path.stem}_{part}"
                definitions.store().serialize_cdr(definitions.make(kind), kind)
    used = {line.split("/")[0] for path in files for line in path.read_text().splitlines() if "/" in line.split("#")[0]}
    assert used - {"tongs_msgs"} <= dependencies(MESSAGES)


# --- launch files, carried out with stand-ins that only remember what they were given


class Said:
    def __init__(self, *given: Any, **named: Any) -> None:
        self.given, self.named = given, named

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{type(self).__name__}.{name}"


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a launch file; gives every object that it made."""
    made: list[Any] = []
    names = {
        "launch": ["LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "EmitEvent", "IncludeLaunchDescription", "RegisterEventHandler"],
        "launch.conditions": ["IfCondition"],
        "launch.events": ["matches_action"],
        "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
        "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
        "launch_ros": [],
        "launch_ros.actions": ["Node", "LifecycleNode"],
        "launch_ros.event_handlers": ["OnStateTransition"],
        "launch_ros.events": [],
        "launch_ros.events.lifecycle": ["ChangeState"],
        "launch_ros.parameter_descriptions": ["ParameterValue"],
        "launch_ros.substitutions": ["FindPackageShare"],
        "lifecycle_msgs": [],
        "lifecycle_msgs.msg": ["Transition"],
    }

    def remember(self: Any, *given: Any, **named: Any) -> None:
        self.given, self.named = given, named
        made.append(self)

    for place, classes in names.items():
        stand_in = types.ModuleType(place)
        for name in classes:
            kind = type(name, (Said,), {"__init__": remember, "TRANSITION_CONFIGURE": 1, "TRANSITION_ACTIVATE": 3})
            setattr(stand_in, name, kind)
        monkeypatch.setitem(sys.modules, place, stand_in)

    def run(name: str) -> list[Any]:
        made.clear()
        scope: dict[str, Any] = {}
        exec(compile((PACKAGE / "launch" / name).read_text(), name, "exec"), scope)
        scope["generate_launch_description"]()
        return list(made)

    return run


def of(made: list[Any], *names: str) -> list[Any]:
    return [one for one in made if type(one).__name__ in names]


def arguments(made: list[Any]) -> dict[str, Any]:
    return {one.given[0]: one for one in of(made, "DeclareLaunchArgument")}


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_a_launch_file(name: str, launch: Any, settings: dict[str, Any]) -> None:
    nodes = module("parameters").NODES
    made = launch(name)
    declared = arguments(made)
    assert all(one.named["description"].strip() for one in declared.values())
    assert {one.given[0] for one in of(made, "LaunchConfiguration")} == set(declared)
    for node in of(made, "Node", "LifecycleNode"):
        if node.named["package"] != "tongs_ros":
            assert node.named["package"] in dependencies(PACKAGE)
            continue
        assert node.named["executable"] in executables(settings) and node.named["name"] in nodes
        for given in node.named["parameters"]:
            if isinstance(given, dict):
                assert set(given) <= {*nodes[node.named["name"]], "use_sim_time"}
    for path in of(made, "PathJoinSubstitution"):
        assert (PACKAGE / Path(*path.given[0][1:])).is_file()
    for include in of(made, "IncludeLaunchDescription"):
        passed = set(dict(include.named["launch_arguments"]))
        (source,) = include.given
        there = arguments(launch(source.given[0].given[0][-1]))
        assert passed <= set(there)
        assert {key for key, one in there.items() if "default_value" not in one.named} <= passed


# --- parameters


def test_the_parameter_files_fit_the_nodes() -> None:
    nodes = module("parameters").NODES
    for path in (PACKAGE / "config").glob("*.yaml"):
        for place, content in yaml.safe_load(path.read_text()).items():
            parameters = nodes[place.removeprefix("/**/")]
            for name, value in content["ros__parameters"].items():
                assert parameters[name].problem(value) == "", f"{path.name}: {place} {name}"


def test_parameters_say_what_is_wrong() -> None:
    parameters = module("parameters")
    for node in parameters.NODES.values():
        assert all(parameter.problem(parameter.default) == "" and parameter.description for parameter in node.values())
    runner = parameters.POLICY_RUNNER
    assert runner["execute"].problem(0) == "must be from 1 to 1000, got 0"
    assert runner["execute"].problem(True) == "must be of type int, got True"
    assert runner["execution"].problem("fast").startswith("must be one of synchronous, asynchronous")


def test_the_game_pad_is_the_logics() -> None:
    from robot.ros.teleop import Pad

    assert asdict(Pad()) == {name: parameter.default for name, parameter in module("parameters").TELEOP.items()}


def test_values_become_what_rclpy_takes() -> None:
    convert = module("fields").convert
    assert convert(np.array([1.5, 2.0]), "sequence<double>") == array.array("d", [1.5, 2.0])
    assert convert([1.5], "sequence<float>") == array.array("f", [1.5])
    assert convert(np.array([0, 255], np.uint8), "sequence<uint8>") == array.array("B", [0, 255])
    assert convert(np.array([7], np.int64), "sequence<uint32>") == array.array("I", [7])
    assert convert(2, "octet") == b"\x02" and convert(["a"], "sequence<string>") == ["a"]
    assert type(convert(np.float64(0.5), "double")) is float and type(convert(np.int64(3), "int32")) is int
    assert convert(np.arange(9.0), "double[9]").tolist() == list(range(9))


# --- topic maps and layouts


def test_the_topic_maps_describe_arms(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    from importlib import resources

    from eval.robots import arm_limits
    from robot.ros.arm import TopicArm
    from robot.topic_map import TopicMap
    from tests.robot.ros.memory import MemoryTransport

    maps = Path(str(resources.files("configs"))) / "topic_map"
    names = TopicMap.read(maps / "ur.yaml").action.names  # type: ignore[union-attr]
    joint = '<joint name="{}" type="revolute"><limit lower="-3" upper="3" velocity="2"/></joint>'
    (tmp_path / "ur.urdf").write_text(f"<robot>{''.join(joint.format(name) for name in names)}</robot>")
    given = {"ur": {"urdf": str(tmp_path / "ur.urdf")}, "so101": {"limits": str(maps.parent / "limits" / "so101.yaml")}}
    for path in maps.glob("*.yaml"):
        topic_map = TopicMap.read(path)
        files = given.get(path.stem, {})
        limits = arm_limits(topic_map, files.get("urdf"), files.get("limits"))
        arm = TopicArm(MemoryTransport(), topic_map, limits, watchdog=None)
        told = {"franka_servo": "ee_delta", "ur_servo": "ee_delta"}.get(path.stem, "joint_position")
        assert arm._space.kind == told


def test_the_files_of_arms_are_taken(tmp_path: Path) -> None:
    """By their adapter, as far as one comes without a motor."""
    pytest.importorskip("lerobot")
    pytest.importorskip("scservo_sdk")
    from importlib import resources

    from robot.adapters.opening import open_arm
    from robot.errors import TongsError

    for path in (Path(str(resources.files("configs"))) / "arm").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        content["settings"]["calibration_dir"] = str(tmp_path)
        (tmp_path / path.name).write_text(yaml.safe_dump(content))
        with pytest.raises(TongsError, match="lerobot: the arm is not calibrated as .*follower.json says"):
            open_arm(tmp_path / path.name)


def test_the_layouts_show_what_there_is() -> None:
    pytest.importorskip("rosbags")
    from robot import panda
    from robot.ros import definitions
    from robot.ros.runner import PolicyRunner
    from tests.robot.control.arms import Line, ToolArm
    from tests.robot.ros.memory import MemoryTransport

    graph = MemoryTransport()
    runner = PolicyRunner(graph, ToolArm, lambda *_: Line(), panda.LIMITS)
    runner.shutdown()
    panels = json.loads((PACKAGE / "foxglove" / "tongs.json").read_text())
    kinds = {"/policy_runner/status": "tongs_msgs/msg/PolicyStatus", "/joint_states": "sensor_msgs/msg/JointState"}
    shown = set()
    for name, panel in panels["configById"].items():
        if name.startswith("CallService!"):
            kind = graph.services[panel["serviceName"]]
            definitions.make(f"{kind}_Request", **json.loads(panel["requestPayload"]))
        for path in panel.get("paths", ()):
            topic, _, field = path["value"].partition(".")
            assert field.partition("[")[0] in dict(definitions.store().fielddefs[kinds[topic]][1])
        shown.add(name)

    def leaves(layout: Any) -> set[str]:
        return {layout} if isinstance(layout, str) else leaves(layout["first"]) | leaves(layout["second"])

    assert leaves(panels["layout"]) == shown
    displays = yaml.safe_load((PACKAGE / "rviz" / "tongs.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert topics == {"/front/image_raw/compressed", "/wrist/image_raw/compressed"}
