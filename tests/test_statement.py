"""From attributions to a signed statement on the command line, and every way in which it must not be
trusted.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner, Result

import linernotes
from linernotes.attribution.result import Attribution
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.credits.checks import Check
from linernotes.credits.record import KINDS, Credits
from linernotes.credits.shares import PARTS
from linernotes.credits.signing import key_at
from linernotes.credits.statement import period_days
from linernotes.errors import LinernotesError, UsageError
from linernotes.records.seal import sealed
from music import attribution, effect, holder, write_rights

PERIOD = ["--period", "2026-11"]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def own(tmp_path: Path, catalogue: Catalogue) -> Catalogue:
    """A catalogue beside which rights may be kept."""
    return Catalogue(Path(shutil.copytree(catalogue.path, tmp_path / "tones.catalogue")))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, *sentences: str, code: int = 1) -> None:
    flat = " ".join(result.stderr.split())
    assert result.exit_code == code and flat.count("error:") == 1 and "Traceback" not in result.output
    assert all(sentence in flat for sentence in sentences), flat


def saved(folder: Path, own: Catalogue, clip: str, strength: float = 0.02, **more: Any) -> Path:
    """A calibrated attribution of a clip on disk: the first three training tracks, two of them named."""
    ids = [track.track_id for track in own.tracks if track.split == "train"][:3]
    effects = dict(zip(ids, (effect(strength), effect(0.01), effect(0.001, named=False)), strict=True))
    read = attribution(effects, 0.1, own.tracks, own.hash, clip, str(own.path), **more)
    read.save(folder / clip / "attribution.json")
    return folder / clip


def credited(folder: Path, own: Catalogue, clip: str, *words: object, **more: Any) -> Path:
    place = saved(folder, own, clip, **more)
    assert run("credits", place, *words).exit_code == 0
    return place / "credits.json"


def outcomes(checks: list[Check]) -> dict[str, str]:
    return {check.what: check.outcome for check in checks}


def change(path: Path, edit: Callable[[dict[str, Any]], Any], seal: bool = False) -> None:
    """Edits a record by hand; sealed anew by someone who knows how, if ``seal``."""
    content = json.loads(path.read_text())
    edit(content)
    if seal:
        content = sealed({name: value for name, value in content.items() if name != "seal"})
    path.write_text(json.dumps(content, indent=2))


# ------------------------------------------------------------------------------------------------------------
# -- credits


def test_credits_of_a_clip_carry_all_that_they_rest_on(tmp_path: Path, own: Catalogue) -> None:
    one, other = (track.track_id for track in own.tracks[:2])
    table = write_rights(
        tmp_path / "rights.csv",
        [
            holder(one, "Ann", 60),
            holder(one, "Lab", 40),
            holder(other, "unknown"),
            holder(one, "Cy", 100, "composition"),
        ],
    )
    place = saved(tmp_path, own, "clip", lent=True)
    done = run("credits", place, "--rights", table, "--reporter", "Me", "--smallest-share", "0.1 %", "--json")
    assert done.exit_code == 0
    read = json.loads((place / "credits.json").read_text())
    assert json.loads(done.stdout) == {k: v for k, v in read.items() if k not in ("seal", "files")}
    sums = {r["right"]: (r["paid"], r["remainder"]) for r in read["rights"]}
    rest = {"tracks that cannot be told apart": 7 * PARTS // 10, "below the smallest share paid": 0}
    assert sums == {
        "recording": (PARTS // 5, {**rest, "unknown parties": PARTS // 10}),
        "composition": (PARTS // 5, {**rest, "unknown parties": PARTS // 10}),
    }
    assert read["normalisation"]["sum"] == {"recording": PARTS, "composition": PARTS}
    assert (read["reporter"], read["supersedes"], read["rule"]) == ("Me", None, "proportion")
    assert read["estimator"]["method"] == "readout" and read["validation"]["lent"] is True
    assert any("The effects are lent" in note for note in read["notes"])
    assert {c["track_id"]: (c["score"], c["named"], c["spans"]) for c in read["contributions"]} == {
        track.track_id: (1e-3 / n, n < 3, []) for n, track in enumerate(own.tracks[:3], start=1)
    }
    assert all(c["best_segment"]["end_s"] > c["best_segment"]["start_s"] == 0 for c in read["contributions"])
    with (place / "credits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for right in ("recording", "composition"):
        assert sum(int(r["parts"]) for r in rows if r["right"] == right) == PARTS
    assert {r["artist"] for r in rows if r["recording"]} == {"The Oscillators"}
    assert [r["party"] for r in rows if r["right"] == "recording"] == [
        "Ann",
        "unknown",
        "Lab",
        "tracks that cannot be told apart",
    ]
    shown = run("credits", place, "--rights", table, "-o", tmp_path / "again").stdout
    assert "Ann" in shown and "12.00 % [6.00, 18.00]" in shown and "(unknown parties)" in shown
    assert set(outcomes(linernotes.audit(place / "credits.json")).values()) == {"holds"}


def test_several_clips_are_credited_at_once_and_one_that_cannot_be_stops_no_other(
    tmp_path: Path, own: Catalogue
) -> None:
    first, bad, last = (saved(tmp_path, own, name) for name in ("first", "bad", "last"))
    change(bad / "attribution.json", lambda a: a.update(verdict=None), seal=True)
    refused(
        run("credits", first, last, "-o", tmp_path / "x"), "--out is of one clip, and 2 are given", code=2
    )
    assert not (first / "credits.json").exists()
    done = run("credits", first, bad, last, "--json")
    refused(done, "1 of 3 clips are not credited", f"{bad / 'attribution.json'} is not calibrated")
    assert [credits["query"]["name"] for credits in json.loads(done.stdout)] == ["first", "last"]
    assert (first / "credits.json").exists() and (last / "credits.json").exists()
    assert sorted(path.name for path in bad.iterdir()) == ["attribution.json"]
    assert run("statement", first, last, *PERIOD, "-o", tmp_path / "s").exit_code == 0
    whole = ("statement", tmp_path, *PERIOD, "-o", tmp_path / "t")
    refused(run(*whole), f"{bad / 'credits.json'} is missing: credit the clip first")
    shutil.rmtree(bad)
    assert run(*whole).exit_code == 0  # the folder of all clips
    lines = [json.loads((tmp_path / name / "statement.json").read_text())["lines"] for name in "st"]
    assert lines[0] == lines[1]


def test_a_clip_in_which_nothing_can_be_named_is_all_remainder(tmp_path: Path, own: Catalogue) -> None:
    read = attribution(
        {own.tracks[0].track_id: effect(0.01, named=False)}, 0.1, own.tracks, own.hash, "c", str(own.path)
    )
    read.save(tmp_path / "c/attribution.json")
    assert run("credits", tmp_path / "c").exit_code == 0
    credits = json.loads((tmp_path / "c/credits.json").read_text())
    assert not credits["lines"] and [r["remainder_share"] for r in credits["rights"]] == [1, 1]
    assert run("statement", tmp_path / "c", *PERIOD, "-o", tmp_path / "s").exit_code == 0
    assert set(outcomes(linernotes.audit(tmp_path / "c/credits.json")).values()) == {"holds"}


def test_rights_kept_beside_the_catalogue_are_taken_and_named(tmp_path: Path, own: Catalogue) -> None:
    track = own.tracks[0].track_id
    flawed = write_rights(tmp_path / "flawed.csv", [holder(track, "Ann", 90), holder(track, "", 10)])
    result = run("catalog", "rights", own.path, flawed)
    refused(result, "has 1 flaws", "has no party")
    refused(run("catalog", "rights", own.path), "no rights are kept beside")
    good = write_rights(tmp_path / "good.csv", [holder(track, "Ann")])
    assert run("catalog", "rights", own.path, good).exit_code == 0
    kept = json.loads(run("catalog", "rights", own.path, "--json").stdout)
    credits = json.loads(credited(tmp_path, own, "clip").read_text())
    assert credits["hashes"]["rights"] == kept["hash"] and credits["sources"]["rights"] == kept["recorded"]
    assert [p["name"] for p in credits["parties"] if p["of"] == "party"] == ["Ann"]
    write_rights(tmp_path / "newer.csv", [holder(track, "Bob")])
    assert run("catalog", "rights", own.path, tmp_path / "newer.csv").exit_code == 0
    assert set(outcomes(linernotes.audit(tmp_path / "clip/credits.json")).values()) == {"holds"}
    table = tmp_path / "clip2rights.csv"
    shutil.copy(tmp_path / "newer.csv", table)
    by_file = credited(tmp_path, own, "clip3", "--rights", table)
    table.unlink()  # the same rows are kept beside the catalogue
    assert set(outcomes(linernotes.audit(by_file)).values()) == {"holds"}
    newer = json.loads(credited(tmp_path, own, "clip2").read_text())
    assert [p["name"] for p in newer["parties"] if p["of"] == "party"] == ["Bob"]


def test_rights_in_the_folder_are_checked_before_and_kept_beside_what_is_built(
    tmp_path: Path, recordings: Path, model_path: Path
) -> None:
    source, out = Path(shutil.copytree(recordings, tmp_path / "source")), tmp_path / "built"
    write_rights(source / "rights.csv", [holder("tone0.wav", "Ann", 99)])
    refused(run("catalog", "build", source, "-o", out, "--model", model_path), "sum to 99 %, 1 % missing")
    assert not list(tmp_path.glob("built*"))
    write_rights(source / "rights.csv", [holder("tone0.wav", "Ann")])
    assert run("catalog", "build", source, "-o", out, "--model", model_path).exit_code == 0
    assert json.loads(run("catalog", "rights", out, "--json").stdout)["rows"][0]["party"] == "Ann"
    assert not any(reject.file_name == "rights.csv" for reject in Catalogue(out).rejects())


def test_what_cannot_be_credited_is_one_sentence(tmp_path: Path, own: Catalogue) -> None:
    place = saved(tmp_path, own, "clip")
    good = (place / "attribution.json").read_text()
    change(place / "attribution.json", lambda a: a.update(verdict=None), seal=True)
    refused(run("credits", place), "is not calibrated", "linernotes calibrate")
    (place / "attribution.json").write_text(good)
    change(place / "attribution.json", lambda a: a.update(catalogue_hash="other"), seal=True)
    refused(run("credits", place), "was made with another catalogue", "--catalog")
    (place / "attribution.json").write_text(good)
    refused(run("credits", place, "--smallest-share", "lots"), "share 'lots' is no number")
    refused(run("credits", place, "--rights", tmp_path / "none.csv"), "none.csv is missing")
    refused(run("credits", place, "--supersedes", place), "credits.json is missing")
    assert [path.name for path in place.iterdir()] == ["attribution.json"]
    assert run("credits", place).exit_code == 0
    made = (place / "credits.json").read_bytes()
    assert run("credits", place).exit_code == 0 and (place / "credits.json").read_bytes() == made
    refused(run("credits", place, "--rule", "equal"), "exists already")
    refused(run("credits", place / "credits.csv"), "credits.csv is no attribution.json: give the folder")
    moved = own.path.rename(tmp_path / "moved")
    refused(run("credits", place, "-o", tmp_path / "x"), "there is no catalogue at")
    assert run("credits", place, "-o", tmp_path / "x", "--catalog", moved).exit_code == 0


# ------------------------------------------------------------------------------------------------------------
# -- statements


@pytest.fixture
def signed(tmp_path: Path, own: Catalogue) -> tuple[Path, Path]:
    """A signed statement over three clips, and the key."""
    key = tmp_path / "keys/mine"
    assert run("key", "new", key).exit_code == 0
    rows = [
        holder(t.track_id, f"P{i % 2}", isrc=f"USSKG190000{i}", ipi="00045620792" if i % 2 else "")
        for i, t in enumerate(own.tracks)
    ]
    table = write_rights(tmp_path / "rights.csv", rows)
    clips = [
        credited(tmp_path, own, f"clip{i}", "--rights", table, strength=0.02 + 0.01 * i) for i in range(3)
    ]
    out = tmp_path / "november"
    done = run("statement", *clips, *PERIOD, "-o", out, "--key", key, "--reporter", "Me")
    assert done.exit_code == 0, done.output
    return out / "statement.json", key


def test_a_statement_sums_up_its_clips_and_every_line_leads_back_to_them(
    tmp_path: Path, own: Catalogue, signed: tuple[Path, Path]
) -> None:
    path, _ = signed
    read = json.loads(path.read_text())
    clips = {each["credits_sha256"]: path.parent / each["credits_file"] for each in read["clips"]}
    assert len(clips) == 3 and all(place.exists() for place in clips.values())
    for line in read["lines"]:
        assert line["parts"] == sum(each["parts"] for each in line["sources"])
        for each in line["sources"]:
            credits = json.loads(clips[each["credits_sha256"]].read_text())
            found = {x["parts"] for x in credits["lines"]}
            found |= {r["remainder"]["tracks that cannot be told apart"] for r in credits["rights"]}
            assert credits["hashes"]["clip"] == each["clip"] and each["parts"] in found
    assert [(t["right"], t["total"]) for t in read["totals"]] == [
        ("recording", 3 * PARTS),
        ("composition", 3 * PARTS),
    ]
    assert {(p["party"], p["parts"]) for p in read["parties"]} == {
        ("P0", 9 * PARTS // 10),
        ("P1", 3 * PARTS // 10),
    }
    assert read["named"] == 6 and read["expected_false"] == pytest.approx(0.3)
    ids = [line["line_id"] for line in read["lines"]]
    assert len(set(ids)) == len(ids) and {uuid.UUID(each).version for each in ids} == {5}
    assert (read["period_start"], read["period_end"], read["reporter"]) == ("2026-11-01", "2026-11-30", "Me")
    records = [line.split("\t") for line in (path.parent / "statement.tsv").read_text().splitlines()]
    kinds = [record[0] for record in records if record[0] != "ROYL"]
    assert kinds == ["#RecordType", "HEAD", "#RecordType", "#RecordType", "FOOT"]
    named = dict(zip(records[2], records[3], strict=True))
    assert (named["ISRC"], named["RightsControllerName"], named["Usages"]) == ("USSKG1900000", "P0", "3")
    assert records[-1] == ["FOOT", str(len(records)), str(len(ids)), "6.000000000"]
    with (path.parent / "statement.csv").open(newline="") as file:
        assert sum(int(row["parts"]) for row in csv.DictReader(file)) == 6 * PARTS


def test_a_base_model_s_part_has_a_line_of_its_own_and_is_audited(tmp_path: Path, own: Catalogue) -> None:
    clips = [credited(tmp_path, own, "adapted", adapter=0.25), credited(tmp_path, own, "other", adapter=1.0)]
    assert run("statement", *clips, *PERIOD, "-o", tmp_path / "november").exit_code == 0
    read = json.loads((tmp_path / "november" / "statement.json").read_text())
    of_base = [line for line in read["lines"] if line["kind"] == "base model"]
    assert [(line["right"], line["parts"]) for line in of_base] == [
        ("recording", 3 * PARTS // 4),
        ("composition", 3 * PARTS // 4),
    ]
    assert [total["total"] for total in read["totals"]] == [2 * PARTS, 2 * PARTS]
    for record in (*clips, tmp_path / "november" / "statement.json"):
        assert "fails" not in outcomes(linernotes.audit(record)).values()
    with (tmp_path / "adapted" / "credits.csv").open(newline="") as file:
        assert sum(int(row["parts"]) for row in csv.DictReader(file)) == 2 * PARTS
    change(clips[0], lambda c: c["rights"][0]["remainder"].update({KINDS["base model"]: 0}), seal=True)
    found = outcomes(linernotes.audit(clips[0]))
    assert found["sums"] == "fails" and "fails" in found["lines follow from attribution and rights"]


def test_the_same_credits_give_the_same_lines_in_any_order_and_another_period_others(
    tmp_path: Path, signed: tuple[Path, Path]
) -> None:
    path, _ = signed
    clips = [path.parent / each["credits_file"] for each in json.loads(path.read_text())["clips"]]
    one = linernotes.write_statement(clips[::-1], "2026-11", tmp_path / "again", reporter="Me")
    read = json.loads(path.read_text())
    assert [x.line_id for x in one.lines] == [x["line_id"] for x in read["lines"]]
    assert one.statement_id == read["statement_id"]
    other = linernotes.write_statement(clips, "2026-12", tmp_path / "december", reporter="Me")
    assert not {x.line_id for x in one.lines} & {x.line_id for x in other.lines}


def test_a_clean_statement_audits_clean(signed: tuple[Path, Path]) -> None:
    path, key = signed
    public = key.with_name("mine.pub")
    done = run("audit", path, "--key", public)
    assert done.exit_code == 0 and "fails" not in done.stdout
    assert set(outcomes(linernotes.audit(path, public)).values()) == {"holds"}
    assert "nobody here vouches for" in run("audit", path).stdout
    moved = Path(shutil.copytree(path.parent, path.parent.parent / "far/away"))
    assert outcomes(linernotes.audit(moved / path.name, public))["the credits at hand"] == "not checked"
    assert run("audit", moved / path.name, "--key", public).exit_code == 0


def test_any_changed_digit_is_found_and_its_place_said(signed: tuple[Path, Path]) -> None:
    """Every digit of every figure of every line is changed in turn: the seal names the line, the signature
    fails.
    """
    path, key = signed
    text = path.read_text()
    good = json.loads(text)
    for place, line in enumerate(good["lines"]):
        for name in ("parts", "clips", "low", "high", "usages", "recording", "line_id", "model_hash"):
            value = line[name]
            bad = json.loads(text)
            bad["lines"][place][name] = value + 1 if isinstance(value, int | float) else value + "1"
            path.write_text(json.dumps(bad))
            checks = {check.what: check for check in linernotes.audit(path, key.with_name("mine.pub"))}
            assert checks["unchanged since it was written"].detail == f"lines[{place}]"
            assert checks["signature"].outcome == "fails"
    path.write_text(text.replace('"2026-11-30"', '"2026-11-29"'))
    refused(run("audit", path), "unchanged since it was written (period_end)")
    path.write_text(text)
    assert run("audit", path).exit_code == 0


def test_whoever_seals_anew_is_found_by_sums_sources_and_signature(signed: tuple[Path, Path]) -> None:
    path, key = signed

    def edit(content: dict[str, Any]) -> None:
        content["lines"][0]["parts"] += 1

    change(path, edit, seal=True)
    found = outcomes(linernotes.audit(path, key.with_name("mine.pub")))
    assert found["unchanged since it was written"] == "holds"
    for what in ("sums", "line ids follow from the lines", "lines follow from the credits", "signature"):
        assert found[what] == "fails"

    def edit_all(content: dict[str, Any]) -> None:
        content["lines"][0]["sources"][0]["parts"] += 1

    change(path, edit_all, seal=True)
    sums = next(check for check in linernotes.audit(path) if check.what == "sums")
    assert f"recording sums to {PARTS + 1}, not {PARTS}" in sums.detail


def test_a_wrong_key_a_missing_signature_and_a_changed_table_are_sentences(
    tmp_path: Path, signed: tuple[Path, Path]
) -> None:
    path, _ = signed
    assert run("key", "new", tmp_path / "other").exit_code == 0
    refused(run("audit", path, "--key", tmp_path / "other.pub"), "was signed by the key", "not by")
    refused(run("audit", path, "--key", tmp_path / "other"), "is no public Ed25519 key")
    refused(run("audit", path, "--key", path), "is no public Ed25519 key")
    table = (path.parent / "statement.csv").read_bytes()
    (path.parent / "statement.csv").write_bytes(table.replace(b"P0", b"P1"))
    refused(run("audit", path), "statement.csv beside it", "was changed")
    (path.parent / "statement.csv").write_bytes(table)
    (path.parent / "statement.sig.json").write_text("{}")
    refused(run("audit", path), "statement.sig.json is damaged")
    (path.parent / "statement.sig.json").unlink()
    refused(run("audit", path, "--key", tmp_path / "other.pub"), "nobody signed statement.json")


def test_one_clip_counts_once(tmp_path: Path, own: Catalogue) -> None:
    first = credited(tmp_path, own, "clip")
    again = Path(shutil.copytree(first.parent, tmp_path / "copy")) / "credits.json"
    twice = linernotes.write_statement([first, again, first], "2026-11", tmp_path / "s1")
    assert len(twice.clips) == 1 and len(twice.notes) == 2 and "counted once" in twice.notes[0]
    assert run("credits", first.parent, "-o", tmp_path / "new", "--reporter", "New").exit_code == 0
    other = tmp_path / "new/credits.json"
    refused(
        run("statement", first, other, *PERIOD, "-o", tmp_path / "s2"), "stands twice", "a clip counts once"
    )
    assert not (tmp_path / "s2").exists() or not list((tmp_path / "s2").glob("statement*"))
    assert run("credits", first.parent, "-o", tmp_path / "newer", "--supersedes", first).exit_code == 0
    newer = tmp_path / "newer/credits.json"
    last = linernotes.write_statement([first, newer], "2026-11", tmp_path / "s3")
    assert [Path(c.credits_file).parent.name for c in last.clips] == ["newer"]
    assert "is superseded by newer credits" in last.notes[0]
    assert set(outcomes(linernotes.audit(tmp_path / "s3")).values()) == {"holds", "not checked"}


def test_one_sound_with_two_prompts_is_one_clip(tmp_path: Path, own: Catalogue) -> None:
    """What was scored differs, and so do the shares; it is paid for once all the same."""

    def heard(content: dict[str, Any]) -> None:
        content["sources"]["clips"] = [{"path": "clip.flac", "sound_hash": "5" * 64}]

    places = [saved(tmp_path, own, name) / "attribution.json" for name in ("told", "untold")]
    for place in places:
        change(place, heard, seal=True)
        assert run("credits", place.parent).exit_code == 0
    told, untold = (place.with_name("credits.json") for place in places)
    clips = [Credits.load(path).hashes.clip for path in (told, untold)]
    assert clips[0] != clips[1]
    refused(
        run("statement", told, untold, *PERIOD, "-o", tmp_path / "s1"),
        "stands twice",
        str(told),
        str(untold),
    )
    newer = ("credits", untold.parent, "-o", tmp_path / "newer", "--supersedes", told)
    assert run(*newer).exit_code == 0
    last = linernotes.write_statement([told, tmp_path / "newer"], "2026-11", tmp_path / "s2")
    assert len(last.clips) == 1


def test_shares_that_do_not_mean_the_same_are_not_added_up_and_models_are_kept_apart(
    tmp_path: Path, own: Catalogue
) -> None:
    one = credited(tmp_path, own, "one")
    equal = credited(tmp_path, own, "two", "--rule", "equal")
    refused(
        run("statement", one, equal, *PERIOD, "-o", tmp_path / "s"), "another rule (proportion and equal)"
    )
    smallest = credited(tmp_path, own, "three", "--smallest-share", "1 %")
    refused(run("statement", one, smallest, *PERIOD, "-o", tmp_path / "s"), "another smallest share")
    place = saved(tmp_path, own, "normed")
    change(place / "attribution.json", lambda a: a.update(gather="norm"), seal=True)
    assert run("credits", place).exit_code == 0
    refused(
        run("statement", one, place, *PERIOD, "-o", tmp_path / "s"),
        "credits.json is from before the scores of a track's segments were gathered as those of",
        "attribute and credit that clip anew",
    )
    alone = linernotes.write_statement([place], "2026-Q4", tmp_path / "normed-alone")
    assert (
        alone.estimator["gather"] == "norm"
        and "gather" not in linernotes.write_statement([one], "2026-Q4", tmp_path / "one-alone").estimator
    )
    place = saved(tmp_path, own, "four")
    change(place / "attribution.json", lambda a: a.update(model_hash="another", model="larger"), seal=True)
    assert run("credits", place).exit_code == 0
    both = linernotes.write_statement([one, place], "2026-Q4", tmp_path / "s")
    assert {(t.model_hash, t.clips, t.total) for t in both.totals} == {
        ("m" * 16, 1, PARTS),
        ("another", 1, PARTS),
    }
    assert len({p.party for p in both.parties}) == len([p for p in both.parties if p.right == "recording"])
    assert set(outcomes(linernotes.audit(tmp_path / "s")).values()) == {"holds", "not checked"}


def test_edited_credits_are_refused(tmp_path: Path, own: Catalogue) -> None:
    path = credited(tmp_path, own, "clip")
    good = path.read_text()
    change(path, lambda c: c["lines"][0].update(parts=1))
    refused(
        run("statement", path, *PERIOD, "-o", tmp_path / "s"), "was changed after it was written, at lines[0]"
    )
    refused(run("audit", path), "lines[0]")
    change(path, lambda c: c["lines"][0].update(parts=1), seal=True)
    refused(run("statement", path, *PERIOD, "-o", tmp_path / "s"), "does not add up (lines[0]")
    path.write_text(good)
    change(path, lambda c: c["contributions"][0].update(score=0.5), seal=True)
    found = {check.what: check for check in linernotes.audit(path)}
    assert "contributions[0]" in found["lines follow from attribution and rights"].detail
    path.write_text(good)
    change(path.with_name("attribution.json"), lambda a: a["tracks"][0].update(score=0.5))
    refused(run("audit", path), "the attribution at hand", "it was changed")
    path.with_name("attribution.json").unlink()
    assert outcomes(linernotes.audit(path))["the attribution at hand"] == "not checked"


def test_an_attribution_is_audited_too(tmp_path: Path, own: Catalogue) -> None:
    place = saved(tmp_path, own, "clip")
    assert run("audit", place).exit_code == 0
    good = (place / "attribution.json").read_text()
    change(place / "attribution.json", lambda a: a["tracks"][0]["effect"].update(expected=0.5))
    refused(run("audit", place), "unchanged since it was written", "tracks[0]")
    refused(run("credits", place), "was changed after it was written, at tracks[0]: attribute the clip anew")
    change(place / "attribution.json", lambda a: a.pop("seal"))
    refused(run("credits", place), "has no seal, so that nobody can tell whether it was changed")
    (place / "attribution.json").write_text(good)
    change(place / "attribution.json", lambda a: a["tracks"][1].update(score=0.5), seal=True)
    refused(run("audit", place), "ranks follow the scores", "tracks[1]")
    refused(run("audit", own.path / "catalogue.json"), "is none of attribution.json, credits.json")
    refused(run("audit", tmp_path), "holds no record")
    for content in ("[1]", "{}", '{"kind": ["statement"]}'):
        (tmp_path / "x.json").write_text(content)
        refused(
            run("audit", tmp_path / "x.json", "--challenge", 8), "is none of attribution.json, credits.json"
        )


@pytest.mark.parametrize("name", ["credits", "statement"])
def test_a_record_that_lacks_anything_is_refused_and_never_a_crash(
    tmp_path: Path, own: Catalogue, name: str
) -> None:
    path = credited(tmp_path, own, "clip")
    if name == "statement":
        linernotes.write_statement([path], "2026-11", tmp_path / "s")
        path = tmp_path / "s/statement.json"
    good = json.loads(path.read_text())
    for key in good:
        for edit in (lambda c, k=key: c.pop(k), lambda c, k=key: c.update({k: 0.5})):
            path.write_text(json.dumps(good))
            change(path, edit, seal=key != "seal")
            result = run("audit", path)
            nullable = key in ("supersedes", "reporter", "linernotes", "unit")
            assert result.exit_code == 1 or nullable, (key, result.output)
            assert "unexpected" not in result.output, (key, result.output)
    for edit in (
        lambda c: c["lines"][0].update(low=math.nan),
        lambda c: c.update(period="2026-13", smallest_share="lots"),
        lambda c: c["lines"][0].update(parts=10**400),
    ):
        path.write_text(json.dumps(good))
        change(path, edit, seal=True)
        result = run("audit", path)
        assert result.exit_code == 1 and "unexpected" not in result.output, result.output


def test_a_statement_whose_signing_fails_does_not_stand_and_can_be_drawn_up_again(
    tmp_path: Path, own: Catalogue
) -> None:
    path, out, key = credited(tmp_path, own, "clip"), tmp_path / "s", tmp_path / "ledger"
    public = linernotes.new_key(key)
    (out / "statement.sig.json" / "in the way").mkdir(parents=True)
    assert run("statement", path, *PERIOD, "-o", out, "--key", key).exit_code == 1
    assert not (out / "statement.json").exists()
    shutil.rmtree(out / "statement.sig.json")
    assert run("statement", path, *PERIOD, "-o", out, "--key", key).exit_code == 0
    assert set(outcomes(linernotes.audit(out, key=public)).values()) == {"holds"}


def test_a_pair_of_keys_is_made_once_and_one_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    private = tmp_path / "desk.key"
    public = key_at(private)
    both = private.read_bytes(), public.read_bytes()
    assert key_at(private) == public and (private.read_bytes(), public.read_bytes()) == both
    public.unlink()
    assert (key_at(private), public.read_bytes()) == (public, both[1])
    private.unlink()
    with pytest.raises(LinernotesError, match=r"desk\.key is gone, .*: put it back, or move desk\.key\.pub"):
        key_at(private)
    assert not private.exists() and public.read_bytes() == both[1]


@pytest.mark.parametrize(
    ("period", "days"),
    [
        ("2026-11", ("2026-11-01", "2026-11-30")),
        ("2028-02", ("2028-02-01", "2028-02-29")),
        ("2026-Q1", ("2026-01-01", "2026-03-31")),
        ("2026", ("2026-01-01", "2026-12-31")),
    ],
)
def test_periods(period: str, days: tuple[str, str]) -> None:
    assert tuple(day.isoformat() for day in period_days(period)) == days


@pytest.mark.parametrize("period", ["2026-13", "2026-Q5", "November", "2026-11-01", "0000", ""])
def test_a_period_that_is_none_is_refused(tmp_path: Path, period: str) -> None:
    with pytest.raises(UsageError, match="is no period: write 2026-11"):
        linernotes.write_statement([tmp_path], period, tmp_path)


def test_a_private_key_is_its_owners_alone_and_none_is_overwritten(tmp_path: Path, own: Catalogue) -> None:
    public = linernotes.new_key(tmp_path / "mine")
    private = tmp_path / "mine"
    assert private.stat().st_mode & 0o777 == 0o600
    key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    assert key.public_key().public_bytes(serialization.Encoding.PEM, spki) == public.read_bytes()
    before = private.read_bytes()
    refused(run("key", "new", private), "exists already, and keys are never overwritten")
    private.rename(tmp_path / "elsewhere")
    refused(run("key", "new", private), "mine.pub exists already")
    assert not private.exists() and (tmp_path / "elsewhere").read_bytes() == before
    (tmp_path / "elsewhere").chmod(0o644)
    clip = credited(tmp_path, own, "clip")
    words = ["statement", clip, *PERIOD, "-o", tmp_path / "s", "--key"]
    refused(run(*words, tmp_path / "elsewhere"), "others can read", "chmod 600")
    refused(run(*words, public), "is no private Ed25519 key")
    refused(run(*words, tmp_path / "none"), "none cannot be read")
    assert not (tmp_path / "s").exists()


def test_records_written_before_there_were_effects_still_load(tmp_path: Path, own: Catalogue) -> None:
    place = saved(tmp_path, own, "clip") / "attribution.json"

    def older(content: dict[str, Any]) -> None:
        del content["verdict"]
        for track in content["tracks"]:
            del track["effect"]

    change(place, older, seal=True)
    assert Attribution.load(place).verdict is None
    with pytest.raises(LinernotesError, match="is not calibrated"):
        linernotes.credit(place)
