"""Parquet files as Hugging Face distributes benchmarks; their images are read when they are needed.

An image is a struct of ``bytes`` and ``path``; a column has one, or a list of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm1.errors import DataError
from mm1.evals.files import Files

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


@dataclass(frozen=True)
class ParquetImage:
    """An image in a Parquet file."""

    file: Path
    row_group: int
    row: int
    """Row within the row group."""
    column: str
    index: int = 0
    """Number of the image, in a column of lists."""

    def read_bytes(self) -> bytes:
        """Read the encoded image.

        Raises:
            DataError: the file has changed, or the cell has no image bytes.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.file) as table:
                value = table.read_row_group(self.row_group, columns=[self.column]).column(0)[self.row].as_py()
        except (OSError, pa.ArrowException, IndexError) as error:
            raise DataError(f"{self}: {error}") from None
        image = value[self.index] if isinstance(value, list) else value
        if not image or not image.get("bytes"):
            raise DataError(f"{self}: no image bytes")
        return bytes(image["bytes"])

    def __str__(self) -> str:
        return f"{self.file}, row group {self.row_group}, row {self.row}, column {self.column}, image {self.index}"


@dataclass(frozen=True)
class ParquetRow:
    """A row of a Parquet file."""

    file: Path
    """Relative to the folder of the task."""
    number: int
    """Number of the row in the file, from 1."""
    fields: dict[str, Any]
    """Values of all columns but images; of an image column, the number of its images."""
    images: dict[str, tuple[ParquetImage, ...]]


def parquet_rows(files: Files, *patterns: str) -> Iterator[ParquetRow]:
    """Read the rows of all files that match the first pattern with any.

    Raises:
        ConfigurationError: no file matches.
        DataError: a file is damaged.
    """
    import pyarrow as pa  # takes a moment to import
    import pyarrow.parquet as pq

    for path in files.find_all(*patterns):
        files.used.add(path)
        try:
            with pq.ParquetFile(path) as table:
                yield from _rows(files, path, table)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as Parquet: {error}") from None


def _rows(files: Files, path: Path, table: pq.ParquetFile) -> Iterator[ParquetRow]:
    schema = table.schema_arrow
    image_columns = [field.name for field in schema if _is_image(field.type)]
    # The paths of images say whether a cell has one, without reading its bytes.
    leaves = [table.metadata.schema.column(index).path for index in range(table.metadata.num_columns)]
    paths = [leaf for leaf in leaves if leaf.partition(".")[0] in image_columns and leaf.endswith(".path")]
    plain = [field.name for field in schema if field.name not in image_columns]
    number = 0
    for group in range(table.num_row_groups):
        for row, fields in enumerate(table.read_row_group(group, columns=[*plain, *paths]).to_pylist()):
            number += 1
            images = {}
            for name in image_columns:
                value = fields.pop(name)
                count = len(value) if isinstance(value, list) else int(value is not None)
                images[name] = tuple(ParquetImage(path, group, row, name, index) for index in range(count))
            yield ParquetRow(path.relative_to(files.folder), number, fields, images)


def _is_image(kind: pa.DataType) -> bool:
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_list(kind) else kind
    return pa.types.is_struct(inner) and {inner.field(i).name for i in range(inner.num_fields)} >= {"bytes", "path"}
