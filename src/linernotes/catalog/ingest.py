"""Builds a catalogue: a listed folder and a model -> segments with latents, in Lance.

Files are decoded in parallel, cut into segments of the model's length and encoded; every few tracks a
finished piece is put on disk, so that a killed build goes on where it stopped. The catalogue appears under
its name only when complete.
"""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from linernotes.artefacts import hash_json, held, replace_folder, replacing, write_json
from linernotes.catalog.cutting import CutSound, Decoding
from linernotes.catalog.source import Reject, Source, Track
from linernotes.catalog.store import Catalogue, segment_schema, write_catalogue
from linernotes.errors import LinernotesError
from linernotes.models.encoding import Encoding
from linernotes.settings.paths import require_new
from linernotes.version import SCHEMA_VERSION

TRACKS_IN_PIECE = 16
CAPTIONS_AT_ONCE = 16
DECODERS = 2


class SegmentEncoder(Protocol):
    """What ingest needs of a model: the part of the model contract that turns sound and words into
    numbers.
    """

    encoding: Encoding

    def encode(self, sound_bcs: Tensor) -> Tensor: ...

    def embed_text(self, prompts: Sequence[str]) -> Tensor: ...


def build_catalogue(
    source: Source,
    path: Path,
    model: SegmentEncoder,
    strict: bool = False,
    source_name: str | None = None,
    on_track: Callable[[int, int], None] | None = None,
) -> Catalogue:
    """Builds the catalogue at ``path``. ``on_track(done, total)`` reports progress.

    Args:
        strict: any reject is a failure.
        source_name: what the record says the sound comes from; the folder's path if None.

    Raises:
        LinernotesError: something is there already, nothing usable in the source, rejects under ``strict``,
            or another process is building it.
    """
    path = path.resolve()
    with held(path, "built"):
        return _build(source, path, model, strict, source_name, on_track)


def _build(
    source: Source,
    path: Path,
    model: SegmentEncoder,
    strict: bool,
    source_name: str | None,
    on_track: Callable[[int, int], None] | None,
) -> Catalogue:
    require_new(path, empty_will_do=True)
    work, encoding = path.with_name(path.name + ".partial"), model.encoding
    plan: dict[str, Any] = {
        "source": source.hash,
        "encoder": asdict(encoding),
        "schema": SCHEMA_VERSION,
        "tracks": TRACKS_IN_PIECE,
    }
    if not _same_plan(work, plan):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_json(work / "plan.json", plan)

    pieces = [source.tracks[i : i + TRACKS_IN_PIECE] for i in range(0, len(source.tracks), TRACKS_IN_PIECE)]
    todo = [i for i in range(len(pieces)) if not (work / f"{i:06d}.json").exists()]
    upcoming = iter([track for i in todo for track in pieces[i]])
    done = len(source.tracks) - sum(len(pieces[i]) for i in todo)
    waiting: list[Decoding] = []
    stop = threading.Event()
    try:
        for i in todo:
            entries: list[dict[str, Any]] = []
            batches: list[pa.RecordBatch] = []
            for _ in pieces[i]:
                while len(waiting) < DECODERS and (ahead := next(upcoming, None)) is not None:
                    waiting.append(Decoding(source.folder, ahead, encoding, stop))
                entry, batch = _encode_track(waiting[0], model, encoding)
                waiting.pop(0)
                entries.append(entry)
                batches += [batch] if batch is not None else []
                done += 1
                if on_track:
                    on_track(done, len(source.tracks))
            _write_piece(work, i, entries, batches, encoding)
    finally:
        stop.set()
        for decoding in waiting:
            decoding.join()
    return _assemble(
        source=source,
        path=path,
        work=work,
        pieces=pieces,
        model=model,
        encoding=encoding,
        strict=strict,
        source_name=source_name,
    )


def _encode_track(
    decoding: Decoding, model: SegmentEncoder, encoding: Encoding
) -> tuple[dict[str, Any], pa.RecordBatch | None]:
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


def _encode(cut: CutSound, model: SegmentEncoder, encoding: Encoding) -> pa.RecordBatch:
    sound = torch.from_numpy(np.ascontiguousarray(cut.samples_ncs))
    latents = model.encode(sound).cpu()
    n = len(sound)
    size = encoding.latent_channels * encoding.frames
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(np.zeros(n, dtype=np.int32)),
            pa.array(cut.start_s_n.astype(np.float64)),
            pa.array(cut.seconds_n.astype(np.float64)),
            pa.array(np.zeros(n, dtype=np.int32)),
            pa.FixedSizeListArray.from_arrays(
                pa.array((latents.short() if encoding.codes else latents.half()).numpy().ravel()), size
            ),
            pa.FixedSizeListArray.from_arrays(pa.array(cut.loudness_nt.ravel()), encoding.frames),
        ],
        schema=segment_schema(encoding),
    )
    # into Arrow's own memory: kept among the encoding's large and short-lived arrays, small ones leave holes
    # too small for the next, 8 MB for every handful of segments
    return pa.ipc.read_record_batch(batch.serialize(), batch.schema)


def _write_piece(
    work: Path, index: int, entries: list[dict[str, Any]], batches: list[pa.RecordBatch], encoding: Encoding
) -> None:
    """A finished piece: its segments, then, as the sign that it is whole, its entries."""
    with (
        replacing(work / f"{index:06d}.arrow") as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, segment_schema(encoding)) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    write_json(work / f"{index:06d}.json", entries)


def _assemble(
    source: Source,
    path: Path,
    work: Path,
    pieces: list[list[Track]],
    model: SegmentEncoder,
    encoding: Encoding,
    strict: bool,
    source_name: str | None,
) -> Catalogue:
    """Pieces -> catalogue: drops duplicated content, numbers tracks and captions, embeds the captions."""
    tracks: list[Track] = []
    rejects = list(source.rejects)
    kept: list[list[bool]] = []
    entries = [json.loads((work / f"{i:06d}.json").read_text()) for i in range(len(pieces))]
    # of several tracks with the same sound the first that was trained on stays
    first_with: dict[str, Track] = {}
    for track, entry in zip(source.tracks, itertools.chain(*entries), strict=True):
        if (
            "hash" in entry
            and first_with.setdefault(entry["hash"], track).split == "decoy"
            and track.split == "train"
        ):
            first_with[entry["hash"]] = track
    for piece, of_piece in zip(pieces, entries, strict=True):
        kept.append([])
        for track, entry in zip(piece, of_piece, strict=True):
            if "reject" in entry:
                rejects.append(Reject(**entry["reject"]))
                continue
            first = first_with[entry["hash"]]
            kept[-1].append(first is track)
            if first is track:
                tracks.append(track)
            elif first.split == track.split:
                rejects.append(
                    Reject(track.file_name, "duplicate", f"the same sound as {first.file_name}; remove one")
                )
            else:
                detail = (
                    f"the same sound as {first.file_name}, which is trained on, so it is no decoy; remove it"
                )
                rejects.append(Reject(track.file_name, "duplicate", detail))
    if strict and rejects:
        raise _strict_error(rejects)
    if not tracks:
        raise LinernotesError(
            f"{source.folder} yields no usable track ({rejects[0].file_name}: {rejects[0].detail})"
        )
    captions = {text: number for number, text in enumerate(dict.fromkeys(track.caption for track in tracks))}
    built = work / "catalogue"
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    write_catalogue(
        path=built,
        encoding=encoding,
        tracks=tracks,
        segments=_numbered(work, kept, tracks, captions),
        captions=_embed(list(captions), model),
        rejects=rejects,
        made_from={
            "source": source_name or str(source.folder.resolve()),
            **({"notes": source.notes} if source.notes else {}),
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rmdir()  # empty: checked at the start
    replace_folder(built, path)
    shutil.rmtree(work)
    return Catalogue(path)


def _numbered(
    work: Path, kept: list[list[bool]], tracks: list[Track], captions: dict[str, int]
) -> Iterator[pa.RecordBatch]:
    """The segments of all kept tracks, with the numbers of their track and caption filled in."""
    number = 0
    for i, flags in enumerate(kept):
        with pa.ipc.open_file(str(work / f"{i:06d}.arrow")) as reader:
            for j, keep in enumerate(flags):
                if not keep:
                    continue
                batch = reader.get_batch(j)
                for column, value in ((0, number), (3, captions[tracks[number].caption])):
                    filled = pa.array(np.full(len(batch), value, dtype=np.int32))
                    batch = batch.set_column(column, batch.schema.field(column), filled)
                number += 1
                yield batch


def _embed(captions: list[str], model: SegmentEncoder) -> list[tuple[str, np.ndarray]]:
    embedded = []
    for i in range(0, len(captions), CAPTIONS_AT_ONCE):
        some = captions[i : i + CAPTIONS_AT_ONCE]
        for text, values_ld in zip(some, model.embed_text(some).cpu(), strict=True):
            used = int(torch.nonzero(values_ld.abs().sum(1))[-1]) + 1
            # no view, which would keep the whole batch
            embedded.append((text, values_ld[:used].half().numpy().copy()))
    return embedded


def _same_plan(work: Path, plan: dict[str, Any]) -> bool:
    try:
        return hash_json(json.loads((work / "plan.json").read_text())) == hash_json(plan)
    except (OSError, json.JSONDecodeError):
        return False


def _strict_error(rejects: Sequence[Reject]) -> LinernotesError:
    named = "".join(f"\n  {reject.file_name}: {reject.reason}: {reject.detail}" for reject in rejects)
    return LinernotesError(
        f"--strict allows no rejects, and there are {len(rejects)}; mend them, or leave it out:{named}"
    )
