"""The catalogue on disk: Lance datasets of tracks, segments and captions, and a record of what made them.

    CATALOGUE/catalogue.json    schema, hashes, sizes, the encoding
              tracks.lance      one row a track
              segments.lance    one row a segment: latents [C * T] float16 (codes: int16), loudness [T] in dB
              captions.lance    one row a distinct caption: its text embedding, float16, without padding
              rejects.lance     one row for what is not in the catalogue, with the reason

Segments and tracks keep the order of the source. The latents and embeddings as stored (float16) are the
training items: whatever trains or scores on them reads the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lance
import numpy as np
import pyarrow as pa

from linernotes.artefacts import check_header, hash_bytes, read_json, write_json
from linernotes.catalog.folder import RECORD, check_catalogue
from linernotes.catalog.track import Reject, Track
from linernotes.errors import LinernotesError
from linernotes.models.encoding import Encoding
from linernotes.version import SCHEMA_VERSION, __version__

if TYPE_CHECKING:
    from torch import Tensor

KIND = "catalogue"
TRACK_SCHEMA = pa.schema(
    [(name, pa.string()) for name in Track.__dataclass_fields__ if name != "extra"] + [("extra", pa.string())]
)
REJECT_SCHEMA = pa.schema([(name, pa.string()) for name in Reject.__dataclass_fields__])
CAPTION_SCHEMA = pa.schema([("caption", pa.string()), ("embedding", pa.list_(pa.float16()))])


@dataclass(frozen=True)
class SegmentBatch:
    """Consecutive training items, as a model takes them."""

    latents_nct: Tensor  # float32
    text_nld: Tensor
    seconds_n: Tensor
    start_s_n: Tensor  # where each begins in its track
    whole_s_n: Tensor  # how long its track is


class Catalogue:
    """An opened catalogue. Track rows and the small columns of segments are in memory, latents stay on
    disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_catalogue(path)
        record_path = path / RECORD
        self.record: dict[str, Any] = read_json(record_path, "a catalogue")
        check_header(record_path, self.record, KIND, {})
        self.hash: str = self.record["hash"]
        self.encoding = Encoding(**self.record["encoder"])
        try:
            self._segments = lance.dataset(str(path / "segments.lance"))
            self.tracks = _tracks(lance.dataset(str(path / "tracks.lance")).to_table())
            index = self._segments.to_table(columns=["track", "start_s", "seconds", "caption"])
            self._captions = lance.dataset(str(path / "captions.lance"))
        except (OSError, ValueError) as error:
            raise LinernotesError(
                f"{path} is damaged ({str(error).splitlines()[0]}): build the catalogue anew"
            ) from None
        self.track_n: np.ndarray = index["track"].to_numpy()  # which row of tracks a segment is cut from
        self.start_s_n: np.ndarray = index["start_s"].to_numpy()
        self.seconds_n: np.ndarray = index["seconds"].to_numpy()
        self._caption_n: np.ndarray = index["caption"].to_numpy()
        if len(self.track_n) != self.record["segments"]:
            raise LinernotesError(
                f"{path} holds {len(self.track_n)} of {self.record['segments']} segments: build it anew"
            )

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.track_n)

    @cached_property
    def training_rows(self) -> np.ndarray:
        """Indices of the segments that were trained on: those of tracks that are no decoys."""
        return np.flatnonzero(self.trained_t[self.track_n])

    @cached_property
    def trained_t(self) -> np.ndarray:
        """Which tracks were trained on, bool; the others are decoys."""
        return np.array([track.trained for track in self.tracks], dtype=bool)

    @cached_property
    def seconds_t(self) -> np.ndarray:
        """How long each track is, to the end of its last segment, in seconds."""
        end_t = np.zeros(len(self.tracks))
        np.maximum.at(end_t, self.track_n, self.start_s_n + self.seconds_n)
        return end_t

    @cached_property
    def _whole_t(self) -> np.ndarray:
        """How long the recording of each track is, of which latents made elsewhere may be a part."""
        return np.maximum(self.seconds_t, [track.recording_s for track in self.tracks])

    def sample(self, count: int) -> np.ndarray:
        """At most ``count`` of the segments that were trained on, drawn evenly, the same every time, in
        order.
        """
        rows = self.training_rows
        if len(rows) <= count:
            return rows
        return np.sort(np.random.default_rng(0).permutation(rows)[:count])

    def batch(self, rows: Sequence[int] | np.ndarray) -> SegmentBatch:
        """The segments of these rows, in this order."""
        rows = np.asarray(rows)
        start_s_n, whole_s_n = self.places(rows)
        return SegmentBatch(
            latents_nct=self.latents(rows),
            text_nld=self._text(self._caption_n[rows]),
            seconds_n=_tensor(self.seconds_n[rows].astype(np.float32)),
            start_s_n=_tensor(start_s_n),
            whole_s_n=_tensor(whole_s_n),
        )

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the segments of these rows begin in their recordings, and how long these are, in seconds,
        float32.
        """
        whole_n = self._whole_t[self.track_n[rows]]
        return self.start_s_n[rows].astype(np.float32), whole_n.astype(np.float32)

    def latents(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """The latents alone of these rows: ``[n, C, T]``, float32."""
        table = self._segments.take(np.asarray(rows).tolist(), columns=["latents"])
        latents = _floats(table["latents"]).reshape(
            len(table), self.encoding.latent_channels, self.encoding.frames
        )
        return _tensor(latents.astype(np.float32))

    def _text(self, captions_n: np.ndarray) -> Tensor:
        """Text embeddings of captions, padded with zeros to the text encoder's length: ``[n, L, D]``."""
        distinct, place_n = np.unique(captions_n, return_inverse=True)
        text_dld = np.zeros(
            (len(distinct), self.encoding.text_tokens, self.encoding.text_dim), dtype=np.float32
        )
        for text_ld, row in zip(text_dld, self._captions.take(distinct.tolist())["embedding"], strict=True):
            used_ld = row.values.to_numpy(zero_copy_only=False).reshape(-1, self.encoding.text_dim)
            text_ld[: len(used_ld)] = used_ld
        return _tensor(text_dld[place_n])

    def loudness_db(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Loudness of each frame of these segments in dB of full scale, ``[n, T]``; frames of padding are
        ``-inf``.
        """
        table = self._segments.take(np.asarray(rows).tolist(), columns=["loudness_db"])
        return _floats(table["loudness_db"]).reshape(len(table), self.encoding.frames)

    def rejects(self) -> list[Reject]:
        return [
            Reject(**row) for row in lance.dataset(str(self.path / "rejects.lance")).to_table().to_pylist()
        ]

    def require(self, encoding: Encoding, model: str) -> None:
        """Refuses to be used with a model whose codec or text encoder is not the one it was encoded with.

        Args:
            encoding: the model's; ``model``: its name.
        """
        if self.encoding.made_by != encoding.made_by:
            raise LinernotesError(
                f"{self.path} was encoded by another model ({self.encoding.model}) than {model}: "
                f"build it anew with 'linernotes catalog build --model {model}'"
            )


def copy_tracks(
    path: Path,
    chosen: Sequence[tuple[Catalogue, int, Track]],
    made_from: dict[str, Any],
    recode: tuple[Encoding, Callable[[Tensor], Tensor]] | None = None,
) -> Catalogue:
    """Writes a catalogue of tracks of other catalogues, all encoded alike, with their segments as they are
    stored there.

    Args:
        path: a new or empty folder.
        chosen: for each track the catalogue it comes from, its place among that one's tracks, and what it is
            called here.
        recode: what latents become ``[n, C, T]`` -> ``[n, K, T]``, and the encoding that they then have; its
            text embeddings must be the same. Left as they are if None.
    """
    encoding = recode[0] if recode else chosen[0][0].encoding
    captions: dict[str, int] = {}
    embeddings: list[tuple[str, np.ndarray]] = []
    for catalogue, place, track in chosen:
        own = int(catalogue._caption_n[np.flatnonzero(catalogue.track_n == place)[0]])
        if track.caption not in captions:
            captions[track.caption] = len(captions)
            (values,) = catalogue._captions.take([own])["embedding"]
            used = np.array(values.values.to_numpy(zero_copy_only=False), copy=True).reshape(
                -1, encoding.text_dim
            )
            embeddings.append((track.caption, used))

    def segments() -> Iterator[pa.RecordBatch]:
        for number, (catalogue, place, track) in enumerate(chosen):
            rows = np.flatnonzero(catalogue.track_n == place)
            for batch in catalogue._segments.take(rows.tolist()).combine_chunks().to_batches():
                for name, value in (("track", number), ("caption", captions[track.caption])):
                    i = batch.schema.get_field_index(name)
                    batch = batch.set_column(
                        i, batch.schema.field(i), pa.array(np.full(len(batch), value, dtype=np.int32))
                    )
                yield _recoded(batch, catalogue.latents(rows), *recode) if recode else batch

    path.mkdir(parents=True, exist_ok=True)
    write_catalogue(
        path=path,
        encoding=encoding,
        tracks=[track for _, _, track in chosen],
        segments=segments(),
        captions=embeddings,
        rejects=[],
        made_from=made_from,
    )
    return Catalogue(path)


def _recoded(
    batch: pa.RecordBatch, latents_nct: Tensor, encoding: Encoding, recode: Callable[[Tensor], Tensor]
) -> pa.RecordBatch:
    """A track's segments with other latents."""
    field = segment_schema(encoding).field("latents")
    values = recode(latents_nct).cpu().numpy().astype(field.type.value_type.to_pandas_dtype()).ravel()
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), field.type.list_size)
    return batch.set_column(batch.schema.get_field_index("latents"), field, column)


def segment_schema(encoding: Encoding) -> pa.Schema:
    """Columns of ``segments.lance``; latents and loudness are fixed-size lists."""
    return pa.schema(
        [
            ("track", pa.int32()),
            ("start_s", pa.float64()),
            ("seconds", pa.float64()),
            ("caption", pa.int32()),
            (
                "latents",
                pa.list_(
                    pa.int16() if encoding.codes else pa.float16(), encoding.latent_channels * encoding.frames
                ),
            ),
            ("loudness_db", pa.list_(pa.float32(), encoding.frames)),
        ]
    )


def write_catalogue(
    path: Path,
    encoding: Encoding,
    tracks: Sequence[Track],
    segments: Iterator[pa.RecordBatch],
    captions: Sequence[tuple[str, np.ndarray]],
    rejects: Sequence[Reject],
    made_from: dict[str, Any],
) -> None:
    """Writes a whole catalogue into the empty folder ``path``; the record comes last.

    Args:
        segments: batches of ``segment_schema``, in order, one for each track, since the catalogue's hash is
            made of theirs.
        captions: distinct captions with their embeddings ``[tokens, D]``, in the order ``caption`` counts in.
        made_from: what the record keeps about how the catalogue was made.
    """
    track_rows = [
        {**track.__dict__, "extra": json.dumps(track.extra, ensure_ascii=False)} for track in tracks
    ]
    caption_rows = [
        {"caption": text, "embedding": values.astype(np.float16, copy=False).ravel()}
        for text, values in captions
    ]
    digests: list[bytes] = [
        json.dumps([track_rows, [text for text, _ in captions]], sort_keys=True, ensure_ascii=False).encode()
    ]
    digests += [values.astype(np.float16).tobytes() for _, values in captions]
    count = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal count
        for batch in segments:
            count += len(batch)
            for name in batch.schema.names:
                listed = name in ("latents", "loudness_db")
                values = _floats(batch[name]) if listed else batch[name].to_numpy()
                digests.append(hash_bytes([values.tobytes()]).encode())
            yield batch

    schema = segment_schema(encoding)
    _write(path / "segments.lance", pa.RecordBatchReader.from_batches(schema, counted()))
    _write(path / "tracks.lance", pa.Table.from_pylist(track_rows, TRACK_SCHEMA))
    _write(path / "captions.lance", pa.Table.from_pylist(caption_rows, CAPTION_SCHEMA))
    _write(path / "rejects.lance", pa.Table.from_pylist([r.__dict__ for r in rejects], REJECT_SCHEMA))
    record = {
        "kind": KIND,
        "schema": SCHEMA_VERSION,
        "linernotes": __version__,
        "hash": hash_bytes(digests),
        "encoder": asdict(encoding),
        "tracks": len(tracks),
        "decoys": sum(not track.trained for track in tracks),
        "segments": count,
        "rejects": len(rejects),
        **made_from,
    }
    write_json(path / RECORD, record)


def _write(path: Path, table: pa.Table | pa.RecordBatchReader) -> None:
    lance.write_dataset(table, str(path), mode="create", data_storage_version="2.1")


def _tracks(table: pa.Table) -> list[Track]:
    return [Track(**{**row, "extra": json.loads(row["extra"])}) for row in table.to_pylist()]


def _tensor(values: np.ndarray) -> Tensor:
    import torch  # takes seconds, and whoever only looks at a catalogue needs none

    return torch.from_numpy(values)


def _floats(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """The values of a list column, one after the other."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks])
