"""From clips to attributions: prepare once, score all clips in one sweep, rank tracks, gather evidence, write the files."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linernotes.artefacts import hash_arrays, hash_json
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import Clip
from linernotes.attribution.result import Attribution, QueryRecord, rank_tracks, save_scores
from linernotes.catalog.store import Catalogue
from linernotes.errors import UsageError
from linernotes.losses import frame_losses
from linernotes.methods.contract import Prepared, Progress
from linernotes.methods.unlearning import score
from linernotes.models.contract import GenerativeModel
from linernotes.models.weights import ChangedWeights
from linernotes.settings import AttributionSettings
from linernotes.version import __version__

METHOD = "abu"
FIRST_TRACKS = 10  # how many training tracks get evidence and are shown
ORIENTATION = "higher = removing it would hurt the query more"


@dataclass(frozen=True)
class Evidence:
    """Where in the first tracks the score comes from: each one's best segment's change of loss, per frame of its content."""

    change_t: dict[str, np.ndarray]  # by track id


@dataclass(frozen=True)
class Attributed:
    """One clip's attribution with its evidence and the folder it was written to."""

    clip: Clip
    attribution: Attribution
    evidence: Evidence
    folder: Path


def attribute_clips(
    clips: list[Clip],
    model: GenerativeModel,
    catalogue: Catalogue,
    settings: AttributionSettings,
    out: Path,
    cache: Path | None = None,
    on_progress: Progress | None = None,
) -> list[Attributed]:
    """Attributes clips and writes each one's ``attribution.json`` and ``scores.parquet``: into ``out`` for one clip, into
    ``out/NAME`` for several. Base losses, Fisher, data and noise are shared by all of them.
    """
    names = [clip.query.name for clip in clips]
    if len(set(names)) < len(names):
        raise UsageError(f"two clips are named {max(names, key=names.count)!r}: rename one, since results are filed by name")
    prepared = prepare(model, catalogue, settings, cache, on_progress)
    sweep = out / ".sweep" / _sweep_name(clips, prepared, settings)
    scores = score(prepared, [clip.query for clip in clips], settings, settings.seed, sweep, settings.batch_size, on_progress)
    done = []
    for clip, scores_n, changed in zip(clips, scores.scores_qn, scores.changed, strict=True):
        folder = out if len(clips) == 1 else out / clip.query.name
        attribution = _attribution(clip, prepared, settings, scores_n)
        header = {
            "axes": "segments in catalogue order",
            "orientation": ORIENTATION,
            "model": model.weights_hash,
            "catalogue": catalogue.hash,
            "noise": prepared.bank.hash,
            "linernotes": __version__,
            "settings": json.dumps(settings.model_dump()),
        }
        save_scores(
            folder / "scores.parquet", scores_n, catalogue.track_n, catalogue.start_s_n, catalogue.seconds_n,
            catalogue.tracks, header,
        )  # fmt: skip
        attribution.save(folder / "attribution.json")
        done.append(Attributed(clip, attribution, _evidence(attribution, prepared, changed, scores_n), folder))
    shutil.rmtree(out / ".sweep")
    return done


def _sweep_name(clips: list[Clip], prepared: Prepared, settings: AttributionSettings) -> str:
    """Names all that the scores depend on, so that only the same run is ever resumed."""
    tensors = {
        f"{i}-{n}": getattr(c.query, n).numpy() for i, c in enumerate(clips) for n in ("latents_ct", "text_ld", "heard_t")
    }
    made_from = [prepared.model.weights_hash, prepared.catalogue.hash, prepared.bank.hash, hash_arrays(tensors)]
    return hash_json([settings.model_dump(), [clip.query.seconds for clip in clips], made_from])


def _attribution(clip: Clip, prepared: Prepared, settings: AttributionSettings, scores_n: np.ndarray) -> Attribution:
    model, catalogue = prepared.model, prepared.catalogue
    query = clip.query
    return Attribution(
        query=QueryRecord(
            name=query.name, file=clip.path.name, prompt=query.prompt, seconds=query.seconds, generated=clip.generated
        ),
        method=METHOD,
        orientation=ORIENTATION,
        settings=settings.model_dump(),
        seed=settings.seed,
        model=model.name,
        model_hash=model.weights_hash,
        catalogue=catalogue.path.name,
        catalogue_hash=catalogue.hash,
        noise_hash=prepared.bank.hash,
        decoys=sum(track.split == "decoy" for track in catalogue.tracks),
        tracks=rank_tracks(scores_n, catalogue.track_n, catalogue.start_s_n, catalogue.tracks),
    )


def _evidence(attribution: Attribution, prepared: Prepared, changed: ChangedWeights, scores_n: np.ndarray) -> Evidence:
    catalogue = prepared.catalogue
    row_of = {track.track_id: i for i, track in enumerate(catalogue.tracks)}
    identifiers = [track.track_id for track in attribution.first_trained(FIRST_TRACKS)]
    rows = []
    for identifier in identifiers:
        own = np.flatnonzero(catalogue.track_n == row_of[identifier])
        rows.append(int(own[np.argmax(scores_n[own])]))
    losses = frame_losses(prepared.model, catalogue, prepared.bank, {"base": {}, "unlearned": changed}, rows)
    change_nt = (losses["unlearned"].double() - losses["base"].double()).mean(dim=1).numpy()
    frame_s = catalogue.encoder.frame_samples / catalogue.encoder.rate_hz
    content = np.ceil(np.round(catalogue.seconds_n[rows] / frame_s, 6)).astype(int)
    return Evidence({name: change_t[:n] for name, change_t, n in zip(identifiers, change_nt, content, strict=True)})
