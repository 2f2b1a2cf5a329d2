"""`tongs import`: find the format, open the source, write its episodes one by one, say what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.features import ACTION, IMAGES, Feature, camera, vector
from data.importers.episode import Episode, Importer
from data.importers.journal import Journal
from data.timing import MEASURED
from data.writer import DatasetWriter
from robot.errors import TongsError, unknown
from robot.interface import EE_DELTA

FORMATS: Mapping[str, frozenset[str]] = {
    "rosbag": frozenset({"map"}),
    "robomimic": frozenset({"cameras", "state", "units", "flip", "split"}),
    "libero": frozenset({"cameras", "state", "units", "flip", "shift", "drop_no_ops"}),
    "rlds": frozenset(
        {"fps", "cameras", "state", "state_names", "action", "action_names", "action_units", "language", "split"}
    ),
}
"""The formats, and the settings that each understands beside those of all."""
_COMMON = frozenset({"source", "output", "format", "instruction", "robot_type", "storage", "bad"})


@dataclass(frozen=True)
class ImportConfig:
    """What to import; None leaves a setting to the format.

    Attributes:
        source: bags, HDF5 files or dataset folders, or folders of them.
        output: the dataset folder; one that an import began is continued.
        format: a key of `FORMATS`; found from the files by default.
        map: the topic map of a ROS 2 bag, a YAML file.
        instruction: replaces the recording's own, for every frame.
        robot_type: replaces the recording's own.
        fps: frames per second, where the format does not say.
        cameras: {name in the dataset: key in the source}.
        state, action: keys in the source whose values are joined.
        state_names, action_names, action_units: one per entry, where the format does not say.
        language: key of the instruction in the source.
        units: `physical` actions (m, rad, opening) or `raw` ones, as the simulator takes them (-1 to 1).
        flip: how images are turned upright: `none`, `vertical`, or `rotate` by 180 degrees.
        shift: pair each observation with the next row's action, as LIBERO's files need it.
        split: only the episodes of this split or filter key.
        drop_no_ops: leave out frames whose action does nothing, as OpenVLA does.
        storage: images as `video` or as `png`.
        bad: at an episode that cannot be imported, `stop`, or `skip` it and tell.
    """

    source: Sequence[str]
    output: str
    format: str | None = None
    map: str | None = None
    instruction: str | None = None
    robot_type: str | None = None
    fps: int | None = None
    cameras: Mapping[str, str] = field(default_factory=dict)
    state: Sequence[str] | None = None
    state_names: Sequence[str] | None = None
    action: Sequence[str] | None = None
    action_names: Sequence[str] | None = None
    action_units: Sequence[str] | None = None
    language: str | None = None
    units: str | None = None
    flip: str | None = None
    shift: bool | None = None
    split: str | None = None
    drop_no_ops: bool | None = None
    storage: str = "video"
    bad: str = "stop"


@dataclass
class ImportReport:
    """What an import did: the dataset's folder, episodes and frames that were added, and what there is to say."""

    folder: Path
    episodes: int = 0
    frames: int = 0
    known: int = 0
    skipped: list[str] = field(default_factory=list)
    beyond: Counter[str] = field(default_factory=Counter)

    def sentences(self) -> list[str]:
        lines = [f"{self.episodes} episodes with {self.frames} frames were added to {self.folder}"]
        if self.known:
            lines[0] += f"; {self.known} were there already"
        lines += [f"left out: {reason}" for reason in self.skipped]
        for name, count in self.beyond.items():
            limit = EE_DELTA.high[EE_DELTA.names.index(name)]
            lines.append(
                f"warning: {count} frames command more than {limit:g} of {name} in a step, the most that our arm does"
            )
        return lines


def run_import(config: ImportConfig, console: Console | None = None) -> ImportReport:
    """Import every episode of the source that the output does not have yet.

    Ctrl-C or a kill loses at most the episode in progress; the same call goes on.

    Raises:
        TongsError: bad settings, a source that cannot be read, an episode that cannot be imported (with `bad=stop`), or
            an output that is no import with the same settings.
    """
    for name, known in (("bad", ("stop", "skip")), ("storage", ("video", "png"))):
        if getattr(config, name) not in known:
            raise unknown(name, getattr(config, name), known)
    paths = [Path(name).expanduser() for name in config.source]
    for path in paths:
        if not path.exists():
            raise TongsError(f"there is no {path}")
    kind = config.format or _find_format(paths)
    _require_settings(config, kind)
    importer = _open(kind, paths, config)
    journal = Journal(Path(config.output), _head(kind, importer, config))
    return _import(importer, journal, config, console or Console(stderr=True))


def _import(importer: Importer, journal: Journal, config: ImportConfig, console: Console) -> ImportReport:
    report = ImportReport(Path(config.output))
    bar = Progress(TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    with ExitStack() as stack:
        stack.enter_context(bar)
        progress = bar.add_task("episodes", total=importer.total)
        writer: DatasetWriter | None = None
        for recorded in importer.episodes():
            if recorded.name in journal.done:
                report.known += 1
                bar.advance(progress)
                continue
            try:
                episode = recorded.load()
                columns = _check(importer, episode)
            except TongsError as error:
                _leave_out(recorded.name, error, report, config)
                bar.advance(progress)
                continue
            if writer is None:
                writer = stack.enter_context(_open_writer(importer, episode, config))
            journal.record(recorded.name, writer.episodes, frames=len(episode.tasks), **episode.notes)
            images = {IMAGES + name: frames for name, frames in episode.images.items()}
            try:
                writer.add_episode(columns, episode.tasks, images=images or None)
            except TongsError as error:
                if isinstance(error.__cause__, OSError):  # not the episode is bad, but the disk
                    raise
                _leave_out(recorded.name, error, report, config)
            else:
                report.episodes += 1
                report.frames += len(episode.tasks)
                report.beyond += _beyond(importer, episode)
            bar.advance(progress)
    if report.episodes + report.known == 0:
        raise TongsError("; ".join(report.skipped) or f"{', '.join(config.source)} holds no episode")
    return report


def _leave_out(name: str, error: TongsError, report: ImportReport, config: ImportConfig) -> None:
    """Note a bad episode, or stop at it, as the settings say."""
    message = f"{name}: {error}"
    if config.bad == "stop":
        raise TongsError(message) from error
    report.skipped.append(message)


def _open_writer(importer: Importer, episode: Episode, config: ImportConfig) -> DatasetWriter:
    """A writer for the features that the first episode shows."""
    features: dict[str, Feature] = {}
    for name, frames in episode.images.items():
        features[IMAGES + name] = camera(*frames.shape[1:3])
    for key, names in importer.columns.names.items():
        features[key] = vector(names)
    if episode.stamps:
        features[MEASURED] = vector([_key(name, episode) for name in episode.stamps], "float64")
    storage = "png" if config.storage == "png" else "video"
    return DatasetWriter(config.output, importer.fps, features, importer.robot_type, storage)


def _check(importer: Importer, episode: Episode) -> dict[str, Any]:
    """The columns of an episode, real time stamps included."""
    blank = [frame for frame, task in enumerate(episode.tasks) if not task]
    if blank:
        raise TongsError(f"frame {blank[0]} has no instruction; give one with instruction=...")
    columns = dict(episode.columns)
    if episode.stamps:
        columns[MEASURED] = np.stack(list(episode.stamps.values()), axis=1)
    for key, names in importer.columns.names.items():
        if columns[key].shape != (len(episode.tasks), len(names)):
            raise TongsError(f"{key} has the shape {columns[key].shape}, expected {(len(episode.tasks), len(names))}")
        columns[key] = np.asarray(columns[key], np.float32)
    return columns


def _key(name: str, episode: Episode) -> str:
    return IMAGES + name if name in episode.images else name


def _beyond(importer: Importer, episode: Episode) -> Counter[str]:
    """How many frames ask for more than `EE_DELTA` allows, by the name of the action's entry."""
    if importer.columns.names[ACTION] != EE_DELTA.names or importer.fps != EE_DELTA.rate:
        return Counter()
    action = np.asarray(episode.columns[ACTION])
    over = (action < np.array(EE_DELTA.low) - 1e-6) | (action > np.array(EE_DELTA.high) + 1e-6)
    return Counter({name: int(count) for name, count in zip(EE_DELTA.names, over.sum(axis=0), strict=True) if count})


def _head(kind: str, importer: Importer, config: ImportConfig) -> dict[str, Any]:
    """The journal's first line: everything that decides what an episode becomes."""
    elsewhere = ("source", "output", "format", "bad", "map", "fps", "robot_type")
    settings = {key: value for key, value in asdict(config).items() if key not in elsewhere and value not in (None, {})}
    columns = {
        "column_names": {key: list(names) for key, names in importer.columns.names.items()},
        "column_units": {key: list(units) for key, units in importer.columns.units.items()},
    }
    known = {"format": kind, "fps": importer.fps, "robot_type": importer.robot_type}
    return {**known, **settings, **columns, **importer.description}


def _require_settings(config: ImportConfig, kind: str) -> None:
    if kind not in FORMATS:
        raise unknown("format", kind, list(FORMATS))
    for setting in fields(config):
        given = getattr(config, setting.name)
        if setting.name not in _COMMON | FORMATS[kind] and given not in (None, {}):
            users = [name for name, settings in FORMATS.items() if setting.name in settings]
            raise TongsError(f"{setting.name} is not a setting of the format {kind}, only of {', '.join(users)}")


def _open(kind: str, paths: Sequence[Path], config: ImportConfig) -> Importer:
    if kind == "rosbag":
        from data.importers.rosbag import RosbagImporter

        return RosbagImporter(paths, config)
    if kind == "robomimic":
        from data.importers.robomimic import RobomimicImporter

        return RobomimicImporter(paths, config)
    if kind == "libero":
        from data.importers.libero import LiberoImporter

        return LiberoImporter(paths, config)
    from data.importers.rlds import RldsImporter

    return RldsImporter(paths, config)


def _find_format(paths: Sequence[Path]) -> str:
    found = {path: _format_of(path) for path in paths}
    for path, kind in found.items():
        if kind is None:
            raise TongsError(
                f"{path} is no ROS 2 bag, no robomimic or LIBERO HDF5 file and no RLDS folder, nor does it hold one; "
                f"if it is one nevertheless, give format=... ({', '.join(FORMATS)})"
            )
    kinds = {str(kind) for kind in found.values()}
    if len(kinds) > 1:
        raise TongsError(f"the sources are of different formats: {', '.join(sorted(kinds))}; import them one by one")
    return kinds.pop()


def _format_of(path: Path) -> str | None:
    if path.is_dir():
        if (path / "metadata.yaml").is_file():
            return "rosbag"
        if (path / "features.json").is_file():
            return "rlds"
        return next((kind for inner in sorted(path.iterdir()) if (kind := _format_of(inner))), None)
    if path.suffix in (".mcap", ".db3"):
        return "rosbag"
    if path.suffix in (".hdf5", ".h5"):
        from data.importers.hdf5 import is_libero

        return "libero" if is_libero(path) else "robomimic"
    return None
