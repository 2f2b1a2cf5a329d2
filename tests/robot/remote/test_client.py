"""A policy behind a server is the policy itself; and what is said when it cannot be."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from websockets.sync.server import ServerConnection, serve

from robot.errors import ContractError, TongsError, UnreachableError
from robot.interface import EE_DELTA, Observation, RememberingPolicy, episode_seed
from robot.remote.client import RemotePolicy
from robot.remote.messages import Done, pack
from robot.remote.server import PolicyServer
from tests.conformance import check_batches, check_policy
from tests.robot.remote.toy import ROBOT, SPEC, Bare, bound, canonical, observation, served


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyServer]:
    with served() as running:
        yield running


def remote(server: PolicyServer, seed: int = 3, **options: object) -> RemotePolicy:
    policy = RemotePolicy(server.url, **options)  # type: ignore[arg-type]
    policy.bind(ROBOT)
    policy.reset(seed)
    return policy


def test_it_keeps_the_contract(server: PolicyServer) -> None:
    policy = remote(server)
    assert policy.spec == SPEC and policy.sampling == {"steps": 5} and policy.checkpoint == {"model": "ab" * 32}
    check_policy(policy, observation)
    check_batches(policy, observation)
    policy.close()


def test_chunks_are_those_of_a_local_call(server: PolicyServer) -> None:
    """Bit for bit: other state order, larger pictures and a camera too many on the robot's side."""
    policy, local = remote(server), bound()
    for seed in (3, 4):
        policy.reset(seed)
        local.reset(seed)
        for number in range(4):
            ours, theirs = policy.act(observation(number)), local.act(observation(number))
            np.testing.assert_array_equal(ours.actions, theirs.actions)
            np.testing.assert_array_equal(ours.times, theirs.times)
    policy.close()


def test_rows_of_a_batch_are_episodes_of_their_own(server: PolicyServer) -> None:
    policy, local = remote(server), bound()
    steps = [[observation(10 * row + number) for row in range(3)] for number in range(3)]
    together = [policy.act_batch(observations) for observations in steps]
    for row in range(3):
        local.reset(episode_seed(3, row))
        for number, chunks in enumerate(together):
            np.testing.assert_array_equal(chunks[row].actions, local.act(steps[number][row]).actions)
    policy.close()


def test_a_row_that_is_refused_does_not_shift_the_answers_of_the_others(server: PolicyServer) -> None:
    policy, local = remote(server), bound()
    rows = [observation(row) for row in range(3)]
    policy.act_batch(rows)
    with pytest.raises(TongsError, match="toy: no"):
        policy.act_batch([replace(rows[0], instruction="refuse"), *rows[1:]])
    chunks = policy.act_batch(rows)
    for row, acts in ((0, 2), (1, 3), (2, 3)):
        local.reset(episode_seed(3, row))
        expected = [local.act(rows[row]) for _ in range(acts)][-1]
        np.testing.assert_array_equal(chunks[row].actions, expected.actions)
    policy.close()


def test_what_is_remembered_reaches_the_policy() -> None:
    spec = replace(SPEC, history=3)
    with served(canonical(spec)) as server:
        policy, local = remote(server), bound(spec)
        assert isinstance(policy, RememberingPolicy)
        local.reset(3)
        for each in (policy, local):
            each.remember([observation(1)])
        expected = local.act(observation(2))
        np.testing.assert_array_equal(policy.act(observation(2)).actions, expected.actions)
        policy.reset(3)
        assert not np.allclose(policy.act(observation(2)).actions, expected.actions)
        policy.close()


@pytest.mark.parametrize("moments", [0, 3])
def test_goals_that_are_seen_reach_the_policy(moments: int) -> None:
    """Of one moment, or of several."""
    spec = replace(SPEC, goals=("image", "state"))
    random, lead = np.random.default_rng(8), (moments,) if moments else ()
    goals = {
        "goal_image": random.integers(0, 256, (*lead, 12, 16, 3), dtype=np.uint8),
        "goal_state": random.normal(size=(*lead, 3)).astype(np.float32),
    }
    with served(canonical(spec)) as server:
        policy, local = remote(server), bound(spec)
        local.reset(3)
        seen = replace(observation(1), **goals)
        np.testing.assert_array_equal(policy.act(seen).actions, local.act(seen).actions)
        policy.close()


def test_jpeg_pictures_are_what_pillow_reads_of_them(server: PolicyServer) -> None:
    import io

    from PIL import Image

    from robot.images import scale_down

    policy, local, seen = remote(server, jpeg=80), bound(), observation(5)
    images = {}
    for camera, size in SPEC.cameras.items():
        file = io.BytesIO()
        Image.fromarray(scale_down(seen.images[camera], size)).save(file, "JPEG", quality=80)
        images[camera] = np.asarray(Image.open(file))
    local.bind(replace(ROBOT, cameras=SPEC.cameras))
    local.reset(3)
    expected = local.act(replace(seen, images=images))
    np.testing.assert_array_equal(policy.act(seen).actions, expected.actions)
    policy.close()


def test_a_robot_that_does_not_fit_is_refused_with_both_sides_named(server: PolicyServer) -> None:
    policy = RemotePolicy(server.url)
    slow = replace(ROBOT, action_space=replace(EE_DELTA, rate=20.0))
    with pytest.raises(ContractError, match=r"policy toy at ws://.* does not fit .*rate is 10.0 here and 20.0"):
        policy.bind(slow)
    with pytest.raises(ContractError, match="camera wrist is wanted at 24x32 and the robot gives 12x16"):
        policy.bind(replace(ROBOT, cameras={"front": (24, 32), "wrist": (12, 16)}))
    with pytest.raises(ContractError, match="it reads state x which the robot does not have"):
        policy.bind(replace(ROBOT, state_names=("y",)))
    policy.close()


def test_what_is_said_of_observations(server: PolicyServer) -> None:
    policy, seen = RemotePolicy(server.url), observation(0)
    with pytest.raises(ContractError, match="call reset"):
        policy.act(seen)
    policy.reset(0)
    with pytest.raises(ContractError, match="call bind"):
        policy.act(seen)
    policy.bind(ROBOT)
    policy.reset(0)
    with pytest.raises(ContractError, match="'wrist' of the robot was declared 48x64 and gives 24x32"):
        policy.act(replace(seen, images={**seen.images, "wrist": seen.images["front"]}))
    with pytest.raises(ContractError, match="needs camera 'wrist'; the observation has: front"):
        policy.act(replace(seen, images={"front": seen.images["front"]}))
    with pytest.raises(ContractError, match="declares 3 state entries and the observation has 2"):
        policy.act(replace(seen, state=seen.state[:2]))
    with pytest.raises(TongsError, match="policy server at ws://.*: time must be a number of seconds, got nan"):
        policy.act(replace(seen, time=float("nan")))
    with pytest.raises(TongsError, match="policy server at ws://.*: toy: no"):
        policy.act(replace(seen, instruction="refuse"))
    with pytest.raises(TongsError, match="the policy failed .RuntimeError.; the server's log"):
        policy.act(replace(seen, instruction="panic"))
    assert len(policy.act(seen)) == 3, "a refusal must not end the connection"
    policy.close()


def test_a_message_that_is_too_long_is_not_sent() -> None:
    spec = replace(SPEC, cameras={"front": (700, 900)})
    with served(canonical(spec), message_mb=1) as server:
        policy = RemotePolicy(server.url)
        robot = replace(ROBOT, cameras={"front": (700, 900)})
        policy.bind(robot)
        policy.reset(0)
        seen = Observation({"front": np.zeros((700, 900, 3), np.uint8)}, np.zeros(3, np.float32), "", 0.0)
        with pytest.raises(ContractError, match=r"1.8 MiB is more than the server at .* reads \(1 MiB\).*message_mb"):
            policy.act(seen)
        policy.close()


@pytest.mark.parametrize("url", ["localhost:8000", "http://localhost:8000", "ws://", "ws://host:port", "ws://a/b", ""])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(TongsError, match="address is such as ws://localhost:8000"):
        RemotePolicy(url)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"nothing listens at 127.0.0.1, port {port}; is `tongs serve` running"):
        RemotePolicy(f"ws://127.0.0.1:{port}")


def test_somebody_listens_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="handshake"):
            RemotePolicy(f"ws://127.0.0.1:{mute.getsockname()[1]}", connect_timeout=0.5)
        assert time.monotonic() - start < 4.5


def test_the_server_wants_another_token() -> None:
    with served(token="a long secret") as server:
        with pytest.raises(TongsError, match="wants a token; set TONGS_TOKEN"):
            RemotePolicy(server.url)
        with pytest.raises(TongsError, match="does not take this token; set TONGS_TOKEN"):
            RemotePolicy(server.url, token="a wrong secret")
        RemotePolicy(server.url, token="a long secret").close()


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGS_TOKEN", "a long secret")
    with served(token="a long secret") as server:
        RemotePolicy(server.url).close()


def test_a_full_server_says_so(server: PolicyServer) -> None:
    with served(clients=1) as small:
        first = RemotePolicy(small.url)
        with pytest.raises(UnreachableError, match="has its 1 clients; ask later"):
            RemotePolicy(small.url)
        first.close()
        time.sleep(0.3)
        RemotePolicy(small.url).close()


def other(handler: Callable[[ServerConnection], None], subprotocol: str | None = "tongs"):
    """A server that is none of ours."""
    protocols = [subprotocol] if subprotocol else None
    running = serve(handler, "127.0.0.1", 0, subprotocols=protocols, compression=None)  # type: ignore[arg-type]
    threading.Thread(target=running.serve_forever, daemon=True).start()
    return running, f"ws://127.0.0.1:{running.socket.getsockname()[1]}"


def test_servers_of_other_kinds_are_named(server: PolicyServer) -> None:
    welcome = {"type": "welcome", "version": 2, "server": "tongs 9"}
    running, url = other(lambda connection: connection.send(msgspec.msgpack.encode(welcome)))
    with pytest.raises(TongsError, match=f"{url} speaks version 2 of the protocol and this client .* version 1; use"):
        RemotePolicy(url)
    running.shutdown()
    running, url = other(lambda connection: connection.send(b"\x80"), None)
    with pytest.raises(TongsError, match="is no Tongs policy server"):
        RemotePolicy(url)
    running.shutdown()


def test_a_call_ends_when_its_time_is_over_and_the_next_answer_is_the_right_one() -> None:
    toy = canonical()
    with served(toy) as server:
        policy, local = remote(server, timeout=0.4), bound()
        with toy.lock:
            start = time.monotonic()
            with pytest.raises(UnreachableError, match="did not answer within 0.4 s"):
                policy.act(observation(0))
            assert time.monotonic() - start < 5
        with pytest.raises(UnreachableError, match="connection was lost; reset begins a new episode"):
            policy.act(observation(0))
        policy.reset(5)
        local.reset(5)
        np.testing.assert_array_equal(policy.act(observation(1)).actions, local.act(observation(1)).actions)
        policy.close()


def test_an_episode_goes_on_after_a_lost_connection_where_that_is_wanted() -> None:
    toy = canonical()
    with served(toy) as server:
        policy, local = remote(server, timeout=0.4, reconnect=True), bound()
        policy.act(observation(0))
        with toy.lock, pytest.raises(UnreachableError):
            policy.act(observation(0))
        local.reset(3)
        np.testing.assert_array_equal(policy.act(observation(1)).actions, local.act(observation(1)).actions)
        policy.close()


def test_a_server_that_stops_reading_does_not_hold_a_robot_up() -> None:
    """A raw picture is larger than what the kernel keeps for a peer that takes nothing."""
    released = threading.Event()
    welcome = {"type": "welcome", "version": 1, "server": "x", "policy": "x", "sampling": {}, "checkpoint": {}}
    spec = replace(SPEC, cameras={"front": (2048, 4096)})

    def sleeper(connection: ServerConnection) -> None:
        connection.send(msgspec.msgpack.encode(welcome | {"spec": spec, "max_bytes": 1 << 30}))
        for _ in range(2):
            connection.recv()
            connection.send(pack(Done()))
        with connection.protocol_mutex:  # nothing more is read
            released.wait(40)

    running, url = other(sleeper)
    policy = RemotePolicy(url, timeout=0.5)
    policy.bind(replace(ROBOT, cameras={"front": (2048, 4096)}))
    policy.reset(0)
    seen = Observation({"front": np.zeros((2048, 4096, 3), np.uint8)}, np.zeros(3, np.float32), "", 0.0)
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="did not answer within 0.5 s"):
        policy.act(seen)
    assert time.monotonic() - start < 10
    released.set()
    policy.close()
    running.shutdown()


def test_the_server_goes_and_another_policy_comes() -> None:
    with served() as server:
        policy = remote(server)
        port = server.port
    with pytest.raises(UnreachableError, match="closed: the server ends|connection was lost"):
        policy.act(observation(0))
    with pytest.raises(UnreachableError, match="nothing listens"):
        policy.reset(0)
    with served(port=port):
        policy.reset(0)
        policy.act(observation(0))
    with served(port=port):
        policy.reset(0)  # the loss is noticed, and made good
        policy.act(observation(0))
    spec = replace(SPEC, horizon=5)
    with served(canonical(spec), port=port), pytest.raises(ContractError, match="now serves another policy"):
        policy.reset(0)


def test_a_policy_of_one_episode_is_lent_to_one_client_at_a_time() -> None:
    with served(Bare(canonical())) as server:
        first, second, local = RemotePolicy(server.url), RemotePolicy(server.url), bound()
        for policy in (first, second):
            policy.bind(ROBOT)
        first.reset(3)
        local.reset(3)
        with pytest.raises(TongsError, match="one episode at a time, and another client is in one"):
            second.reset(4)
        np.testing.assert_array_equal(first.act(observation(1)).actions, local.act(observation(1)).actions)
        first.reset(3)
        first.close()
        time.sleep(0.3)
        second.reset(4)
        local.reset(4)
        np.testing.assert_array_equal(second.act(observation(1)).actions, local.act(observation(1)).actions)
        second.close()
