"""Comparing two evaluations of the same scenes: which pairs there are, what forbids it, and the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.paired import PairedRates, paired_rates
from eval.results import write_json
from eval.results_file import ResultsFile
from eval.statistics import Rate
from robot.errors import TongsError, unknown


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, episode by episode.

    Attributes:
        first, second: what was compared.
        overall: over all pairs.
        tasks: of every task that both have, in the order of the first.
        left_out: episodes of the first and of the second without a partner.
    """

    first: ResultsFile
    second: ResultsFile
    overall: PairedRates
    tasks: Mapping[str, PairedRates]
    left_out: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        return {
            **{
                side: {"path": str(file.path), "policy": dict(file.policy)}
                for side, file in (("first", self.first), ("second", self.second))
            },
            "protocol": {key: self.first.protocol[key] for key in _settings(self.first)},
            "left_out": list(self.left_out),
            "overall": asdict(self.overall),
            "tasks": {task: asdict(rates) for task, rates in self.tasks.items()},
        }


def compare(first: ResultsFile, second: ResultsFile, common: bool = False, across: Collection[str] = ()) -> Comparison:
    """Pair the episodes of two evaluations and compare their success.

    Args:
        first, second: two evaluations under the same protocol; policy and sampling settings may differ.
        common: take the scenes that both have; otherwise both have to be complete and have the same.
        across: fields of the protocol that may differ, since it is their effect that is asked for.

    Raises:
        TongsError: the protocols differ (the error lists every field), an evaluation was interrupted, or they have
            no scene in common.
    """
    known = {*_settings(first), *_settings(second)}
    if strange := sorted(set(across) - known):
        raise unknown("field of a protocol", strange[0], sorted(known))
    differences = [entry for entry in _differences(first, second, common) if entry[0] not in across]
    differing = differences or _unlike_scenes(first, second)
    if differing:
        rows = "".join(f"\n  {name}: {a} in a, {b} in b" for name, a, b in differing)
        raise TongsError(f"cannot compare a, {first.path}, and b, {second.path}: their protocols differ{rows}")
    for file in (first, second):
        if not file.complete and not common:
            raise TongsError(
                f"{file.path} is of an interrupted evaluation ({len(file.episodes)} episodes); finish it by running "
                "its command again, or give common=true to compare the scenes that both have"
            )
    shared = [pair for pair in first.episodes if pair in second.episodes]
    if not shared:
        raise TongsError(f"{first.path} and {second.path} have no scene in common")
    return Comparison(
        first,
        second,
        _rates(first, second, shared),
        {
            task: _rates(first, second, [pair for pair in shared if pair[0] == task])
            for task in dict.fromkeys(task for task, _ in shared)
        },
        (len(first.episodes) - len(shared), len(second.episodes) - len(shared)),
    )


def _rates(first: ResultsFile, second: ResultsFile, pairs: list[tuple[str, int]]) -> PairedRates:
    return paired_rates(*([file.episodes[pair]["success"] for pair in pairs] for file in (first, second)))


def _settings(file: ResultsFile) -> list[str]:
    """Names of the protocol's fields, but for those that say which scenes were run."""
    return [name for name in file.protocol if name not in ("tasks", "scenes")]


def _differences(first: ResultsFile, second: ResultsFile, common: bool) -> list[tuple[str, Any, Any]]:
    """Every field in which the protocols differ: its name, its value in the first and in the second."""
    fields = {name: (first.protocol.get(name), second.protocol.get(name)) for name in _settings(first)}
    fields |= {name: (first.protocol.get(name), second.protocol.get(name)) for name in _settings(second)}
    for task in first.tolerances:
        if task in second.tolerances:
            fields[f"tolerance of {task}"] = (first.tolerances[task], second.tolerances[task])
    if not common:
        fields["tasks"] = (sorted(first.protocol["tasks"]), sorted(second.protocol["tasks"]))
        fields["scenes"] = (first.protocol["scenes"], second.protocol["scenes"])
        if first.complete and second.complete and first.episodes.keys() != second.episodes.keys():
            fields["episodes"] = (_listed(first, second), _listed(second, first))
    return [(name, a, b) for name, (a, b) in fields.items() if a != b]


def _unlike_scenes(first: ResultsFile, second: ResultsFile) -> list[tuple[str, Any, Any]]:
    """Scenes of the same number that ask for different things: another version of Tongs has drawn them."""
    differing = []
    for key in ("instruction", "goal"):
        unlike = [
            (f"{key} of {task} {scene}", episode[key], second.episodes[task, scene][key])
            for (task, scene), episode in first.episodes.items()
            if (task, scene) in second.episodes and episode[key] != second.episodes[task, scene][key]
        ]
        if unlike:
            name, a, b = unlike[0]
            differing.append((name + (f" and {len(unlike) - 1} more" if len(unlike) > 1 else ""), repr(a), repr(b)))
    return differing


def _listed(file: ResultsFile, other: ResultsFile) -> str:
    """How many episodes there are, with one that the other lacks."""
    extra = next((f" with {task} {scene}" for task, scene in file.episodes if (task, scene) not in other.episodes), "")
    return f"{len(file.episodes)}{extra}"


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The table, and what its columns mean."""
    for name, file in (("a", comparison.first), ("b", comparison.second)):
        console.print(f"{name}: {escape(str(file.policy['name']))}, {escape(str(file.path))}", highlight=False)
    if any(comparison.left_out):
        console.print("without a partner and left out: {} episodes of a, {} of b".format(*comparison.left_out))
    console.print(_table(comparison))
    console.print(
        "Below the rates their Wilson 95 % intervals; below the difference, in percentage points, its 95 % interval "
        "by bootstrap of the pairs. only a, b: episodes in which only that one succeeded. p: McNemar's exact test. "
        "detects: the smallest difference that so many pairs show with 80 % power.",
        style="dim",
        highlight=False,
    )


def _table(comparison: Comparison) -> Table:
    """Narrow enough for 80 columns: two lines a row."""
    table = Table(header_style="bold", box=None, padding=(0, 1, 1, 0))
    table.add_column("task", no_wrap=True)
    for column in ("a", "b", "b - a", "only a, b", "p", "detects"):
        table.add_column(column, justify="right", no_wrap=True)
    for task, rates in comparison.tasks.items():
        table.add_row(*_cells(task, rates))
    if len(comparison.tasks) > 1:
        table.add_row(*_cells("all", comparison.overall), style="bold")
    return table


def _cells(name: str, rates: PairedRates) -> list[str]:
    low, high = rates.interval
    return [
        f"{name}\n{rates.pairs} pairs",
        _rate_cell(rates.first),
        _rate_cell(rates.second),
        f"{100 * rates.difference:+.1f}\n{100 * low:+.1f} to {100 * high:+.1f}",
        f"{rates.only_first}, {rates.only_second}",
        f"{rates.p_value:.2g}" if rates.p_value >= 0.0001 else "< 0.0001",
        "none" if rates.detectable is None else f"{100 * rates.detectable:.1f}",
    ]


def _rate_cell(counted: Rate) -> str:
    low, high = counted.interval
    return f"{100 * counted.success_rate:.0f} %\n{100 * low:.0f} to {100 * high:.0f}"


def write_comparison(comparison: Comparison, output: str) -> Path:
    """Write the numbers as JSON. Raises TongsError if `output` is a folder."""
    file = Path(output).expanduser()
    if file.is_dir():
        raise TongsError(f"output must be a file such as {file / 'comparison.json'}, and {file} is a folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(comparison.to_json(), file)
    return file
