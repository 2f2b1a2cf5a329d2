"""A language motion on its way to a policy server and back."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from robot.interface import ActionChunk
from robot.remote.messages import (
    Act,
    Chunk,
    Seen,
    pack,
    pack_array,
    read_reply,
    read_request,
    unpack_chunk,
)
from robot.remote.session import observation


def test_a_motion_that_somebody_chose_reaches_the_policy() -> None:
    state = pack_array(np.zeros(3, np.float32))
    read = read_request(pack(Act(Seen({}, state, "lift it", 1.5, motion="move arm up"))))
    assert isinstance(read, Act) and read.observation.motion == "move arm up"
    seen = observation({}, np.zeros(3), "lift it", 1.5, motion=read.observation.motion)
    assert (seen.motion, seen.instruction, seen.time) == ("move arm up", "lift it", 1.5)
    assert b"motion" not in pack(Act(Seen({}, state, "lift it", 1.5)))  # what an older server would not know


@pytest.mark.parametrize(("motion", "source"), [("move arm up", "human"), ("", "model")])
def test_the_motion_that_is_carried_out_comes_back(motion: str, source: Literal["human", "model"]) -> None:
    actions, times = np.ones((2, 7), np.float32), np.array([1.0, 1.1])
    sent = Chunk(pack_array(actions), pack_array(times), 0.0, 0.1, motion=motion, motion_source=source)
    reply = read_reply(pack(sent))
    assert isinstance(reply, Chunk)
    chunk = unpack_chunk(reply)
    np.testing.assert_array_equal(chunk.actions, actions)
    assert isinstance(chunk, ActionChunk) and (chunk.motion, chunk.motion_source) == (motion, source)
