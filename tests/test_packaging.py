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
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("robot", "sim", "data", "policies", "train", "eval", "configs", "checkpoints", "lerobot_policy_tongs")


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
    distributions = {"rerun": ["rerun-sdk"], **metadata.packages_distributions()}  # it hides behind a .pth file
    missing = {
        (module, file.name)
        for module, file in imported_modules()
        if module not in sys.stdlib_module_names and module not in (*ROOMS, "tongs")
        # A package that has no wheel for this Python is known by its module's name.
        if not {name.lower().replace("_", "-") for name in distributions.get(module, [module.replace("_", "-")])}
        & declared
    }
    assert not missing


def test_every_core_and_development_dependency_is_pinned(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r'[a-z0-9.-]+==\S+( ; python_version (<|>=) "3.\d+")?', line) for line in lines)
    extras = project["optional-dependencies"]
    (ours,) = [requirement for requirement in extras["dev"] if requirement.startswith("tongs[")]
    inner = [requirement for name in re.findall(r"\w+", ours)[1:] for requirement in extras[name]]
    wanted = names([*project["dependencies"], *extras["dev"], *inner]) - {"tongs"}
    assert len(wanted) > 40 and wanted <= names(lines)


def test_all_that_the_development_set_brings_in_is_pinned(project: dict[str, Any]) -> None:
    """Whatever its packages ask for in turn: a version that nobody tested could break any of them."""
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pinned = {canonicalize_name(pin.name) for pin in pins if pin.marker is None or pin.marker.evaluate()}
    extras = project["optional-dependencies"]
    open_ends = [*project["dependencies"], "tongs[dev]"]
    known: set[tuple[str, str]] = set()
    while open_ends:
        requirement = Requirement(open_ends.pop())
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in known:
                known.add((name, extra))
                open_ends += extras.get(extra, []) if name == "tongs" else list(required_by(name, extra))
    brought = {name for name, _ in known} - {"tongs"}
    assert len(brought) > 200 and brought - pinned == set()


def required_by(name: str, extra: str) -> Iterator[str]:
    """What an installed package asks for here; nothing, if it has no wheel for this Python."""
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield text
