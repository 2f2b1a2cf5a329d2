"""Several clients of one server, who may come in, and what else it answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from robot.errors import TongsError, UnreachableError
from robot.interface import EE_DELTA, Observation
from robot.remote.client import RemotePolicy
from robot.remote.server import PolicyServer, ServerConfig
from tests.robot.remote.toy import ROBOT, SPEC, bound, canonical, observation, served

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyServer]:
    with served() as running:
        yield running


def fetch(server: PolicyServer, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def raw(server: PolicyServer, **options: Any) -> ClientConnection:
    """A connection that speaks msgpack by the package of that name, past its welcome."""
    connection = connect(server.url, subprotocols=[Subprotocol("tongs")], compression=None, **options).__enter__()
    connection.recv(5)
    return connection


def told(connection: ClientConnection, message: dict[str, Any]) -> dict[str, Any]:
    connection.send(msgpack.packb(message))
    return msgpack.unpackb(connection.recv(5))


def test_episodes_of_many_clients_do_not_depend_on_each_other() -> None:
    """Eight clients with seeds and lengths of their own, at the same time; each gets what it gets alone, to the bit."""
    toy = canonical()

    def drive(client: int) -> list[np.ndarray]:
        policy, actions = RemotePolicy(server.url), []
        policy.bind(ROBOT)
        for episode in range(2):
            policy.reset(100 * client + episode)
            actions += [policy.act(observation(50 * client + number)).actions for number in range(5 + client)]
        policy.close()
        return actions

    with served(toy, batch=4) as server, ThreadPoolExecutor(8) as pool:
        toy.batches.clear()
        together = list(pool.map(drive, range(8)))
        assert max(toy.batches) <= 4
    for client, actions in enumerate(together):
        local, expected = bound(), []
        for episode in range(2):
            local.reset(100 * client + episode)
            expected += [local.act(observation(50 * client + number)).actions for number in range(5 + client)]
        np.testing.assert_array_equal(actions, expected)


def test_what_waits_is_computed_together_and_one_bad_request_harms_no_other() -> None:
    toy = canonical()
    with served(toy) as server:
        clients = [RemotePolicy(server.url) for _ in range(5)]
        for number, policy in enumerate(clients):
            policy.bind(ROBOT)
            policy.reset(number)
        toy.batches.clear()
        words = ["open it", "open it", "panic", "open it", "open it"]
        with ThreadPoolExecutor(5) as pool:
            with toy.lock:  # one is computed, the others wait
                answers = [
                    pool.submit(policy.act, observation(number, word))
                    for number, (policy, word) in enumerate(zip(clients, words, strict=True))
                ]
                time.sleep(0.7)
            for number, answer in enumerate(answers):
                if words[number] == "panic":
                    with pytest.raises(TongsError, match="the policy failed"):
                        answer.result(5)
                    continue
                local = bound()
                local.reset(number)
                np.testing.assert_array_equal(answer.result(5).actions, local.act(observation(number)).actions)
        assert max(toy.batches) >= 3, "requests that wait must share a batch"
        for policy in clients:
            policy.close()


def test_the_messages_are_plain_msgpack() -> None:
    """A whole conversation by the msgpack package, from the documented schema alone."""
    with served() as server:
        connection = connect(server.url, subprotocols=[Subprotocol("tongs")], compression=None).__enter__()
        welcome = msgpack.unpackb(connection.recv(5))
        assert (welcome["type"], welcome["version"], welcome["policy"]) == ("welcome", 1, "toy")
        assert welcome["spec"] == json.loads(json.dumps(SPEC.to_json())) and welcome["max_bytes"] == 16 << 20
        space = welcome["spec"]["action_space"]
        robot = {"cameras": welcome["spec"]["cameras"], "state_names": ["y", "x"], "action_space": space}
        assert told(connection, {"type": "hello", "version": 1, "client": "a test", "robot": robot}) == {"type": "done"}
        assert told(connection, {"type": "reset", "seed": 9}) == {"type": "done"}
        images = {
            name: {"format": "raw", "height": 24, "width": 32, "data": bytes(24 * 32 * 3)} for name in robot["cameras"]
        }
        state = {"dtype": "<f4", "shape": [2], "data": np.array([1, 2], "<f4").tobytes()}
        seen = {"images": images, "state": state, "instruction": "open", "time": 4.0}
        chunk = told(connection, {"type": "act", "observation": seen})
        assert chunk["type"] == "chunk" and chunk["computed"] >= 0 and chunk["waited"] >= 0
        actions = np.frombuffer(chunk["actions"]["data"], chunk["actions"]["dtype"]).reshape(chunk["actions"]["shape"])
        times = np.frombuffer(chunk["times"]["data"], chunk["times"]["dtype"])
        local = canonical()
        local.reset(9)
        blank = {name: np.zeros((24, 32, 3), np.uint8) for name in robot["cameras"]}
        expected = local.act(Observation(blank, np.array([2, 1], np.float32), "open", 4.0))
        np.testing.assert_array_equal(actions, expected.actions)
        np.testing.assert_array_equal(times, expected.times)
        connection.close()


HELLO = {
    "type": "hello",
    "version": 1,
    "client": "a test",
    "robot": {
        "cameras": {"front": [24, 32], "wrist": [24, 32]},
        "state_names": ["x", "y"],
        "action_space": json.loads(json.dumps(EE_DELTA.to_json())),
    },
}
PICTURE = {"format": "raw", "height": 24, "width": 32, "data": bytes(24 * 32 * 3)}
SEEN = {
    "images": {"front": PICTURE, "wrist": PICTURE},
    "state": {"dtype": "<f4", "shape": [2], "data": bytes(8)},
    "instruction": "open",
    "time": 0.0,
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """An act message with one entry changed."""
    message = msgpack.unpackb(msgpack.packb({"type": "act", "observation": SEEN}))
    *parents, last = path.split(".")
    place = message["observation"]
    for parent in parents:
        place = place[parent]
    place[last] = value
    return message


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"type": "fly"}, "Invalid value 'fly' - at `\\$.type`"),
        ({"type": "reset"}, "missing required field `seed`"),
        ({"type": "reset", "seed": -1}, "`int` >= 0 - at `\\$.seed`"),
        ({"type": "reset", "seed": 1, "more": 2}, "unknown field `more`"),
        ({**HELLO, "version": 7}, "client speaks version 7 of the protocol and this server .* version 1"),
        ([1, 2], "Expected `object`, got `array`"),
        (changed("state.dtype", "|O"), "Invalid enum value '|O' - at `\\$.observation.state.dtype`"),
        (changed("state.data", bytes(7)), "state: <f4 of shape \\(2,\\) does not have 7 bytes"),
        (changed("state.shape", [2, 1]), "declares 2 state entries and the observation has \\(2, 1\\)"),
        (changed("state.data", np.array([0, np.nan], "<f4").tobytes()), "state holds NaN or infinity"),
        (changed("time", float("inf")), "time must be a number of seconds, got inf"),
        (changed("instruction", "x" * 5000), "length <= 4096 - at `\\$.observation.instruction`"),
        (changed("images.front.height", 100000), "`int` <= 4096"),
        (changed("images.front.height", 23), "'front' was declared 24x32 and gives 23x32"),
        (changed("images.front.data", b"123"), "raw image of 24x32 does not have 3 bytes"),
        (changed("images.front.format", "jpeg"), "camera 'front': no readable JPEG"),
        (changed("images", {}), "camera 'front' is needed; the observation has: none"),
    ],
)
def test_every_mistake_is_one_sentence(server: PolicyServer, message: Any, said: str) -> None:
    connection = raw(server)
    if not (isinstance(message, dict) and message.get("type") == "hello"):
        assert told(connection, HELLO) == told(connection, {"type": "reset", "seed": 0}) == {"type": "done"}
    answer = told(connection, message)
    assert answer["type"] == "refusal" and re.search(said, answer["message"]), answer
    assert told(connection, HELLO) == {"type": "done"}, "the connection must be usable afterwards"
    connection.close()


def test_a_jpeg_of_another_size_is_not_decoded(server: PolicyServer) -> None:
    """A small file may hold a huge picture; it is told by its head."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (8000, 8000)).save(file, "JPEG")
    connection = raw(server)
    told(connection, HELLO)
    told(connection, {"type": "reset", "seed": 0})
    picture = {"format": "jpeg", "height": 24, "width": 32, "data": file.getvalue()}
    answer = told(connection, changed("images.front", picture))
    assert "the JPEG is 8000x8000, and the message says 24x32" in answer["message"]
    connection.close()


def test_order_of_a_conversation(server: PolicyServer) -> None:
    connection = raw(server)
    act = {"type": "act", "observation": SEEN}
    assert "hello, which says what the robot is, comes before" in told(connection, act)["message"]
    told(connection, HELLO)
    assert "reset comes before the first observation" in told(connection, act)["message"]
    fast = {**HELLO["robot"], "action_space": {**HELLO["robot"]["action_space"], "rate": 50.0}}
    answer = told(connection, {**HELLO, "robot": fast})
    assert "the policy toy does not fit the robot" in answer["message"] and "rate is 10.0 here" in answer["message"]
    connection.close()


def test_a_message_over_the_limit_ends_the_connection_before_it_is_there() -> None:
    with served(message_mb=1) as server:
        connection = raw(server)
        with pytest.raises(ConnectionClosed) as closed:
            connection.send(bytes(2 << 20))
            connection.recv(5)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
        RemotePolicy(server.url).close()


def test_health_metrics_and_what_is_served(server: PolicyServer) -> None:
    assert fetch(server, "/healthz") == (200, "OK\n")
    status, text = fetch(server, "/")
    assert status == 200 and json.loads(text)["policy"] == "toy" and json.loads(text)["spec"]["horizon"] == 3
    assert fetch(server, "/nothing")[0] == 404
    before = numbers(server)
    policy = RemotePolicy(server.url)
    policy.bind(ROBOT)
    policy.reset(0)
    policy.act(observation(0))
    now = numbers(server)
    answered = 'tongs_requests_total{"format": "tongs", "outcome": "answered"}'
    assert now[answered] - before.get(answered, 0) == 3  # hello, reset, act
    assert now["tongs_inference_seconds_count{}"] - before["tongs_inference_seconds_count{}"] == 1
    assert now["tongs_clients{}"] - before["tongs_clients{}"] == 1
    assert now["process_resident_memory_bytes{}"] > 1e6
    policy.close()


def numbers(server: PolicyServer) -> dict[str, float]:
    status, text = fetch(server, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    return {f"{s.name}{json.dumps(s.labels)}": s.value for family in families for s in family.samples}


def test_a_policy_that_hangs_or_dies_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    import robot.remote.server as module

    toy = canonical()
    with served(toy) as server:
        policy = RemotePolicy(server.url, timeout=0.3)
        policy.bind(ROBOT)
        policy.reset(0)
        monkeypatch.setattr(module, "STUCK", 0.2)
        with toy.lock:
            with pytest.raises(UnreachableError):
                policy.act(observation(0))
            status, text = fetch(server, "/healthz")
            assert status == 503 and "has not answered for 0 s" in text
        time.sleep(0.3)
        assert fetch(server, "/healthz")[0] == 200

        def die(*_: object) -> None:
            raise SystemExit

        monkeypatch.setattr(toy, "act_episodes", die)
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        policy.reset(0)
        with pytest.raises(UnreachableError):
            policy.act(observation(0))
        assert fetch(server, "/healthz") == (503, "the policy has died; start the server again\n")


def test_who_is_let_in() -> None:
    with served(token="a long secret") as server:
        for headers in ({}, {"Authorization": "Bearer a wrong one"}, {"Authorization": "Basic a long secret"}):
            with pytest.raises(InvalidStatus) as refused:
                raw(server, additional_headers=headers)
            assert refused.value.response.status_code == 401
            assert fetch(server, "/metrics", **headers)[0] == 401
        assert fetch(server, "/healthz")[0] == 200
        for scheme in ("Bearer", "Api-Key"):
            raw(server, additional_headers={"Authorization": f"{scheme} a long secret"}).close()
        with pytest.raises(InvalidStatus) as refused:
            raw(server, additional_headers={"Authorization": "Bearer a long secret"}, origin="http://evil.example")
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "host=0.0.0.0 can be reached from other machines, which needs a token: set TONGS_TOKEN"),
        ({"host": "::"}, "needs a token"),
        ({"host": ""}, "needs a token"),
        ({"host": "no.such.host.example"}, "host=no.such.host.example is no address of this machine"),
        ({"port": 70000}, "port must be a whole number from 0 to 65535, got 70000"),
        ({"batch": 0}, "batch must be a whole number from 1"),
        ({"token": "short"}, "at least 8 printable ASCII characters"),
        ({"certificate": "a.pem"}, "TLS needs both"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(TongsError, match=said):
        ServerConfig(**settings)


def test_loopback_and_tokens_are_let_pass() -> None:
    for settings in ({"host": "localhost"}, {"host": "127.0.0.2"}, {"host": "0.0.0.0", "token": "a long secret"}):
        ServerConfig(**settings)


def test_a_port_that_is_taken(server: PolicyServer) -> None:
    with (
        pytest.raises(TongsError, match=f"port {server.port} of 127.0.0.1 is in use; choose another"),
        served(port=server.port),
    ):
        pass


def test_a_policy_that_cannot_act_is_not_served() -> None:
    from tests.robot.remote.toy import Toy

    with pytest.raises(TongsError, match="toy: the state has 2 entries"), served(Toy()):
        pass


def test_slow_heads_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that never finishes its request's head, and a body that never ends."""
    import robot.remote.server as module

    monkeypatch.setattr(module, "HASTE", 0.5)
    with served() as server:
        for said in (
            b"",
            b"GET / HTTP/1.1\r\nHost: x\r\n",
            b"POST /act HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
        ):
            with socket.create_connection(("127.0.0.1", server.port), 5) as slow:
                slow.sendall(said)
                while slow.recv(4096):
                    pass  # an answer may come before the end
        RemotePolicy(server.url).close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    if not shutil.which("openssl"):
        pytest.skip("makes its certificate with openssl, which is not installed")
    paths = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def test_tls(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with served(certificate=certificate[0], key=certificate[1]) as server:
        assert server.url.startswith("wss://")
        with pytest.raises(UnreachableError, match="self.signed certificate"):
            RemotePolicy(server.url)
        with pytest.raises(TongsError, match="ws:// for others|no Tongs policy server"):
            RemotePolicy(server.url.replace("wss", "ws"))
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
        policy, local = RemotePolicy(server.url), bound()
        policy.bind(ROBOT)
        policy.reset(1)
        local.reset(1)
        np.testing.assert_array_equal(policy.act(observation(2)).actions, local.act(observation(2)).actions)
        policy.close()
    with (
        pytest.raises(TongsError, match="are no certificate with its key"),
        served(certificate=certificate[1], key=certificate[0]),
    ):
        pass
    with (
        pytest.raises(TongsError, match="there is no file nothing.pem"),
        served(certificate="nothing.pem", key=certificate[1]),
    ):
        pass


def test_the_command(tmp_path: Path) -> None:
    """`tongs serve` in a process of its own, until SIGINT."""
    from tests.policies import small

    small.policy().save(tmp_path / "policy")
    command = [sys.executable, "tongs.py", "serve", f"policy={tmp_path / 'policy'}", "port=0", "sampling.steps=2"]
    environment = os.environ | {"TONGS_TOKEN": "a long secret", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[-3]
        assert line.startswith(str(tmp_path)) and url.startswith("ws://127.0.0.1:")
        policy = RemotePolicy(url, token="a long secret")
        assert policy.sampling["steps"] == 2 and set(policy.checkpoint) >= {"config.json", "model.safetensors"}
        policy.bind(small.ROBOT)
        policy.reset(7)
        local = small.policy().eval()
        local.sampling = replace(local.sampling, steps=2)
        local.bind(small.ROBOT)
        local.reset(7)
        seen = small.observation(3)
        np.testing.assert_allclose(policy.act(seen).actions, local.act(seen).actions, atol=1e-6)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        with pytest.raises(UnreachableError, match="the server ends|was lost"):
            policy.act(seen)
    finally:
        process.kill()
        process.wait()


def test_the_robots_side_is_light() -> None:
    """The client needs NumPy, msgspec and websockets; no server, no torch, no Pillow."""
    heavy = ("torch", "scipy", "PIL", "aiohttp", "prometheus_client")
    code = f"import sys, robot.remote.client; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
