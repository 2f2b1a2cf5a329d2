"""Messages: what goes in comes out, and nothing that comes in does harm."""

import contextlib
import os
import struct
from typing import Any

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as numpy_strategies  # noqa: E402

from policies.lmp.sandbox import Geometry, SandboxLimits  # noqa: E402
from policies.lmp.sandbox.channel import (  # noqa: E402
    LARGEST_FRAME,
    ChannelError,
    ValueRefusedError,
    pack,
    plain,
    receive_frame,
    unpack,
)

_LIMITS = SandboxLimits()
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | _TEXT
    | numpy_strategies.arrays(
        st.sampled_from(["<f8", "<f4", "<i8", "|u1", "|b1"]),
        numpy_strategies.array_shapes(min_dims=0, max_dims=3, max_side=4),
        elements={"allow_nan": False},
    )
    | st.builds(
        lambda points: Geometry("LineString", points), st.lists(st.lists(st.floats(-9, 9), max_size=3), max_size=3)
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=10,
)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


@settings(max_examples=150, deadline=None)
@given(_VALUES)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert _same(unpack(pack({"value": plain(value, _LIMITS)}))["value"], value)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60)
    | st.binary(max_size=30).map(lambda tail: b"\x81\xa1x\xc7" + bytes([len(tail)]) + b"\x01" + tail)
)
def test_any_bytes_are_a_message_or_an_error(frame: bytes) -> None:
    with contextlib.suppress(ChannelError):
        assert isinstance(unpack(frame), dict)


@pytest.mark.parametrize(
    "header",
    [struct.pack("<I", LARGEST_FRAME + 1), struct.pack("<I", 0), b"\x01\0", struct.pack("<I", 5) + b"abc"],
)
def test_a_frame_that_lies_about_its_size(header: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, header)
    os.close(writer)
    with pytest.raises(ChannelError):
        receive_frame(reader)
    os.close(reader)


def test_limits_count_the_whole_value() -> None:
    plain([[0.0] * 100] * 90, _LIMITS)
    for value in (
        [[0.0] * 1000] * 20,
        ["a" * 6000, "a" * 6000],
        {str(number): 0 for number in range(10**5)},
        np.zeros(10**5),
        [np.zeros(6000), np.zeros(6000)],
    ):
        with pytest.raises(ValueRefusedError, match="more than"):
            plain(value, _LIMITS)
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueRefusedError, match="deep"):
        plain(cycle, _LIMITS)
