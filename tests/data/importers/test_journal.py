"""The import's journal: what counts after an interruption, and what an import may add to."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.importers.journal import JOURNAL, Journal
from robot.errors import TongsError
from robot.settings_file import read_yaml
from robot.topic_map import TopicMap
from tests.data.episodes import write_dataset

ROOT = Path(__file__).parents[3]


def test_only_what_is_in_the_dataset_counts(tmp_path: Path) -> None:
    first = Journal(tmp_path, {"format": "rosbag", "fps": 10})
    for number, name in enumerate(["a", "b", "c", "d"]):
        first.record(name, number, frames=20)
    first.record("f", 3)  # d could not be written
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"source": "e", "epis')  # the power fails
    write_dataset(tmp_path, (20, 15, 25))
    again = Journal(tmp_path, {"fps": 10, "format": "rosbag"})
    assert again.done == {"a", "b", "c"}
    again.record("d", 3, frames=7)
    sources = [line.split('"')[3] for line in (tmp_path / JOURNAL).read_text().splitlines()[1:]]
    assert sources == ["a", "b", "c", "d"]


def test_other_settings_are_refused(tmp_path: Path) -> None:
    Journal(tmp_path, {"format": "rosbag", "fps": 10}).record("a", 0)
    with pytest.raises(TongsError, match="was imported with fps = 10, this import has 20"):
        Journal(tmp_path, {"format": "rosbag", "fps": 20})
    with pytest.raises(TongsError, match="was imported with flip = None, this import has 'rotate'"):
        Journal(tmp_path, {"format": "rosbag", "fps": 10, "flip": "rotate"})


def test_the_topic_map_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/importing.md").read_text()
    (tmp_path / "map.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    topic_map = TopicMap.parse(read_yaml(tmp_path / "map.yaml"))
    assert topic_map.rate == 10 and len(topic_map.state_names) == 9 + 7 + 1 + 3
