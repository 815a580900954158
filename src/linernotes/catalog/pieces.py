"""The pieces of an ingest: a few tracks each, decoded, cut, encoded and put on disk by one worker. A piece
is whole when its entries are there and its segments have the hash that these name.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from linernotes.artefacts import hash_bytes, hash_json, read_json, replacing, write_json
from linernotes.catalog.cutting import CutSound, Decoding, Recordings
from linernotes.catalog.pre_encoded import Window, content_s, read_windows
from linernotes.catalog.store import segment_schema
from linernotes.catalog.track import Reject, Track
from linernotes.errors import LinernotesError
from linernotes.jobs.executor import Here
from linernotes.models.contract import PreEncodedModel
from linernotes.models.encoding import Encoding
from linernotes.models.opening import open_model

DECODERS = 2

Taken = tuple[dict[str, Any], pa.RecordBatch | None]  # what a piece keeps of a track


class SegmentEncoder(Protocol):
    """What ingest needs of a model: the part of the model contract that turns sound and words into
    numbers.
    """

    encoding: Encoding

    def encode(self, sound_bcs: Tensor) -> Tensor: ...

    def embed_text(self, prompts: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class Piece:
    """Some tracks of the source, and the size of each one's recording where the ingest was begun."""

    key: str  # of what it is made from: a piece that is there is whole whatever became of the others
    tracks: Sequence[Track]
    size_n: Sequence[int | None]

    def __len__(self) -> int:
        return len(self.tracks)


@dataclass(frozen=True)
class EncoderPlace:
    """The ``Setup`` of a worker that encodes: the model that is open, or, in another process, the one in its
    folder.
    """

    opened: Here[SegmentEncoder]
    folder: Path | None
    encoding: Encoding

    @property
    def key(self) -> str:
        return hash_json([str(self.folder), self.encoding.made_by])

    def open(self) -> SegmentEncoder:
        """The model.

        Raises:
            LinernotesError: it lies nowhere, or encodes otherwise here.
        """
        if self.opened.value is not None:
            return self.opened.value
        if self.folder is None:
            raise LinernotesError(
                "workers open a model from its folder, and this one was given as an object: give its "
                "folder, or use --engine threads"
            )
        model = open_model(self.folder)
        if model.encoding.made_by != self.encoding.made_by:
            raise LinernotesError(
                f"{self.folder} on {socket.gethostname()} encodes otherwise than here: put it on a disk that "
                "all nodes share"
            )
        return model


@dataclass(frozen=True)
class Ingest:
    """The ``Task`` of encoding pieces of the source into ``work``."""

    setup: EncoderPlace
    paths: Sequence[Path]
    recordings: Recordings
    work: Path
    passed: Here[Callable[[int], None]]  # told of the tracks of a piece that are done
    folder: Path  # of latents
    latents: Mapping[str, Sequence[str]]  # the files of each track, where the source holds latents

    def do(self, worker: SegmentEncoder, piece: Piece) -> None:
        """Puts a piece on disk."""
        entries: list[dict[str, Any]] = []
        batches: list[pa.RecordBatch] = []
        if self.setup.opened.value is None:
            self._require_same(piece)
        encoded = self._latents(worker, piece) if self.latents else self._sound(worker, piece)
        for entry, batch in encoded:
            entries.append(entry)
            batches += [batch] if batch is not None else []
            if self.passed.value:
                self.passed.value(len(entries))
        _write(self.work, piece.key, entries, batches, self.setup.encoding)

    def _sound(self, worker: SegmentEncoder, piece: Piece) -> Iterator[Taken]:
        """Decodes a few tracks ahead of the one that is encoded."""
        encoding = self.setup.encoding
        waiting: list[Decoding] = []
        stop = threading.Event()
        upcoming = iter(piece.tracks)
        try:
            for _ in piece.tracks:
                while len(waiting) < DECODERS and (ahead := next(upcoming, None)) is not None:
                    waiting.append(Decoding(self.recordings, ahead, encoding, stop))
                taken = _encode_track(waiting[0], worker, encoding)
                waiting.pop(0)
                yield taken
        finally:
            stop.set()
            for decoding in waiting:
                decoding.join()

    def _latents(self, worker: SegmentEncoder, piece: Piece) -> Iterator[Taken]:
        """Takes tracks whose latents are there already."""
        assert isinstance(worker, PreEncodedModel)
        for track in piece.tracks:
            windows = read_windows(self.folder, self.latents[track.file_name], self.setup.encoding)
            if isinstance(windows, Reject):
                yield {"reject": windows.__dict__}, None
            else:
                yield _take_windows(windows, worker, self.setup.encoding)

    def _require_same(self, piece: Piece) -> None:
        """Refuses recordings that are others on this node: those it does not see would become rejects."""
        for track, size in zip(piece.tracks, piece.size_n, strict=True):
            found = self.recordings.size(track)
            if found != size:
                raise LinernotesError(
                    f"{track.file_name} on {socket.gethostname()} is not what was listed ({found} bytes, not "
                    f"{size}): put the recordings on a disk that all nodes share, and leave them alone until "
                    "they are read"
                )


def _encode_track(decoding: Decoding, model: SegmentEncoder, encoding: Encoding) -> Taken:
    """What a piece keeps of a track: its hash and its segments, or why it is rejected."""
    batches: list[pa.RecordBatch] = []
    entry: dict[str, Any] = {}
    for part in decoding:
        if isinstance(part, CutSound):
            batches.append(_encode(part, model, encoding))
        elif isinstance(part, Reject):
            return {"reject": part.__dict__}, None
        else:
            entry = {"hash": part.content_hash, "segments": sum(map(len, batches))}
    return entry, pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _take_windows(windows: Sequence[Window], model: PreEncodedModel, encoding: Encoding) -> Taken:
    """The same of latents that are there already; how loud they are nobody knows, so nothing in them is taken
    for silence but padding.
    """
    latents = torch.from_numpy(np.stack([w.latents_ct for w in windows]).astype(np.float32))
    digest = hash_bytes([w.latents_ct.tobytes() for w in windows])
    content_n = np.array([w.content_frames for w in windows])
    batch = _batch(
        model.rescaled(latents),
        np.array([w.start_s for w in windows]),
        np.array([content_s(w, encoding) for w in windows]),
        np.where(np.arange(encoding.frames) < content_n[:, None], 0, -np.inf).astype(np.float32),
        encoding,
    )
    return {"hash": digest, "segments": len(windows)}, batch


def _encode(cut: CutSound, model: SegmentEncoder, encoding: Encoding) -> pa.RecordBatch:
    sound = torch.from_numpy(np.ascontiguousarray(cut.samples_ncs))
    return _batch(model.encode(sound).cpu(), cut.start_s_n, cut.seconds_n, cut.loudness_nt, encoding)


def _batch(
    latents_nct: Tensor,
    start_s_n: np.ndarray,
    seconds_n: np.ndarray,
    loudness_nt: np.ndarray,
    encoding: Encoding,
) -> pa.RecordBatch:
    n = len(latents_nct)
    size = encoding.latent_channels * encoding.frames
    latents = latents_nct.short() if encoding.codes else latents_nct.half()
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(np.zeros(n, dtype=np.int32)),
            pa.array(start_s_n.astype(np.float64)),
            pa.array(seconds_n.astype(np.float64)),
            pa.array(np.zeros(n, dtype=np.int32)),
            pa.FixedSizeListArray.from_arrays(pa.array(latents.numpy().ravel()), size),
            pa.FixedSizeListArray.from_arrays(pa.array(loudness_nt.ravel()), encoding.frames),
        ],
        schema=segment_schema(encoding),
    )
    # into Arrow's own memory: kept among the encoding's large and short-lived arrays, small ones leave holes
    # too small for the next, 8 MB for every handful of segments
    return pa.ipc.read_record_batch(batch.serialize(), batch.schema)


def _write(
    work: Path, key: str, entries: list[dict[str, Any]], batches: list[pa.RecordBatch], encoding: Encoding
) -> None:
    """A finished piece: its segments, then, as the sign that it is whole, its entries and their hash."""
    path = segments_of(work, key)
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, segment_schema(encoding)) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    write_json(entries_of(work, key), {"entries": entries, "segments": _hash(path)})


def segments_of(work: Path, key: str) -> Path:
    """A piece's segments, one batch a track that is not rejected."""
    return work / f"{key}.arrow"


def entries_of(work: Path, key: str) -> Path:
    """What a piece says of each of its tracks."""
    return work / f"{key}.json"


def read_entries(work: Path, key: str) -> list[dict[str, Any]]:
    """What a whole piece says of each of its tracks.

    Raises:
        LinernotesError: it is not whole.
    """
    path = segments_of(work, key)
    read = read_json(entries_of(work, key), "a piece of an ingest")
    if not path.exists() or _hash(path) != read["segments"]:
        raise LinernotesError(
            f"{path} is damaged (its content is not what its hash says): remove it, and run the same command "
            "again"
        )
    return read["entries"]


def whole(work: Path, key: str) -> bool:
    """Whether a piece is done; one that is damaged is removed, and said to be."""
    path = entries_of(work, key)
    if not path.exists():
        return False
    try:
        read_entries(work, key)
    except LinernotesError as error:
        logging.getLogger("linernotes").warning(f"{error}; it is made anew now")
        path.unlink(missing_ok=True)
        return False
    return True


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hash_bytes(iter(lambda: file.read(1 << 22), b""))
