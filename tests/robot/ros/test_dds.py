"""Topics and services over Cyclone DDS, against its own encoder and its own IDL types."""

# no `from __future__ import annotations`: cyclonedds reads the types of fields as they stand

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

from cyclonedds.domain import DomainParticipant  # noqa: E402
from cyclonedds.idl import IdlStruct, types  # noqa: E402
from cyclonedds.pub import DataWriter  # noqa: E402
from cyclonedds.qos import Policy, Qos  # noqa: E402
from cyclonedds.sub import DataReader  # noqa: E402
from cyclonedds.topic import Topic  # noqa: E402
from cyclonedds.util import duration  # noqa: E402

from robot import ros_messages  # noqa: E402
from robot.errors import TongsError, UnreachableError  # noqa: E402
from robot.ros import definitions  # noqa: E402
from robot.ros.dds import DdsTransport, _wire_type  # noqa: E402
from robot.ros.quality import LATCHED, SENSOR, Quality  # noqa: E402
from tests.domains import new_domain  # noqa: E402

DOMAIN, ANOTHER = new_domain(), new_domain()


@pytest.fixture(scope="module")
def transport() -> Any:
    made = DdsTransport(DOMAIN, local=True)
    yield made
    made.close()


def soon(condition: Any, patience: float = 5.0) -> bool:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@dataclass
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    sec: types.int32
    nanosec: types.uint32


@dataclass
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    stamp: Time
    frame_id: str


@dataclass
class JointState(IdlStruct, typename="sensor_msgs.msg.dds_.JointState_"):
    """Written down by hand from ROS 2's IDL."""

    header: Header
    name: types.sequence[str]
    position: types.sequence[types.float64]
    velocity: types.sequence[types.float64]
    effort: types.sequence[types.float64]


def joint_state(transport: DdsTransport, position: float) -> Any:
    stamp = transport.make("builtin_interfaces/msg/Time", sec=7, nanosec=8)
    return transport.make(
        "sensor_msgs/msg/JointState",
        header=transport.make("std_msgs/msg/Header", stamp=stamp, frame_id="base"),
        name=["a", "joint_2"],
        position=np.array([position, 2.0]),
    )


def test_a_plain_cyclone_peer_reads_and_is_read(transport: DdsTransport) -> None:
    participant = DomainParticipant(DOMAIN)
    topic = Topic(participant, "rt/arm/joint_states", JointState)
    qos = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepLast(10))
    reader = DataReader(participant, topic, qos)
    writer = DataWriter(participant, topic, qos)
    heard: list[Any] = []
    transport.subscribe("/arm/joint_states", "sensor_msgs/msg/JointState", lambda message, _: heard.append(message))
    publisher = transport.publisher("/arm/joint_states", "sensor_msgs/msg/JointState")
    assert soon(lambda: publisher.subscribers == 2 and len(writer.get_matched_subscriptions()) == 2)
    publisher.publish(joint_state(transport, 1.5))
    got: list[JointState] = []
    assert soon(lambda: got.extend(reader.take(N=8)) or got)
    assert got[0].position == [1.5, 2.0] and got[0].name == ["a", "joint_2"] and got[0].header.frame_id == "base"
    assert soon(lambda: heard)
    heard.clear()
    writer.write(JointState(Header(Time(3, 4), "base"), ["x"], [0.25], [], [9.0]))
    assert soon(lambda: heard)
    assert ros_messages.header_stamp(heard[0]) == 3 * 10**9 + 4
    assert ros_messages.joints(heard[0], "position", ["x"]).tolist() == [0.25]
    assert heard[0].effort.tolist() == [9.0]


@pytest.mark.parametrize(
    "kind",
    [
        "std_msgs/msg/Bool",
        "std_msgs/msg/Float64MultiArray",
        "sensor_msgs/msg/Image",
        "sensor_msgs/msg/CompressedImage",
        "sensor_msgs/msg/CameraInfo",
        "trajectory_msgs/msg/JointTrajectory",
        "diagnostic_msgs/msg/DiagnosticArray",
        "tongs_msgs/msg/PolicyStatus",
        "tongs_msgs/msg/ActionChunk",
    ],
)
def test_the_announced_type_decodes_what_is_sent(kind: str) -> None:
    """Cyclone DDS's own decoder, for the structure that we announce, takes in every byte that rosbags wrote."""
    package, _, name = kind.split("/")
    message = definitions.make(kind)
    encoding = bytes(definitions.store().serialize_cdr(message, kind))
    announced = _wire_type(kind)
    assert announced.__idl__.idl_transformed_typename == f"{package}::msg::dds_::{name}_"
    announced.__idl__.populate()
    assert announced.__idl__.deserialize(encoding) is not None


def test_a_late_subscriber_hears_what_is_latched_and_only_that(transport: DdsTransport) -> None:
    words = [transport.make("std_msgs/msg/String", data=text) for text in ("first", "second")]
    latched = transport.publisher("/latched", "std_msgs/msg/String", LATCHED)
    plain = transport.publisher("/plain", "std_msgs/msg/String")
    for word in words:
        latched.publish(word)
        plain.publish(word)
    heard: list[str] = []
    missed: list[str] = []
    transport.subscribe("/latched", "std_msgs/msg/String", lambda message, _: heard.append(message.data), LATCHED)
    transport.subscribe("/plain", "std_msgs/msg/String", lambda message, _: missed.append(message.data))
    assert soon(lambda: heard)
    time.sleep(0.2)
    assert heard == ["second"] and not missed


def test_qualities_that_do_not_fit_are_counted(transport: DdsTransport) -> None:
    assert not SENSOR.reaches(Quality()) and not Quality().reaches(LATCHED) and LATCHED.reaches(SENSOR)
    publisher = transport.publisher("/camera", "std_msgs/msg/String", SENSOR)
    transport.subscribe("/camera", "std_msgs/msg/String", lambda message, _: None)
    assert soon(lambda: publisher.mismatched == 1)
    assert publisher.subscribers == 0


def test_services_answer_each_client_its_own(transport: DdsTransport) -> None:
    kind = "tongs_msgs/srv/SetInstruction"

    def answer(request: Any) -> Any:
        return transport.make(f"{kind}_Response", success=True, message=f"heard {request.text}")

    transport.serve("/runner/set_instruction", kind, answer)
    other = DdsTransport(DOMAIN, local=False)
    answers: dict[str, str] = {}

    def ask(caller: DdsTransport, text: str) -> None:
        request = caller.make(f"{kind}_Request", text=text)
        answers[text] = caller.call("/runner/set_instruction", kind, request).message

    asked = [threading.Thread(target=ask, args=pair) for pair in ((transport, "a"), (other, "b"), (other, "c"))]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    other.close()
    assert answers == {text: f"heard {text}" for text in "abc"}


def test_an_empty_request_is_a_service_call_too(transport: DdsTransport) -> None:
    kind = "std_srvs/srv/Trigger"
    transport.serve("/go", kind, lambda request: transport.make(f"{kind}_Response", success=True))
    assert transport.call("/go", kind, transport.make(f"{kind}_Request")).success


def test_a_service_that_nobody_offers(transport: DdsTransport) -> None:
    with pytest.raises(UnreachableError, match="nobody has offered the service /nobody"):
        transport.call("/nobody", "std_srvs/srv/Trigger", transport.make("std_srvs/srv/Trigger_Request"), 0.2)


def test_bad_input(transport: DdsTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TongsError, match="unknown message type 'sensor_msgs/msg/JointStates'.*JointState"):
        transport.publisher("/x", "sensor_msgs/msg/JointStates")
    with pytest.raises(TongsError, match="has no field positions"):
        transport.make("sensor_msgs/msg/JointState", positions=[1.0])
    with pytest.raises(TongsError, match="begins with /.*'joint_states'"):
        transport.publisher("joint_states", "sensor_msgs/msg/JointState")
    monkeypatch.setenv("ROS_DOMAIN_ID", "233")
    with pytest.raises(TongsError, match="0 to 232, got '233'"):
        DdsTransport()


def test_a_callback_that_raises_ends_nothing() -> None:
    told: list[tuple[str, Exception]] = []
    transport = DdsTransport(ANOTHER, local=True, on_error=lambda name, error: told.append((name, error)))
    transport.subscribe("/fragile", "std_msgs/msg/String", lambda message, _: int(message.data))
    publisher = transport.publisher("/fragile", "std_msgs/msg/String")
    assert soon(lambda: publisher.subscribers == 1)
    for text in ("x", "y"):
        publisher.publish(transport.make("std_msgs/msg/String", data=text))
    assert soon(lambda: len(told) == 2)
    transport.close()
    assert told[0][0] == "/fragile" and isinstance(told[1][1], ValueError)


def test_what_is_closed_has_left_its_domain() -> None:
    """A domain is configured once in a process, so who comes next can join only if nothing of the last one is left."""
    held = []
    for round in range(2):
        transport, heard = DdsTransport(ANOTHER, local=True), threading.Event()
        transport.subscribe("/again", "std_msgs/msg/String", lambda *_, heard=heard: heard.set())
        transport.serve("/service", "std_srvs/srv/Trigger", lambda request: request)
        publisher = transport.publisher("/again", "std_msgs/msg/String")
        assert soon(lambda publisher=publisher: publisher.subscribers == 1)
        publisher.publish(transport.make("std_msgs/msg/String", data=str(round)))
        assert heard.wait(60.0)
        transport.close()
        transport.close()
        held += [transport, publisher]


def test_raw_pictures_come_as_they_are_and_quickly(transport: DdsTransport) -> None:
    """A picture of 640x480 takes a fraction of the 44 ms that Cyclone DDS's own encoder needs for it."""
    pixels = np.random.default_rng(0).integers(0, 256, 480 * 640 * 3, np.uint8)
    picture = transport.make("sensor_msgs/msg/Image", height=480, width=640, encoding="rgb8", step=1920, data=pixels)
    heard: list[Any] = []
    transport.subscribe("/picture", "sensor_msgs/msg/Image", lambda message, _: heard.append(message), SENSOR)
    publisher = transport.publisher("/picture", "sensor_msgs/msg/Image", SENSOR)
    assert soon(lambda: publisher.subscribers == 1)
    taken = []
    for number in range(5):
        began = time.process_time()  # of all threads, so that other processes do not count
        publisher.publish(picture)
        assert soon(lambda number=number: len(heard) > number)
        taken.append(time.process_time() - began)
    assert (ros_messages.image(heard[-1]).ravel() == pixels).all()
    assert min(taken) < 0.025
