"""The commands of `tongs data`: what each does with its folders and settings, and what it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot.errors import TongsError, unknown

Settings = dict[str, Any]
PARTS = {"train": 0.9, "val": 0.1}


def info(folders: Sequence[str], settings: Settings) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from data.reader import Dataset
    from data.summary import describe

    for folder in folders:
        dataset = Dataset(folder)
        table = Table(box=None, show_header=False, title=f"{folder} ({dataset.version})", title_justify="left")
        for what, how_much in describe(dataset):
            table.add_row(escape(what), escape(how_much))
        Console().print(table)
    return 0


def check(folders: Sequence[str], settings: Settings) -> int:
    """1 if a finding is serious."""
    from data.lint import check as lint
    from data.reader import Dataset

    serious = False
    for folder in folders:
        dataset = Dataset(folder)
        with _progress("decoding", len(dataset.episodes) * settings["images"]) as advance:
            findings = lint(dataset, settings["images"], advance)
        print(
            f"{folder}: {len(findings) or 'no'} finding{'s' * (len(findings) != 1)} in {len(dataset.episodes)} episodes"
        )
        for finding in findings:
            where = f" ({_numbered(finding.episodes)})" if finding.episodes else ""
            print(f"  {'SERIOUS ' if finding.serious else ''}{finding.check}: {finding.message}{where}")
            serious |= finding.serious
    return int(serious)


def stats(folders: Sequence[str], settings: Settings) -> int:
    from rich.console import Console
    from rich.table import Table

    from data.reader import Dataset
    from data.statistics import QUANTILES
    from data.summary import entries, rewrite_statistics

    dataset = Dataset(_one(folders))
    statistics = rewrite_statistics(dataset) if settings["write"] else dataset.statistics
    table = Table(box=None, header_style="bold")
    shown = ["min", *(name for name in QUANTILES if name in next(iter(statistics.values()))), "max", "mean", "std"]
    for name in ("column", "entry", *shown):
        table.add_column(name, justify="left" if name in ("column", "entry") else "right")
    for column, entry, values in entries(dataset, statistics):
        table.add_row(column, entry, *(f"{values[name]:.4g}" for name in shown))
    Console(width=max(Console().width, 140)).print(table)
    return 0


def merge(folders: Sequence[str], settings: Settings) -> int:
    from data import edit
    from data.reader import Dataset

    datasets = [Dataset(folder) for folder in folders]
    with _progress("copying", sum(len(dataset.episodes) for dataset in datasets)) as advance:
        edit.merge(datasets, settings["output"], advance)
    print(settings["output"])
    return 0


def split(folders: Sequence[str], settings: Settings) -> int:
    from data import edit
    from data.reader import Dataset

    dataset = Dataset(_one(folders))
    with _progress("copying", len(dataset.episodes)) as advance:
        parts = edit.split(dataset, settings["parts"] or PARTS, settings["output"], settings["seed"], advance)
    for name, episodes in parts.items():
        print(f"{Path(settings['output']) / name}: {len(episodes)} episodes")
    return 0


def delete(folders: Sequence[str], settings: Settings) -> int:
    from data import edit
    from data.reader import Dataset

    dataset = Dataset(_one(folders))
    gone = _episodes(settings["episodes"], len(dataset.episodes))
    with _progress("copying", len(dataset.episodes) - len(set(gone))) as advance:
        edit.delete(dataset, gone, settings["output"], advance)
    print(settings["output"])
    return 0


def rename(folders: Sequence[str], settings: Settings) -> int:
    from data import edit
    from data.reader import Dataset

    dataset = Dataset(_one(folders))
    with _progress("copying", len(dataset.episodes)) as advance:
        edit.rename(dataset, settings["names"], settings["output"], advance)
    print(settings["output"])
    return 0


def view(folders: Sequence[str], settings: Settings) -> int:
    from data.reader import Dataset
    from data.view.page import write_page
    from data.view.rerun import view_in_rerun

    dataset, episode, output = Dataset(_one(folders)), settings["episode"], settings["output"]
    if settings["rerun"] or (output and Path(output).suffix == ".rrd"):
        view_in_rerun(dataset, episode, Path(output) if output else None)
        return 0
    path = Path(output or f"episode_{episode}.html")
    write_page(dataset, episode, path)
    print(path)
    return 0


def repair(folders: Sequence[str], settings: Settings) -> int:
    from data.repair import repair as mend

    for folder in folders:
        print(mend(folder))
    return 0


def export(folders: Sequence[str], settings: Settings) -> int:
    from data.export import export_language_columns, export_v21
    from data.reader import Dataset

    dataset, output = Dataset(_one(folders)), settings["output"]
    if settings["format"] == "v2.1":
        again = export_v21(dataset, output)
        print(f"{output}" + (f" ({again} videos had to be compressed again)" if again else ""))
    elif settings["format"] == "language_columns":
        export_language_columns(dataset, output)
        print(output)
    else:
        raise TongsError(f"unknown format {settings['format']!r}; known are: v2.1, language_columns")
    return 0


def label(folders: Sequence[str], settings: Settings) -> int:
    """One dataset; or several, each into a folder of its name in `output`."""
    from dataclasses import replace

    from data.motions import label as label_with
    from data.motions import table_from_file
    from data.reader import Dataset
    from robot.motions import TABLE, Axis

    table = TABLE if settings["table"] is None else table_from_file(settings["table"])
    given = {name: settings[name] for name in ("horizon", "most") if settings[name] is not None}
    entries = [axis.entry for axis in table.axes]
    if strange := [name for name in settings["thresholds"] if name not in entries]:
        raise unknown("motion axis", strange[0], entries)
    axes = [replace(axis, threshold=settings["thresholds"].get(axis.entry, axis.threshold)) for axis in table.axes]
    table = replace(table, axes=tuple[Axis, ...](axes), **given)
    for folder in folders:
        dataset, output = Dataset(folder), Path(settings["output"])
        with _progress("labelling", len(dataset.episodes)) as advance:
            report = label_with(dataset, output if len(folders) == 1 else output / Path(folder).name, table, advance)
        print(f"{folder}: " + "\n  ".join(report.sentences()))
    return 0


@dataclass(frozen=True)
class Command:
    """One of the commands; its keys are in configs/dataset/<name>.yaml."""

    run: Callable[[Sequence[str], Settings], int]
    text: str


COMMANDS = {
    "info": Command(info, "what datasets hold"),
    "check": Command(check, "what in them would make a policy learn the wrong thing"),
    "stats": Command(stats, "statistics of every entry"),
    "view": Command(view, "look at one episode"),
    "merge": Command(merge, "several datasets as one"),
    "split": Command(split, "one dataset as several"),
    "delete": Command(delete, "a copy without some episodes"),
    "rename": Command(rename, "a copy with other names of columns or instructions"),
    "repair": Command(repair, "make a damaged dataset readable"),
    "export": Command(export, "a copy in another version of the format"),
    "label": Command(label, "a copy that says at every moment which motion the arm makes"),
}


def _one(folders: Sequence[str]) -> str:
    if len(folders) != 1:
        raise TongsError(f"one dataset is needed here, got {len(folders)}: {', '.join(folders)}")
    return folders[0]


def _episodes(wanted: Any, count: int) -> list[int]:
    """Numbers and ranges such as 3 or [3, "7:9", "20:"]."""
    chosen: list[int] = []
    for part in wanted if isinstance(wanted, list) else [wanted]:
        first, colon, last = str(part).partition(":")
        try:
            begin = int(first) if first or not colon else 0
            end = int(last) if last else count if colon else begin + 1
        except ValueError as error:
            raise TongsError(f"episodes are numbers and ranges such as 3,7:9, got {part!r}") from error
        if not 0 <= begin < end <= count:
            raise TongsError(f"there are episodes 0 to {count - 1}, asked for {part}")
        chosen += range(begin, end)
    return chosen


def _numbered(episodes: Sequence[int], at_most: int = 12) -> str:
    shown = ", ".join(map(str, episodes[:at_most]))
    more = f" and {len(episodes) - at_most} more" if len(episodes) > at_most else ""
    return f"episode{'s' * (len(episodes) != 1)} {shown}{more}"


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar, and the function that moves it on by one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("episodes"), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=total == 0) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda: progress.advance(bar)
