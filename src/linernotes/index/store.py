"""The index on disk: vectors in Lance, what makes them, and a record.

    INDEX/index.json         form, hashes of model and catalogue, settings, recall
          space.safetensors  what turns segments and clips into vectors
          vectors.lance      one row a segment of the catalogue, in its order
          codes.safetensors  of a large index alone: what it is looked through by

A row also says which segment it is of, by a hash of its content: when tracks are added to a catalogue, or
removed, those that stay keep their vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from linernotes.artefacts import check_header, hash_bytes, hash_json, read_json, write_json
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.index.codes import TRAINED_ON, Codes
from linernotes.index.recall import Recall
from linernotes.index.space import Space
from linernotes.index.vectors import Vectors
from linernotes.version import SCHEMA_VERSION, __version__

KIND = "index"
RECORD, SPACE, VECTORS, CODES = "index.json", "space.safetensors", "vectors.lance", "codes.safetensors"
EXACT_UP_TO = 1_000_000  # vectors: their product takes a second, and codes would save little of an answer
FORM = 2  # of the record: an index of another is built anew
ITEM = "item"  # the column that is no part of a vector
HASHED_AT_ONCE = 1 << 12  # segments
ROWS_AT_ONCE = 1 << 13


class Index:
    """An opened index. Vectors are read when they are first asked for."""

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            LinernotesError: there is none, or it is half built or damaged.
        """
        self.path = path
        if not (path / RECORD).is_file():
            raise LinernotesError(
                f"{path} is no index, or its build was stopped: build it with 'linernotes index build'"
            )
        self.record: dict[str, Any] = read_json(path / RECORD, "an index")
        check_header(path / RECORD, self.record, KIND, {})
        if self.record.get("form") != FORM:
            raise LinernotesError(
                f"{path} was built by another version of linernotes, whose shortlists are not of whole "
                "tracks: build it anew with 'linernotes index build', into another folder"
            )
        self.recall = Recall(**self.record["recall"])

    def __len__(self) -> int:
        return int(self.record["segments"])

    @property
    def hash(self) -> str:
        """Names it in records."""
        return hash_json(self.record)

    @cached_property
    def space(self) -> Space:
        """What turns segments and clips into vectors."""
        return Space.load(self.path / SPACE)

    @cached_property
    def codes(self) -> Codes | None:
        """What it is looked through by, if it is large.

        Raises:
            LinernotesError: FAISS is not installed, or the file is damaged.
        """
        path = self.path / CODES
        return Codes.load(path, {"index": self.hash}) if path.exists() else None

    @cached_property
    def _table(self) -> lance.LanceDataset:
        with self._undamaged():
            table = lance.dataset(str(self.path / VECTORS))
            count = table.count_rows()
        if count != len(self):
            raise LinernotesError(f"{self.path} holds {count} of {len(self)} vectors: build the index anew")
        return table

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise LinernotesError(
                f"{self.path} is damaged ({str(error).splitlines()[0]}): build the index anew"
            ) from None

    @property
    def bytes_each(self) -> int:
        """Bytes of one segment's vector."""
        kept = [field.type for field in self._table.schema if field.name != ITEM]
        return sum(kind.list_size if pa.types.is_fixed_size_list(kind) else kind.byte_width for kind in kept)

    @cached_property
    def vectors(self) -> Vectors:
        """Of all segments, in the catalogue's order."""
        rows: Vectors | None = None
        start = 0
        for some in self.blocks():  # never twice in memory
            if rows is None:
                parts = (some.moments_nr, some.latents_np, some.length_n)
                rows = Vectors(*(np.empty((len(self), *part.shape[1:]), part.dtype) for part in parts))
            into = slice(start, start + len(some))
            rows.moments_nr[into], rows.latents_np[into] = some.moments_nr, some.latents_np
            rows.length_n[into] = some.length_n
            start += len(some)
        assert rows is not None
        return rows

    def blocks(self) -> Iterator[Vectors]:
        """The same a few at a time, from the disk."""
        with self._undamaged():
            for batch in self._table.to_batches(batch_size=ROWS_AT_ONCE):
                yield _vectors(batch)

    def take(self, rows: np.ndarray) -> Vectors:
        """Those of some segments, from the disk."""
        with self._undamaged():
            return _vectors(self._table.take(rows.tolist()).combine_chunks())

    @cached_property
    def items_n(self) -> np.ndarray:
        """The content of each segment, hashed."""
        with self._undamaged():
            return self._table.to_table(columns=[ITEM])[ITEM].to_numpy()

    def require_model(self, model_hash: str) -> None:
        """Refuses to be used with another model.

        Raises:
            LinernotesError: says which, and the remedy.
        """
        if self.record["model"] != model_hash:
            raise LinernotesError(
                f"{self.path} is an index of another model ({self.record['model']}, not {model_hash}): build "
                "one of this model with 'linernotes index build', into another folder"
            )

    def require(self, model_hash: str, catalogue: Catalogue) -> None:
        """Refuses to be used with another model or catalogue.

        Raises:
            LinernotesError: says which, and the remedy.
        """
        self.require_model(model_hash)
        if self.record["catalogue"] != catalogue.hash:
            raise LinernotesError(
                f"{self.path} is an index of another state of the catalogue ({self.record['catalogue']}, not "
                f"{catalogue.hash}): run 'linernotes index build' on it again, which keeps what has not "
                "changed"
            )


def _vectors(table: pa.RecordBatch | pa.Table) -> Vectors:
    """Rows as they are stored."""
    length_n = table["length"].to_numpy()
    return Vectors(_bytes(table, "moments"), _bytes(table, "latents"), length_n)


def _bytes(table: pa.RecordBatch | pa.Table, name: str) -> np.ndarray:
    """A column of lists of bytes, ``[rows, size]``; without one there are none."""
    if name not in table.schema.names:
        return np.zeros((len(table), 0), dtype=np.int8)
    column = table[name]
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)


def write_index(
    path: Path, record: dict[str, Any], space: Space, batches: Iterator[tuple[Vectors, np.ndarray]]
) -> None:
    """Writes an index into the empty folder ``path``; the record comes last.

    Args:
        batches: vectors and items' hashes, in the catalogue's order.
    """
    sizes = {"moments": len(space.basis_rd), "latents": len(space.pairs_pl)}
    sizes = {name: size for name, size in sizes.items() if size}  # Lance has no empty lists
    schema = pa.schema(
        [pa.field(name, pa.list_(pa.int8(), size)) for name, size in sizes.items()]
        + [("length", pa.float32()), (ITEM, pa.int64())]
    )
    count = 0

    def rows() -> Iterator[pa.RecordBatch]:
        nonlocal count
        for vectors, items in batches:
            parts = {"moments": vectors.moments_nr, "latents": vectors.latents_np}
            lists = [
                pa.FixedSizeListArray.from_arrays(pa.array(parts[name].ravel()), size)
                for name, size in sizes.items()
            ]
            count += len(items)
            columns = [*lists, pa.array(vectors.length_n), pa.array(items)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    space.save(path / SPACE, {"model": record["model"]})
    lance.write_dataset(
        pa.RecordBatchReader.from_batches(schema, rows()),
        str(path / VECTORS),
        mode="create",
        data_storage_version="2.1",
    )
    write_json(
        path / RECORD,
        {
            "kind": KIND,
            "form": FORM,
            "schema": SCHEMA_VERSION,
            "linernotes": __version__,
            **record,
            "space": space.hash,
            "segments": count,
        },
    )


def write_codes(path: Path) -> None:
    """Gives an index codes."""
    index = Index(path)
    sample = np.unique(np.linspace(0, len(index) - 1, min(TRAINED_ON, len(index))).astype(int))
    Codes.of(index.take(sample), index.blocks()).save(path / CODES, {"index": index.hash})


def items_of(catalogue: Catalogue, placed: bool = False) -> np.ndarray:
    """The content of each segment, hashed: latents, caption and length; and where it lies in its recording,
    if its model is told (``placed``).
    """
    said = [str(catalogue.seconds_n[n]) for n in range(len(catalogue))]
    if placed:
        where = catalogue.places(np.arange(len(catalogue)))
        said = [f"{seconds} {start} {whole}" for seconds, start, whole in zip(said, *where, strict=True)]
    captions = [catalogue.tracks[track].caption for track in catalogue.track_n]
    items = []
    for rows in np.array_split(np.arange(len(catalogue)), max(1, len(catalogue) // HASHED_AT_ONCE)):
        for n, latents in zip(rows, catalogue.latents(rows).numpy(), strict=True):
            content = [latents.tobytes(), captions[n].encode(), said[n].encode()]
            items.append(int(hash_bytes(content), 16) - (1 << 63))
    return np.array(items, dtype=np.int64)
