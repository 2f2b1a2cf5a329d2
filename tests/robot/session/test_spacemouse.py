"""Driving with a SpaceMouse: what the puck reports, byte by byte through its library, and what is made of it."""

import struct
import threading
from types import SimpleNamespace

import pytest

from robot.errors import TongsError
from robot.session.spacemouse import AXES, SpaceMouse
from tests.robot.session.test_session import until

FULL = 350
"""What a puck reports at full deflection."""


class Puck:
    """A state to be read, as pyspacemouse tells it."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(t=0.0, x=0.0, y=0.0, z=0.0, roll=0.0, pitch=0.0, yaw=0.0, buttons=[0, 0])
        self.closed, self.problem, self._lock, self.reads = False, None, threading.Lock(), 0

    def push(self, **axes) -> None:
        with self._lock:
            self.state = SimpleNamespace(**{**vars(self.state), **axes, "t": self.state.t + 1.0})

    def read(self):
        if self.problem is not None:
            raise self.problem
        with self._lock:
            self.reads += 1
            return self.state

    def push_and_wait(self, **axes) -> None:
        """Push, and wait until that has been taken in: the read after the one that saw it."""
        self.push(**axes)
        pushed = self.reads
        assert until(lambda: self.reads > pushed + 1)

    def close(self) -> None:
        self.closed = True


def driven(puck: Puck, mouse: SpaceMouse, **axes) -> list[float]:
    """The velocity for a puck that reports the same again and again, as one that is deflected does."""
    puck.push_and_wait(**axes)
    return mouse.poll()[0]


@pytest.fixture
def puck():
    return Puck()


@pytest.fixture
def mouse(puck):
    mouse = SpaceMouse(dead_zone=0.1, device=puck)
    yield mouse
    mouse.close()
    assert puck.closed


def test_the_speed_grows_from_nothing_beyond_the_dead_zone(puck, mouse):
    assert until(lambda: driven(puck, mouse, x=0.09, y=-0.55, yaw=1.3) == pytest.approx([0, -0.5, 0, 0, 0, 1]))
    puck.push(y=0.0, yaw=0.0)
    assert until(lambda: mouse.poll()[0] == [0.0] * 6)


def test_the_axes_may_be_turned_round_swapped_and_left_out():
    puck = Puck()
    mouse = SpaceMouse(["-y", "x", "z", "0", "0", "-yaw"], 0.0, puck)
    pushed = {"x": 0.2, "y": 0.4, "z": -0.6, "roll": 1.0, "yaw": 0.5}
    assert until(lambda: driven(puck, mouse, **pushed) == pytest.approx([-0.4, 0.2, -0.6, 0, 0, -0.5]))
    mouse.close()


@pytest.mark.parametrize(
    ("axes", "said"), [(["x", "y"], "six entries, got 2"), (["x", "y", "z", "a", "b", "c"], "unknown axis 'a'.*yaw")]
)
def test_axes_that_are_none_are_one_sentence(axes, said):
    with pytest.raises(TongsError, match=said):
        SpaceMouse(axes, device=Puck())


def test_a_button_that_is_held_is_pressed_once(puck, mouse):
    for buttons in ([1, 0], [1, 0], [0, 0], [0, 1], [1, 1]):
        puck.push_and_wait(buttons=buttons)
    assert mouse.poll()[1] == 2 and mouse.poll()[1] == 0


def test_a_puck_that_falls_silent_while_deflected_counts_as_let_go(puck, mouse):
    assert until(lambda: driven(puck, mouse, x=1.0)[0] == 1.0)
    assert until(lambda: mouse.poll()[0][0] == 0.0)
    assert not mouse.problem


def test_an_unplugged_puck_drives_no_more_and_says_so(puck, mouse):
    assert until(lambda: driven(puck, mouse, x=1.0)[0] == 1.0)
    puck.problem = OSError("device gone")
    assert until(lambda: "the SpaceMouse is gone (device gone)" in mouse.problem)
    assert mouse.poll()[0] == [0.0] * 6


class Reports:
    """A HID device: gives the reports of a SpaceMouse one by one, then nothing."""

    product_string = manufacturer_string = serial_number = "fake"
    release_number = 1

    def __init__(self) -> None:
        self.waiting: list[bytes] = []

    def open(self) -> None: ...
    def close(self) -> None: ...

    def read(self, size):
        return self.waiting.pop(0) if self.waiting else b""


# By the USB HID usage tables, 4.2: x to the right, y towards the person, z down, turns right-handed about these.
@pytest.mark.parametrize(
    ("translation", "rotation", "velocity"),
    [
        ((0, -FULL, 0), (0, 0, 0), [1, 0, 0, 0, 0, 0]),  # away from the person: forward
        ((-FULL, 0, 0), (0, 0, 0), [0, 1, 0, 0, 0, 0]),  # to the left
        ((0, 0, -FULL), (0, 0, 0), [0, 0, 1, 0, 0, 0]),  # pulled up
        ((0, 0, 0), (0, 0, -FULL), [0, 0, 0, 0, 0, 1]),  # counterclockwise from above: to the left
        ((0, 0, 0), (-FULL, 0, 0), [0, 0, 0, 0, 1, 0]),  # tipped away from the person: about y, which is left
        ((0, 0, 0), (0, FULL, 0), [0, 0, 0, -1, 0, 0]),
    ],
)
def test_what_the_puck_reports_moves_the_way_it_is_pushed(translation, rotation, velocity):
    pyspacemouse = pytest.importorskip("pyspacemouse", reason="a SpaceMouse needs the extra spacemouse")
    info = pyspacemouse.get_device_specs()["SpaceMouseCompact"]
    hid = Reports()
    device = pyspacemouse.SpaceMouseDevice(
        pyspacemouse.apply_axis_convention(info, pyspacemouse.AxisConvention.ROS), hid
    )
    device.open()
    mouse = SpaceMouse(AXES, 0.0, device)
    hid.waiting += [b"\x01" + struct.pack("<hhh", *translation), b"\x02" + struct.pack("<hhh", *rotation)]
    try:
        assert until(lambda: mouse.poll()[0] == pytest.approx(velocity), 2.0), mouse.poll()
    finally:
        mouse.close()


def test_without_a_device_or_its_library_there_is_one_sentence():
    pytest.importorskip("pyspacemouse", reason="a SpaceMouse needs the extra spacemouse")
    with pytest.raises(TongsError, match="hidapi|no SpaceMouse is attached"):
        SpaceMouse()
