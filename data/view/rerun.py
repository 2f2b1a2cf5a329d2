"""An episode in Rerun: cameras, numbers and words on one time line (the extra `rerun`)."""

from __future__ import annotations

from pathlib import Path

from data.features import IMAGES
from data.reader import Dataset
from robot.errors import TongsError


def view_in_rerun(dataset: Dataset, episode: int, path: Path | None = None) -> None:
    """Log an episode to Rerun.

    Args:
        dataset, episode: what to look at.
        path: a .rrd file to write; None opens the viewer.

    Raises:
        TongsError: Rerun is not installed, the dataset has no such episode, or its files are damaged.
    """
    try:
        import rerun
    except ImportError as error:
        raise TongsError("Rerun is not installed; pip install 'tongs[rerun]', or let `view` write a page") from error
    tasks, events = dataset.frame_tasks(episode), dataset.events(episode)
    span = dataset.episodes[episode]
    recording = rerun.RecordingStream(f"{dataset.folder.resolve().name}, episode {episode}")
    if path is None:
        recording.spawn()
    else:
        recording.save(path)
    cameras = {key.removeprefix(IMAGES): dataset.images(episode, key) for key in dataset.camera_keys}
    numeric = {key: feature.names for key, feature in dataset.features.items() if not feature.is_image}
    for frame, task in enumerate(tasks):
        recording.set_time("time", duration=frame / dataset.fps)
        for name, frames in cameras.items():
            recording.log(f"cameras/{name}", rerun.Image(frames[frame]).compress(90))
        for key, names in numeric.items():
            for number, value in enumerate(dataset.columns[key][span.start + frame]):
                recording.log(f"{key}/{names[number] if names else number}", rerun.Scalars(float(value)))
        if frame == 0 or tasks[frame - 1] != task:
            recording.log("words/instruction", rerun.TextLog(task))
    for event in events:
        recording.set_time("time", duration=event.time)
        recording.log(f"words/{event.style or 'speech'}", rerun.TextLog(event.text or str(event.tool_calls)))
    recording.flush()
