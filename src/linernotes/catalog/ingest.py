"""Builds a catalogue: a listed folder and a model -> segments with latents, in Lance.

Files are decoded in parallel, cut into segments of the model's length and encoded; every few tracks a
finished piece is put on disk, so that a killed build goes on where it stopped. The catalogue appears under
its name only when complete.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from linernotes.artefacts import hash_json, held, read_json, replace_folder, write_json
from linernotes.catalog.cutting import Files, Recordings
from linernotes.catalog.pieces import (
    EncoderPlace,
    Ingest,
    Piece,
    SegmentEncoder,
    entries_of,
    read_entries,
    segments_of,
    whole,
)
from linernotes.catalog.pre_encoded import check_details
from linernotes.catalog.source import Source
from linernotes.catalog.store import Catalogue, write_catalogue
from linernotes.catalog.track import Reject, Track
from linernotes.errors import LinernotesError
from linernotes.jobs.executor import Executor, Here
from linernotes.jobs.inline import Inline
from linernotes.jobs.shards import reachable, wait_to_see
from linernotes.models.contract import POWERS, PreEncodedModel
from linernotes.models.encoding import Encoding
from linernotes.settings.paths import require_new
from linernotes.version import SCHEMA_VERSION

TRACKS_IN_PIECE = 16
CAPTIONS_AT_ONCE = 16


def build_catalogue(
    source: Source,
    path: Path,
    model: SegmentEncoder,
    strict: bool = False,
    source_name: str | None = None,
    on_track: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
    model_folder: Path | None = None,
    recordings: Recordings | None = None,
) -> Catalogue:
    """Builds the catalogue at ``path``. ``on_track(done, total)`` reports progress.

    Args:
        strict: any reject is a failure.
        source_name: what the record says the sound comes from; the folder's path if None.
        executor: what decodes and encodes; this process if None. The catalogue is the same.
        model_folder: where the model lies, for workers in other processes.
        recordings: where the tracks' sound comes from; the files in the source's folder if None.

    Raises:
        LinernotesError: something is there already, nothing usable in the source, rejects under ``strict``,
            or another process is building it.
    """
    path = path.resolve()
    with held(path, "built"):
        place = EncoderPlace(Here(model), model_folder and model_folder.absolute(), model.encoding)
        return _build(
            source=source,
            path=path,
            place=place,
            model=model,
            strict=strict,
            source_name=source_name,
            on_track=on_track,
            executor=executor or Inline(),
            recordings=recordings or Files(source.folder.absolute()),
        )


def _build(
    source: Source,
    path: Path,
    place: EncoderPlace,
    model: SegmentEncoder,
    strict: bool,
    source_name: str | None,
    on_track: Callable[[int, int], None] | None,
    executor: Executor,
    recordings: Recordings,
) -> Catalogue:
    require_new(path, empty_will_do=True)
    if source.latents:
        _require_taker(source.folder, model, place.encoding)
    work = path.with_name(path.name + ".partial")
    _begin(work, {"encoder": asdict(place.encoding), "schema": SCHEMA_VERSION, "pieces": "by content"})
    pieces = [
        Piece(
            hash_json([source.content_of(track) for track in tracks]),
            tracks,
            [recordings.size(track) for track in tracks],
        )
        for tracks in batched(source.tracks, TRACKS_IN_PIECE)
    ]
    todo = [piece for piece in pieces if not whole(work, piece.key)]
    done = len(source.tracks) - sum(map(len, todo))

    def passed(tracks: int) -> None:
        if on_track:
            on_track(done + tracks, len(source.tracks))

    def finished(piece: Piece) -> None:
        nonlocal done
        done += len(piece)
        passed(0)

    with reachable(work / ".reached") as sign:
        paths = [*([place.folder] if place.folder else []), *recordings.paths, sign]
        task = Ingest(place, paths, recordings, work, Here(passed), source.folder, source.latents)
        for _ in executor.run(task, todo, finished) if todo else ():
            pass
    for piece in todo:
        wait_to_see(entries_of(work, piece.key))
    return _assemble(
        source=source,
        path=path,
        work=work,
        pieces=pieces,
        model=model,
        encoding=place.encoding,
        strict=strict,
        source_name=source_name,
    )


def _require_taker(folder: Path, model: SegmentEncoder, encoding: Encoding) -> None:
    """Refuses latents that a model cannot take, as far as their folder says."""
    if not isinstance(model, PreEncodedModel):
        raise LinernotesError(
            f"{encoding.model} lacks {POWERS[PreEncodedModel]}: give the folder of recordings in place of "
            f"{folder}"
        )
    check_details(folder, encoding)


def batched(tracks: Sequence[Track], size: int) -> Iterator[Sequence[Track]]:
    """About ``size`` tracks at a time, and twice as many at the most: a batch ends where a track's name says
    so, and a track more or less changes the one it is in, not those behind it.
    """
    some: list[Track] = []
    for track in tracks:
        some.append(track)
        if len(some) == 2 * size or int(hash_json(track.file_name), 16) % size == 0:
            yield some
            some = []
    if some:
        yield some


def _assemble(
    source: Source,
    path: Path,
    work: Path,
    pieces: Sequence[Piece],
    model: SegmentEncoder,
    encoding: Encoding,
    strict: bool,
    source_name: str | None,
) -> Catalogue:
    """Pieces -> catalogue: drops duplicated content, numbers tracks and captions, embeds the captions."""
    tracks: list[Track] = []
    rejects = list(source.rejects)
    kept: list[list[bool]] = []
    entries = [read_entries(work, piece.key) for piece in pieces]
    # of several tracks with the same sound the first that was trained on stays
    first_with: dict[str, Track] = {}
    for track, entry in zip(source.tracks, itertools.chain(*entries), strict=True):
        if "hash" in entry and not first_with.setdefault(entry["hash"], track).trained and track.trained:
            first_with[entry["hash"]] = track
    for piece, of_piece in zip(pieces, entries, strict=True):
        kept.append([])
        for track, entry in zip(piece.tracks, of_piece, strict=True):
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
        segments=_numbered(work, [piece.key for piece in pieces], kept, tracks, captions),
        captions=_embed(list(captions), model),
        rejects=rejects,
        made_from={
            "source": source_name or str(source.folder.resolve()),
            **({"notes": source.notes} if source.notes else {}),
            **({"pre_encoded": True} if source.latents else {}),
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rmdir()  # empty: checked at the start
    replace_folder(built, path)
    shutil.rmtree(work)
    return Catalogue(path)


def _numbered(
    work: Path,
    keys: Sequence[str],
    kept: list[list[bool]],
    tracks: list[Track],
    captions: dict[str, int],
) -> Iterator[pa.RecordBatch]:
    """The segments of all kept tracks, with the numbers of their track and caption filled in."""
    number = 0
    for key, flags in zip(keys, kept, strict=True):
        with pa.ipc.open_file(str(segments_of(work, key))) as reader:
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


def _begin(work: Path, plan: Mapping[str, Any]) -> None:
    """Makes room for an ingest, or for one that was stopped to go on, with other recordings or not.

    Raises:
        LinernotesError: what was stopped there was for another model; its hours are not thrown away unasked.
    """
    path = work / "plan.json"
    if not path.exists():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_json(path, plan)
    elif hash_json(read_json(path, "an ingest that was stopped")) != hash_json(plan):
        raise LinernotesError(
            f"{work} is of an ingest that was stopped, for another model or by another version of "
            "linernotes: give the same model as then, or remove that folder"
        )


def _strict_error(rejects: Sequence[Reject]) -> LinernotesError:
    named = "".join(f"\n  {reject.file_name}: {reject.reason}: {reject.detail}" for reject in rejects)
    return LinernotesError(
        f"--strict allows no rejects, and there are {len(rejects)}; mend them, or leave it out:{named}"
    )
