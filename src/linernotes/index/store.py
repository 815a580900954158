"""The index on disk: vectors in Lance, what makes them, and a record.

    INDEX/index.json         schema, hashes of model, catalogue and noise, settings, recall
          space.safetensors  what turns segments and clips into vectors
          vectors.lance      one row a segment of the catalogue, in its order

A row also says which segment it is of, by a hash of its content: when tracks are added to a catalogue, or
removed, those that stay keep their vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from linernotes.artefacts import check_header, hash_bytes, hash_json, read_json, write_json
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.index.recall import Recall
from linernotes.index.space import Space
from linernotes.index.vectors import Vectors
from linernotes.version import SCHEMA_VERSION, __version__

KIND = "index"
RECORD, SPACE, VECTORS = "index.json", "space.safetensors", "vectors.lance"
HASHED_AT_ONCE = 1 << 12  # segments


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
    def _rows(self) -> tuple[Vectors, np.ndarray]:
        try:
            table = lance.dataset(str(self.path / VECTORS)).to_table()
        except (OSError, ValueError) as error:
            raise LinernotesError(
                f"{self.path} is damaged ({str(error).splitlines()[0]}): build the index anew"
            ) from None
        if len(table) != len(self):
            raise LinernotesError(
                f"{self.path} holds {len(table)} of {len(self)} vectors: build the index anew"
            )
        moments_nr, latents_np = (_bytes(table, name) for name in ("moments", "latents"))
        return Vectors(moments_nr, latents_np, table["length"].to_numpy()), table["item"].to_numpy()

    @property
    def vectors(self) -> Vectors:
        """Of all segments, in the catalogue's order."""
        return self._rows[0]

    @property
    def items_n(self) -> np.ndarray:
        """The content of each segment, hashed."""
        return self._rows[1]

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


def _bytes(table: pa.Table, name: str) -> np.ndarray:
    """A column of lists of bytes, ``[rows, size]``; without one there are none."""
    if name not in table.column_names:
        return np.zeros((len(table), 0), dtype=np.int8)
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[name].chunks]
    return np.concatenate(parts).reshape(len(table), -1)


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
        + [("length", pa.float32()), ("item", pa.int64())]
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
            "schema": SCHEMA_VERSION,
            "linernotes": __version__,
            **record,
            "space": space.hash,
            "segments": count,
        },
    )


def items_of(catalogue: Catalogue) -> np.ndarray:
    """The content of each segment, hashed: latents, caption and length."""
    captions = [catalogue.tracks[track].caption for track in catalogue.track_n]
    items = []
    for rows in np.array_split(np.arange(len(catalogue)), max(1, len(catalogue) // HASHED_AT_ONCE)):
        for n, latents in zip(rows, catalogue.latents(rows).numpy(), strict=True):
            content = [latents.tobytes(), captions[n].encode(), str(catalogue.seconds_n[n]).encode()]
            items.append(int(hash_bytes(content), 16) - (1 << 63))
    return np.array(items, dtype=np.int64)
