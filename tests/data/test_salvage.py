"""Parquet files without a footer: every complete row group comes back, wherever the file was cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.salvage import salvage


def episodes(count: int, length: int, pages: bool = False) -> list[pa.Table]:
    """Row groups with the kinds of columns that occur, of a length that differs from one to the next."""
    random = np.random.default_rng(0)
    tables = []
    for number in range(count):
        n = length + 3 * number
        png = [{"bytes": random.bytes(3000 if pages else 40), "path": f"frame-{i}.png"} for i in range(n)]
        state = random.normal(size=(n, 4)).astype(np.float32)
        columns = {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 4),
            "image": pa.array(png, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "flag": pa.array(random.random(n) < 0.5),
            "clock": pa.array(random.normal(size=n)),
            "words": pa.array([["a", "b"][: i % 3] for i in range(n)], pa.list_(pa.string())),
            "episode_index": pa.array(np.full(n, number)),
        }
        tables.append(pa.table(columns))
    return tables


def write(path: Path, tables: list[pa.Table]) -> list[int]:
    """Where each row group ends in the file."""
    ends = []
    with path.open("wb") as file:
        writer = pq.ParquetWriter(file, tables[0].schema, compression="snappy", use_dictionary=True)
        for table in tables:
            writer.write_table(table)
            ends.append(file.tell())
        writer.close()
    return ends


@pytest.mark.parametrize("pages", [False, True], ids=["small", "with several pages in a column"])
def test_whole_row_groups_survive_any_cut(tmp_path: Path, pages: bool) -> None:
    tables = episodes(4, 900 if pages else 12, pages)
    ends = write(tmp_path / "whole.parquet", tables)
    content = (tmp_path / "whole.parquet").read_bytes()
    random = np.random.default_rng(1)
    places = [0, 3, 4, 5, *ends, *(end + 1 for end in ends), *(end - 1 for end in ends), len(content) - 1]
    for place in [*places, *random.integers(0, len(content), 5 if pages else 40).tolist()]:
        (tmp_path / "cut.parquet").write_bytes(content[:place])
        found = salvage(tmp_path / "cut.parquet", tables[0].schema)
        whole = sum(end <= place for end in ends)
        assert len(found) == whole, f"cut at {place} of {len(content)}, row groups end at {ends}"
        for got, wanted in zip(found, tables, strict=False):
            assert got.equals(wanted)


def test_garbage_behind_the_data_does_no_harm(tmp_path: Path) -> None:
    tables = episodes(3, 12)
    ends = write(tmp_path / "whole.parquet", tables)
    content = (tmp_path / "whole.parquet").read_bytes()
    for tail in (bytes(4096), np.random.default_rng(0).bytes(4096), b"PAR1"):
        (tmp_path / "cut.parquet").write_bytes(content[: ends[1]] + tail)
        assert [table.num_rows for table in salvage(tmp_path / "cut.parquet", tables[0].schema)] == [12, 15]


def test_another_file_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not a table")
    assert salvage(tmp_path / "text.parquet", episodes(1, 3)[0].schema) == []
