"""What the code imports is declared, and what is declared is pinned."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("robot", "sim", "data", "policies", "train", "eval", "configs", "checkpoints")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s<>=!~;\[]", requirement)[0].lower() for requirement in requirements}


def imported_modules() -> Iterator[tuple[str, Path]]:
    """Top-level modules that are imported when the code runs; imports for type checking only are left out."""
    for file in [ROOT / "tongs.py", *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]:
        tree = ast.parse(file.read_text())
        guarded = [
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        ]
        for node in ast.walk(tree):
            if node in guarded:
                continue
            if isinstance(node, ast.Import):
                yield from ((name.name.split(".")[0], file) for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield node.module.split(".")[0], file


def test_every_import_is_a_declared_dependency(project: dict[str, Any]) -> None:
    declared = names([*project["dependencies"], *sum(project["optional-dependencies"].values(), [])])
    distributions = metadata.packages_distributions()
    missing = {
        (module, file.name)
        for module, file in imported_modules()
        if module not in sys.stdlib_module_names and module not in (*ROOMS, "tongs")
        if not {name.lower() for name in distributions.get(module, [])} & declared
    }
    assert not missing


def test_every_core_and_development_dependency_is_pinned(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r'[a-z0-9.-]+==\S+( ; python_version (<|>=) "3.\d+")?', line) for line in lines)
    wanted = names([*project["dependencies"], *project["optional-dependencies"]["dev"]])
    assert wanted <= names(lines)
