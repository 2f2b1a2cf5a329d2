"""openpi's wire format, spoken by a client written from its description alone, with the msgpack package.

By hand the same was done with openpi-client 0.1.2 itself, which cannot be a dependency: it wants NumPy below 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from robot.errors import TongsError
from robot.interface import Observation
from robot.remote.client import RemotePolicy
from robot.remote.server import PolicyServer, ServerConfig
from tests.robot.remote.toy import ROBOT, SPEC, Bare, canonical, observation, served


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyServer]:
    with served() as running:
        yield running


def pack(value: Any) -> Any:
    """Arrays and NumPy's scalars as openpi's packer writes them."""
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(type(value))


def unpack(value: dict) -> Any:
    if b"__ndarray__" in value:
        return np.ndarray(buffer=value[b"data"], dtype=np.dtype(value[b"dtype"]), shape=value[b"shape"])
    return value


class Client:
    """What openpi's `WebsocketClientPolicy` does, from opening to `infer`."""

    def __init__(self, server: PolicyServer, **options: Any) -> None:
        self.connection: ClientConnection = connect(server.url, compression=None, max_size=None, **options).__enter__()
        self.metadata = msgpack.unpackb(self.connection.recv(5), object_hook=unpack)

    def infer(self, seen: dict[str, Any]) -> dict[str, Any]:
        self.connection.send(msgpack.packb(seen, default=pack))
        answer = self.connection.recv(5)
        if isinstance(answer, str):
            raise RuntimeError(f"Error in inference server:\n{answer}")
        return msgpack.unpackb(answer, object_hook=unpack)


IMAGES = {name: np.random.default_rng(3).integers(0, 256, (24, 32, 3), dtype=np.uint8) for name in SPEC.cameras}
STATE = np.array([0.5, -1.0])
LIBERO = {
    "observation/image": IMAGES["front"],
    "observation/wrist_image": IMAGES["wrist"],
    "observation/state": STATE,
    "prompt": "open it",
}


def expected(count: int, seed: int = 0) -> list[np.ndarray]:
    local = canonical()
    local.reset(seed)
    return [local.act(Observation(IMAGES, STATE.astype(np.float32), "open it", 0.0)).actions for _ in range(count)]


@pytest.mark.parametrize(
    "seen",
    [
        LIBERO,
        {"images": {name: image.transpose(2, 0, 1).copy() for name, image in IMAGES.items()}, "state": STATE}
        | {"prompt": "open it"},
        {**LIBERO, "observation/state": STATE.tolist(), "extra": b"any", "more": {"x": np.float32(3)}},
        {**LIBERO, "observation/state": STATE.astype(np.float32), "observation/image": np.repeat(
            np.repeat(IMAGES["front"], 2, axis=0), 2, axis=1)},
    ],
    ids=["LIBERO", "ALOHA, channels first", "lists and extras", "larger"],
)  # fmt: skip
def test_the_usual_observations_are_understood(server: PolicyServer, seen: dict[str, Any]) -> None:
    client = Client(server)
    assert client.metadata["policy"] == "toy" and client.metadata["spec"]["horizon"] == 3
    for wanted in expected(3):
        answer = client.infer(seen)
        assert answer["actions"].dtype == np.float32
        np.testing.assert_array_equal(answer["actions"], wanted)
        assert answer["server_timing"]["infer_ms"] >= 0
        arrays = [value for value in answer.values() if isinstance(value, np.ndarray)]
        assert all(len(array) == 3 for array in arrays), "openpi's broker cuts every array by steps"
    client.connection.close()


def test_clients_of_both_kinds_share_a_server(server: PolicyServer) -> None:
    theirs, ours = Client(server), RemotePolicy(server.url)
    ours.bind(ROBOT)
    ours.reset(1)
    first = ours.act(observation(0)).actions
    np.testing.assert_array_equal(theirs.infer(LIBERO)["actions"], expected(1)[0])
    ours.reset(1)
    np.testing.assert_array_equal(ours.act(observation(0)).actions, first)
    theirs.connection.close()
    ours.close()


def test_keys_may_be_named() -> None:
    settings = {"front": "observation/exterior_image_1_left", "state": ["observation/joint", "observation/gripper"]}
    with served(openpi=settings) as server:
        client = Client(server)
        droid = {
            "observation/exterior_image_1_left": IMAGES["front"],
            "observation/wrist_image": IMAGES["wrist"],
            "observation/joint": STATE[:1],
            "observation/gripper": STATE[1:],
            "prompt": "open it",
        }
        np.testing.assert_array_equal(client.infer(droid)["actions"], expected(1)[0])
        with pytest.raises(RuntimeError, match="'front' is looked for under observation/exterior_image_1_left; there"):
            client.infer(LIBERO)
        client.connection.close()


def test_keys_of_nothing_are_refused() -> None:
    with pytest.raises(
        TongsError, match="unknown key 'openpi.top'; known are: openpi.front, openpi.state, openpi.wrist"
    ):
        PolicyServer(canonical(), "toy", ServerConfig(openpi={"top": "observation/image"}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observation/image": IMAGES["front"][:12]}, "12x32x3 were sent, and the policy works at 24x32x3; send at"),
        ({"observation/image": IMAGES["front"].astype(np.float32)}, "'front': expected an array uint8"),
        ({"observation/image": b"abc"}, r"camera 'front' .observation/image.: Expected .*got `bytes`"),
        ({"observation/state": STATE[:1]}, r"reads 2 state entries \(x, y\), got 1"),
        ({"observation/state": "state"}, r"reads 2 state entries \(x, y\), got 0"),
        ({"observation/state": np.array([np.inf, 0])}, "NaN or infinity"),
        ({"observation/state": np.array([1 + 2j, 3])}, r"arrays must be of type .*got '<c16'"),
        ({"prompt": 3}, "prompt must be a text"),
        (
            {"observation/state": {b"__ndarray__": True, b"dtype": "<f4", b"shape": [9], b"data": b""}},
            "as many bytes as fill it",
        ),
        (
            {"observation/state": {b"__ndarray__": True, b"dtype": "|O", b"shape": [1], b"data": b"x" * 8}},
            "arrays must",
        ),
        ({3: 4}, "no observation of openpi's: Expected `str`, got `int`"),
    ],
)
def test_every_mistake_is_one_sentence(server: PolicyServer, change: dict[Any, Any], said: str) -> None:
    client = Client(server)
    with pytest.raises(RuntimeError, match=said):
        client.infer(LIBERO | change)
    np.testing.assert_array_equal(client.infer(LIBERO)["actions"], expected(1)[0])
    client.connection.close()


def test_missing_keys_are_named_with_those_that_are_there(server: PolicyServer) -> None:
    client = Client(server)
    with pytest.raises(
        RuntimeError, match="camera 'wrist' is looked for under .*; there are: observation/image, prompt"
    ):
        client.infer({"observation/image": IMAGES["front"], "prompt": "open it"})
    client.connection.close()


def test_its_key_is_our_token() -> None:
    with served(token="a long secret") as server:
        client = Client(server, additional_headers={"Authorization": "Api-Key a long secret"})
        np.testing.assert_array_equal(client.infer(LIBERO)["actions"], expected(1)[0])
        client.connection.close()


def test_policies_that_must_see_everything_are_refused() -> None:
    with served(canonical(replace(SPEC, history=2))) as server:
        client = Client(server)
        with pytest.raises(RuntimeError, match="wants 2 observations a control period apart.*Tongs' own client"):
            client.infer(LIBERO)


def test_a_policy_of_one_episode_is_lent_until_the_connection_ends() -> None:
    with served(Bare(canonical())) as server:
        first, second = Client(server), Client(server)
        first.infer(LIBERO)
        with pytest.raises(RuntimeError, match="another client is in one"):
            second.infer(LIBERO)
        first.connection.close()
        while True:
            try:
                np.testing.assert_array_equal(second.infer(LIBERO)["actions"], expected(1)[0])
                break
            except RuntimeError:
                pass
        second.connection.close()
