"""A room imports only rooms below it, and importing `robot` loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "robot": {"robot"},
    "sim": {"sim", "robot"},
    "data": {"data", "robot"},
    "policies": {"policies", "robot", "data.statistics"},
    "train": {"train", "policies", "sim", "data", "robot"},
    "eval": {"eval", "policies", "sim", "data", "robot"},
    "configs": {"configs", "robot"},
    "lerobot_policy_tongs": {"lerobot_policy_tongs", "tongs", "policies", "sim", "robot"},
}
ROOMS = {*MAY_IMPORT, "tongs", "checkpoints"}


def imported(source: str) -> Iterator[str]:
    """Every module that a source file imports, anywhere in it, also for type checking only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def forbidden(room: str, source: str) -> list[str]:
    modules = [module for module in imported(source) if module.split(".")[0] in ROOMS]
    return [m for m in modules if not any(f"{m}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[room])]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"the room {room} is empty"
    wrong = {str(file.relative_to(ROOT)): found for file in files if (found := forbidden(room, file.read_text()))}
    assert not wrong


def test_the_rule_finds_what_it_forbids() -> None:
    assert forbidden("sim", "def f():\n    from policies.base import load_policy") == ["policies.base.load_policy"]
    assert forbidden("policies", "from data.cache import open_cache\nfrom data.statistics import Statistics") == [
        "data.cache.open_cache"
    ]
    assert forbidden("train", "import eval.evaluation") == ["eval.evaluation"]


@pytest.mark.parametrize(
    "module",
    [
        "robot.interface",
        "robot.chunk_queue",
        "robot.errors",
        "robot.exported",
        "robot.skills",
        "robot.resample",
        "robot.control.loop",
        "robot.remote.client",
        "robot.remote.server",
        "robot.ros.runner",
        "robot.ros.recorder",
    ],
)
def test_the_robot_room_runs_without_torch(module: str) -> None:
    loaded = f"[name for name in {[*sorted(ROOMS - {'robot'}), 'torch']} if name in sys.modules]"
    code = f"import sys, {module}; print({loaded})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
