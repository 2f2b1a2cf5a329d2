"""OpenVLA's REST interface, asked as its own examples ask, with arrays packed as json-numpy packs them."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robot.interface import Observation
from robot.remote.server import PolicyServer
from tests.robot.remote.toy import SPEC, Bare, canonical, served

IMAGE = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
WRIST = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8)
STATE = np.array([0.25, -2.0])
ONE_CAMERA = replace(SPEC, cameras={"front": (24, 32)}, state_names=())


@pytest.fixture(scope="module")
def openvla() -> Iterator[PolicyServer]:
    """Of a policy such as OpenVLA is: one camera, no proprioception."""
    with served(canonical(ONE_CAMERA)) as running:
        yield running


@pytest.fixture(scope="module")
def oft() -> Iterator[PolicyServer]:
    with served() as running:
        yield running


def default(value: Any) -> Any:
    """json-numpy's form of an array, from its documentation."""
    assert isinstance(value, np.ndarray)
    data = base64.b64encode(value.tobytes()).decode()
    return {"__numpy__": data, "dtype": np.lib.format.dtype_to_descr(value.dtype), "shape": value.shape}


def hook(value: dict[str, Any]) -> Any:
    if "__numpy__" not in value:
        return value
    dtype = np.lib.format.descr_to_dtype(value["dtype"])
    return np.frombuffer(base64.b64decode(value["__numpy__"]), dtype).reshape(value["shape"])


def post(server: PolicyServer, body: bytes, **headers: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{server.port}/act"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.loads(response.read(), object_hook=hook)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ask(server: PolicyServer, **fields: Any) -> tuple[int, Any]:
    return post(server, json.dumps(fields, default=default).encode())


def test_an_image_and_an_instruction_give_an_action(openvla: PolicyServer) -> None:
    """The first of a local call's chunk; asked again the same, since every request is an episode of its own."""
    local = canonical(ONE_CAMERA)
    local.reset(0)
    expected = local.act(Observation({"front": IMAGE}, np.zeros(0, np.float32), "open it", 0.0)).actions[0]
    for _ in range(2):
        status, action = ask(openvla, image=IMAGE, instruction="open it", unnorm_key=None)
        assert status == 200 and action.shape == (7,) and action.dtype == np.float64
        np.testing.assert_array_equal(action, expected.astype(np.float64))


def test_the_form_for_clients_without_json_numpy(openvla: PolicyServer) -> None:
    _, expected = ask(openvla, image=IMAGE, instruction="open it")
    inner = json.dumps({"image": IMAGE, "instruction": "open it"}, default=default)
    status, text = post(openvla, json.dumps({"encoded": inner}).encode())
    assert status == 200 and isinstance(text, str)
    np.testing.assert_array_equal(json.loads(text, object_hook=hook), expected)


def test_ofts_observation_gives_the_chunk(oft: PolicyServer) -> None:
    local = canonical()
    local.reset(0)
    seen = Observation({"front": IMAGE, "wrist": WRIST}, STATE.astype(np.float32), "open it", 0.0)
    status, actions = ask(oft, full_image=IMAGE, wrist_image=WRIST, state=STATE, instruction="open it")
    assert status == 200 and len(actions) == 3
    np.testing.assert_array_equal(np.stack(actions), local.act(seen).actions.astype(np.float64))


def test_a_policy_of_one_episode_answers_request_after_request() -> None:
    with served(Bare(canonical(ONE_CAMERA))) as server:
        for _ in range(3):
            assert ask(server, image=IMAGE, instruction="open it")[0] == 200


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "instruction is missing"),
        ({"image": IMAGE, "instruction": 3}, "Expected `str | null`, got `int` - at `$.instruction`"),
        ({"instruction": "open"}, "needs an image of camera 'front'"),
        ({"image": IMAGE[:5], "instruction": "open"}, "5x32x3 were sent, and the policy works at 24x32x3"),
        ({"image": IMAGE.tolist(), "instruction": "open"}, "got `array` - at `$.image`"),
        ({"image": {"__numpy__": "%%", "dtype": "|u1", "shape": [1]}, "instruction": "open"}, "must be base64"),
        ({"image": {"__numpy__": "", "dtype": "|O", "shape": [0]}, "instruction": "open"}, "arrays must be of type"),
        ({"image": IMAGE, "instruction": "open", "unnorm_key": "bridge_orig"}, "unnorm_key must be left out"),
        ({"image": IMAGE, "instruction": "open", "pickle": 1}, "unknown field `pickle`"),
        ({"encoded": 3}, "got `int` - at `$.encoded`"),
        ({"encoded": "{"}, "not one of OpenVLA's: Input data was truncated"),
    ],
)
def test_every_mistake_is_one_sentence(openvla: PolicyServer, fields: dict[str, Any], said: str) -> None:
    status, answer = ask(openvla, **fields)
    assert status == 400 and said in answer["error"]


def test_what_is_no_request(oft: PolicyServer, openvla: PolicyServer) -> None:
    assert post(openvla, b"\xff\xfe")[1]["error"].startswith("the request is not one of OpenVLA's")
    assert post(openvla, b"[1]")[1]["error"].startswith("the request is not one of OpenVLA's: Expected `object`")
    assert post(openvla, b"[" * 100_000)[0] == 400
    status, answer = ask(oft, image=IMAGE, instruction="open")
    assert status == 400 and "needs an image of camera 'wrist'" in answer["error"]
    status, answer = ask(oft, full_image=IMAGE, wrist_image=WRIST, instruction="open")
    assert status == 400 and "reads 2 state entries (x, y), got 0" in answer["error"]


def test_a_body_that_is_too_long() -> None:
    with served(canonical(ONE_CAMERA), message_mb=1) as server:
        status, answer = post(server, b'"' + b"x" * (2 << 20) + b'"')
        assert status == 413 and "1 MiB" in answer["error"]
        assert ask(server, image=IMAGE, instruction="open it")[0] == 200
