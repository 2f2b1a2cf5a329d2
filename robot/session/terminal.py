"""A session in a terminal: the page's keys, instruction line and recording without a browser, by prompt_toolkit."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import numpy as np
from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    VSplit,
    Window,
)
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from robot.control.status import State
from robot.errors import TongsError
from robot.interface import Images
from robot.session.drive import KEYS, velocity_of_keys
from robot.session.keys import press, toggle_gripper
from robot.session.session import Session
from robot.session.spacemouse import HandDevice

_TICK = 0.05
_LOOK = 0.2
_LASTING = 0.15
"""s for which a key counts as held after each of its characters: longer than a keyboard's repetition takes."""
_ESCAPE = 0.1
"""s after which an escape character is the key Esc and no beginning of another key's."""
_PICTURE = (40, 20)
_LOGGED = 5
_NAMED = {
    Keys.Up: "arrowup",
    Keys.Down: "arrowdown",
    Keys.Left: "arrowleft",
    Keys.Right: "arrowright",
    Keys.PageUp: "pageup",
    Keys.PageDown: "pagedown",
}
_HELP = (
    "Esc EMERGENCY STOP, z re-arm   Space start, pause   t take over, hand back",
    "y success  n failure  x discard   o record on, off   b reset  [ ] scene before, next",
    "arrows, PgUp, PgDn say a motion   1-9 a suggestion   / writes, Tab leaves that",
    "Ctrl-C ends",
)
_STYLE = Style.from_dict(
    {
        "running": "bg:#14563a #8ff0c2",
        "operator": "bg:#12496b #a3ddff",
        "paused": "bg:#5a4312 #ffdf9e",
        "stopped": "bg:#5a4312 #ffdf9e",
        "emergency": "bg:#ff4d4f #ffffff bold",
        "idle": "bg:#313c49",
        "record": "#ff6b6d bold",
        "quiet": "#93a1b3",
        "warn": "#f5b84b",
        "told": "bold",
    }
)


class HeldKeys:
    """Which keys are held down, as far as a terminal tells: it sends a held key's character again and again, and does
    not say when the key is let go. Of two keys it repeats the one that was pressed last.

    Args:
        lasting: s for which a character counts.
        clock: s.
    """

    def __init__(self, lasting: float = _LASTING, clock: Callable[[], float] = time.monotonic) -> None:
        self._lasting, self._clock = lasting, clock
        self._until: dict[str, float] = {}
        self._fresh: set[str] = set()

    def press(self, key: str) -> None:
        self._until[key] = self._clock() + self._lasting
        self._fresh.add(key)

    def held(self) -> list[str]:
        """The keys, also those that came since the last call, however late this one is."""
        now, fresh = self._clock(), self._fresh
        self._fresh = set()
        return [key for key, until in self._until.items() if now < until or key in fresh]


class Terminal:
    """Shows a session in the terminal and drives it from there; it holds the control from its beginning on.

    Args:
        session: open, and stays so.
        name: who holds the control, for others to see.
        device: that drives too, such as a SpaceMouse.
        pictures: whether the cameras are drawn, in characters.
        ends, shows: the terminal; None for this process's.
    """

    client = "terminal"

    def __init__(
        self,
        session: Session,
        name: str,
        device: HandDevice | None = None,
        pictures: bool = True,
        ends: Input | None = None,
        shows: Output | None = None,
    ) -> None:
        self._session, self._name, self._device = session, name, device
        self._keys, self._line = HeldKeys(), Buffer(multiline=False)
        self._message, self._warn = "", False
        self._logged, self._log = 0, deque[str](maxlen=_LOGGED)
        self._doing: set[asyncio.Task[None]] = set()
        self._writing = has_focus(self._line)
        self._looks = Window(FormattedTextControl(self._status, focusable=True), height=3, always_hide_cursor=True)
        drawn = Window(FormattedTextControl(self._pictures), height=_PICTURE[1])
        line = [Window(FormattedTextControl("say "), width=4), Window(BufferControl(self._line), height=1)]
        keys = [f"{keys.lower()} {what}" for keys, what in session.drive_keys]
        driving = "  ".join(["taken over:", *keys, "g gripper"]) if keys else "this robot cannot be driven by hand"
        self._drawn: StyleAndTextTuples = []
        self._shown: Images = {}
        parts = [
            self._looks,
            *([ConditionalContainer(drawn, Condition(self._tall))] if pictures else []),
            Window(FormattedTextControl(self._events), height=_LOGGED),
            Window(FormattedTextControl(self._told), height=2, wrap_lines=True),
            VSplit(line),
            Window(FormattedTextControl("\n".join((*_HELP, driving)), style="class:quiet"), height=len(_HELP) + 1),
        ]
        self._application: Application[None] = Application(
            Layout(HSplit(parts), focused_element=self._looks),
            key_bindings=self._bindings(),
            style=_STYLE,
            full_screen=True,
            refresh_interval=_LOOK,
            min_redraw_interval=_LOOK / 2,  # a key that repeats would else draw everything anew each time
            input=ends,
            output=shows,
        )
        self._application.ttimeoutlen = _ESCAPE
        self._application.timeoutlen = _ESCAPE

    def run(self) -> None:
        """Until Ctrl-C, a signal that ends the process, or the terminal's end.

        Raises:
            TongsError: somebody else holds the control.
        """
        self._session.take_control(self.client, self._name)
        try:
            asyncio.run(self._run())
        finally:
            self._session.leave(self.client)

    async def _run(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not in this thread, or on this system
                asyncio.get_running_loop().add_signal_handler(number, self._end)
        ticking = asyncio.create_task(self._tick())
        try:
            await self._application.run_async(handle_sigint=False)
        except (EOFError, OSError):
            pass  # the terminal has gone
        finally:
            ticking.cancel()
            await asyncio.gather(*self._doing, return_exceptions=True)

    def _end(self) -> None:
        if self._application.is_running:
            self._application.exit()

    # --- keys

    def _bindings(self) -> KeyBindings:
        bound = KeyBindings()
        bound.add("escape", eager=True)(lambda event: self._halt())
        bound.add("c-c", eager=True)(lambda event: self._end())
        bound.add("enter", filter=self._writing)(lambda event: self._say())
        bound.add("tab", filter=self._writing)(lambda event: self._application.layout.focus(self._looks))
        bound.add("/", filter=~self._writing)(lambda event: self._application.layout.focus(self._line))
        bound.add(Keys.Any, filter=~self._writing)(self._pressed)
        for key in _NAMED:
            bound.add(key, filter=~self._writing)(self._pressed)
        return bound

    def _pressed(self, event: KeyPressEvent) -> None:
        pressed = event.key_sequence[0]
        key = _NAMED[Keys(pressed.key)] if pressed.key in _NAMED else pressed.data.lower()
        session, client = self._session, self.client
        if key in KEYS:
            self._keys.press(key)
        elif key == "z":
            self._do(lambda: session.rearm(client))
        elif key == "x":
            self._do(lambda: session.discard(client))
        elif key == "b":
            self._do(self._reset)
        elif key == "o":
            self._do(lambda: session.record(client, not session.view().recording))
        elif key in ("[", "]"):
            self._do(lambda: self._next(1 if key == "]" else -1))
        else:
            self._do(lambda: press(session, client, key))

    def _reset(self) -> str:
        """Rest; a scene that is up is put up again."""
        if self._session.stage is not None:
            return self._next(0)
        self._session.reset(self.client)
        return "at rest, nothing is sent; put things up by hand"

    def _next(self, step: int) -> str:
        """The scene before or after."""
        stage = self._session.stage
        if stage is None:
            raise TongsError("this robot has no scenes to choose from; b resets, and you put things up by hand")
        scene = stage.scene
        index = max(int(scene["index"]) + step, 0)
        self._session.put_up(self.client, str(scene["task"]), str(scene["split"]), index)
        return f"scene {index} of {scene['task']}"

    def _say(self) -> None:
        """What was understood leaves the line; what was not stays, to be mended."""
        text = self._line.text

        def say() -> str:
            answer = self._session.correct(self.client, text)
            if self._line.text == text:
                self._application.loop.call_soon_threadsafe(self._said)  # type: ignore[union-attr]
            return answer

        self._do(say)

    def _said(self) -> None:
        self._line.reset()
        self._application.layout.focus(self._looks)

    def _halt(self) -> None:
        self._do(lambda: self._session.emergency_stop(self._name))

    def _do(self, action: Callable[[], str | None]) -> None:
        """In a thread, so that nothing that waits keeps the emergency stop from being heard."""
        self._spawn(self._done(action))

    async def _done(self, action: Callable[[], str | None]) -> None:
        try:
            self._message, self._warn = await asyncio.to_thread(action) or "", False
        except TongsError as error:
            self._message, self._warn = str(error), True
        self._application.invalidate()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    async def _tick(self) -> None:
        """The sign of life, and what is held down."""
        while True:
            await asyncio.sleep(_TICK)
            self._session.alive(self.client)
            velocity, presses = velocity_of_keys(self._keys.held()), 0
            if self._device is not None:
                asked, presses = self._device.poll()
                velocity = [one + other for one, other in zip(velocity, asked, strict=True)]
            if self._session.loop_state != State.OPERATOR:
                continue
            with suppress(TongsError):  # the state changed in between; it is shown
                self._session.drive(self.client, velocity)
                for _ in range(presses):
                    toggle_gripper(self._session, self.client)

    # --- what is shown

    def _tall(self) -> bool:
        """Whether there is room for pictures."""
        return self._application.output.get_size().rows >= _PICTURE[1] + 3 + _LOGGED + 2 + 1 + len(_HELP) + 1

    def _status(self) -> StyleAndTextTuples:
        session, view = self._session, self._session.view()
        status, state = view.status, session.state()
        latency = f"{1e3 * status.latency_p50:.0f} ms" if status.latency_p50 is not None else "-"
        record = f"record: {view.frames} frames, {view.saved} saved" if view.recording else "not recording"
        reached = {True: "goal reached", False: "goal not reached", None: ""}[view.success]
        why = "; ".join(dict.fromkeys(filter(None, (status.reason, *status.faults))))
        shown = ("x", "y", "z") if "x" in state else session.robot.spec.action_space.names
        pose = "  ".join(f"{name} {state[name]:+.3f}" for name in shown if name in state and name != "gripper")
        chosen = status.command or (f"{status.motion} ({status.motion_source})" if status.motion else "")
        return [
            (f"class:{status.state.value}", f" {status.state.value.upper()} "),
            ("class:record" if view.recording else "class:quiet", f"  {record}"),
            ("class:quiet", f"  {status.timing.rate:.1f} Hz  policy {view.policy or 'none'} {latency}"),
            ("class:quiet", f"  limits hit {sum(status.limits.values())}  {why}\n"),
            ("class:told", (view.episode and status.instruction) or session.instruction or "nothing yet"),
            ("", f"  {chosen}\n"),
            ("class:quiet", f"{pose}  gripper {100 * session.opening:.0f} %  {reached}"),
        ]

    def _events(self) -> StyleAndTextTuples:
        for event in self._session.events(self._logged):
            self._logged = event.number
            self._log.append(f"{event.time:8.1f} s  {event.kind}: {event.text}")
        return [("class:quiet", "\n".join(self._log))]

    def _told(self) -> StyleAndTextTuples:
        lost = self._device.problem if self._device is not None else ""
        urgent = "  ".join(filter(None, (self._session.view().message, lost)))
        if urgent or self._message:  # an answer to a key must not hide that the arm stopped or that nothing was saved
            answer = ("class:warn" if self._warn else "", self._message)
            return [("class:warn", f"{urgent}  " if urgent else ""), *([answer] if self._message not in urgent else [])]
        spoken = "  ".join(f"{number} {text}" for number, text in enumerate(self._session.suggestions()[:9], 1))
        return [("class:quiet", spoken)]

    def _pictures(self) -> StyleAndTextTuples:
        shown = self._session.pictures()
        if any(shown[name] is not self._shown.get(name) for name in shown):
            self._shown, self._drawn = dict(shown), draw(shown)
        return self._drawn


def draw(pictures: Images, size: tuple[int, int] = _PICTURE) -> StyleAndTextTuples:
    """Pictures side by side in `size` (columns, lines) characters each, two pixels above one another in each."""
    from PIL import Image

    columns, lines = size
    small = [
        np.asarray(Image.fromarray(picture).resize((columns, 2 * lines), Image.Resampling.BOX)) & 0xF0
        for picture in pictures.values()
    ]
    drawn: StyleAndTextTuples = []
    for line in range(lines):
        for picture in small:
            for upper, lower in zip(picture[2 * line].tolist(), picture[2 * line + 1].tolist(), strict=True):
                above, below = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in (upper, lower))
                drawn.append((f"fg:{above} bg:{below}", "▀"))
            drawn.append(("", " "))
        drawn.append(("", "\n"))
    return drawn
