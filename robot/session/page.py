"""The page that a person runs a robot from: one web page over a session, by NiceGUI."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import accumulate, cycle
from typing import Any

from nicegui import app, ui
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from robot.control.status import State
from robot.errors import TongsError
from robot.images import jpeg
from robot.interface import GRIPPER
from robot.session.access import Gate
from robot.session.drive import velocity_of_gamepad, velocity_of_keys
from robot.session.keys import MOTION_KEYS, MOTION_LABELS, judge, press, toggle_gripper
from robot.session.replay import Replay
from robot.session.session import Session
from robot.session.spacemouse import HandDevice
from robot.session.speech import Transcriber, decode_speech

_FRAME = 1 / 40
"""s between two looks for a new picture."""
_LOOK = 0.15
_LOGGED = 120
_COLOURS = ("#ff7a7a", "#7ddc8b", "#6fb5ff", "#c792ea", "#5ed3d0", "#e8e27a", "#ff9ecf")
_GRIPPER_COLOUR = "#f5b84b"


@dataclass(frozen=True)
class Extras:
    """What a page may have beside the session.

    Attributes:
        policies: names to choose from; a checkpoint folder may be written all the same.
        transcriber: of what is spoken; None for no push-to-talk.
        device: at this machine, that drives for whoever holds the control.
    """

    policies: Sequence[str] = ()
    transcriber: Transcriber | None = None
    device: HandDevice | None = None


def serve(
    session: Session,
    host: str,
    port: int,
    token: str | None,
    extras: Extras | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve the page until Ctrl-C; the session is open, and stays so.

    Args:
        session: what is shown and driven.
        host, port: where to listen.
        token: what a browser has to bring, None to let in this machine only (see `robot.session.access`).
        extras: see there; None for none.
        ready: called when the page can be opened.
    """
    app.add_middleware(Gate, token=token)
    app.add_route("/stop", _halt(session), methods=["POST"])
    app.add_route("/camera/{name}", _camera(session))
    app.add_route("/replay/{episode:int}/{frame:int}/{name}", _replayed(session))
    if ready is not None:
        app.on_startup(ready)
    ui.run(
        lambda: _Page(session, extras or Extras()).build(),
        host=host,
        port=port,
        title="Tongs",
        dark=True,
        reload=False,
        show=False,
        show_welcome_message=False,
        reconnect_timeout=30.0,
    )


def _halt(session: Session) -> Callable[[Request], Any]:
    async def halt(request: Request) -> Response:
        who = request.client.host if request.client else "a browser"
        await asyncio.to_thread(session.emergency_stop, who)
        return Response(status_code=204)

    return halt


def _camera(session: Session) -> Callable[[Request], Any]:
    """Motion JPEG of one camera: a part for every new picture."""

    async def parts(name: str) -> AsyncIterator[bytes]:
        shown = None
        while True:
            picture = session.pictures().get(name)
            if picture is not None and picture is not shown:
                shown = picture
                body = jpeg(picture, 85)
                yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(body), body)
            await asyncio.sleep(_FRAME)

    async def camera(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in session.robot.spec.cameras:
            return Response(f"no camera {name}", status_code=404)
        return StreamingResponse(parts(name), media_type="multipart/x-mixed-replace; boundary=frame")

    return camera


def _replayed(session: Session) -> Callable[[Request], Any]:
    """A picture of the newest episode; another one's is gone."""

    async def replayed(request: Request) -> Response:
        told, replay = request.path_params, session.replay()
        if replay is None or replay.number != told["episode"] or not 0 <= told["frame"] < len(replay.moments):
            return Response("that moment is not kept", status_code=404)
        picture = replay.moments[told["frame"]].pictures.get(told["name"])
        if picture is None:
            return Response(f"no camera {told['name']}", status_code=404)
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    return replayed


def _asset(name: str) -> str:
    return resources.files("robot.session").joinpath(name).read_text(encoding="utf-8")


class _Page:
    """One browser's page. Its handlers run in threads, so that nothing that waits keeps the page from answering."""

    def __init__(self, session: Session, extras: Extras) -> None:
        self._session, self._extras = session, extras
        self._client = ui.context.client
        self._id = self._client.id
        self._logged = 0
        self._rows: list[str] = []
        self._buttons: list[bool] = []
        self._shown: dict[str, str] = {}
        self._moment: int | None = None

    # --- what there is

    def build(self) -> None:
        ui.add_css(_asset("page.css"))
        ui.add_body_html(f"<script>{_asset('page.js')}</script>")
        with ui.element("header").classes("top"):
            ui.html("<span class=brand>TONGS</span>", sanitize=False)
            self._pill = self._text("pill").props("id=state")
            self._reason = self._text("grow clip quiet small").props("id=reason")
            self._who = self._text("small")
            self._control = self._press("Take control", self._toggle_control, "main", name="control")
            self._numbers = self._text("numbers")
            self._rearm = self._press("Re-arm", lambda: self._session.rearm(self._id), name="rearm")
            halt = ui.element("button").classes("halt").props('id=halt aria-label="emergency stop"')
            halt.on("click", js_handler="() => tongsHalt()")
            with halt:
                ui.html("EMERGENCY STOP<kbd>Esc</kbd>", sanitize=False)
        with ui.element("main").classes("board"):
            with ui.element("section"):
                self._look()
            with ui.element("section"):
                self._speak()
                self._episode()
                self._by_hand()
            with ui.element("section"):
                self._message = self._text("message").props("id=message role=status")
                with ui.element("div").classes("card log").props("id=log"):
                    self._log_title = self._title("Events")
                    self._log = ui.html("", sanitize=False)
                with ui.element("div").classes("card state"):
                    self._state_title = self._title("State")
                    self._state = ui.html("", sanitize=False)
        ui.on("held", self._held)
        ui.on("hotkey", self._hotkey)
        ui.on("halt", self._halt)
        ui.on("spoken", self._spoken)
        ui.on("scrub", self._scrub)
        ui.timer(_LOOK, self._update)
        self._client.on_delete(lambda: self._session.leave(self._id))

    def _look(self) -> None:
        figures = "".join(
            f'<figure><img src="camera/{escape(name)}" alt="camera {escape(name)}">'
            f'<img class=replayed data-camera="{escape(name)}" alt="" hidden><figcaption>{escape(name)}'
            "</figcaption></figure>"
            for name in self._session.robot.spec.cameras
        )
        ui.html(f"<div class=cameras>{figures}</div>", sanitize=False)
        with ui.element("div").classes("card").props("id=timeline"):
            with ui.element("div").classes("row"):
                self._title("Last episode")
                self._when = self._text("quiet small grow clip").props("id=when")
                live = ui.element("button").classes("press chip").props("id=live hidden")
                live.on("click", js_handler="() => tongsLive()")
                with live:
                    ui.html("Back to live", sanitize=False, tag="span")
            ui.html(_TIMELINE, sanitize=False)
        with ui.element("div").classes("card"):
            self._title("What the policy is going to do")
            self._plan = ui.html("", sanitize=False)
        self._scene()

    def _speak(self) -> None:
        with ui.element("div").classes("card"):
            self._title("Told")
            self._told = self._text("told").props("id=told")
            self._said = self._text("quiet small").props("id=said")
            with ui.element("div").classes("row").style("flex-wrap: nowrap"):
                box = ui.element("input").props(
                    'id=say autocomplete=off spellcheck=false aria-label="say something to the robot" '
                    'placeholder="Say what to do, move left, stop   ( / )"'
                )
                box.on("keydown", self._say_box, js_handler=_SEND)
                if self._extras.transcriber is not None:
                    talk = ui.element("button").classes("press").props('id=talk title="hold, speak, let go"')
                    with talk:
                        ui.html("Talk<kbd>V</kbd>", sanitize=False, tag="span")
            if self._extras.transcriber is not None:
                self._heard = self._text("quiet small clip").props("id=heard")
            self._chips = ui.element("div").classes("row").style("margin-top: 8px")
            with ui.element("div").classes("row").style("margin-top: 6px"):
                for motion, label in zip(MOTION_KEYS.values(), MOTION_LABELS, strict=True):
                    short = motion.removeprefix("move arm ")
                    self._press(short, lambda motion=motion: self._correct(motion), "chip", key=label)
                for motion in ("close gripper", "open gripper", "go on"):
                    self._press(motion, lambda motion=motion: self._correct(motion), "chip")

    def _episode(self) -> None:
        with ui.element("div").classes("card"):
            self._title("Episode")
            with ui.element("div").classes("row"):
                self._press("Start", lambda: self._session.start(self._id), "main", "Space", "start")
                self._press("Pause", lambda: self._session.pause(self._id), name="pause")
                self._press("Step", lambda: self._session.step(self._id), name="step")
                self._recorder = self._press("● Record", self._toggle_record, name="record")
                self._count = self._text("quiet small").props("id=count")
            with ui.element("div").classes("row").style("margin-top: 8px"):
                self._press("Success", lambda: self._verdict(True), "good", "Y", "success")
                self._press("Failure", lambda: self._verdict(False), "bad", "N", "failure")
                self._press("Discard", lambda: self._session.discard(self._id), name="discard")
                self._reached = self._text("quiet small")

    def _by_hand(self) -> None:
        with ui.element("div").classes("card"):
            self._title("By hand")
            with ui.element("div").classes("row"):
                self._press("Take over", lambda: self._session.take_over(self._id), key="T", name="take_over")
                self._press("Hand back", lambda: self._session.hand_back(self._id), key="T", name="hand_back")
                self._gripper = self._text("quiet small")
            keys = "".join(f"<kbd>{escape(keys)}</kbd> {escape(what)} " for keys, what in self._session.drive_keys)
            told = f"{keys}<kbd>G</kbd> gripper, or a gamepad" if keys else "This robot cannot be driven by hand."
            ui.html(f"<div class='quiet small' style='margin-top:6px'>{told}</div>", sanitize=False)

    def _scene(self) -> None:
        stage = self._session.stage
        with ui.element("div").classes("card"):
            self._title("Scene and policy" if stage is not None else "Table and policy")
            with ui.element("div").classes("row"):
                if stage is not None and stage.tasks:
                    scene = stage.scene
                    self._task = self._select("task", stage.tasks, str(scene["task"]))
                    self._split = self._select("split", stage.splits, str(scene["split"]))
                    self._index = {"value": int(scene["index"])}
                    number = (
                        ui.element("input")
                        .classes("field")
                        .props(
                            f'id=scene type=number min=0 value={scene["index"]} style="width: 74px" aria-label=scene'
                        )
                    )
                    number.on("change", self._set_index, js_handler="(e) => emit(e.target.value)")
                    self._press("Reset", self._reset, name="reset")
                else:
                    self._press("Reset", self._rest, name="reset")
                if self._extras.policies:
                    self._policy = self._write("policy", self._extras.policies, self._session.view().policy)
                    self._press("Load", lambda: self._session.use(self._id, self._policy["value"]), name="load")

    # --- pieces

    def _title(self, text: str) -> ui.html:
        return ui.html(_heading(text), sanitize=False)

    def _text(self, classes: str) -> ui.label:
        return ui.label().classes(classes)

    def _press(self, text: str, action: Callable[[], Any], kind: str = "", key: str = "", name: str = "") -> ui.element:
        """A button; what it does runs in a thread, and what goes wrong is shown."""
        button = ui.element("button").classes(f"press {kind}")
        if name:
            button.props(f"id={name}")
        with button:
            label = escape(text) + (f"<kbd>{escape(key)}</kbd>" if key else "")
            ui.html(label, sanitize=False, tag="span")
        button.on("click", lambda: self._do(action))
        return button

    def _select(self, name: str, options: Sequence[str], value: str) -> dict[str, str]:
        options = list(dict.fromkeys((value, *options)))
        chosen = {"value": value}
        box = ui.element("select").classes("field").props(f"id={name} aria-label={name}")
        with box:
            for option in options:
                item = ui.element("option").props(f'value="{escape(option)}"')
                if option == chosen["value"]:
                    item.props("selected")
                with item:
                    ui.html(escape(option), sanitize=False, tag="span")

        def choose(event: Any) -> None:
            chosen["value"] = str(event.args)

        box.on("change", choose, js_handler="(e) => emit(e.target.value)")
        return chosen

    def _write(self, name: str, options: Sequence[str], value: str) -> dict[str, str]:
        """A field to write in, with suggestions."""
        chosen = {"value": value}

        def choose(event: Any) -> None:
            chosen["value"] = str(event.args).strip()

        box = ui.element("input").classes("field").style("width: 130px")
        box.props(f'id={name} list={name}s autocomplete=off spellcheck=false aria-label={name} value="{escape(value)}"')
        box.props(f'placeholder="{name}, or a folder" title="a name, or a checkpoint folder"')
        box.on("input", choose, js_handler="(e) => emit(e.target.value)")
        known = "".join(f'<option value="{escape(option)}">' for option in options)
        ui.html(f'<datalist id="{name}s">{known}</datalist>', sanitize=False)
        return chosen

    async def _do(self, action: Callable[[], Any]) -> bool:
        try:
            answer = await asyncio.to_thread(action)
        except TongsError as error:
            with self._client:
                ui.notify(str(error), type="negative", position="bottom-left", timeout=6000)
            return False
        if isinstance(answer, str) and answer:
            with self._client:
                ui.notify(answer, type="positive", position="bottom-left", timeout=2500)
        return True

    # --- what a person does

    def _toggle_control(self) -> None:
        if self._session.holds(self._id):
            self._session.release_control(self._id)
        else:
            self._session.take_control(self._id, self._client.ip or "a browser")

    def _toggle_record(self) -> None:
        self._session.record(self._id, not self._session.view().recording)

    def _verdict(self, success: bool) -> str:
        return judge(self._session, self._id, success)

    def _correct(self, text: str) -> str:
        return self._session.correct(self._id, text)

    def _set_index(self, event: Any) -> None:
        if str(event.args).isdigit():
            self._index["value"] = int(event.args)

    def _reset(self) -> None:
        assert self._session.stage is not None
        self._session.put_up(self._id, self._task["value"], self._split["value"], self._index["value"])

    def _rest(self) -> str:
        self._session.reset(self._id)
        return "At rest, and nothing is sent: put things up by hand."

    async def _say_box(self, event: Any) -> None:
        text = str(event.args)
        if not await self._do(lambda: self._correct(text)):
            self._mend(text)

    def _mend(self, text: str) -> None:
        """What was not understood comes back into the text box to be mended, unless more is being written."""
        with self._client:
            ui.run_javascript(
                f"const box = document.getElementById('say'); if (!box.value) box.value = {json.dumps(text)};"
            )

    async def _halt(self) -> None:
        """The emergency stop, sent this way too: a browser keeps only so many requests on the way at once."""
        await asyncio.to_thread(self._session.emergency_stop, self._client.ip or "a browser")

    async def _spoken(self, event: Any) -> None:
        """A recording, or why there is none."""
        told, transcriber, heard = event.args, self._extras.transcriber, ""
        if transcriber is None:
            return

        def understand() -> str:
            nonlocal heard
            if told.get("problem"):
                raise TongsError(f"no microphone: {told['problem']}")
            self._session.require_control(self._id)
            heard = transcriber.transcribe(decode_speech(_bytes(told.get("audio", ""))))
            return self._session.hear(self._id, heard)

        self._put(self._heard, "understanding …")
        understood = await self._do(understand)
        self._put(self._heard, f"heard: “{heard.strip()}”" if heard.strip() else "")
        if not understood and heard.strip():
            self._mend(heard.strip())

    def _scrub(self, event: Any) -> None:
        """Look at a moment of the newest episode, None for now."""
        replay, asked = self._session.replay(), event.args
        kept = replay is not None and isinstance(asked, int) and 0 <= asked < len(replay.moments)
        self._moment = asked if kept else None
        self._update()

    async def _hotkey(self, event: Any) -> None:
        key = str(event.args)
        await self._do(lambda: press(self._session, self._id, key))

    def _held(self, event: Any) -> None:
        """Twenty times a second: the sign of life, and what is held down."""
        session, told = self._session, event.args
        session.alive(self._id)
        if not session.holds(self._id):
            self._buttons = list(told["buttons"])
            return
        velocity, presses = velocity_of_keys(told["keys"]), 0
        if self._extras.device is not None:
            asked, presses = self._extras.device.poll()
            velocity = [a + b for a, b in zip(velocity, asked, strict=True)]
        presses += bool(told["buttons"] and told["buttons"][0] and not (self._buttons and self._buttons[0]))
        self._buttons = list(told["buttons"])
        if session.loop_state != State.OPERATOR:
            return
        try:
            if told["axes"]:
                velocity = [a + b for a, b in zip(velocity, velocity_of_gamepad(told["axes"]), strict=True)]
            session.drive(self._id, velocity)
            for _ in range(presses):
                toggle_gripper(session, self._id)
        except TongsError:
            return  # the state changed in between; the page shows it

    # --- what is shown

    def _update(self) -> None:
        session, view = self._session, self._session.view()
        status, mine = view.status, self._session.holds(self._id)
        self._put(self._pill, status.state.value)
        if self._shown.get("state") != status.state.value:
            self._shown["state"] = status.state.value
            self._pill.classes(replace=f"pill {status.state.value}")
        self._put(self._reason, "; ".join(dict.fromkeys(filter(None, (status.reason, *status.faults)))))
        self._put(
            self._who, "you hold the control" if mine else (f"{view.holder} holds the control" if view.holder else "")
        )
        self._mark(self._control, "Release control" if mine else "Take control")
        latency = f"{1e3 * status.latency_p50:.0f} ms" if status.latency_p50 is not None else "–"
        limits = sum(status.limits.values())
        self._put(self._numbers, f"{status.timing.rate:.1f} Hz · policy {latency} · limits hit {limits}")
        self._rearm.set_visibility(status.state == State.EMERGENCY)
        told = (view.episode and status.instruction) or session.instruction
        self._put(self._told, told or "nothing yet")
        said = [f"{view.said[1]}: “{view.said[0]}”" if view.said else f"policy: {view.policy or 'none'}"]
        if status.command:
            said = [f"policy: “{status.command}”"]
        if status.motion and status.state == State.RUNNING:
            said.append(f"motion by {status.motion_source}: “{status.motion}”")
        self._put(self._said, " · ".join(said))
        self._put(self._count, f"{view.frames} frames · {view.saved} saved" if view.recording else "not recording")
        self._recorder.classes(add="on" if view.recording else "", remove="" if view.recording else "on")
        reached = {True: "✓ goal reached", False: "goal not reached", None: ""}[view.success]
        self._put(self._reached, reached)
        self._put(self._gripper, f"gripper {100 * session.opening:.0f} %")
        lost = self._extras.device.problem if self._extras.device is not None else ""
        self._put(self._message, view.message or lost)
        self._message.set_visibility(bool(view.message or lost))
        self._suggest()
        self._html(self._plan, _plan(session.plan(), session.robot.spec.action_space.names))
        replay = session.replay()
        self._draw_timeline(replay)
        if replay is None or self._moment is None or self._moment >= len(replay.moments):
            self._put(self._when, f"{replay.frames / replay.rate:.1f} s" if replay is not None else "none yet")
            self._html(self._state_title, _heading("State"))
            self._html(self._state, _states(session.state()))
            self._html(self._log_title, _heading("Events"))
            self._write_log()
        else:
            self._show_moment(replay, self._moment)

    def _draw_timeline(self, replay: Replay | None) -> None:
        """Tell the browser how long the newest episode is and what happened when; a new one shows what is now."""
        if replay is None:
            return
        told = f"{replay.number} {len(replay.moments)} {len(replay.happenings)}"
        if self._shown.get("timeline") == told:
            return
        if self._shown.get("timeline", "").split(" ")[0] != str(replay.number):
            self._moment = None
        self._shown["timeline"] = told
        marks = [[round(one.time * replay.rate), one.kind, one.text] for one in replay.happenings]
        with self._client:
            ui.run_javascript(f"tongsTimeline({replay.number}, {len(replay.moments)}, {json.dumps(marks)})")

    def _show_moment(self, replay: Replay, index: int) -> None:
        """State, words and events at a moment of an episode; the pictures are the browser's part."""
        moment, time = replay.moments[index], index / replay.rate
        who = "a person drove" if moment.operated else "the policy drove"
        self._put(self._when, f"{time:.1f} s of {replay.frames / replay.rate:.1f} s · {who} · “{moment.instruction}”")
        self._html(self._state_title, _heading(f"State at {time:.1f} s"))
        names = self._session.robot.spec.state_names
        self._html(self._state, _states(dict(zip(names, moment.state, strict=True))))
        self._html(self._log_title, _heading(f"Events until {time:.1f} s"))
        happened = [one for one in replay.happenings if one.time <= time + 0.5 / replay.rate]
        self._html(
            self._log, "".join(_row(one.time, one.kind, f"{one.source}: {one.text}") for one in reversed(happened))
        )

    def _put(self, label: ui.label, text: str) -> None:
        if label.text != text:
            label.set_text(text)

    def _html(self, element: ui.html, content: str) -> None:
        if element.content != content:
            element.set_content(content)

    def _mark(self, button: ui.element, text: str) -> None:
        (inner,) = button.default_slot.children
        assert isinstance(inner, ui.html)
        self._html(inner, escape(text))

    def _suggest(self) -> None:
        told = self._session.suggestions()[:9]
        if self._shown.get("chips") == repr(told):
            return
        self._shown["chips"] = repr(told)
        self._chips.clear()
        with self._chips:
            for number, text in enumerate(told, 1):
                self._press(text, lambda text=text: self._correct(text), "chip", str(number))

    def _write_log(self) -> None:
        for event in self._session.events(self._logged):
            self._logged = event.number
            self._rows.insert(0, _row(event.time, event.kind, event.text))
        del self._rows[_LOGGED:]
        self._html(self._log, "".join(self._rows))


_SEND = """(e) => {
  if (e.key !== "Enter" || e.isComposing || !window.socket?.connected) return;
  emit(e.target.value); e.target.value = "";
}"""


_TIMELINE = """<div class=track><div id=marks></div>
<input id=scrub type=range min=0 max=0 value=0 disabled aria-label="moment of the last episode"></div>"""


def _heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def _row(time: float, kind: str, text: str) -> str:
    return f"<div class={escape(kind)}><i>{time:.1f} s</i> <b>{escape(kind)}</b> {escape(text)}</div>"


def _bytes(audio: str) -> bytes:
    try:
        return base64.b64decode(audio, validate=True)
    except binascii.Error as error:
        raise TongsError("the browser sent no recording") from error


def _states(state: dict[str, float]) -> str:
    cells = "".join(f"<div><span>{escape(name)}</span><span>{value:.3f}</span></div>" for name, value in state.items())
    return f"<div class=states>{cells}</div>"


def _plan(plan: list[list[float]], names: Sequence[str]) -> str:
    """The way of the tool along each axis, or of each joint, as the plan has it, and the gripper, as small curves."""
    width, height = 560, 84
    if not plan:
        return (
            f"<svg width='100%' viewBox='0 0 {width} {height}'><text x='0' y='46' fill='#93a1b3'>no plan</text></svg>"
        )
    lines, keys, far = [], [], 1e-3
    ways: dict[str, list[float]] = {}
    for i, name in enumerate(names):
        if name == GRIPPER:
            ways[name] = [action[i] for action in plan]
        elif name in ("dx", "dy", "dz"):
            ways[name] = [0.0, *accumulate(action[i] for action in plan)]
        elif name not in ("rx", "ry", "rz"):  # a joint: its way from where the plan begins
            ways[name] = [action[i] - plan[0][i] for action in plan]
        if name in ways and name != GRIPPER:
            far = max(far, *map(abs, ways[name]))
    apart = min(18.0, (height - 16) / max(len(ways) - 1, 1))
    colours = dict(zip([name for name in ways if name != GRIPPER], cycle(_COLOURS), strict=False))
    for i, (name, way) in enumerate(ways.items()):
        scale = [1 - value for value in way] if name == GRIPPER else [0.5 - 0.5 * value / far for value in way]
        step = (width - 90) / max(len(scale) - 1, 1)
        points = " ".join(f"{k * step:.1f},{6 + (height - 12) * share:.1f}" for k, share in enumerate(scale))
        colour = colours.get(name, _GRIPPER_COLOUR)
        lines.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'/>")
        keys.append(
            f"<text x='{width - 80}' y='{12 + apart * i:.1f}' fill='{colour}' font-size='11'>{escape(name)}</text>"
        )
    middle = f"<line x1='0' x2='{width - 90}' y1='{height / 2}' y2='{height / 2}' stroke='#2c3541'/>"
    return f"<svg width='100%' viewBox='0 0 {width} {height}'>{middle}{''.join(lines)}{''.join(keys)}</svg>"
