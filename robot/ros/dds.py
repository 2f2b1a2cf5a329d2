"""ROS 2's topics and services over Cyclone DDS from a package registry: no ROS installation.

What goes over the wire is what rmw_cyclonedds sends: the same topic and type names, qualities of service and encoding
(XCDR1, little endian), so nodes of a ROS 2 system with rmw_cyclonedds hear and are heard. Messages are encoded by
`rosbags`, which leaves arrays as they are; Cyclone DDS's own Python encoder makes lists of them (35 ms per picture).
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from robot.errors import TongsError, UnreachableError
from robot.ros import definitions
from robot.ros.quality import DEFAULT, Quality

try:
    from cyclonedds.core import DDSException, ReadCondition, SampleState, ViewState, WaitSet
    from cyclonedds.core import InstanceState as Instance
    from cyclonedds.domain import Domain, DomainParticipant
    from cyclonedds.idl import IdlStruct, make_idl_struct, types
    from cyclonedds.internal import InvalidSample
    from cyclonedds.pub import DataWriter
    from cyclonedds.qos import Policy, Qos
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
    from cyclonedds.util import duration
except ImportError as missing:
    raise TongsError("ROS 2's wire without ROS needs Cyclone DDS: pip install 'tongs[ros]'") from missing

LOOPBACK = (
    "<CycloneDDS><Domain><General><AllowMulticast>false</AllowMulticast>"
    "<Interfaces><NetworkInterface address='127.0.0.1'/></Interfaces></General>"
    "<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>99</MaxAutoParticipantIndex>"
    "<Peers><Peer address='127.0.0.1'/></Peers></Discovery>"
    "<Internal><SocketReceiveBufferSize min='default' max='4MB'/></Internal></Domain></CycloneDDS>"
)
"""Cyclone DDS's configuration for nodes on this machine alone: no multicast, no other interface, and room for a few raw
pictures where the system allows it (net.core.rmem_max)."""
DOMAINS = 233
"""ROS 2's domains are 0 to 232: beyond them the ports of UDP are used up."""

_HEADER = struct.Struct("<Qq")
"""Of a service's request and response on rmw_cyclonedds: the client's id, and the number that it gave the request."""
_PATIENCE = duration(milliseconds=100)


def _serialize(sample: Any, *_: Any, **__: Any) -> bytes:
    return sample.encoding


def _deserialize(cls: type[Any], data: bytes, *_: Any, **__: Any) -> Any:
    sample = object.__new__(cls)
    sample.encoding = data
    return sample


class DdsTransport:
    """A participant of a ROS 2 domain; see `robot.ros.transport.Transport`.

    Args:
        domain: 0 to 232; None takes `ROS_DOMAIN_ID`, or 0.
        local: speak with this machine alone. Otherwise the environment variable CYCLONEDDS_URI says how.
        on_error: told what a callback raised, with the topic's or service's name.

    Raises:
        TongsError: the domain is not one, or Cyclone DDS refuses its configuration.
    """

    def __init__(
        self,
        domain: int | None = None,
        local: bool = False,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> None:
        number = _domain(domain)
        try:
            self._domain = Domain(number, LOOPBACK) if local else None
            self._participant = DomainParticipant(number)
        except DDSException as error:
            raise TongsError(f"Cyclone DDS cannot join domain {number}: {error.msg}") from error
        self._on_error = on_error or (lambda name, error: None)
        self._lock = threading.Lock()
        self._readers: list[tuple[ReadCondition, DataReader, Callable[[bytes, int], None], str]] = []
        self._topics: dict[tuple[str, str], Topic] = {}
        self._clients: dict[str, _Client] = {}
        self._waiting = WaitSet(self._participant)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="dds", daemon=True)
        self._thread.start()

    def make(self, kind: str, /, **fields: Any) -> Any:
        return definitions.make(kind, **fields)

    def encode(self, message: Any, kind: str) -> bytes:
        return bytes(definitions.store().serialize_cdr(message, kind))

    def now(self) -> int:
        return time.time_ns()

    def publisher(self, topic: str, kind: str, quality: Quality = DEFAULT) -> DdsPublisher:
        return DdsPublisher(self._writer(f"rt{_absolute(topic)}", kind, _qos(quality)), kind)

    def subscribe(
        self, topic: str, kind: str, heard: Callable[[Any, int], None], quality: Quality = DEFAULT
    ) -> Callable[[], int]:
        decode = definitions.store().deserialize_cdr

        def take(encoding: bytes, arrived: int) -> None:
            heard(decode(encoding, kind), arrived)

        reader = self._reader(f"rt{_absolute(topic)}", kind, _qos(quality), take, topic)
        return lambda: len(reader.get_matched_publications())

    def serve(self, service: str, kind: str, answer: Callable[[Any], Any]) -> None:
        name = _absolute(service)
        writer = self._writer(f"rr{name}Reply", f"{kind}_Response", _qos(DEFAULT))

        def take(encoding: bytes, arrived: int) -> None:
            header, request = _split(encoding, f"{kind}_Request")
            given = answer(request)

            def respond(response: Any) -> None:
                _write(writer, _join(header, response, f"{kind}_Response"))

            if isinstance(given, Future):
                given.add_done_callback(lambda done: self._reporting(service, lambda: respond(done.result())))
            else:
                respond(given)

        self._reader(f"rq{name}Request", f"{kind}_Request", _qos(DEFAULT), take, service)

    def call(self, service: str, kind: str, request: Any, patience: float = 5.0) -> Any:
        if threading.current_thread() is self._thread:
            raise TongsError(f"{service} cannot be called from within a callback")
        with self._lock:
            client = self._clients.get(service)
        if client is None:
            name = _absolute(service)
            client = _Client(kind)
            client.writer = self._writer(f"rq{name}Request", f"{kind}_Request", _qos(DEFAULT))
            client.reader = self._reader(f"rr{name}Reply", f"{kind}_Response", _qos(DEFAULT), client.take, service)
            with self._lock:
                self._clients[service] = client
        return client.call(service, request, patience)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=2.0)
        if not self._thread.is_alive():
            # what is left of it in Python would keep the domain joined: every part of a participant refers to it
            for entity in (self._waiting, self._participant, self._domain):
                if entity is not None:
                    entity.__del__()

    def _reporting(self, shown: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._on_error(shown, error)

    # --- entities

    def _topic(self, name: str, kind: str) -> Topic:
        with self._lock:
            if (name, kind) not in self._topics:
                self._topics[name, kind] = Topic(self._participant, name, _wire_type(kind))
            return self._topics[name, kind]

    def _writer(self, name: str, kind: str, qos: Qos) -> DataWriter:
        return DataWriter(self._participant, self._topic(name, kind), qos)

    def _reader(self, name: str, kind: str, qos: Qos, take: Callable[[bytes, int], None], shown: str) -> DataReader:
        reader = DataReader(self._participant, self._topic(name, kind), qos)
        condition = ReadCondition(reader, SampleState.NotRead | ViewState.Any | Instance.Any)
        with self._lock:
            self._readers.append((condition, reader, take, shown))
            self._waiting.attach(condition)
        return reader

    def _listen(self) -> None:
        waiting: list[_Arrival] = []
        while not self._closing.is_set():
            if not waiting:
                self._waiting.wait(_PATIENCE)
            known = waiting + self._arrivals()
            newest = max((arrival.sent for arrival in known), default=0)
            known += self._arrivals()  # what a topic that was looked at before the newest one's had got by then
            known.sort(key=lambda arrival: arrival.sent)
            waiting = [arrival for arrival in known if arrival.sent > newest]
            for arrival in known[: len(known) - len(waiting)]:
                self._reporting(arrival.shown, partial(arrival.take, arrival.encoding, arrival.arrived))

    def _arrivals(self) -> list[_Arrival]:
        with self._lock:
            readers = list(self._readers)
        return [
            _Arrival(sample.sample_info.source_timestamp, self.now(), sample.encoding, take, shown)
            for _, reader, take, shown in readers
            for sample in reader.take(N=64)
            if not isinstance(sample, InvalidSample)  # a publisher has gone
        ]


@dataclass(frozen=True)
class _Arrival:
    """A message that has come; `sent` (ns) is on its publisher's clock."""

    sent: int
    arrived: int
    encoding: bytes
    take: Callable[[bytes, int], None]
    shown: str


class DdsPublisher:
    """One end of a topic; see `robot.ros.transport.Publisher`."""

    def __init__(self, writer: DataWriter, kind: str) -> None:
        self._writer, self._kind = writer, kind

    @property
    def subscribers(self) -> int:
        return len(self._writer.get_matched_subscriptions())

    @property
    def mismatched(self) -> int:
        """How many subscribers asked for another quality of service than is offered, and so hear nothing."""
        return int(self._writer.get_offered_incompatible_qos_status().total_count)

    def publish(self, message: Any) -> None:
        _write(self._writer, bytes(definitions.store().serialize_cdr(message, self._kind)))


class _Client:
    """Calls one service; responses to other clients, which come as well, are passed over."""

    writer: DataWriter
    reader: DataReader

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._id = secrets.randbits(64)
        self._number = 0
        self._answers: dict[int, Any] = {}
        self._changed = threading.Condition()

    def take(self, encoding: bytes, arrived: int) -> None:
        (client, number), response = _split(encoding, f"{self._kind}_Response")
        if client == self._id:
            with self._changed:
                self._answers[number] = response
                self._changed.notify_all()

    def call(self, service: str, request: Any, patience: float) -> Any:
        deadline = time.monotonic() + patience
        while not self.writer.get_matched_subscriptions() or not self.reader.get_matched_publications():
            if time.monotonic() > deadline:
                raise UnreachableError(f"nobody has offered the service {service} for {patience:g} s")
            time.sleep(0.01)
        with self._changed:
            self._number += 1
            number = self._number
        _write(self.writer, _join((self._id, number), request, f"{self._kind}_Request"))
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._answers, max(deadline - time.monotonic(), 0.0)):
                raise UnreachableError(f"the service {service} has not answered within {patience:g} s")
            return self._answers.pop(number)


def _domain(given: int | None) -> int:
    text = os.environ.get("ROS_DOMAIN_ID", "") or "0" if given is None else str(given)
    if not text.isdigit() or int(text) >= DOMAINS:
        raise TongsError(f"a ROS 2 domain is a whole number from 0 to {DOMAINS - 1}, got {text!r}")
    return int(text)


def _absolute(name: str) -> str:
    if not name.startswith("/") or name.endswith("/") or "//" in name:
        raise TongsError(f"the name of a topic or service begins with / and ends without, got {name!r}")
    return name


def _qos(quality: Quality) -> Qos:
    """As rmw_cyclonedds makes it."""
    history = Policy.History.KeepAll if quality.depth is None else Policy.History.KeepLast(quality.depth)
    forever = duration(infinite=True)
    policies = [
        Policy.Reliability.Reliable(forever) if quality.reliable else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if quality.latched else Policy.Durability.Volatile,
        history,
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    ]
    if quality.latched:
        policies.append(Policy.DurabilityService(0, history, -1, -1, -1))
    return Qos(*policies)


def _write(writer: DataWriter, encoding: bytes) -> None:
    sample = object.__new__(writer.data_type)
    sample.encoding = encoding
    writer.write(sample)


def _join(header: tuple[int, int], message: Any, kind: str) -> bytes:
    """A service's message: encapsulation, header, and then the body, which 16 bytes leave aligned."""
    encoding = definitions.store().serialize_cdr(message, kind)
    return b"".join([encoding[:4], _HEADER.pack(*header), encoding[4:]])


def _split(encoding: bytes, kind: str) -> tuple[tuple[int, int], Any]:
    if len(encoding) < 4 + _HEADER.size or encoding[1] != 1:
        raise TongsError(f"a {kind} of {len(encoding)} bytes is none of rmw_cyclonedds")
    client, number = _HEADER.unpack_from(encoding, 4)
    body = encoding[:4] + encoding[4 + _HEADER.size :]
    return (client, number), definitions.store().deserialize_cdr(body, kind)


@cache
def _wire_type(kind: str) -> type[Any]:
    """The type that is announced for a topic: ROS 2's name, and its true structure. Its samples are their own encoding:
    `cyclonedds` sends it as it is, and gives it as it came."""
    definitions.require(kind)
    fields = _idl_fields(kind)
    if kind.endswith(("_Request", "_Response")):
        fields = {"client_": types.uint64, "number_": types.int64, **fields}
    name = kind.split("/")[2]
    made: Any = make_idl_struct(f"{name}_", _idl_name(kind), fields)
    made.serialize, made.deserialize = _serialize, classmethod(_deserialize)
    return made


@cache
def _nested_type(kind: str) -> type[IdlStruct]:
    name = kind.split("/")[2]
    return make_idl_struct(f"{name}_", _idl_name(kind), _idl_fields(kind))


def _idl_name(kind: str) -> str:
    package, group, name = kind.split("/")
    return f"{package}.{group}.dds_.{name}_"


def _idl_fields(kind: str) -> dict[str, Any]:
    return {name: _idl(description) for name, description in definitions.store().fielddefs[kind][1]}


def _idl(description: Any) -> Any:
    from rosbags.interfaces import Nodetype

    form, detail = description
    if form == Nodetype.NAME:
        return _nested_type(detail)
    if form == Nodetype.BASE:
        plain = {"string": str, "bool": bool, "octet": types.byte, "byte": types.byte, "char": types.uint8}
        return plain.get(detail[0]) or getattr(types, detail[0])
    element, count = detail
    if form == Nodetype.ARRAY:
        return types.array[_idl(element), count]
    return types.sequence[_idl(element), count] if count else types.sequence[_idl(element)]
