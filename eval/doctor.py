"""What this machine can and cannot do, and what to install: `tongs doctor`."""

from __future__ import annotations

import logging
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.provenance import package_versions
from robot.errors import TongsError

GIB = 1 << 30
NEEDED_DISK = 2 * GIB
EXTRAS = {
    "lerobot": "lerobot",
    "robosuite": "robosuite",
    "bullet": "pybullet",
    "serve": "aiohttp",
    "ray": "ray",
    "gui": "nicegui",
    "ros": "cyclonedds",
}
"""Extra of Tongs -> the distribution that shows whether it is installed."""


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, how it stands, what was found and, if something is amiss, what to do.

    "bad" means that the main job, `tongs eval` on a shipped checkpoint, cannot run; "lacking" that something else
    cannot.
    """

    subject: str
    state: Literal["good", "lacking", "bad"]
    found: str
    remedy: str = ""


def examine(console: Console | None = None) -> bool:
    """Print what was found; return whether the main job can run on this machine."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("what to do", no_wrap=True)
    marks = {"good": "[green]✓[/]", "lacking": "[yellow]–[/]", "bad": "[red]✗[/]"}
    findings = [*_packages(), *_rendering(), *_video(), _graphics_card(), _processor(), _disk(), _sandbox(), *_extras()]
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, escape(finding.found), escape(finding.remedy))
    console = console or Console()
    console.print(table)
    broken = [finding.subject for finding in findings if finding.state == "bad"]
    if broken:
        console.print(f"\n[red]tongs eval cannot run here:[/] {', '.join(broken)}")
    else:
        console.print("\n[green]tongs eval can run here.[/]")
    return not broken


def _packages() -> list[Finding]:
    findings = [Finding("python", "good", f"{platform.python_version()} on {platform.platform()}")]
    for name, version in package_versions().items():
        remedy = "" if version else f"pip install -c constraints.txt {name}"
        findings.append(Finding(name, "good" if version else "bad", version or "not installed", remedy))
    return findings


def _rendering() -> list[Finding]:
    """Every back end by trial, and the one that is used: the first that works, or the one MUJOCO_GL names."""
    from sim.rendering import BACKENDS, INSTALL, choose, probe

    verdicts = [probe(backend) for backend in BACKENDS]
    findings = [
        Finding(f"rendering: {verdict.backend}", "good" if verdict.usable else "lacking", verdict.reason)
        for verdict in verdicts
    ]
    wanted = os.environ.get("MUJOCO_GL")
    try:
        chosen = choose()
    except TongsError as error:
        return [*findings, Finding("rendering", "bad", str(error), INSTALL)]
    usable = {verdict.backend: verdict.usable for verdict in verdicts}[chosen]
    reason = "because MUJOCO_GL asks for it" if wanted else "the first that works"
    if not usable:
        return [*findings, Finding("rendering", "bad", f"{chosen}, {reason}, does not work", "unset MUJOCO_GL")]
    return [*findings, Finding("rendering", "good", f"{chosen} is used, {reason}")]


def _video() -> list[Finding]:
    import av

    def codec(name: str, encoder: str, otherwise: Literal["lacking", "bad"]) -> Finding:
        if encoder in av.codecs_available:
            return Finding(f"video: {name}", "good", f"{encoder} in PyAV {av.__version__}")
        return Finding(f"video: {name}", otherwise, f"PyAV has no {encoder}", "pip install --force-reinstall av")

    return [codec("H.264", "libx264", "bad"), codec("AV1", "libsvtav1", "lacking")]


def _graphics_card() -> Finding:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / GIB
        return Finding("GPU", "good", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    return Finding("GPU", "lacking", "none; small policies train and everything runs on the processor")


def _processor() -> Finding:
    return Finding("processor", "good", f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    if free < NEEDED_DISK:
        return Finding("disk", "lacking", f"{free / GIB:.1f} GiB free", "datasets and checkpoints want 2 GiB or more")
    return Finding("disk", "good", f"{free / GIB:.0f} GiB free")


def _sandbox() -> Finding:
    """The walls around programs of `policy=lmp`, by putting them up."""
    from policies.lmp.sandbox import Sandbox
    from policies.lmp.sandbox.walls import HOLDS

    subject, remedy = "sandbox", "run programs of a language model on a machine that has them"
    logger = logging.getLogger("policies.lmp.sandbox")
    try:
        with Sandbox({}) as sandbox, _quiet(logger):
            walls = sandbox.walls
    except TongsError as error:
        return Finding(subject, "lacking", str(error), remedy)
    holding = [name for name, state in walls.items() if state == HOLDS]
    missing = [f"no {name} ({state})" for name, state in walls.items() if state != HOLDS]
    found = "; ".join([", ".join(holding), *missing])
    return Finding(subject, "lacking", found, remedy) if missing else Finding(subject, "good", found)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _extras() -> list[Finding]:
    findings = []
    for extra, distribution in EXTRAS.items():
        try:
            findings.append(Finding(f"extra: {extra}", "good", f"{distribution} {metadata.version(distribution)}"))
        except metadata.PackageNotFoundError:
            findings.append(Finding(f"extra: {extra}", "lacking", "not installed", f"pip install 'tongs[{extra}]'"))
    return findings
