"""Escape and abuse attempts: none gets out, each is told in a sentence why, the robot does not move."""

from collections.abc import Iterator

import pytest

pytest.importorskip("RestrictedPython")
pytest.importorskip("shapely")

from policies.lmp.sandbox import Outcome, Sandbox  # noqa: E402
from tests.policies.lmp.sandbox.attempts import ENDLESS, QUICK, SLOW, Attempt  # noqa: E402
from tests.policies.lmp.sandbox.double import RecordingRobot  # noqa: E402

Ground = tuple[RecordingRobot, Sandbox]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    robot = RecordingRobot()
    with robot.sandbox(seconds=20, memory_mb=96, calls=50) as sandbox:
        yield robot, sandbox


@pytest.fixture(scope="module")
def hurried() -> Iterator[Ground]:
    robot = RecordingRobot()
    with robot.sandbox(seconds=0.15, memory_mb=96) as sandbox:
        yield robot, sandbox


def _holds(attempt: Attempt, outcome: Outcome, robot: RecordingRobot) -> None:
    assert outcome.reason == attempt.reason, (outcome.reason, outcome.error)
    assert outcome.error and "\n" not in outcome.error and len(outcome.error) < 1100
    assert outcome.trace
    assert robot.moves == []


def test_there_are_enough() -> None:
    assert len({attempt.code for attempt in (*QUICK, *SLOW)}) == len((*QUICK, *SLOW)) >= 150


@pytest.mark.parametrize("attempt", QUICK, ids=lambda attempt: attempt.name)
def test_no_escape(attempt: Attempt, ground: Ground) -> None:
    robot, sandbox = ground
    robot.moves.clear()
    outcome = sandbox.run(attempt.code, session="attempt")
    _holds(attempt, outcome, robot)
    sandbox.forget("attempt")


@pytest.mark.parametrize("attempt", [a for a in SLOW if a not in ENDLESS], ids=lambda attempt: attempt.name)
def test_no_flood_and_no_memory_bomb(attempt: Attempt, ground: Ground) -> None:
    robot, sandbox = ground
    robot.moves.clear()
    outcome = sandbox.run(attempt.code, session="attempt")
    _holds(attempt, outcome, robot)
    assert len(outcome.calls) <= 50
    assert sandbox.run("say('still there')").ok
    sandbox.forget("attempt")


@pytest.mark.parametrize("attempt", ENDLESS, ids=lambda attempt: attempt.name)
def test_no_endless_program(attempt: Attempt, hurried: Ground) -> None:
    robot, sandbox = hurried
    robot.moves.clear()
    stops = robot.stops
    outcome = sandbox.run(attempt.code, session="attempt")
    _holds(attempt, outcome, robot)
    assert robot.stops == stops + 1
    sandbox.forget("attempt")


def test_text_in_variables_stays_text(ground: Ground) -> None:
    robot, sandbox = ground
    for text in ("'; import os; '", '"""\nimport os', "{say.__globals__}", "__import__('os').system('id')", "{0.x}"):
        outcome = sandbox.run("say(instruction)\nsay(f'{instruction}')\nsay('%s' % instruction)", {"instruction": text})
        assert outcome.ok, outcome.error
        assert robot.said[-3:] == [text] * 3
