"""Stand-ins for tests: an executor in this process, a model that answers from a list, an ideal arm in a plain scene."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely.affinity
import shapely.geometry
from scipy.spatial.transform import Rotation

from policies.lmp.language_models import Completion
from policies.lmp.prompt import Prompt
from policies.lmp.sandbox import Call, Outcome, Value
from robot.interface import EE_DELTA, Articulation, Cavity, Observation, RobotSpec, SceneObject
from robot.skills import POSE_STATE, Pose, downward

_LIBRARY = {
    "np": np,
    **{name: getattr(shapely.geometry, name) for name in ("Point", "LineString", "Polygon", "MultiPoint", "box")},
    **{name: getattr(shapely.affinity, name) for name in ("rotate", "scale", "translate")},
}


class PlainExecutor:
    """Runs programs with `exec`, without any protection; for the programs of tests only."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._functions = functions
        self._sessions: dict[str, dict[str, Any]] = {}
        self.stopping = threading.Event()
        self.ran: list[tuple[str, str]] = []

    def run(self, code: str, variables: Mapping[str, Value] | None = None, session: str = "main") -> Outcome:
        self.ran.append((session, code))
        self.stopping.clear()
        calls: list[Call] = []
        names = self._sessions.setdefault(session, {})
        names |= {name: self._logged(name, function, calls) for name, function in self._functions.items()}
        names |= _LIBRARY | dict(variables or {})
        error = None
        try:
            exec(compile(code, session, "exec"), names)
        except Exception as caught:  # noqa: BLE001
            error = f"{type(caught).__name__}: {caught}"
        own = {
            name: value
            for name, value in names.items()
            if name not in {**self._functions, **_LIBRARY, "__builtins__": 0} and not callable(value)
        }
        reason = "stopped" if self.stopping.is_set() else "error" if error else "finished"
        return Outcome(reason, error, error or "", own, calls=tuple(calls))

    def _logged(self, name: str, function: Callable[..., Any], calls: list[Call]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            try:
                result = function(*given, **named)
            except Exception as error:
                calls.append(Call(name, {str(i): value for i, value in enumerate(given)} | named, None, str(error)))
                raise
            calls.append(Call(name, {str(i): value for i, value in enumerate(given)} | named, result))
            return result

        return call

    def forget(self, session: str = "main") -> None:
        self._sessions.pop(session, None)

    def stop(self) -> None:
        self.stopping.set()

    def close(self) -> None:
        pass


class Scripted:
    """A language model that gives its answers in order, whoever asks, and keeps the prompts."""

    name = "scripted"

    def __init__(self, *answers: str | Completion) -> None:
        self._answers = list(answers)
        self.prompts: list[Prompt] = []

    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        assert temperature == 0.0
        self.prompts.append(prompt)
        answer = self._answers.pop(0)
        return answer if isinstance(answer, Completion) else Completion(answer)


class TableScene:
    """An arm that does exactly what it is told, and things that it carries between its fingers: `Robot` and `Scene`."""

    spec = RobotSpec({}, (*POSE_STATE, "gripper_opening"), EE_DELTA)

    def __init__(self, places: Mapping[str, tuple[float, float]], instruction: str = "") -> None:
        self.pose = Pose(np.array([0.42, 0.0, 0.34]), downward(0.0))
        self.instruction, self.steps, self.gripper = instruction, 0, 1.0
        self.slippery = False
        self.places = {name: np.array([*place, 0.0275 if "bowl" in name else 0.02]) for name, place in places.items()}
        self._held: str | None = None

    def observe(self) -> Observation:
        matrix = self.pose.rotation.as_matrix()
        opening = self.gripper if self._held is None else max(self.gripper, 0.5)
        state = np.concatenate([self.pose.position, matrix[:, 0], matrix[:, 1], [opening]]).astype(np.float32)
        return Observation({}, state, self.instruction, self.steps / EE_DELTA.rate)

    def execute(self, action: np.ndarray) -> None:
        self.pose = Pose(self.pose.position + action[:3], Rotation.from_rotvec(action[3:6]) * self.pose.rotation)
        self.gripper, self.steps = float(action[6]), self.steps + 1
        if self.gripper > 0.5 and self._held is not None:
            self.places[self._held][2] = max(0.02, self._support(self._held))
            self._held = None
        elif self.gripper < 0.3 and self._held is None and not self.slippery:
            near = [n for n, at in self.places.items() if np.linalg.norm(at - self.pose.position) < 0.02]
            self._held = near[0] if near else None
        if self._held is not None:
            self.places[self._held] = self.pose.position.copy()

    def _support(self, name: str) -> float:
        below = [
            at[2] + 0.04
            for other, at in self.places.items()
            if other != name and np.linalg.norm(at[:2] - self.places[name][:2]) < 0.02 and at[2] < self.places[name][2]
        ]
        return max(below, default=0.02)

    def stop(self) -> None: ...

    def objects(self) -> Mapping[str, SceneObject]:
        upright = np.array([1.0, 0.0, 0.0, 0.0])
        found = {}
        for name, at in self.places.items():
            bowl = "bowl" in name
            extent = np.array([0.10, 0.10, 0.055]) if bowl else np.full(3, 0.04)
            cavity = Cavity(at - (0.0, 0.0, 0.02), np.array([0.08, 0.08, 0.048])) if bowl else None
            found[name] = SceneObject(name, at.copy(), upright, extent, name.split()[0], cavity=cavity)
        return found


def drawer(name: str, fraction: float) -> SceneObject:
    """A drawer at x = 0.62 that slides towards the arm."""
    grasp = Pose(np.array([0.60 - 0.2 * fraction, 0.0, 0.10]), downward(-np.pi / 2)).vector().astype(np.float64)
    articulation = Articulation("slide", np.array([-1.0, 0.0, 0.0]), np.zeros(3), 0.2, grasp)
    position = np.array([0.66 - 0.2 * fraction, 0.0, 0.06])
    return SceneObject(name, position, np.array([1.0, 0, 0, 0]), np.full(3, 0.1), "", fraction, articulation)


def literal(text: str) -> Any:
    return ast.literal_eval(text)
