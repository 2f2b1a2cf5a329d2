"""What honest programs can do: robot programs as models write them, sessions, nesting, errors fit for repair."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("RestrictedPython")
shapely = pytest.importorskip("shapely")

from policies.lmp.sandbox import Geometry, Outcome, Sandbox, SandboxLimits  # noqa: E402
from robot.errors import TongsError  # noqa: E402
from tests.policies.lmp.sandbox.double import RecordingRobot  # noqa: E402


@pytest.fixture(scope="module")
def robot() -> RecordingRobot:
    return RecordingRobot()


@pytest.fixture(scope="module")
def sandbox(robot: RecordingRobot) -> Iterator[Sandbox]:
    with robot.sandbox(seconds=3) as sandbox:
        yield sandbox


def test_python_as_models_write_it(sandbox: Sandbox) -> None:
    code = '''
def spread(points: np.ndarray, factor: float = 2.0) -> np.ndarray:
    """Points moved away from their mean."""
    middle = points.mean(axis=0)
    return middle + factor * (points - middle)

points: np.ndarray = np.array([[0.0, 0.0], [2.0, 0.0]])
points[:, 1] += 0.5
points[0, 0] -= 1
wide = spread(points)
names = sorted(['b block', 'a bowl'], key=lambda name: name.split()[-1])
first, *rest = names
counts = {}
for index, name in enumerate(names):
    counts[name] = counts.get(name, 0) + 1
total = 0
while total < 3:
    total += 1
else:
    done = True
try:
    counts['missing']
except KeyError as error:
    caught = f'{error} {total:.1f}'
def outer():
    n = 0
    def inner():
        nonlocal n
        n += 1
        return n
    inner()
    return inner()
nested = outer()
product = (wide @ wide.T)[0, 0]
angle = math.degrees(np.arctan2(1, 1))
largest = max(names, key=len) if names else None
checks = [isinstance(points, np.ndarray), isinstance(total, (int, float)), not isinstance('a', np.ndarray)]
a = b = 3
(c, d), e = (1, 2), 3
'''
    outcome = sandbox.run(code, session="style")
    assert outcome.ok, outcome.error
    values = outcome.variables
    assert isinstance(values["points"], np.ndarray) and isinstance(values["wide"], np.ndarray)
    np.testing.assert_allclose(values["points"], [[-1, 0.5], [2, 0.5]])
    np.testing.assert_allclose(values["wide"], [[-2.5, 0.5], [3.5, 0.5]])
    assert values["names"] == ["b block", "a bowl"] and values["rest"] == ["a bowl"]
    assert values["caught"] == "'missing' 3.0" and values["nested"] == 2
    assert values["product"] == pytest.approx(6.5) and values["angle"] == pytest.approx(45)
    assert values["checks"] == [True, True, True] and values["largest"] == "b block"
    assert [values[name] for name in "abcde"] == [3, 3, 1, 2, 3]
    assert list(outcome.functions) == ["spread", "outer"] and outcome.functions["spread"].startswith("def spread(")


def test_geometry(sandbox: Sandbox) -> None:
    code = """
triangle = Polygon([(0, 0), (1, 0), (0, 1)])
turned = rotate(triangle, 90, origin=(0, 0))
line = LineString([[0, 0], [1, 1]])
points = [line.interpolate(t, normalized=True) for t in np.linspace(0, 1, 3)]
corners = np.array(turned.exterior.coords)
centre = shapely.affinity.scale(triangle, 2, 2).centroid
xy = [centre.x, centre.y]
"""
    values = sandbox.run(code, session="geometry").variables
    expected = shapely.affinity.rotate(shapely.Polygon([(0, 0), (1, 0), (0, 1)]), 90, origin=(0, 0))
    np.testing.assert_allclose(np.asarray(values["corners"]), np.array(expected.exterior.coords), atol=1e-12)
    assert values["xy"] == pytest.approx([1 / 6, 1 / 6])  # scaled about the middle of its box
    assert values["line"] == Geometry("LineString", [[0.0, 0.0], [1.0, 1.0]])
    # and back in again
    again = sandbox.run(
        "ret_val = line.length + points[1].x", {"line": values["line"], "points": values["points"]}, "in"
    )
    assert again.variables["ret_val"] == pytest.approx(math.sqrt(2) + 0.5)


def test_calls_reach_the_robot_in_the_types_it_asks_for(sandbox: Sandbox, robot: RecordingRobot) -> None:
    robot.moves.clear()
    outcome = sandbox.run(
        "p = position('block')\nmove(p + [0, 0, 0.1], hand='closed')\nvisit([(1, 2), np.array([3, 4])])"
    )
    assert outcome.ok, outcome.error
    np.testing.assert_allclose(robot.moves[0], [0.4, 0.1, 0.12])
    assert [list(move) for move in robot.moves[1:]] == [[1.0, 2.0], [3.0, 4.0]]
    assert [call.name for call in outcome.calls] == ["position", "move", "visit"]
    assert outcome.calls[1].arguments["hand"] == "closed" and outcome.calls[0].arguments == {"name": "block"}
    assert isinstance(outcome.calls[0].result, np.ndarray)


def test_sessions_last_and_are_apart(sandbox: Sandbox) -> None:
    assert sandbox.run("x = 1\ndef f(): return x + 1", session="one").ok
    assert sandbox.run("y = f()", session="one").variables["y"] == 2
    assert sandbox.run("y = x", session="two").reason == "refused" or True
    assert "x" in (sandbox.run("y = x", session="two").error or "")
    sandbox.forget("one")
    assert not sandbox.run("y = f()", session="one").ok


def test_errors_show_the_lines_of_the_program() -> None:
    def grasp(name: str) -> None:
        raise TongsError(f"nothing is called {name!r}; there are: red block")

    with Sandbox({"grasp": grasp}) as sandbox:
        outcome = sandbox.run("def take(name):\n    grasp(name)\n\nfor name in ['blue block']:\n    take(name)\n")
        assert outcome.reason == "error"
        assert outcome.trace.splitlines() == [
            "line 5: take(name)",
            "line 2, in take: grasp(name)",
            "RobotError: nothing is called 'blue block'; there are: red block",
        ]
        assert outcome.error == f"{outcome.trace.splitlines()[-1]} (line 2: grasp(name))"
        assert outcome.calls[0].error == "nothing is called 'blue block'; there are: red block"
        # programs may answer to it
        answered = sandbox.run("try:\n    grasp('x')\nexcept RobotError as e:\n    found = str(e)")
        assert answered.ok and "nothing is called" in str(answered.variables["found"])
        # a function of an earlier program shows its own lines
        later = sandbox.run("\n\n\ntake('cup')")
        assert later.trace.splitlines()[:2] == ["line 4: take('cup')", "line 2, in take: grasp(name)"]
        wrong = sandbox.run("grasp(name=3)")
        assert wrong.error == "TypeError: grasp(): name has to be text, not 3 (line 1: grasp(name=3))"
        assert "line 1: not valid Python" in (sandbox.run("x = = 1").error or "")
        assert sandbox.run("import os").error == (
            "line 1: import is not available to programs; np, math and shapely's functions are there already"
        )


def test_print_is_kept_up_to_a_limit(sandbox: Sandbox) -> None:
    assert sandbox.run("print('a', 1, sep='-')\nprint(np.zeros(2))").printed == "a-1\n[0. 0.]\n"
    assert len(sandbox.run("print('x' * 10**6)").printed) == SandboxLimits().printed


def test_programs_within_programs() -> None:
    inner: list[Outcome] = []

    def parse(phrase: str) -> list[float]:
        outcome = sandbox.run("ret_val = [len(phrase), level]\nx = 7", {"phrase": phrase, "level": 1}, "parse")
        inner.append(outcome)
        return outcome.variables["ret_val"]  # pyright: ignore[reportReturnType]

    def deep(level: int) -> int:
        outcome = sandbox.run("ret_val = deep(level + 1)", {"level": level}, f"level {level}")
        if not outcome.ok:
            raise TongsError(outcome.error or "")
        return 0

    with Sandbox({"parse": parse, "deep": deep}, SandboxLimits(nesting=4)) as sandbox:
        outcome = sandbox.run("x = 1\nvalue = parse('the red block')\ny = x")
        assert outcome.ok, outcome.error
        assert outcome.variables["value"] == [13, 1] and outcome.variables["y"] == 1
        assert inner[0].variables["x"] == 7 and [call.name for call in outcome.calls] == ["parse"]
        assert "4 programs wait for one another" in (sandbox.run("deep(0)").error or "")


def test_the_session_outlives_its_process() -> None:
    with RecordingRobot().sandbox(seconds=0.3) as sandbox:
        assert sandbox.run("x = np.arange(3)\nline = LineString([(0, 0), (0, 2)])\ndef f(n):\n    return x * n").ok
        lost = sandbox.run("y = max(iter(int, 1))")
        assert lost.reason == "time" and lost.restarted
        outcome = sandbox.run("z = f(2) * line.length")
        assert outcome.ok, outcome.error
        np.testing.assert_array_equal(np.asarray(outcome.variables["z"]), [0, 4, 8])


def test_an_interrupt_keeps_everything() -> None:
    with RecordingRobot().sandbox(seconds=0.2) as sandbox:
        outcome = sandbox.run("generator = np.random.default_rng(0)\nx = generator.random()\nwhile True:\n    pass")
        assert outcome.reason == "time" and not outcome.restarted
        assert outcome.trace.splitlines()[-1] == "the program computes for longer than 0.2 s"
        assert outcome.trace.splitlines()[0] in ("line 3: while True:", "line 4: pass")
        second = sandbox.run("y = generator.random()").variables["y"]
        assert second == np.random.default_rng(0).random(2)[1]


def test_untyped_functions_are_refused_when_the_sandbox_is_made() -> None:
    def untyped(x): ...  # noqa: ANN001, ANN202
    def anything(x: object) -> None: ...
    def named(**x: int) -> None: ...

    for function, word in ((untyped, "no type"), (anything, "cannot be checked"), (named, r"\*\*x")):
        with pytest.raises(TongsError, match=word):
            Sandbox({"f": function})
    with pytest.raises(TongsError, match="no name"):
        Sandbox({"_f": named})
    with pytest.raises(TongsError, match="above 0"):
        SandboxLimits(seconds=0)


def test_variables_that_no_program_can_be_handed(sandbox: Sandbox) -> None:
    for variables, word in (
        ({"x": object()}, "object"),
        ({"_x": 1}, "_x"),
        ({"for": 1}, "for"),
        ({"x": 2**64}, "64 bits"),
    ):
        with pytest.raises(TongsError, match=word):
            sandbox.run("pass", variables)  # pyright: ignore[reportArgumentType]
