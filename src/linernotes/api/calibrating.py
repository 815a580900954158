"""What scores are worth: a calibration fitted on a retrain bank, and measured on what it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from linernotes.artefacts import held
from linernotes.attribution.effects import Calibration
from linernotes.attribution.fitness import clip_loss, fitness_of, loss_draws
from linernotes.catalog.gathering import noted
from linernotes.evaluation.bank.opened import OpenedBank
from linernotes.evaluation.calibration import fit_calibration
from linernotes.evaluation.unseen import MeasuredCalibration, measure_calibration
from linernotes.settings.methods import DEFAULT_METHOD
from linernotes.settings.paths import require_new
from linernotes.settings.reading import chosen_method


def calibrate(
    opened: OpenedBank,
    method: str = DEFAULT_METHOD,
    out: str | Path | None = None,
    lent: Calibration | None = None,
    **settings: Any,
) -> MeasuredCalibration:
    """Fits what a method's scores are worth on a bank, and measures on clips and models that the fit has not
    seen whether its intervals hold.

    Args:
        out: where the calibration is written, for ``attribute(..., calibration=...)``; nowhere if None.
        lent: another model's, of these scores: it is held against the bank, and none is fitted.

    Raises:
        LinernotesError: too few retrains, scores that predict nothing of them, or ``out`` exists already.
    """
    if out is not None:
        require_new(Path(out))
    chosen = chosen_method(method, settings)
    scores_qn = opened.training_scores({method: chosen})[method]
    prepared, bank = opened.prepared, opened.bank
    draws = loss_draws(prepared.model, 0)
    loss_q = np.array([clip_loss(prepared.model, clip, draws) for clip in opened.clips])
    place = {track.track_id: i for i, track in enumerate(prepared.catalogue.tracks)}
    # as a judge counts them
    segments_t = np.bincount(prepared.catalogue.track_n, prepared.weights_n**2, len(place))
    segments_n = segments_t[[place[name] for name in bank.tracks]]
    calibration = lent or fit_calibration(
        bank=bank,
        scores_qn=scores_qn,
        loss_q=loss_q,
        segments_n=segments_n,
        method=method,
        settings=chosen,
        model=prepared.model.name,
        fitness=fitness_of(prepared).loss,
        on_progress=prepared.progress("fitting"),
        gather=noted(prepared.catalogue, chosen.gather),
        n_training=prepared.n_training,
    )
    measured = measure_calibration(
        bank,
        scores_qn,
        loss_q,
        segments_n,
        calibration,
        n_training=prepared.n_training,
        lent=lent is not None,
    )
    if out is not None:
        with held(Path(out).parent):
            calibration.save(Path(out))
    return measured
