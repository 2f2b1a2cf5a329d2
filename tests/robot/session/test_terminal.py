"""A session in a terminal: its keys and line in process, and `tongs teleop` in a terminal of its own, read back."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import tongs
from data.reader import Dataset
from data.recorder import INTERVENTION, called
from robot.control.status import State
from robot.session.terminal import HeldKeys, Terminal, draw
from tests.robot.control.arms import START
from tests.robot.session.test_session import session, state, until

ROOT = Path(__file__).resolve().parents[3]
ESCAPE, UP = "\x1b", "\x1b[A"


class Typist:
    """Types into a terminal that runs over a session, from another thread."""

    def __init__(self, running, device=None) -> None:
        self._running, self._device = running, device

    def __enter__(self):
        self._pipe = create_pipe_input()
        keyboard = self._pipe.__enter__()
        self.type = keyboard.send_text
        self.terminal = Terminal(self._running, "Ada", self._device, ends=keyboard, shows=DummyOutput())
        self._thread = threading.Thread(target=self.terminal.run)
        self._thread.start()
        assert until(lambda: self.terminal._application.is_running)
        return self

    def hold(self, key: str, reached) -> bool:
        """A key that repeats until something is reached."""

        def again() -> bool:
            self.type(key)
            time.sleep(0.02)
            return bool(reached())

        return until(again, 20.0)

    def __exit__(self, *exception) -> None:
        self.type("\x03")
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._pipe.__exit__(None, None, None)

    @property
    def line(self) -> str:
        return self.terminal._line.text

    @property
    def message(self) -> str:
        return self.terminal._message


def test_a_key_is_held_for_as_long_as_its_characters_come():
    now = 0.0
    keys = HeldKeys(0.15, lambda: now)
    keys.press("w")
    now = 0.1
    keys.press("a")
    assert sorted(keys.held()) == ["a", "w"]
    keys.press("q")
    now = 9.0
    assert keys.held() == ["q"] and keys.held() == []  # looked at late, it has been pressed all the same
    now = 0.1
    keys.press("a")
    keys.held()
    now = 0.2
    assert "a" in keys.held()
    now = 0.26
    assert keys.held() == []


def test_keys_drive_say_and_judge_as_on_the_page(tmp_path):
    with session(tmp_path / "episodes", policy=False) as running, Typist(running) as typist:
        arm = running.robot
        assert running.view().holder == "Ada"
        typist.type("t")
        assert until(lambda: state(running) == State.OPERATOR)
        assert typist.hold("w", lambda: arm.position[0] > START[0] + 0.03)
        assert until(lambda: running.view().status.state == State.OPERATOR)

        def rests() -> bool:
            before = arm.told[0]
            time.sleep(0.3)
            return arm.told[0] == pytest.approx(before, abs=1e-4)

        assert until(rests, 20.0)  # the key was let go, and a terminal does not say so
        typist.type("g")
        assert until(lambda: arm.gripper == 0.0)
        typist.type(UP)  # a motion that is said, by a key that is more than one character
        forward = arm.told[0]
        assert until(lambda: arm.told[0] > forward + 0.02)
        typist.type("/lift it slowly\r")
        assert until(lambda: running.instruction == "lift it slowly" and not typist.line)
        time.sleep(0.3)
        typist.type("y")
        assert until(lambda: "Saved: episode 0" in typist.message, 60.0)
        typist.type("o")
        assert until(lambda: not running.view().recording)
    dataset = Dataset(tmp_path / "episodes")
    events = dataset.events(0)
    said = [(event.style, event.text) for event in events if event.text]
    assert said == [("motion", "move arm forward"), ("interjection", "lift it slowly")]
    assert called(events)[0][1] == "take_over" and called(events)[-1][1:] == ("verdict", {"success": True})
    assert dataset.columns[INTERVENTION].all() and dataset.frame_tasks(0)[-1] == "lift it slowly"
    assert dataset.columns["action"][:, 6].min() == 0.0


def test_what_is_not_understood_stays_in_the_line_and_the_emergency_stop_works_from_it():
    with session() as running, Typist(running) as typist:
        for said, answer in (("move lefft", "the nearest known are: move arm left"), ("", "the correction is empty")):
            typist.type(f"/{said}\r")
            assert until(lambda answer=answer: answer in typist.message)
            assert typist.line == said and not running.robot.commands
            typist.type("\x15\t")  # Ctrl-U empties the line
        typist.type(" ")
        assert until(lambda: state(running) == State.RUNNING)
        typist.type("/stop th")
        assert until(lambda: typist.line == "stop th")
        typist.type(ESCAPE)
        assert until(lambda: state(running) == State.EMERGENCY) and running.robot.stops
        typist.type("\x15\tz")
        assert until(lambda: state(running) == State.IDLE)


def test_what_a_person_has_to_know_is_shown_beside_the_answer_to_a_key(tmp_path, monkeypatch):
    with session(tmp_path / "episodes", policy=False) as running, Typist(running) as typist:

        def full(success):
            raise OSError("no space left on device")

        monkeypatch.setattr(running._recorder, "save", full)
        typist.type("t")
        assert until(lambda: running.view().frames > 3)
        typist.type("y")
        assert until(lambda: typist.message == "Not saved: no space left on device", 60.0)
        typist.type("/move lefft\r")
        assert until(lambda: "unknown motion" in typist.message)
        shown = "".join(text for _, text, *_ in typist.terminal._told())
        assert "no space left on device" in shown and "unknown motion" in shown


def test_a_device_drives_beside_the_keys():
    class Device:
        problem = ""
        presses = 0

        def poll(self):
            presses, self.presses = self.presses, 0
            return [0.0, 1.0, 0.0, 0.0, 0.0, 0.0], presses

        def close(self):
            pass

    device = Device()
    with session(policy=False) as running, Typist(running, device) as typist:
        time.sleep(0.3)
        assert not running.robot.commands  # nobody has taken over
        typist.type("t")
        assert until(lambda: running.robot.position[1] > START[1] + 0.02)
        device.presses = 1
        assert until(lambda: running.robot.gripper == 0.0)


def test_pictures_are_drawn_with_two_pixels_a_character():
    picture = np.zeros((8, 6, 3), np.uint8)
    picture[:4, :, 0], picture[4:, 3:, 2] = 255, 255
    drawn = draw({"front": picture}, (2, 1))
    assert [style for style, *_ in drawn][:2] == ["fg:#f00000 bg:#000000", "fg:#f00000 bg:#0000f0"]


def test_without_a_terminal_there_is_one_sentence(capsys):
    assert tongs.main(["teleop", "task=open_drawer"]) == 2
    assert "needs a terminal" in capsys.readouterr().err


class Screen:
    """A terminal of its own, in which a command runs; what it prints is kept."""

    def __init__(self, command: list[str]) -> None:
        self.keyboard, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            preexec_fn=own_terminal,
            env={**environment, "TERM": "xterm-256color"},
        )
        os.close(theirs)
        self.printed = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                told = os.read(self.keyboard, 65536)
            except OSError:
                return
            self.printed += told.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())

    def wait(self, text: str, timeout: float = 60.0) -> None:
        assert until(lambda: text in self.printed, timeout), self.printed[-3000:]


def test_tongs_teleop_records_and_survives_the_end_of_its_terminal(tmp_path):
    folder = tmp_path / "episodes"
    words = ["teleop", "task=open_drawer", f"output={folder}", "image_size=64"]
    screen = Screen([sys.executable, "-m", "tongs", *words])
    try:
        screen.wait("IDLE")
        screen.type("t")
        screen.wait("OPERATOR")
        begun = time.monotonic()
        while time.monotonic() < begun + 4.0:
            screen.type("r")
            time.sleep(0.03)
        screen.type("/open it, please\r")
        time.sleep(0.5)
        screen.type("n")
        screen.wait("Saved: episode 0")
        screen.type("t")
        time.sleep(1.5)
        os.close(screen.keyboard)  # the window is closed: whoever drove is gone
        screen.process.wait(60)
    finally:
        if screen.process.poll() is None:
            screen.process.send_signal(signal.SIGKILL)
    dataset = Dataset(folder)
    assert [called(dataset.events(number))[-1][1] for number in range(2)] == ["verdict", "take_over"]
    assert [event.text for event in dataset.events(0) if event.text] == ["open it, please"]
    first = slice(0, dataset.episodes[0].length)
    assert dataset.columns["action"][first, 2].sum() > 0.04 and dataset.columns[INTERVENTION].all()
    assert dataset.columns["observation.state"][first, 2].max() > dataset.columns["observation.state"][0, 2] + 0.04


def test_tongs_teleop_drives_an_arm_of_a_file(tmp_path):
    (tmp_path / "arm.yaml").write_text("driver: robot.adapters.template:make\nsettings: {rate: 50}")
    joints = "".join(f"  {name}: {{range: [-1, 1], speed: 0.5}}\n" for name in ("base", "shoulder", "elbow", "wrist"))
    (tmp_path / "limits.yaml").write_text(f"joints:\n{joints}")
    folder = tmp_path / "episodes"
    files = [f"arm={tmp_path / 'arm.yaml'}", f"limits={tmp_path / 'limits.yaml'}"]
    screen = Screen([sys.executable, "-m", "tongs", "teleop", "robot=arm", *files, f"output={folder}"])
    try:
        screen.wait("IDLE")
        screen.wait("a d base")
        screen.type("]")
        screen.wait("this robot has no scenes to choose from")
        screen.type("/wave\r")
        time.sleep(0.5)
        screen.type("t")
        screen.wait("OPERATOR")
        begun = time.monotonic()
        while time.monotonic() < begun + 2.0:
            screen.type("a")
            time.sleep(0.03)
        screen.type("y")
        screen.wait("Saved: episode 0")
        seen = len(screen.printed)
        screen.type("b")
        assert until(lambda: "IDLE" in screen.printed[seen:], 60.0)
        screen.type("\x03")
        assert screen.process.wait(60) == 0
    finally:
        if screen.process.poll() is None:
            screen.process.send_signal(signal.SIGKILL)
    dataset = Dataset(folder)
    assert set(dataset.frame_tasks(0)) == {"wave"} and dataset.columns[INTERVENTION].all()
    assert dataset.columns["action"][-1, 0] > 0.3 and not np.abs(dataset.columns["action"][:, 1:4]).any()
