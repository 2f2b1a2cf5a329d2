"""Does the policy listen? The same scenes told otherwise: another target, value or wording, "do not", or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.evaluation import evaluate
from eval.protocol import EvaluationConfig
from eval.report import render_page
from eval.results import Results, write_json, write_text


@dataclass(frozen=True)
class Condition:
    """One way to change the instruction.

    Attributes:
        name: folder and row.
        says: what the instruction is, for people.
        changes: fields of the protocol that differ from the evaluation asked for.
        heeded: whether a policy that listens reaches the goal of this condition, or leaves it alone.
    """

    name: str
    says: str
    changes: Mapping[str, Any]
    heeded: bool = True


CONDITIONS = (
    Condition("original", "the scene's own instruction", {}),
    Condition("other_target", "asks for the other thing", {"variant": "other_target"}),
    Condition("other_goal", "asks for another value", {"variant": "other_goal"}),
    Condition("paraphrase", "says the same in unseen words", {"wording": "unseen"}),
    Condition("negated", "says not to do it", {"variant": "negated"}, heeded=False),
    Condition("empty", "is empty", {"variant": "empty"}, heeded=False),
)


@dataclass(frozen=True)
class Sensitivity:
    """The results of every condition, in the order of CONDITIONS; fewer if interrupted."""

    config: EvaluationConfig
    results: Mapping[str, Results]

    @property
    def complete(self) -> bool:
        return len(self.results) == len(CONDITIONS) and all(result.complete for result in self.results.values())

    def to_json(self) -> dict[str, Any]:
        """Per condition: what it is, how often its goal was reached, how often the wrong thing was taken instead."""
        return {
            "command": f"{self.config.command} sensitivity=true",
            "complete": self.complete,
            "conditions": {
                condition.name: {
                    "says": condition.says,
                    "heeded": condition.heeded,
                    "overall": asdict(self.results[condition.name].overall),
                    "tasks": {
                        task: asdict(statistics) for task, statistics in self.results[condition.name].tasks.items()
                    },
                }
                for condition in CONDITIONS
                if condition.name in self.results
            },
        }


def measure(config: EvaluationConfig, console: Console | None = None) -> Sensitivity:
    """Evaluate every condition into its own folder below the output, then write `sensitivity.json` and
    `sensitivity.html` there. Like any evaluation it goes on where an earlier one stopped.

    Raises:
        TongsError: see `eval.evaluation.evaluate`.
    """
    console, results = console or Console(), {}
    output = Path(config.output)
    configs = {
        condition.name: replace(config, output=str(output / condition.name), **condition.changes)
        for condition in CONDITIONS
    }
    for condition in CONDITIONS:
        console.rule(f"{condition.name}: the instruction {condition.says}")
        results[condition.name] = evaluate(configs[condition.name], console)
        if not results[condition.name].complete:
            break
    sensitivity = Sensitivity(config, results)
    fields = sensitivity.to_json()
    write_json(fields, output / "sensitivity.json")
    page = render_page("sensitivity.html.j2", fields=fields, config=config)
    write_text(page, output / "sensitivity.html")
    console.print(_table(fields))
    return sensitivity


def _table(fields: Mapping[str, Any]) -> Table:
    table = Table(header_style="bold", box=None, padding=(0, 1))
    for column in ("the instruction", "should", "reached", "95 % interval", "wrong object"):
        table.add_column(column, justify="left" if column == "the instruction" else "right", no_wrap=True)
    for condition in fields["conditions"].values():
        overall = condition["overall"]
        low, high = overall["interval"]
        wrong = sum(task["failures"]["wrong object"] for task in condition["tasks"].values())
        table.add_row(
            condition["says"],
            "be high" if condition["heeded"] else "be low",
            f"{overall['successes']}/{overall['episodes']}",
            f"{100 * low:.0f} to {100 * high:.0f} %",
            str(wrong),
        )
    return table
