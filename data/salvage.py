"""Rows out of a parquet file whose end is missing.

A parquet file says at its very end where everything is. A recorder that is killed, or a copy cut short, leaves a file
without that footer, which no library opens, though all its pages are there. The pages describe themselves (size,
number of values), so the footer can be made anew: this file walks over the pages, takes the description of the columns
from a file of the same columns, and lets pyarrow read the result. What is not complete stays behind.

The format: parquet-format's `parquet.thrift`, structures in Thrift's compact protocol.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.protocol.TProtocol import TProtocolException
from thrift.Thrift import TType
from thrift.transport.TTransport import TMemoryBuffer

MAGIC = b"PAR1"
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN = {
    TType.BOOL: "Bool",
    TType.BYTE: "Byte",
    TType.I16: "I16",
    TType.I32: "I32",
    TType.I64: "I64",
    TType.DOUBLE: "Double",
    TType.STRING: "Binary",
}
"""How the protocol's methods for single values end."""
_LEVELS = 3
"""The encoding of repetition and definition levels."""
Fields = dict[int, tuple[int, Any]]
"""A Thrift structure: {number of the field: (type, value)}."""


def salvage(path: Path, schema: pa.Schema) -> list[pa.Table]:
    """The complete row groups of a parquet file without a footer, or with a damaged one, in order.

    Args:
        path: the file.
        schema: its columns. It was written with Snappy and, but for booleans, dictionaries, as LeRobot and we do.
    """
    content = path.read_bytes()
    if content[:4] != MAGIC:
        return []
    template = _template(schema)
    widths = [_values_per_row(field.type) for field in schema for _ in range(_leaves(field.type))]
    groups = list(_row_groups(content, widths))
    while groups:
        end = groups[-1].end
        rebuilt = content[:end] + _footer(template, groups)
        tables = []
        for number in range(len(groups)):
            try:
                tables.append(pq.ParquetFile(pa.BufferReader(rebuilt)).read_row_group(number, use_threads=False))
            except (OSError, pa.ArrowException):
                break
        if len(tables) == len(groups):
            return tables
        groups = groups[: len(tables)]
    return []


@dataclass(frozen=True)
class _Chunk:
    """The pages of one column in one row group, at `start` to `end` of the file."""

    start: int
    end: int
    values: int
    has_dictionary: bool
    data_start: int
    uncompressed: int
    encodings: frozenset[int]


@dataclass(frozen=True)
class _Group:
    rows: int
    chunks: list[_Chunk]

    @property
    def end(self) -> int:
        return self.chunks[-1].end


@dataclass(frozen=True)
class _Page:
    kind: int
    start: int
    end: int
    values: int
    uncompressed: int
    encodings: frozenset[int]


def _row_groups(content: bytes, widths: Sequence[int | None]) -> Iterator[_Group]:
    offset = len(MAGIC)
    while True:
        group = _row_group(content, offset, widths)
        if group is None:
            return
        yield group
        offset = group.end


def _row_group(content: bytes, offset: int, widths: Sequence[int | None]) -> _Group | None:
    """The columns that begin at `offset`; None if they are not all there.

    Nothing tells how many rows a group has, so the columns must agree on it: the first may take one page more, and one
    more, until the others fit.
    """
    pages = 1
    while True:
        first = _chunk(content, offset, None, pages)
        if first is None:
            return None
        rows = None if widths[0] is None else first.values // widths[0]
        chunks = [first]
        for width in widths[1:]:
            wanted = None if width is None or rows is None else rows * width
            chunk = _chunk(content, chunks[-1].end, wanted, None)
            if chunk is None:
                break
            chunks.append(chunk)
            if rows is None and width is not None:
                rows = chunk.values // width
        if len(chunks) == len(widths) and rows is not None:
            return _Group(rows, chunks)
        pages += 1


def _chunk(content: bytes, offset: int, values: int | None, pages: int | None) -> _Chunk | None:
    """A column's pages from `offset`: until it has so many values, or so many pages, or until the next column begins.

    The next column is known by its dictionary.
    """
    start, found, data_start, uncompressed = offset, 0, offset, 0
    has_dictionary, encodings, count = False, frozenset(), 0
    while (values is None or found < values) and (pages is None or count < pages):
        page = _page(content, offset)
        if page is None:
            if values is None and pages is None and count:
                break
            return None
        if page.kind == _DICTIONARY_PAGE:
            if offset != start:
                if values is None and pages is None:
                    break
                return None
            has_dictionary, data_start = True, page.end
        else:
            found += page.values
            count += 1
        uncompressed += page.uncompressed
        encodings |= page.encodings
        offset = page.end
    if values is not None and found != values:
        return None
    return _Chunk(start, offset, found, has_dictionary, data_start, uncompressed, encodings)


def _page(content: bytes, offset: int) -> _Page | None:
    """The page whose header begins at `offset`; None if there is no whole one."""
    protocol = _compact(content, offset)
    try:
        header = _read_struct(protocol)
        kind, uncompressed, compressed = (int(header[number][1]) for number in (1, 2, 3))
        details: Fields = header[{_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}[kind]][1]
        values = int(details[1][1])
        encodings = frozenset({int(details[4 if kind == _DATA_PAGE_V2 else 2][1]), _LEVELS})
    except (TProtocolException, EOFError, KeyError, TypeError, ValueError, IndexError, RecursionError):
        return None  # bytes that are no header raise any of these
    body = protocol.trans.cstringio_buf.tell()
    end = body + compressed
    if compressed < 0 or uncompressed < 0 or values < 0 or end > len(content):
        return None
    return _Page(kind, offset, end, values, uncompressed + body - offset, encodings)


def _template(schema: pa.Schema) -> Fields:
    """The footer of a file with one empty row in these columns."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="snappy") as writer:
        writer.write_table(pa.table([pa.array([_blank(field.type)], field.type) for field in schema], schema=schema))
    content = sink.getvalue()
    length = int.from_bytes(content[-8:-4], "little")
    return _read_struct(_compact(content, len(content) - 8 - length))


def _blank(kind: pa.DataType) -> Any:
    return [0] * kind.list_size if pa.types.is_fixed_size_list(kind) else None


def _leaves(kind: pa.DataType) -> int:
    """Columns that parquet makes of an Arrow column."""
    if pa.types.is_struct(kind):
        return sum(_leaves(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(kind.value_type)
    return 1


def _values_per_row(kind: pa.DataType) -> int | None:
    """Values that one row has in each of its columns; None if that differs."""
    if pa.types.is_fixed_size_list(kind):
        inner = _values_per_row(kind.value_type)
        return None if inner is None else kind.list_size * inner
    if pa.types.is_list(kind):
        return None
    if pa.types.is_struct(kind):
        inner = {_values_per_row(field.type) for field in kind}
        return inner.pop() if len(inner) == 1 else None
    return 1


def _footer(template: Fields, groups: Sequence[_Group]) -> bytes:
    """A footer that describes these row groups, with the columns of the template."""
    described: list[Fields] = template[4][1][1][0][1][1][1]  # the columns of its first row group
    built: list[Fields] = []
    for group in groups:
        columns: list[Fields] = []
        for chunk, column in zip(group.chunks, described, strict=True):
            fields: Fields = {number: column[3][1][number] for number in (1, 3, 4)}  # type, path, codec
            fields[2] = (TType.LIST, (TType.I32, sorted(chunk.encodings)))
            fields |= {
                5: (TType.I64, chunk.values),
                6: (TType.I64, chunk.uncompressed),
                7: (TType.I64, chunk.end - chunk.start),
            }
            fields[9] = (TType.I64, chunk.data_start)
            if chunk.has_dictionary:
                fields[11] = (TType.I64, chunk.start)
            columns.append({2: (TType.I64, chunk.start), 3: (TType.STRUCT, fields)})
        built.append(
            {
                1: (TType.LIST, (TType.STRUCT, columns)),
                2: (TType.I64, sum(chunk.uncompressed for chunk in group.chunks)),
                3: (TType.I64, group.rows),
            }
        )
    sink = _compact()
    rows = sum(group.rows for group in groups)
    _write_struct(sink, {**template, 3: (TType.I64, rows), 4: (TType.LIST, (TType.STRUCT, built))})
    packed = sink.trans.getvalue()
    return packed + len(packed).to_bytes(4, "little") + MAGIC


def _compact(content: bytes = b"", offset: int = 0) -> TCompactProtocol:
    """Thrift's compact protocol on bytes, from an offset on."""
    transport = TMemoryBuffer(content)
    transport.cstringio_buf.seek(offset)
    return TCompactProtocol(transport, string_length_limit=1 << 24, container_length_limit=1 << 20)


def _read_struct(protocol: TCompactProtocol) -> Fields:
    """A structure of any kind, its fields by number."""
    fields: Fields = {}
    protocol.readStructBegin()
    while True:
        _, kind, number = protocol.readFieldBegin()
        if kind == TType.STOP:
            protocol.readStructEnd()
            return fields
        fields[number] = (kind, _read_value(protocol, kind))
        protocol.readFieldEnd()


def _read_value(protocol: TCompactProtocol, kind: int) -> Any:
    if kind == TType.STRUCT:
        return _read_struct(protocol)
    if kind == TType.LIST:
        inner, size = cast(tuple[int, int], protocol.readListBegin())
        items = [_read_value(protocol, inner) for _ in range(size)]
        protocol.readListEnd()
        return inner, items
    if kind not in _PLAIN:
        raise TProtocolException(message=f"parquet has no fields of type {kind}")
    return getattr(protocol, f"read{_PLAIN[kind]}")()


def _write_struct(protocol: TCompactProtocol, fields: Fields) -> None:
    protocol.writeStructBegin("")
    for number, (kind, value) in sorted(fields.items()):
        protocol.writeFieldBegin("", kind, number)
        _write_value(protocol, kind, value)
        protocol.writeFieldEnd()
    protocol.writeFieldStop()
    protocol.writeStructEnd()


def _write_value(protocol: TCompactProtocol, kind: int, value: Any) -> None:
    if kind == TType.STRUCT:
        _write_struct(protocol, value)
    elif kind == TType.LIST:
        inner, items = value
        protocol.writeListBegin(inner, len(items))
        for item in items:
            _write_value(protocol, inner, item)
        protocol.writeListEnd()
    else:
        getattr(protocol, f"write{_PLAIN[kind]}")(value)
