"""Files of rows, in CSV or Parquet: the same columns and values either way, written and read a few thousand at a time.

- CSV is UTF-8 with a header (RFC 4180, lines end with a line feed); bytes are hex, but for JSON, times RFC 3339 in UTC
  with microseconds, what is not there is empty: no text is.
- Parquet needs the extra `archive`; it is imported when the first file is opened.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from zentra.runtime.errors import Refusal
from zentra.runtime.intents.transaction import timestamp

__all__ = ["Columns", "Format", "RowWriter", "open_writer", "read_rows"]

Format: TypeAlias = Literal["csv", "parquet"]
Columns: TypeAlias = Sequence[tuple[str, str]]
"""Names and types: text, integer (64 bits), number (of any size), bytes, json (its bytes, in UTF-8), time."""
Row: TypeAlias = Sequence[Any]

ROWS_AT_ONCE: Final = 5_000
FIELD_CHARACTERS_MAX: Final = 2**24  # a record is sent as one message, so it is smaller than this


class RowWriter:
    """Writes rows to one file; `rows` says how many."""

    def __init__(self, write: Callable[[Sequence[Row]], None], close: Callable[[], None]) -> None:
        self._write, self._close, self._some = write, close, list[Row]()
        self.rows = 0

    def add(self, row: Row) -> None:
        """Add a row; raises OSError."""
        self._some.append(row)
        self.rows += 1
        if len(self._some) >= ROWS_AT_ONCE:
            self._write(self._some)
            self._some = []

    def close(self) -> None:
        """Write what is left and close the file; raises OSError."""
        if self._some:
            self._write(self._some)
        self._close()


def open_writer(path: Path, format: Format, columns: Columns) -> RowWriter:
    """Return what writes a new file; raises OSError, and Refusal `parquet_unavailable` without the extra."""
    return (_csv_writer if format == "csv" else _parquet_writer)(path, columns)


def read_rows(path: Path, format: Format, columns: Columns) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a file; raises OSError, ValueError for what is no such file, and Refusal as `open_writer`."""
    return (_csv_rows if format == "csv" else _parquet_rows)(path, columns)


# CSV ----------------------------------------------------------------------------------------------------------------

_SAY: Final[Mapping[str, Callable[[Any], str]]] = {
    "text": str, "integer": str, "number": str, "bytes": bytes.hex, "json": bytes.decode, "time": timestamp,
}  # fmt: skip
_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    "text": str, "integer": int, "number": int, "bytes": bytes.fromhex, "json": str.encode,
    "time": datetime.fromisoformat,
}  # fmt: skip


def _csv_writer(path: Path, columns: Columns) -> RowWriter:
    file = path.open("x", encoding="utf-8", newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    say = [_SAY[kind] for _, kind in columns]

    def write(rows: Sequence[Row]) -> None:
        writer.writerows(
            [["" if value is None else one(value) for one, value in zip(say, row, strict=True)] for row in rows]
        )

    return RowWriter(write, file.close)


def _csv_rows(path: Path, columns: Columns) -> Iterator[tuple[Any, ...]]:
    read = [_READ[kind] for _, kind in columns]
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            if next(rows, None) != [name for name, _ in columns]:
                raise ValueError(f"{path.name}: these are not its columns")
            for row in rows:
                yield tuple([one(text) if text else None for one, text in zip(read, row, strict=True)])
        except csv.Error as error:
            raise ValueError(f"{path.name}: {error}") from error


# Parquet ------------------------------------------------------------------------------------------------------------


def _arrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        sentence = "pyarrow is not installed; pip install 'zentra[archive]', or take --format csv"
        raise Refusal("parquet_unavailable", sentence) from error


def _parquet_writer(path: Path, columns: Columns) -> RowWriter:
    arrow, parquet = _arrow()
    types = {
        "text": arrow.string(), "integer": arrow.int64(), "number": arrow.string(), "bytes": arrow.binary(),
        "json": arrow.binary(), "time": arrow.timestamp("us", tz="UTC"),
    }  # fmt: skip
    schema = arrow.schema([(name, types[kind]) for name, kind in columns])
    file = path.open("xb")
    writer = parquet.ParquetWriter(file, schema, compression="zstd")

    def write(rows: Sequence[Row]) -> None:
        arrays = [[_stored(row[place], kind) for row in rows] for place, (_, kind) in enumerate(columns)]
        writer.write_table(
            arrow.table([arrow.array(one, type=types[kind]) for one, (_, kind) in zip(arrays, columns, strict=True)],
                        schema=schema)
        )  # fmt: skip

    def close() -> None:
        writer.close()
        file.close()

    return RowWriter(write, close)


def _stored(value: Any, kind: str) -> Any:
    return str(value) if kind == "number" and value is not None else value


def _parquet_rows(path: Path, columns: Columns) -> Iterator[tuple[Any, ...]]:
    arrow, parquet = _arrow()
    try:
        with path.open("rb") as source:
            file = parquet.ParquetFile(source)
            if file.schema_arrow.names != [name for name, _ in columns]:
                raise ValueError(f"{path.name}: these are not its columns")
            for batch in file.iter_batches(ROWS_AT_ONCE):
                yield from zip(
                    *[_read(batch.column(place), kind) for place, (_, kind) in enumerate(columns)], strict=True
                )
    except arrow.ArrowException as error:
        raise ValueError(f"{path.name}: {error}") from error


def _read(column: Any, kind: str) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if kind == "number":
        return [None if value is None else int(value) for value in values]
    if kind == "time":
        return [None if value is None else value.astimezone(UTC) for value in values]
    return values
