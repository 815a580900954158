"""Truth: what scores are worth, where that was measured, and how well methods predict retraining."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from linernotes.artefacts import read_json
from linernotes.demo.places import CALIBRATIONS
from linernotes.desk import queue
from linernotes.desk.asks import Measure
from linernotes.desk.drawing import desk_of, draw, see
from linernotes.errors import LinernotesError
from linernotes.settings.methods import METHOD_SETTINGS

if TYPE_CHECKING:
    from linernotes.attribution.effects import Calibration

router = APIRouter()


@router.get("/truth")
def truth(request: Request) -> HTMLResponse:
    """Calibrations and leaderboard of the models in use."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        worker = queue.fact(session, "worker")
        takes = queue.seconds_of(session, "measure")
    model_hash = worker.get("model_hash")
    own = [Path(desk.opened.calibration)] if desk.opened.calibration else []
    calibrations = [_said(path, model_hash) for path in (*own, *_shipped())]
    order = {name: i for i, name in enumerate(METHOD_SETTINGS)}
    calibrations.sort(
        key=lambda one: (one["method"] != desk.opened.method, order.get(one["method"], 99), one["settings"])
    )
    found: dict[str, Any] = {}
    path = desk.folder.truth / "leaderboard.json"
    if path.exists():
        try:
            found = dict(read_json(path, "a leaderboard"))
        except LinernotesError:
            found = {}
    return draw(request, "truth.html.j2", calibrations=calibrations, leaderboard=found, takes=takes)


@router.post("/truth")
def measure(request: Request) -> RedirectResponse:
    """Measures the leaderboard anew, from the scores and retrained models that are there."""
    job = desk_of(request).ask(Measure())
    return see(f"/truth?asked={job.id}")


def warm() -> None:
    """Reads what comes with the package, so that whoever looks first waits less."""
    for path in _shipped():
        _read(path)


@cache
def _shipped() -> tuple[Path, ...]:
    return tuple(sorted(CALIBRATIONS.glob("*.json")))


@cache
def _read(path: Path) -> Calibration:
    from linernotes.attribution.effects import Calibration  # brings scipy, which takes seconds

    return Calibration.load(path)


def _said(path: Path, model_hash: str | None) -> dict[str, Any]:
    made = _read(path)
    return {
        "method": made.method,
        "settings": path.stem[len(made.method) + 1 :],
        "where": made.bank,
        "clips": made.clips,
        "models": made.models,
        "tracks": made.tracks,
        "random_track": made.whole / made.tracks,
        "retrain_sd": made.retrain_sd,
        "lent": model_hash is not None and made.model_hash != model_hash,
    }
