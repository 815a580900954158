"""The page of a verification: the clip, and what becomes of it without the tracks that were named, and
without random ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from linernotes.artefacts import replacing
from linernotes.attribution.result import Attribution, TrackScore
from linernotes.audio import Sound
from linernotes.evaluation.bank.measuring import DISTANCES
from linernotes.evaluation.verification import FIRST, RANDOM, Remade, Verification
from linernotes.report.pictures import player_mp3, spectrogram_png
from linernotes.report.table import Table, number, text
from linernotes.version import __version__


def verification_table(found: Verification, k: int) -> Table:
    """The clip's loss under the model that made it, and under those that never saw ``k`` tracks."""
    without = {FIRST: f"one without the {k} tracks named first", RANDOM: f"one without {k} random tracks"}
    rows = [
        {"model": without[r.arm], "loss": r.loss, "rise": r.loss / found.loss - 1, **r.distances}
        for r in found.remade
    ]
    columns = [
        text("model", "the clip's loss under"),
        number("loss", "", ".4f"),
        number("rise", "risen by", "+.1f", "%"),
        *(number(distance, distance, ".2f") for distance in found.remade[0].distances),
    ]
    return Table("verified", columns, [{"model": "the model that made it", "loss": found.loss}, *rows])


def write_verification(
    path: Path,
    attribution: Attribution,
    found: Verification,
    first: Sequence[TrackScore],
    sounds: Mapping[str, Sound | None],
    titles: Mapping[str, str],
    command: str,
) -> None:
    """Writes ``verify.html``, self-contained.

    Args:
        first: the tracks that were left out, with ``sounds`` by track id; ``titles`` of all tracks.
    """
    environment = Environment(
        loader=PackageLoader("linernotes.report", "."), autoescape=True, undefined=StrictUndefined
    )
    loss = {arm: found.mean_loss(arm) for arm in (FIRST, RANDOM)}
    page = environment.get_template("verification.html.j2").render(
        version=__version__,
        a=attribution,
        k=found.left_out,
        original={
            "audio": player_mp3(found.sound).inline,
            "spectrogram": spectrogram_png(found.sound).inline,
            "loss": found.loss,
        },
        arms=[_arm(arm, found, titles) for arm in (FIRST, RANDOM)],
        rise={arm: 100 * (loss[arm] / found.loss - 1) for arm in loss},
        supported=min(_losses(found, FIRST)) > max(_losses(found, RANDOM)),
        tests_by_chance=math.comb(2 * len(_losses(found, FIRST)), len(_losses(found, FIRST))),
        contradicted=loss[FIRST] <= loss[RANDOM],
        distances=[
            (name, *(found.mean_distance(arm, name) for arm in (FIRST, RANDOM))) for name in DISTANCES
        ],
        tracks=[
            {"score": t, "audio": player_mp3(sound).inline if (sound := sounds.get(t.track_id)) else None}
            for t in first
        ],
        command=command,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _losses(found: Verification, arm: str) -> list[float]:
    return [r.loss for r in found.remade if r.arm == arm]


def _arm(arm: str, found: Verification, titles: Mapping[str, str]) -> dict[str, object]:
    def shown(r: Remade) -> dict[str, object]:
        return {
            "audio": player_mp3(r.sound).inline,
            "spectrogram": spectrogram_png(r.sound).inline,
            "loss": r.loss,
            "level": r.distances[DISTANCES[0]],
            "titles": [titles[name] for name in r.left_out],
        }

    return {"name": arm, "remade": [shown(r) for r in found.remade if r.arm == arm]}
