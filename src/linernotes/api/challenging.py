"""Credits put to the test by retraining: what ``audit`` does for those who do not trust a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from linernotes.api.workspace import Workspace
from linernotes.attribution.replay import clips_of, require_same
from linernotes.attribution.result import Attribution
from linernotes.credits.audit import attributions_behind, audited_file
from linernotes.demo.opening import catalogue_folder
from linernotes.demo.provider import model_folder, model_place
from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.retraining import retrainers
from linernotes.evaluation.challenge import Challenge, Claim, Forecast, challenge_claims, forecast
from linernotes.methods.contract import Progress
from linernotes.settings.engine import RetrainEngineSettings
from linernotes.settings.places import cache_folder


def forecast_challenge(record: str | Path, halves: int) -> Forecast:
    """How long ``audit(record, challenge=halves)`` will train, measured on a few steps.

    Raises:
        LinernotesError: there is no attribution at hand, its model cannot be trained here, or it would take
            more than a day.
    """
    behind = _behind(Path(record))
    model, catalogue = _places(behind)
    found = forecast(model_folder(model), catalogue_folder(catalogue), halves, len(behind))
    found.require_short()
    return found


def challenge(
    record: str | Path,
    halves: int,
    on_progress: Progress | None = None,
    engine: RetrainEngineSettings | None = None,
) -> Challenge:
    """Trains the model of a record again on random halves of its catalogue, and says whether the named tracks
    predict what becomes of the clips.

    Raises:
        LinernotesError: as ``forecast_challenge``, or no track is named, or clip, model or catalogue is
            another one than was attributed.
    """
    behind = _behind(Path(record))
    model, catalogue = _places(behind)
    with Workspace(model, catalogue, on_progress=on_progress) as work:
        claims = [_claim(work, path, read) for path, read in behind]
    with retrainers(engine) as executor:
        return challenge_claims(
            claims=claims,
            model=model_folder(model),
            catalogue=catalogue_folder(catalogue),
            halves=halves,
            folder=cache_folder(),
            on_progress=on_progress,
            executor=executor,
        )


def _behind(record: Path) -> list[tuple[Path, Attribution]]:
    """The attributions that a record rests on."""
    found = [(path, Attribution.load(path)) for path in attributions_behind(audited_file(record))]
    if not found:
        raise LinernotesError(f"{record} rests on attributions that are not at hand: put them beside it")
    return found


def _places(behind: Sequence[tuple[Path, Attribution]]) -> tuple[str, str]:
    """Where model and catalogue of attributions lie.

    Raises:
        LinernotesError: they are of several.
    """
    if len({(read.model_hash, read.catalogue_hash) for _, read in behind}) > 1:
        raise LinernotesError(
            "the clips are of several models or catalogues: put each one's credits to the test by themselves"
        )
    read = behind[0][1]
    return model_place(read), read.sources.catalogue


def _claim(work: Workspace, path: Path, read: Attribution) -> Claim:
    """What an attribution says, with its clip.

    Raises:
        LinernotesError: the clip has gone, or anything is another one than was attributed.
    """
    clips = clips_of(read, work.model)
    require_same(path, read, clips, work.prepared)
    named = {t.track_id: t.effect.expected for t in read.tracks if t.effect and t.effect.named}
    windows = [window for clip in clips for window in clip.windows]
    loss = read.verdict.loss if read.verdict else 1.0  # without a verdict none is named
    return Claim(read.query.name, read.query.prompt, windows, named, loss)
