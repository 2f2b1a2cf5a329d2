"""An episode as one self-contained HTML page: videos, what was said, and every number over time."""

from __future__ import annotations

import base64
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.export import copy_video
from data.features import IMAGES
from data.reader import Dataset
from data.video import encode_video

COLUMNS = 4
"""Plots beside each other."""
WIDTH, HEIGHT = 3.2, 1.1
"""Size of one plot in inches."""


@dataclass(frozen=True)
class Curves:
    """The plots of one column as a picture.

    Attributes:
        title: the column.
        svg: the picture.
        places: where the axes are, as percentages from the left and the top: (left, top, width, height).
    """

    title: str
    svg: str
    places: list[tuple[float, float, float, float]]


def write_page(dataset: Dataset, episode: int, path: Path) -> None:
    """Write the page of an episode. It needs no server and no network.

    Raises:
        TongsError: the dataset has no such episode, or its files are damaged.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape

    tasks = dataset.frame_tasks(episode)
    span = dataset.episodes[episode]
    numeric = [key for key, feature in dataset.features.items() if not feature.is_image]
    template = Environment(loader=PackageLoader("data", "view"), autoescape=select_autoescape(["j2"])).get_template(
        "page.html.j2"
    )
    page = template.render(
        dataset=dataset.folder.resolve().name,
        episode=episode,
        count=len(dataset.episodes),
        robot=dataset.robot_type,
        fps=dataset.fps,
        seconds=span.length / dataset.fps,
        videos={key.removeprefix(IMAGES): _video(dataset, episode, key) for key in dataset.camera_keys},
        said=_said(dataset, episode, tasks),
        curves=[_curves(dataset, key, dataset.columns[key][span.start : span.stop]) for key in numeric],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _said(dataset: Dataset, episode: int, tasks: list[str]) -> list[tuple[float, str, str]]:
    """(seconds, kind, text) of each instruction where it begins and of each language event."""
    said = [
        (frame / dataset.fps, "instruction", task)
        for frame, task in enumerate(tasks)
        if frame == 0 or tasks[frame - 1] != task
    ]
    said += [
        (event.time, f"{event.style or 'speech'} ({event.role})", event.text or "; ".join(event.tool_calls or ()))
        for event in dataset.events(episode)
    ]
    return sorted(said, key=lambda line: line[0])


def _video(dataset: Dataset, episode: int, key: str) -> str:
    """The mp4 of one camera, base64."""
    with tempfile.TemporaryDirectory(prefix="tongs-view-") as scratch:
        path = Path(scratch) / "episode.mp4"
        if key in dataset.video_keys:
            copy_video(dataset, episode, key, path)
        else:
            encode_video(path, dataset.images(episode, key), dataset.fps)
        return base64.b64encode(path.read_bytes()).decode("ascii")


def _curves(dataset: Dataset, key: str, values: NDArray) -> Curves:
    from matplotlib.figure import Figure

    names = dataset.features[key].names or tuple(str(number) for number in range(values.shape[1]))
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(WIDTH * COLUMNS, HEIGHT * rows + 0.2), layout="constrained")
    times = np.arange(len(values)) / dataset.fps
    places = []
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        axes.plot(times, values[:, number], linewidth=1.2, color="#2a6f97", drawstyle="steps-post")
        axes.set_title(name, fontsize=8, loc="left", pad=2)
        axes.set_xlim(0, max(len(values) / dataset.fps, 1 / dataset.fps))
        axes.tick_params(labelsize=6, length=2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes.get_position()
        places.append((100 * box.x0, 100 * (1 - box.y1), 100 * box.width, 100 * box.height))
    target = io.StringIO()
    figure.savefig(target, format="svg")
    return Curves(key, target.getvalue()[target.getvalue().index("<svg") :], places)
