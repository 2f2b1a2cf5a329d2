"""Statistics against NumPy on the whole data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.statistics import QUANTILES, column_statistics, from_json, image_statistics, load_statistics, merge, to_json
from robot.errors import TongsError
from tests.data.episodes import pictures


def test_merging_parts_equals_the_whole() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=(1000, 3)) + [1e4, 0.0, -5.0]
    parts = np.split(values, [10, 11, 400])
    merged = column_statistics(parts[0])
    for part in parts[1:]:
        merged = merge(merged, column_statistics(part))
    np.testing.assert_allclose(merged["mean"], values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged["std"], values.std(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(merged["min"], values.min(axis=0))
    np.testing.assert_array_equal(merged["max"], values.max(axis=0))
    assert merged["count"].tolist() == [1000]


def test_quantiles_are_numpys() -> None:
    values = np.random.default_rng(1).normal(size=(500, 2))
    statistics = column_statistics(values)
    for name, part in QUANTILES.items():
        np.testing.assert_allclose(statistics[name], np.quantile(values, part, axis=0))


def test_image_statistics_are_those_of_the_scaled_pixels() -> None:
    frames = pictures(3, 5)
    pixels = frames.reshape(-1, 3) / 255
    statistics = image_statistics(frames)
    assert all(value.shape == (3, 1, 1) for name, value in statistics.items() if name != "count")
    assert statistics["count"].tolist() == [5]
    wanted = {"mean": pixels.mean(0), "std": pixels.std(0), "min": pixels.min(0), "max": pixels.max(0)}
    wanted |= {name: np.quantile(pixels, part, axis=0, method="lower") for name, part in QUANTILES.items()}
    for name, value in wanted.items():
        np.testing.assert_allclose(statistics[name][:, 0, 0], value, rtol=1e-9, err_msg=name)


def test_json_round_trip(tmp_path: Path) -> None:
    statistics = {"action": column_statistics(np.eye(4))}
    (tmp_path / "stats.json").write_text(json.dumps(to_json(statistics)))
    loaded = load_statistics(tmp_path / "stats.json")
    for name, value in statistics["action"].items():
        np.testing.assert_array_equal(loaded["action"][name], value)
    assert from_json(to_json(statistics)).keys() == statistics.keys()


def test_no_values_and_no_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="N >= 1"):
        column_statistics(np.zeros((0, 3)))
    with pytest.raises(TongsError, match="does not exist"):
        load_statistics(tmp_path / "stats.json")
    (tmp_path / "stats.json").write_text('{"action": {"min"')
    with pytest.raises(TongsError, match="not readable JSON"):
        load_statistics(tmp_path / "stats.json")
