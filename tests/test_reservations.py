"""Recordings whose C2PA manifest says that no model may be trained on them: named at ingest, kept in the
catalogue, and said where credits name one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

import linernotes
from conftest import RATE_HZ, SEGMENT_SAMPLES, tone
from linernotes.artefacts import hash_json
from linernotes.catalog import reservations
from linernotes.catalog.reservations import COLUMN, FORMATS, RESERVED, reserved
from linernotes.cli.app import app
from linernotes.credits.manifest import certificates
from linernotes.credits.signing import load_private_key
from music import attribution, effect

c2pa = pytest.importorskip("c2pa")

CAPTURE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def mining(label: str, **uses: str) -> dict[str, Any]:
    """A training and data mining assertion."""
    prefix = label.partition(".")[0]
    return {
        "label": label,
        "data": {"entries": {f"{prefix}.{name}": {"use": use} for name, use in uses.items()}},
    }


def write_signed(folder: Path, name: str, *assertions: dict[str, Any], parent: Path | None = None) -> Path:
    """A tone with a manifest that holds these assertions; made from ``parent``, if there is one."""
    path, plain = folder / name, folder / f"plain-{name}"
    number = int(hash_json(name), 16) % 20
    soundfile.write(plain, tone(200 + 30 * number, 48_000, number), 48_000)
    key_path = folder.parent / "key"
    if not key_path.exists():
        linernotes.new_key(key_path)
    key = load_private_key(key_path)
    action = {"action": "c2pa.opened"} if parent else {"action": "c2pa.created", "digitalSourceType": CAPTURE}
    made = {"label": "c2pa.actions.v2", "data": {"actions": [action]}}
    manifest = {"claim_generator_info": [{"name": "a label's tool"}], "assertions": [made, *assertions]}
    kind = FORMATS[path.suffix]
    builder = c2pa.Builder(json.dumps(manifest))
    if parent:
        action["parameters"] = {"ingredientIds": ["original"]}
        builder = c2pa.Builder(json.dumps(manifest))
        told = {"title": "original", "relationship": "parentOf", "label": "original"}
        with parent.open("rb") as original:
            builder.add_ingredient(json.dumps(told), FORMATS[parent.suffix], original)
    signer = c2pa.Signer.from_callback(key.sign, c2pa.C2paSigningAlg.ED25519, certificates(key_path, key))
    with plain.open("rb") as source, path.open("w+b") as target:
        builder.sign(signer, kind, source, target)
    plain.unlink()
    return path


CASES = {
    "no.flac": (
        mining("cawg.training-mining", ai_generative_training="notAllowed", data_mining="allowed"),
        True,
    ),
    "no.wav": (mining("cawg.training-mining", ai_training="notAllowed"), True),
    "no.mp3": (mining("c2pa.training-mining", ai_generative_training="notAllowed"), True),
    "yes.flac": (
        mining("cawg.training-mining", ai_generative_training="allowed", data_mining="notAllowed"),
        False,
    ),
    "perhaps.flac": (mining("cawg.training-mining", ai_generative_training="constrained"), False),
    "other.flac": (mining("org.example.training-mining", ai_generative_training="notAllowed"), False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_manifest_is_understood(tmp_path: Path, name: str) -> None:
    assertion, expected = CASES[name]
    (tmp_path / "sounds").mkdir()
    assert reserved(write_signed(tmp_path / "sounds", name, assertion)) is expected


def test_what_was_made_from_a_recording_is_reserved_until_somebody_says_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    no, yes = (
        mining("cawg.training-mining", ai_generative_training=use) for use in ("notAllowed", "allowed")
    )
    original = write_signed(folder, "original.flac", no)
    assert reserved(write_signed(folder, "remaster.flac", parent=original))
    assert not reserved(write_signed(folder, "released.flac", yes, parent=original))


def test_what_holds_no_manifest_is_not_reserved(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "plain.flac", tone(300, RATE_HZ), RATE_HZ)
    (tmp_path / "broken.flac").write_bytes(b"fLaC and nothing more")
    for name in ("plain.flac", "broken.flac", "missing.flac", "text.txt"):
        assert not reserved(tmp_path / name)


def test_ingest_names_it_the_catalogue_keeps_it_and_credits_say_it(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    for i in range(3):
        soundfile.write(folder / f"tone{i}.wav", tone(200 + 60 * i, SEGMENT_SAMPLES, i), RATE_HZ)
    write_signed(folder, "mine.flac", CASES["no.flac"][0])
    words = ["catalog", "build", str(folder), "-o", str(tmp_path / "catalogue"), "--model", str(model_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    said = "1 recording says in a C2PA manifest that no model may be trained on it"
    assert said in " ".join(done.stdout.split()) and "mine.flac" in done.stdout
    catalogue = linernotes.open_catalogue(tmp_path / "catalogue")
    assert {t.file_name: t.extra.get(COLUMN) for t in catalogue.tracks if t.extra} == {"mine.flac": RESERVED}
    for named in ("mine", "tone0"):
        read = attribution(
            {named: effect(0.02)}, 0.1, catalogue.tracks, catalogue.hash, "clip", str(catalogue.path)
        )
        details = next(track.details for track in catalogue.tracks if track.track_id == named)
        read = read.model_copy(update={"tracks": [read.tracks[0].model_copy(update={"details": details})]})
        read.save(tmp_path / named / "attribution.json")
        notes = linernotes.credit(tmp_path / named).notes
        assert any("not to be trained on (cawg.training-mining): mine." in n for n in notes) == (
            named == "mine"
        )
    monkeypatch.setattr(reservations, "find_spec", lambda _name: None)  # without c2pa-python
    again = linernotes.build_catalogue(folder, tmp_path / "again", model_path)
    assert not any(track.extra for track in again.tracks) and "notes" not in again.record
