"""A hundred thousand malformed messages, truncated frames, huge claims and slow clients: the others are served on."""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from robot.remote.client import RemotePolicy
from tests.robot.remote.test_openpi import LIBERO, pack
from tests.robot.remote.test_server import HELLO, SEEN
from tests.robot.remote.toy import ROBOT, bound, observation

ROOT = Path(__file__).resolve().parents[3]
MESSAGES, SPOILED = 100_000, 1_500
LATENCY = 5.0
"""Seconds that a valid call may take while the server is under fire, on a busy machine."""
GROWTH = 32 << 20
"""Bytes that the server may grow by between the first and the last half of the fire."""
PROGRAM = """
import robot.remote.server as server
from tests.robot.remote.toy import canonical
server.HASTE = 1.0
running = server.PolicyServer(canonical(), "toy", server.ServerConfig(port=0, message_mb=1, clients=64))
server.serve(running, lambda it: print(it.port, flush=True))
"""


@pytest.fixture
def target() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def resident(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """A client like any other; every answer must be the right one, and in time."""

    def __init__(self, port: int) -> None:
        self.worst, self.calls, self.error = 0.0, 0, None
        self._url = f"ws://127.0.0.1:{port}"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            policy, local = RemotePolicy(self._url), bound()
            policy.bind(ROBOT)
            while not self._end.wait(0.02):
                if self.calls % 10 == 0:
                    policy.reset(self.calls)
                    local.reset(self.calls)
                seen = observation(self.calls % 50)
                start = time.monotonic()
                actions = policy.act(seen).actions
                self.worst, self.calls = max(self.worst, time.monotonic() - start), self.calls + 1
                np.testing.assert_array_equal(actions, local.act(seen).actions)
            policy.close()
        except BaseException as error:
            self.error = error


def seeds() -> list[bytes]:
    """Valid messages of both websocket formats, to be spoiled."""
    messages: list[Any] = [HELLO, {"type": "reset", "seed": 3}, {"type": "act", "observation": SEEN}]
    messages += [{"type": "remember", "observation": SEEN}, LIBERO]
    return [msgpack.packb(message, default=pack) for message in messages]


def spoiled(generator: random.Random, valid: list[bytes]) -> bytes:
    """A valid message with some bytes changed, cut, doubled or inserted; or noise."""
    kind = generator.randrange(6)
    if kind == 0:
        return generator.randbytes(generator.randrange(200))
    if kind == 1:  # nested very deep, or claiming to be very long
        heads = (
            b"\x91" * 3000,
            b"\x81\xa1x" * 3000,
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
        )
        return generator.choice(heads)
    data = bytearray(generator.choice(valid))
    head = min(len(data), 300)  # what is behind are pixels, which may be anything
    for _ in range(generator.randrange(1, 6)):
        place = generator.randrange(head) if generator.random() < 0.8 else generator.randrange(len(data))
        if kind == 2:
            data[place] = generator.randrange(256)
        elif kind == 3:
            data[place:place] = generator.randbytes(generator.randrange(1, 9))
        elif kind == 4:
            del data[place : place + generator.randrange(1, 9)]
            data = data or bytearray(b"\xc0")
            head = min(len(data), 300)
        else:
            return bytes(data[:place])
    return bytes(data)


def fire(port: int, generator: random.Random, count: int, subprotocol: str | None) -> int:
    """Send spoiled messages, many on their way at a time; return how many were answered."""
    valid, answered, sent = seeds(), 0, 0
    protocols = [Subprotocol(subprotocol)] if subprotocol else None
    while sent < count:
        connection: ClientConnection = connect(
            f"ws://127.0.0.1:{port}", subprotocols=protocols, compression=None, max_size=None
        ).__enter__()
        try:
            connection.recv(10)
            while sent < count:
                volley = [spoiled(generator, valid) for _ in range(min(50, count - sent))]
                for message in volley:
                    connection.send(message)
                sent += len(volley)
                for _ in volley:
                    answer = connection.recv(20)
                    answered += 1
                    text = answer if isinstance(answer, str) else answer.decode(errors="replace")
                    assert "the server failed" not in text, "every mistake has a sentence of its own"
        except ConnectionClosed:
            pass
        finally:
            connection.close()
    return answered


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FRAMES = (
    b"\x82\xff" + struct.pack(">Q", 1 << 62),  # a frame of 4 EiB
    b"\x82\xff" + struct.pack(">Q", 1 << 63),  # of a negative length
    b"\x82\xff" + struct.pack(">Q", 900_000) + bytes(1000),  # one that is never finished
    b"\x02\x81aaaab" * 5000,  # starts in a row, never an end
    b"\x02\x80aaaa" + b"\x00\xfe\xff\xffaaaa" + bytes(65535),  # fragments without end
    b"\x89\xfe\x10\x00aaaa",  # a ping that is too long
    b"\xf2\x85aaaahello",  # reserved bits
    b"\x82\x05hello",  # not masked
    b"\x83\x80aaaa",  # an opcode that is none
    b"\x88\x81aaaab",  # a close of one byte
)


def spoil_connections(port: int, generator: random.Random, count: int) -> None:
    """Requests and frames that are cut off, claim the impossible or break the protocol."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            line.settimeout(5)
            try:
                kind = generator.randrange(4)
                if kind == 0:
                    line.sendall(generator.randbytes(generator.randrange(1, 500)))
                elif kind == 1:
                    line.sendall(UPGRADE[: generator.randrange(1, len(UPGRADE))])
                else:
                    line.sendall(UPGRADE)
                    line.recv(4096)
                    line.sendall(generator.choice(FRAMES) if kind == 2 else generator.randbytes(300))
                    if generator.random() < 0.1:
                        line.recv(4096)
            except OSError:
                pass


def sleepers(port: int) -> list[socket.socket]:
    """Connections that say half a request, that upgrade and never speak, and that never read what they ask for."""
    lines = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(30)]
    for number, line in enumerate(lines):
        line.sendall(UPGRADE[:40] if number % 3 == 0 else UPGRADE)
        if number % 3 == 2:
            line.setblocking(False)
            body = b"\xc1" * 100
            frame = b"\x82" + bytes([0x80 | len(body)]) + bytes(4) + body
            for _ in range(2000):
                try:
                    line.send(frame)
                except BlockingIOError:
                    break
    return lines


@pytest.mark.slow
def test_nothing_that_is_sent_harms_the_server_or_its_other_clients(target: tuple[subprocess.Popen[str], int]) -> None:
    process, port = target
    watch, sizes, answered = Watch(port), [], 0
    lines = sleepers(port)
    rounds = 8
    for number in range(rounds):
        generator = random.Random(number)
        answered += fire(port, generator, MESSAGES // rounds, "tongs" if number % 2 else None)
        spoil_connections(port, generator, SPOILED // rounds)
        sizes.append(resident(process))
    watch.stop()
    for line in lines:
        line.close()
    assert process.poll() is None, "the server has died"
    if watch.error:
        raise watch.error
    assert watch.calls > 50 and watch.worst < LATENCY, f"{watch.calls} calls, the slowest {watch.worst:.2f} s"
    assert answered > 0.99 * MESSAGES, f"{answered} of {MESSAGES} malformed messages were answered"
    grown = max(sizes[rounds // 2 :]) - max(sizes[: rounds // 2])
    assert grown < GROWTH, f"the server grew by {grown >> 20} MiB: {[size >> 20 for size in sizes]} MiB"
    final = RemotePolicy(f"ws://127.0.0.1:{port}")
    final.bind(ROBOT)
    final.reset(0)
    final.act(observation(0))
    final.close()
    print(f"{watch.calls} valid calls, worst {watch.worst:.3f} s; {answered} answered; MiB {[s >> 20 for s in sizes]}")
