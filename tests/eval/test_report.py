"""The report holds what `results.json` says, and nothing from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from eval.plot import LEFT, SIDE, TOP, goal_plot
from eval.progress import quantity
from eval.report import write_report
from eval.worker import Film
from tests.eval.episodes import episode, results

EPISODES = [
    episode(scene=0, reached=0.52),
    episode(
        scene=1, reached=0.1, success=False, failure="dropped", instruction="<script>alert('open & shut')</script>"
    ),
    episode(scene=0, task="pickup_object", goal=0.3, reached=0.301, instruction="lift the red block"),
]
FILMS = {("open_drawer", 0): Film(b"one"), ("open_drawer", 1): Film(b"two")}


class Page(HTMLParser):
    """Counts tags, collects addresses and the text outside scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + " "

    def count(self, tag: str, kind: str = "") -> int:
        return sum(name == tag and kind in (fields.get("class") or "") for name, fields in self.tags)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    write_report(results(*EPISODES).to_json(), FILMS, tmp_path / "report.html")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    return Page((tmp_path / "report.html").read_text())


def test_every_episode_is_a_point_and_every_film_a_video(page: Page) -> None:
    assert page.count("circle", "success") == 2
    assert page.count("circle", "failure") == 1
    assert page.count("video") == 2


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    addresses = [fields[key] or "" for _, fields in page.tags for key in ("src", "href", "data") if key in fields]
    assert len(addresses) == 2
    assert all(address.startswith("data:video/mp4;base64,") for address in addresses)
    assert page.count("link") == 0


def test_instructions_are_text_and_never_markup(page: Page) -> None:
    assert page.count("script") == 1
    assert "<script>alert('open & shut')</script>" in page.text


def test_the_numbers_are_those_of_the_results(page: Page) -> None:
    words = " ".join(page.text.split())
    assert "67 % success" in words
    assert "2 of 3 episodes" in words
    assert "goal 50.0 %, reached 10.0 %" in words.replace("\N{NO-BREAK SPACE}", " ")
    assert "tongs eval policy=random task=open_drawer,pickup_object" in words


def test_failures_are_counted_and_named(page: Page) -> None:
    words = " ".join(page.text.split()).replace("\N{NO-BREAK SPACE}", " ")
    table = words.partition("Why episodes failed")[2]
    assert "task failed did not reach did not grasp dropped overshot undershot wrong object timed out undone" in table
    assert "Open drawer 1 0 0 1 0 0 0 0 0" in table
    assert "Pickup object 0 0 0 0 0 0 0 0 0" in table
    assert words.count("goal 50.0 %, reached 10.0 %: dropped") == 1
    assert "1 dropped 50.0 % 10.0 % <script>alert" in table


def test_subgoals_have_a_table_instead_of_a_plot(tmp_path: Path) -> None:
    subgoals = ("put_in_drawer", "close_drawer")
    episodes = [
        episode(task="compose", scene=0, subgoals=subgoals, goal=2.0, reached=2.0),
        episode(
            task="compose", scene=1, subgoals=subgoals, goal=2.0, reached=1.0, success=False, failure="did not grasp"
        ),
    ]
    fields = results(*episodes).to_json()
    assert fields["tasks"]["compose"]["unit"] == "subgoals"
    assert fields["episodes"][1]["subgoals"] == list(subgoals) and fields["episodes"][1]["reached"] == 1.0
    assert "subgoals" not in results(*EPISODES).to_json()["episodes"][0]
    write_report(fields, {}, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    words = " ".join(page.text.split())
    assert "1 of 2 reached all their sub-goals in order" in words
    assert "sub-goals reached 95 % interval 1 or more 2/2 34 to 100 % 2 or more 1/2 9 to 91 %" in words
    assert "1 did not grasp put in drawer, close drawer 1 of 2" in words
    assert page.count("circle") == 0


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    write_report(results(*EPISODES, complete=False).to_json(), {}, tmp_path / "report.html")
    assert "interrupted" in (tmp_path / "report.html").read_text()


def test_a_reached_goal_lies_on_the_diagonal() -> None:
    """In SVG coordinates x grows to the right and y downwards, from the plot's corner."""
    plot = Page(goal_plot([{**_shown(0.3, 0.3)}, {**_shown(0.8, 0.2)}], 0.1, 100.0, "%"))
    on, off = [(float(f["cx"] or 0), float(f["cy"] or 0)) for tag, f in plot.tags if tag == "circle"]
    assert on[0] - LEFT == pytest.approx(TOP + SIDE - on[1], abs=0.2)
    assert off[0] > on[0] and off[1] > on[1]


def _shown(goal: float, reached: float) -> dict[str, object]:
    return {"goal": goal, "reached": reached, "success": True, "failure": None, "scene": 0, "instruction": "open"}


def test_quantities() -> None:
    assert quantity(-0.04, "cm") == "0.0\N{NO-BREAK SPACE}cm"
    assert quantity(40, "°") == "40.0°"
