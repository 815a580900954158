"""A record can be replayed: the same scores from the record alone, or what differs is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import linernotes
from conftest import SEGMENT_SAMPLES, write_model, write_recordings
from linernotes.attribution.result import RECORD, Attribution
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.errors import LinernotesError, UsageError
from linernotes.records.seal import sealed

FEW = {"draws": 8, "gradient_draws": 8}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    return linernotes.generate("tone", tmp_path_factory.mktemp("clips") / "clip.flac", model_path, seed=1)


@pytest.mark.parametrize("method", ["readout", "grad-dot", "latent"])
def test_a_record_gives_the_same_scores_again(
    tmp_path: Path, clip: Path, model_path: Path, catalogue: Catalogue, method: str
) -> None:
    settings = FEW if method == "readout" else {}
    linernotes.attribute(clip, tmp_path, model_path, catalogue.path, method=method, **settings)
    whole = linernotes.replay(tmp_path)
    assert whole.worst == 0 and whole.same and whole.segments == whole.of == len(catalogue)
    part = linernotes.replay(tmp_path, share=0.4)
    assert part.same and part.segments == round(0.4 * len(catalogue)) and not part.differing
    assert "segments scored again" in part.sentence and "every segment" in whole.sentence


@pytest.mark.parametrize("name", ["flow", "benchmark", "builtin"])
def test_a_models_folder_may_be_called_as_one_of_the_packages(
    tmp_path: Path, clip: Path, model_path: Path, catalogue: Catalogue, name: str
) -> None:
    place = tmp_path / name
    shutil.copytree(model_path, place)
    linernotes.attribute(clip, tmp_path / "out", place, catalogue.path, **FEW)
    assert linernotes.replay(tmp_path / "out").same


def test_one_changed_score_is_found(
    tmp_path: Path, clip: Path, model_path: Path, catalogue: Catalogue
) -> None:
    linernotes.attribute(clip, tmp_path, model_path, catalogue.path, **FEW)
    path = tmp_path / "scores.parquet"
    table = pq.read_table(path)
    scores = table["score"].to_numpy().copy()
    scores[3] += 1e-3 * np.abs(scores).max()
    pq.write_table(table.set_column(table.schema.get_field_index("score"), "score", [scores]), path)
    found = linernotes.replay(tmp_path)
    assert not found.same and found.worst == pytest.approx(1e-3, rel=0.01)
    said = CliRunner().invoke(app, ["replay", str(tmp_path)])
    assert said.exit_code == 1 and "is not repeated" in said.output.replace("\n", " ")
    checks = {check.what: check for check in linernotes.audit(tmp_path / RECORD, recompute=1.0)}
    assert checks[f"scores of {tmp_path.name} computed again"].outcome == "fails"


@pytest.mark.parametrize("drawn", ["segments", "tracks"])
def test_an_effect_that_does_not_follow_from_its_score_is_found(
    tmp_path: Path, clip: Path, model_path: Path, drawn: str
) -> None:
    write_recordings(tmp_path / "sounds", [SEGMENT_SAMPLES * k for k in (1, 3, 2, 1)], decoys=1)
    many = linernotes.build_catalogue(tmp_path / "sounds", tmp_path / "catalogue", model_path)
    linernotes.attribute(clip, tmp_path / "out", model_path, many.path, drawn=drawn)
    what, place = "effects follow from scores and calibration", tmp_path / "out/attribution.json"
    found = {check.what: check for check in linernotes.audit(place)}
    assert found[what].outcome == "holds" and found["unchanged since it was written"].outcome == "holds"
    record = json.loads(place.read_text())
    record["tracks"][1]["effect"]["expected"] *= 1.01
    del record["seal"]
    place.write_text(json.dumps(sealed(record)))  # by someone who knows how
    assert {c.what: c for c in linernotes.audit(place)}[what].detail.startswith("tracks[1].effect")
    record["tracks"][1]["effect"]["expected"] /= 1.01
    record["tracks"][1]["effect"]["low"] -= 0.01
    for unknown, outcome in (
        ("mixed", "fails"),
        ("normal", "holds"),
    ):  # ends that were told as they were before
        record["verdict"]["unknown"] = unknown
        record.pop("seal", None)
        place.write_text(json.dumps(sealed(record)))
        assert {c.what: c for c in linernotes.audit(place)}[what].outcome == outcome
    (anew,) = linernotes.attribute(clip, tmp_path / "out", model_path, many.path, drawn=drawn)
    assert anew.verdict and anew.verdict.unknown == "mixed"  # the same scores, judged as it is done now
    assert {c.what: c for c in linernotes.audit(place)}[what].outcome == "holds"


def test_what_has_gone_or_changed_is_said(
    tmp_path: Path, clip: Path, model_path: Path, catalogue: Catalogue
) -> None:
    own = Path(shutil.copy(clip, tmp_path / "own.flac"))
    shutil.copy(clip.with_name("clip.flac.safetensors"), tmp_path / "own.flac.safetensors")
    linernotes.attribute(own, tmp_path / "out", model_path, catalogue.path, **FEW)
    older = Attribution.load(tmp_path / "out" / RECORD).model_copy(update={"linernotes": "0.0.1"})
    older.save(tmp_path / "out" / RECORD)
    assert linernotes.replay(tmp_path / "out", share=0.5).differing == [
        f"linernotes was 0.0.1 and is {linernotes.__version__}"
    ]
    with pytest.raises(UsageError, match="a share of 0"):
        linernotes.replay(tmp_path / "out", share=0.0)
    with pytest.raises(LinernotesError, match="encoded by another model"):
        linernotes.replay(tmp_path / "out", model=write_model(tmp_path / "other", seed=4))
    other = older.model_copy(update={"noise_hash": "0" * 16})
    other.save(tmp_path / "out" / RECORD)
    with pytest.raises(LinernotesError, match="scored on other draws"):
        linernotes.replay(tmp_path / "out", share=0.5)
    own.unlink()
    with pytest.raises(LinernotesError, match=r"own\.flac"):
        linernotes.replay(tmp_path / "out")
