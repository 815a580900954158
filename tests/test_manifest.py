"""A clip that carries its credits: the same sound, model and tracks as inputs, and a signature that holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import linernotes
from conftest import RATE_HZ, tone
from linernotes.artefacts import hash_arrays
from linernotes.attribution.result import Attribution, ClipFile
from linernotes.audio import read_sound
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.records.seal import sha256_of
from music import attribution, effect

c2pa = pytest.importorskip("c2pa")


@pytest.fixture(params=["flac", "wav"])
def clip(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"clip.{request.param}"
    soundfile.write(path, tone(440, 8000), RATE_HZ)
    return path


@pytest.fixture
def attributed(tmp_path: Path, clip: Path, catalogue: Catalogue) -> Attribution:
    one, other = (track.track_id for track in catalogue.tracks[:2])
    effects = {one: effect(0.02), other: effect(0.01)}
    read = attribution(effects, 0.1, catalogue.tracks, catalogue.hash, "clip", str(catalogue.path))
    heard = ClipFile(path=str(clip), sound_hash=hash_arrays({"samples": read_sound(clip).samples}))
    read = read.model_copy(
        update={
            "query": read.query.model_copy(update={"generated": {"seed": 1, "model": "tiny"}}),
            "sources": read.sources.model_copy(update={"clips": [heard]}),
        }
    )
    read.save(tmp_path / "out/attribution.json")
    return read


def manifest(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    kind = {".flac": "audio/flac", ".wav": "audio/wav"}[path.suffix]
    with path.open("rb") as file, c2pa.Reader(kind, file) as reader:
        read = json.loads(reader.json())
    return read, read["manifests"][read["active_manifest"]]


def test_a_clip_carries_its_credits_and_sounds_the_same(
    tmp_path: Path, clip: Path, attributed: Attribution
) -> None:
    linernotes.new_key(tmp_path / "key")
    credits = linernotes.credit(tmp_path / "out", c2pa=clip, key=tmp_path / "key")
    copy = tmp_path / f"out/clip.c2pa{clip.suffix}"
    assert np.array_equal(soundfile.read(copy)[0], soundfile.read(clip)[0])
    read, held = manifest(copy)
    assert read["validation_state"] == "Valid"
    assert [status["code"] for status in read["validation_status"]] == ["signingCredential.untrusted"]
    assert [(each["title"], each["relationship"]) for each in held["ingredients"]] == [
        ("tiny", "inputTo"),
        ("The Oscillators: Tone 0", "inputTo"),
        ("The Oscillators: Tone 1", "inputTo"),
    ]
    (ours,) = [each["data"] for each in held["assertions"] if each["label"] == "org.linernotes.credits"]
    assert ours["hashes"]["credits_sha256"] == sha256_of(tmp_path / "out/credits.json")
    assert [line["parts"] for line in ours["lines"]] == [line.parts for line in credits.lines]
    data = bytearray(copy.read_bytes())
    data[-2000 if clip.suffix == ".flac" else 2000] ^= 1  # sound: the manifest lies before or after it
    copy.write_bytes(bytes(data))
    assert manifest(copy)[0]["validation_state"] == "Invalid"


def test_what_cannot_carry_a_manifest_is_refused_and_nothing_stays(
    tmp_path: Path, clip: Path, attributed: Attribution
) -> None:
    out, key = tmp_path / "out", tmp_path / "key"
    linernotes.new_key(key)
    soundfile.write(tmp_path / "other.flac", tone(220, 8000), RATE_HZ)
    soundfile.write(tmp_path / "clip.ogg", tone(440, 8000), RATE_HZ)
    for words, sentence in (
        ({"c2pa": clip}, "give a private key with --key"),
        ({"c2pa": tmp_path / "clip.ogg", "key": key}, "cannot carry a manifest: use one of .flac"),
        ({"c2pa": tmp_path / "other.flac", "key": key}, "is not the clip that was attributed"),
        ({"c2pa": clip, "key": tmp_path / "key.pub"}, "is no private Ed25519 key"),
    ):
        with pytest.raises(LinernotesError, match=sentence):
            linernotes.credit(out, **words)  # type: ignore[arg-type]
    (tmp_path / "key.crt").write_text("none")
    with pytest.raises(LinernotesError, match="holds no certificates"):
        linernotes.credit(out, c2pa=clip, key=key)
    (tmp_path / "key.crt").unlink()
    attributed.model_copy(update={"query": attributed.query.model_copy(update={"generated": None})}).save(
        out / "attribution.json"
    )
    with pytest.raises(LinernotesError, match="is not known to be generated"):
        linernotes.credit(out, c2pa=clip, key=key)
    assert [path.name for path in out.iterdir()] == ["attribution.json"]
