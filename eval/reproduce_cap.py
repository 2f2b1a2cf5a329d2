"""Code as Policies' central claims: programs against learned policies, hierarchical generation, and repairs.

Every evaluation is kept, so that an interrupted reproduction goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from eval.policies import LMP, choose_policy, language_model_files, shipped_checkpoints
from eval.protocol import EvaluationConfig, expand_tasks
from eval.provenance import file_hash
from eval.reproduction import Cells, check, claim_folder, play, played
from eval.results import Results
from eval.worker import PROGRAMS as LOGS
from robot.errors import TongsError
from sim.language import Wording
from sim.tasks import TABLETOP

PROGRAMS, FLAT, UNREPAIRED = "programs", "flat", "no repairs"
WAYS: Mapping[str, Mapping[str, Any]] = {
    PROGRAMS: {"hierarchical": True},
    FLAT: {"hierarchical": False},
    UNREPAIRED: {"hierarchical": True, "repairs": 0},
}
"""Settings of policy=lmp in which the ways to write programs differ."""
ATTRIBUTES = {"seen": "test", "unseen": "novel_object"}
"""The split in which colours and shapes are those that prompts and training name, or others."""
INSTRUCTIONS: dict[str, Wording] = {"seen": "seen", "unseen": "unseen"}
"""Forms of instruction on the table-top, and of `compose` the sentences, that prompts and training have, or others."""
SUITES: Mapping[str, tuple[str, ...]] = {"tabletop": TABLETOP, "compose": ("compose",)}
"""Groups of tasks that are counted together."""
WRONG, TIME = "wrong result", "time"
FAILURES = ("model", "program", "robot", WRONG, TIME)
"""Why an episode with programs failed: an answer that is no program, a program with an error, a request that the robot
could not fulfil (see `policies.lmp.log.Fault`), a program that ran to its end and did something else, or no end."""


@dataclass(frozen=True)
class CapReproductionConfig:
    """What is measured.

    Attributes:
        output: folder of everything; an unfinished reproduction in it goes on.
        lmp: settings of policy=lmp, such as {"model": {"backend": "openai", ...}}; the embedded model by default.
        repairs: how often a program that failed is given back in a command, where repairs are allowed.
        ways: which of `WAYS`.
        policies: end-to-end policies, checkpoints by name or folder; "shipped" stands for those that come with Tongs.
        suites: which of `SUITES`.
        attributes, instructions: "seen", "unseen" or both.
        episodes: test scenes of each task of the table-top for every combination.
        compositions: test scenes of `compose` for every combination.
        videos: successes and failures that are filmed in an evaluation, that many of each.
        processes: of an evaluation.
    """

    output: str
    lmp: Mapping[str, Any] = field(default_factory=dict)
    repairs: int = 2
    ways: Sequence[str] = tuple(WAYS)
    policies: Sequence[str] = ("shipped",)
    suites: Sequence[str] = tuple(SUITES)
    attributes: Sequence[str] = tuple(ATTRIBUTES)
    instructions: Sequence[str] = tuple(INSTRUCTIONS)
    episodes: int = 50
    compositions: int = 100
    videos: int = 0
    processes: int = 2

    def __post_init__(self) -> None:
        check(
            self,
            ("ways", "policies", "suites", "attributes", "instructions"),
            ("episodes", "compositions", "processes", "repairs"),
            (
                ("ways", "way to write programs", WAYS),
                ("suites", "suite", SUITES),
                ("attributes", "attributes", ATTRIBUTES),
                ("instructions", "instructions", INSTRUCTIONS),
            ),
        )
        meant = {"shipped": tuple(shipped_checkpoints())}
        policies = [policy for name in self.policies for policy in meant.get(name, (name,))]
        object.__setattr__(self, "policies", tuple(dict.fromkeys(policies)))
        for name in ("hierarchical", "repairs", "dry_run"):
            if name in self.lmp:
                raise TongsError(
                    f"lmp.{name} is not for reproduce code-as-policies, which sets it for what it compares"
                )
        for name in self.policies:
            if not choose_policy(name).learned:
                raise TongsError(f"policies are learned ones, to compare programs with, not {name!r}")

    def scenes(self, suite: str) -> int:
        return self.episodes if suite == "tabletop" else self.compositions

    @property
    def methods(self) -> tuple[str, ...]:
        return (*self.ways, *self.policies)


def reproduce(config: CapReproductionConfig, console: Console | None = None) -> Path:
    """Everything that is not there yet, then `report.md` and `figure.png`; returns the report.

    Raises:
        TongsError: there is no such language model or policy, or the folder holds a reproduction with others.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    from eval.reproduce_cap_report import write_report

    console = console or Console()
    folder = claim_folder(config, _hashes(config))
    cells = Cells(folder / "cells", console)
    for method in config.methods:
        for suite in config.suites:
            for attributes in config.attributes:
                for instructions in config.instructions:
                    key = {"method": method, "suite": suite, "attributes": attributes, "instructions": instructions}
                    cells.measure(_file_safe(key), lambda key=key: key | _play(config, folder, **key))
    report = write_report(config, cells.read(), folder)
    console.print(report.read_text(encoding="utf-8").partition("## Claims")[2].strip(), highlight=False, markup=False)
    return report


def _hashes(config: CapReproductionConfig) -> dict[str, str | None]:
    """The SHA-256 of what decides the results beside the settings: language model and checkpoints."""
    found: dict[str, str | None] = {}
    if config.ways:
        found |= {f"language model's {name}": file_hash(p) for name, p in language_model_files(config.lmp).items()}
    for policy in config.policies:
        found |= {f"{policy}'s {name}": digest for name, digest in choose_policy(policy).hashes.items()}
    return found


def _file_safe(key: Mapping[str, str]) -> dict[str, str]:
    """A key whose values can be a file's name: a policy may be a folder."""
    return {name: value.strip("/").replace("/", "-").replace(" ", "-") for name, value in key.items()}


def _play(
    config: CapReproductionConfig, folder: Path, method: str, suite: str, attributes: str, instructions: str
) -> dict[str, Any]:
    name = _file_safe({"": method})[""]
    output = folder / "evaluations" / f"{name}-{suite}-{attributes}-{instructions}"
    results = play(
        EvaluationConfig(
            policy=LMP if method in WAYS else method,
            tasks=expand_tasks(SUITES[suite]),
            scenes=(0, config.scenes(suite)),
            output=str(output),
            split=ATTRIBUTES[attributes],
            wording=INSTRUCTIONS[instructions],
            lmp={**config.lmp, "repairs": config.repairs, **WAYS[method]} if method in WAYS else {},
            processes=config.processes,
            videos=config.videos,
        )
    )
    return outcome(results, output / LOGS if method in WAYS else None)


def outcome(results: Results, logs: Path | None) -> dict[str, Any]:
    """What a cell keeps of an evaluation; with programs also why episodes failed and what the answers took.

    Args:
        results: of the evaluation.
        logs: folder of the logs of its programs.
    """
    found = played(results)
    if logs is None:
        return found
    failures, usage = Counter[str](), Counter[str]()
    for episode in results.episodes:
        log = json.loads((logs / f"{episode.task}-{episode.scene}.json").read_text(encoding="utf-8"))
        usage.update({key: log["usage"][key] for key in ("completions", "completion_tokens", "seconds", "cost")})
        if not episode.success:
            failures[why(log)] += 1
    return found | {"failures": {name: failures[name] for name in FAILURES}, "usage": dict(usage)}


def why(log: Mapping[str, Any]) -> str:
    """Which of `FAILURES` an episode's log tells of, if the episode failed: what became of the last command."""
    last = log["commands"][-1] if log["commands"] else {"ending": "running", "attempts": []}
    if last["ending"] == "failed":
        return next((attempt["fault"] for attempt in reversed(last["attempts"]) if attempt["fault"]), "program")
    return WRONG if last["ending"] == "finished" else TIME
