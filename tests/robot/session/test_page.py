"""The page in a real browser: a scripted person runs an episode, and the dataset holds what they did."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from data.reader import Dataset
from data.recorder import INTERVENTION, called
from robot.errors import TongsError
from robot.session.access import require_token
from tests.robot.session.sounds import tone

pytest.importorskip("nicegui", reason="the page needs the extra gui")
sync_api = pytest.importorskip("playwright.sync_api", reason="the test in a browser needs playwright")
sync_api.expect.set_options(timeout=90_000)  # a browser on a busy machine
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SAID = "Open the right one"
ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def page_at(tmp_path_factory):
    """(address, dataset folder, the server's process) of a page that is up."""
    tmp_path = tmp_path_factory.mktemp("page")
    port, folder = free_port(), tmp_path / "session"
    command = [sys.executable, "-m", "tests.robot.session.page_server", str(port), str(folder)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready", (tmp_path / "log").read_text()
        try:
            yield f"http://127.0.0.1:{port}", folder, server
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def shown(page, name: str) -> float:
    """A number of the state as the page shows it."""
    cells = """name => [...document.querySelectorAll(".states div")].map((one) => [...one.children])
      .find((pair) => pair[0].innerText === name)?.[1].innerText"""
    return float(page.evaluate(cells, name))


def saved(folder: Path) -> int:
    """Episodes in the dataset so far."""
    return len(Dataset(folder).episodes) if (folder / "meta" / "info.json").exists() else 0


def until(condition, timeout: float = 90.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the page did not get there"
        time.sleep(0.05)


@pytest.fixture
def browse(page_at):
    """Opens the page in a browser of its own with more arguments, takes the control and puts up the scene."""
    with sync_api.sync_playwright() as playwright:
        browsers = []

        def browse(*arguments: str):
            browsers.append(
                playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *arguments])
            )
            page = browsers[-1].new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(90_000)
            page.goto(page_at[0])
            sync_api.expect(page.locator("#state")).not_to_be_empty()
            page.click("#control")
            sync_api.expect(page.locator("#control")).to_have_text("Release control")
            page.click("#discard")
            page.click("#reset")
            sync_api.expect(page.locator("#state")).to_have_text("idle")
            return page

        try:
            yield browse
        finally:
            for browser in browsers:
                for page in [page for context in browser.contexts for page in context.pages]:
                    if page.locator("#control").inner_text() == "Release control":
                        page.click("#control")
                        sync_api.expect(page.locator("#control")).to_have_text("Take control")
                browser.close()


in_browser = pytest.mark.skipif(CHROMIUM is None, reason="the test in a browser needs Chromium")


@in_browser
def test_a_person_runs_an_episode_from_the_page(page_at):
    address, folder, server = page_at
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.goto(address)
        state = page.locator("#state")
        sync_api.expect(state).to_have_text("idle")
        for name in ("halt", "say", "talk", "start", "take_over", "success", "reset", "load", "scrub", "control"):
            box = page.locator(f"#{name}").bounding_box()
            assert box and box["x"] + box["width"] <= 1280 and box["y"] + box["height"] <= 720, name
        live = "[...document.querySelectorAll('.cameras img:not(.replayed)')]"
        until(lambda: page.evaluate(f"{live}.every((one) => one.naturalWidth > 0)"))

        page.click("#control")
        sync_api.expect(page.locator("#control")).to_have_text("Release control")
        other = browser.new_page()
        other.goto(address)
        other.click("#control")
        sync_api.expect(other.get_by_text("holds the control; ask them")).to_be_visible()

        begun = shown(page, "y")
        page.click("#start")
        sync_api.expect(state).to_have_text("running")
        until(lambda: shown(page, "y") > begun + 0.03)  # the scene asks for the thing on the left
        page.keyboard.press("/")
        page.keyboard.type(SAID, delay=1)
        assert page.input_value("#say") == SAID
        page.keyboard.press("Enter")
        until(lambda: shown(page, "y") < begun - 0.03)  # corrected, it ends on the other side

        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("t")
        sync_api.expect(state).to_have_text("operator")
        height = shown(page, "z")
        page.keyboard.down("r")
        until(lambda: shown(page, "z") > height + 0.06)
        page.keyboard.up("r")
        page.keyboard.press("t")
        sync_api.expect(state).to_have_text("running")

        other.keyboard.press("Escape")  # the emergency stop is for everybody
        sync_api.expect(state).to_have_text("emergency")
        page.click("#rearm")
        sync_api.expect(state).to_have_text("idle")
        page.keyboard.press("n")
        sync_api.expect(page.get_by_text("Saved: episode 0")).to_be_visible()
        page.click("#control")
        sync_api.expect(page.locator("#control")).to_have_text("Take control")
        browser.close()
    dataset = Dataset(folder)
    events = dataset.events(0)
    assert [(event.style, event.role, event.text) for event in events if event.text] == [("interjection", "user", SAID)]
    names = [name for _, name, _ in called(events)]
    assert names == ["take_over", "hand_back", "emergency_stop", "verdict"]
    assert called(events)[-1][2] == {"success": False}
    assert dataset.frame_tasks(0)[-1] == SAID
    operated = dataset.columns[INTERVENTION][:, 0]
    lifted = dataset.columns["action"][:, 2]
    assert lifted[operated].sum() > 0.05 and abs(lifted[~operated]).max() < 0.005


@in_browser
def test_what_is_spoken_reaches_the_transcriber_and_a_stop_word_stops(page_at, browse, tmp_path):
    (tmp_path / "tone.wav").write_bytes(tone(660.0, 3.0))
    page = browse(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'tone.wav'}",
    )
    page.click("#start")
    sync_api.expect(page.locator("#state")).to_have_text("running")
    page.keyboard.down("v")
    sync_api.expect(page.locator("#talk.on")).to_be_visible()
    time.sleep(1.5)
    page.keyboard.up("v")
    sync_api.expect(page.locator("#heard")).to_have_text("heard: “Mumble, stop that 660!”")
    sync_api.expect(page.locator("#state")).to_have_text("paused")
    page.click("#discard")


@in_browser
def test_without_a_microphone_the_page_says_so(page_at, browse):
    page = browse()
    page.locator("#talk").focus()
    page.keyboard.down("Enter")
    sync_api.expect(page.get_by_text("no microphone:")).to_be_visible()
    page.keyboard.up("Enter")


@in_browser
def test_what_is_not_understood_comes_back_and_a_policy_that_raises_stops_the_arm(page_at, browse):
    page = browse()
    page.click("#start")
    sync_api.expect(page.locator("#state")).to_have_text("running")
    for said, answer in (
        ("move lefft", "unknown motion 'move lefft'; the nearest known are: move arm left"),
        ("", "the correction is empty"),
    ):
        page.fill("#say", said)
        page.press("#say", "Enter")
        sync_api.expect(page.get_by_text(answer)).to_be_visible()
        sync_api.expect(page.locator("#say")).to_have_value(said)
    sync_api.expect(page.locator("#state")).to_have_text("running")
    page.fill("#say", "crash into the right one")
    page.press("#say", "Enter")
    sync_api.expect(page.locator("#state")).to_have_text("stopped")
    sync_api.expect(page.locator("#message")).to_contain_text("no such thing")
    sync_api.expect(page.locator("#message")).to_contain_text("saved without a verdict")


@in_browser
def test_the_last_episode_is_looked_at_again(page_at, browse):
    page = browse()
    page.click("#record")  # off: what is not recorded can be looked at all the same
    sync_api.expect(page.locator("#count")).to_have_text("not recording")
    begun = shown(page, "y")
    page.click("#start")
    until(lambda: abs(shown(page, "y") - begun) > 0.03)
    page.fill("#say", "open the right one, slowly")
    page.press("#say", "Enter")
    time.sleep(1.0)
    page.click("#failure")
    sync_api.expect(page.locator("#state")).to_have_text("stopped")
    now = shown(page, "y")
    last = int(page.locator("#scrub").get_attribute("max"))
    assert last >= 5 and page.locator("#marks i.correction").count() == 1

    def look(frame: int) -> None:
        page.locator("#scrub").evaluate(
            "(bar, frame) => { bar.value = frame; bar.dispatchEvent(new Event('input', { bubbles: true })); }", frame
        )

    look(0)
    sync_api.expect(page.locator("#live")).to_be_visible()
    until(lambda: shown(page, "y") == pytest.approx(begun, abs=0.02))
    until(lambda: page.evaluate("[...document.querySelectorAll('.replayed')].every((one) => one.naturalWidth === 64)"))
    log = page.locator("#log")
    sync_api.expect(log).not_to_contain_text("slowly")
    look(last)
    until(lambda: shown(page, "y") == pytest.approx(now, abs=0.02))
    sync_api.expect(log).to_contain_text("open the right one, slowly")
    page.locator("#scrub").focus()
    page.keyboard.press("ArrowLeft")  # the keyboard looks, and does not say a motion
    sync_api.expect(page.locator("#when")).to_contain_text(f"{(last - 1) / 10:.1f} s of")
    page.keyboard.press("Tab")
    page.click("#live")
    sync_api.expect(page.locator("#live")).to_be_hidden()
    assert page.evaluate("[...document.querySelectorAll('.replayed')].every((one) => one.hidden)")
    page.click("#record")
    sync_api.expect(page.locator("#count")).to_contain_text("frames")


@in_browser
def test_task_split_scene_and_policy_are_chosen(page_at, browse):
    page = browse()
    page.select_option("#split", "val")
    page.fill("#scene", "3")
    page.keyboard.press("Tab")
    before = page.locator("#told").inner_text()
    page.click("#reset")
    sync_api.expect(page.locator("#told")).not_to_have_text(before)
    page.fill("#policy", "nobody")
    page.click("#load")
    sync_api.expect(page.get_by_text("unknown policy 'nobody'")).to_be_visible()
    page.fill("#policy", "another")
    page.click("#load")
    sync_api.expect(page.locator("#said")).to_contain_text("policy: another")


@in_browser
def test_a_browser_that_is_gone_stops_the_arm_and_the_episode_is_saved(page_at, browse):
    address, folder, _ = page_at
    page = browse()
    page.click("#start")
    sync_api.expect(page.locator("#state")).to_have_text("running")
    other = page.context.browser.new_context().new_page()
    other.goto(address)
    sync_api.expect(other.get_by_text("127.0.0.1 holds the control", exact=True)).to_be_visible()
    before = saved(folder)
    page.close()
    sync_api.expect(other.locator("#state")).to_have_text("stopped")
    sync_api.expect(other.locator("#message")).to_contain_text("saved without a verdict")
    until(lambda: saved(folder) == before + 1)
    assert "verdict" not in [name for _, name, _ in called(Dataset(folder).events(before))]
    other.click("#control")  # and the control is free
    sync_api.expect(other.locator("#control")).to_have_text("Release control")


def test_the_page_is_for_this_machine_unless_there_is_a_token(page_at):
    address = page_at[0]
    assert httpx.get(address).status_code == 200
    assert httpx.get(address, headers={"Host": "robot.example"}).status_code == 403
    assert httpx.post(f"{address}/stop", headers={"Origin": "http://other.example"}).status_code == 403
    with pytest.raises(TongsError, match="TONGS_TOKEN"):
        require_token("0.0.0.0", None, "TONGS_TOKEN")
    require_token("0.0.0.0", "secret", "TONGS_TOKEN")


@in_browser
def test_the_page_runs_an_arm_of_a_file(tmp_path):
    """As `tongs gui robot=arm` has it: no scenes, driven joint by joint, judged by the person."""
    (tmp_path / "arm.yaml").write_text("driver: robot.adapters.template:make\nsettings: {rate: 50}")
    joints = "".join(f"  {name}: {{range: [-1, 1], speed: 0.5}}\n" for name in ("base", "shoulder", "elbow", "wrist"))
    (tmp_path / "limits.yaml").write_text(f"joints:\n{joints}")
    port, folder = free_port(), tmp_path / "episodes"
    files = [str(tmp_path / "arm.yaml"), str(tmp_path / "limits.yaml")]
    command = [sys.executable, "-m", "tests.robot.session.page_server", str(port), str(folder), *files]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready", (tmp_path / "log").read_text()
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(f"http://127.0.0.1:{port}")
            state = page.locator("#state")
            sync_api.expect(state).to_have_text("idle")
            sync_api.expect(page.get_by_text("shoulder").first).to_be_visible()
            assert page.locator("#task").count() == page.locator("#scene").count() == 0
            page.click("#control")
            sync_api.expect(page.locator("#control")).to_have_text("Release control")
            page.fill("#say", "wave")
            page.press("#say", "Enter")
            sync_api.expect(page.locator("#told")).to_have_text("wave")
            page.click("#start")
            sync_api.expect(page.get_by_text("no policy is loaded").first).to_be_visible()
            page.keyboard.press("t")
            sync_api.expect(state).to_have_text("operator")
            page.keyboard.down("a")
            until(lambda: shown(page, "base") > 0.3)
            page.keyboard.up("a")
            page.keyboard.press("Escape")
            sync_api.expect(state).to_have_text("emergency")
            stopped = shown(page, "base")
            page.click("#rearm")
            sync_api.expect(state).to_have_text("idle")
            page.click("#success")
            until(lambda: saved(folder) == 1)
            page.click("#reset")
            sync_api.expect(page.get_by_text("put things up by hand").first).to_be_visible()
            assert shown(page, "base") == pytest.approx(stopped, abs=0.02)
            browser.close()
        server.send_signal(signal.SIGINT)
        server.wait(60)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    dataset = Dataset(folder)
    assert [name for _, name, _ in called(dataset.events(0))] == ["take_over", "emergency_stop", "verdict"]
    assert set(dataset.frame_tasks(0)) == {"wave"} and dataset.columns[INTERVENTION].all()
    assert dataset.columns["action"][-1, 0] > 0.25
