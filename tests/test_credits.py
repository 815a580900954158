"""Laws of credits: exact sums, nothing gained by copies, shell names or the order of anything."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linernotes.attribution.result import Attribution, Effect
from linernotes.catalog.track import Track
from linernotes.credits.crediting import Shared, calibrated, share_out
from linernotes.credits.record import KINDS
from linernotes.credits.rights import Rights, rights_of_catalogue
from linernotes.credits.shares import PARTS, Rule, apportion
from linernotes.errors import LinernotesError
from music import attribution, effect, holder, rights_of

PATH = Path("attribution.json")
RULES: list[Rule] = ["proportion", "equal"]
EFFECTS = st.lists(st.floats(1e-9, 1.0), min_size=0, max_size=12)


def tracks_of(n: int, **more: Any) -> list[Track]:
    return [Track(f"t{i:02d}", f"t{i:02d}.wav", f"T {i}", artist=f"Artist {i % 3}", **more) for i in range(n)]


def share(read: Attribution, rights: Rights, rule: Rule = "proportion", smallest: Any = 0) -> Shared:
    verdict, named = calibrated(PATH, read)
    return share_out(read, verdict, named, rights, rule, Fraction(smallest))


def paid(shared: Shared, right: str = "recording") -> dict[str, int]:
    return {t.name: t.parts for t in shared.parties if t.of == "party" and t.right == right}


@given(st.lists(st.fractions(0, 10), min_size=1, max_size=20), st.integers(0, PARTS))
def test_largest_remainders_sum_exactly_and_stay_within_one_of_the_exact_value(
    weights: list[Fraction], parts: int
) -> None:
    total = sum(weights)
    if not total:
        return
    found = apportion(weights, parts)
    assert sum(found) == parts
    assert all(abs(n - w * parts / total) < 1 for n, w in zip(found, weights, strict=True))


@settings(deadline=None)
@given(EFFECTS, st.floats(-1, 20), st.sampled_from(RULES), st.sampled_from([0, "0.01", "0.3"]))
def test_shares_and_remainder_sum_to_exactly_one(
    effects: list[float], total: float, rule: Rule, smallest: Any
) -> None:
    tracks = tracks_of(len(effects))
    read = attribution({t.track_id: effect(e) for t, e in zip(tracks, effects, strict=True)}, total)
    shared = share(read, rights_of_catalogue(tracks), rule, smallest)
    for right in shared.rights:
        of_right = [line for line in shared.lines if line.right == right.right]
        assert right.paid + sum(right.remainder.values()) == right.total == PARTS
        assert (
            sum(line.parts for line in of_right) + right.remainder["tracks that cannot be told apart"]
            == PARTS
        )
        assert all(0 <= line.low <= line.share <= line.high <= 1 for line in of_right)
    assert sum(paid(shared).values()) == shared.rights[0].paid
    if not effects:
        assert not shared.lines and all(right.remainder_share == 1 for right in shared.rights)


@settings(deadline=None)
@given(EFFECTS, st.floats(0, 1), st.sampled_from(RULES))
def test_tracks_share_in_the_adapter_s_part_alone(effects: list[float], part: float, rule: Rule) -> None:
    """As much as without a base model, times the adapter's part; the base model's is nobody's. All parts sum
    to exactly 1 still.
    """
    tracks, base_model = tracks_of(len(effects)), KINDS["base model"]
    named = {t.track_id: effect(e) for t, e in zip(tracks, effects, strict=True)}
    rights = rights_of_catalogue(tracks)
    alone = share(attribution(named, 20.0), rights, rule)
    shared = share(attribution(named, 20.0, adapter=part), rights, rule)
    for right, plain in zip(shared.rights, alone.rights, strict=True):
        assert right.paid + sum(right.remainder.values()) == right.total == PARTS
        assert right.remainder[base_model] == PARTS - round(part * PARTS)
        assert base_model not in plain.remainder
    by = {(line.right, line.recording, line.party): line for line in alone.lines}
    for line in shared.lines:
        whole = by[line.right, line.recording, line.party]
        assert abs(line.parts - part * whole.parts) <= 2
        assert line.low <= line.share <= line.high <= whole.high + 2 / PARTS


def test_a_share_is_the_effect_over_that_of_all_training_tracks() -> None:
    tracks = tracks_of(3)
    read = attribution({"t00": effect(0.02), "t01": effect(0.01), "t02": effect(0.001, named=False)}, 0.1)
    shared = share(read, rights_of_catalogue(tracks))
    assert [(x.recording, x.share, x.low, x.high) for x in shared.lines if x.right == "recording"] == [
        ("t00", 0.2, 0.1, 0.3),
        ("t01", 0.1, 0.05, 0.15),
    ]
    recording, composition = shared.rights
    assert recording.remainder["tracks that cannot be told apart"] == 7 * PARTS // 10
    assert composition.remainder["unknown parties"] == 3 * PARTS // 10 and not composition.paid


def test_equal_shares_divide_what_the_named_tracks_have_together() -> None:
    tracks = tracks_of(3)
    read = attribution({"t00": effect(0.02), "t01": effect(0.01)}, 0.1)
    lines = [x for x in share(read, rights_of_catalogue(tracks), "equal").lines if x.right == "recording"]
    assert [(x.share, x.low, x.high) for x in lines] == [(0.15, 0.075, 0.225)] * 2


@settings(deadline=None)
@given(EFFECTS, st.floats(1e-6, 20), st.floats(1e-6, 1e6), st.sampled_from(RULES))
def test_scaling_all_effects_changes_nothing(
    effects: list[float], total: float, scale: float, rule: Rule
) -> None:
    tracks = tracks_of(len(effects))

    def lines(by: float) -> list[Any]:
        named = {t.track_id: effect(e * by) for t, e in zip(tracks, effects, strict=True)}
        return share(attribution(named, total * by), rights_of_catalogue(tracks), rule).lines

    assert [x.parts for x in lines(scale)] == [x.parts for x in lines(1)]


@pytest.mark.parametrize("n", [2, 5, 6, 8])
@pytest.mark.parametrize("scale", [3, 7, 1.1, 1 / 3, 1e-3, 49.0])
def test_scaling_changes_nothing_where_named_tracks_and_remainder_tie(n: int, scale: float) -> None:
    """The last part goes to one of n + 1 equal shares: which one must not hang on how floats round."""
    tracks = tracks_of(n)

    def parts(by: float) -> list[int]:
        named = {t.track_id: effect(0.1 * by) for t in tracks}
        return [
            x.parts for x in share(attribution(named, 0.1 * (n + 1) * by), rights_of_catalogue(tracks)).lines
        ]

    assert parts(scale) == parts(1)


@settings(deadline=None)
@given(EFFECTS, st.randoms(), st.sampled_from(RULES))
def test_the_order_of_tracks_and_rows_changes_nothing(
    effects: list[float], shuffled: random.Random, rule: Rule
) -> None:
    tracks = tracks_of(len(effects))
    named = {t.track_id: effect(e) for t, e in zip(tracks, effects, strict=True)}
    mixed = shuffled.sample(list(named), len(named))
    one = share(attribution(named, 5), rights_of_catalogue(tracks), rule)
    other_tracks = shuffled.sample(tracks, len(tracks))
    other = share(attribution({t: named[t] for t in mixed}, 5), rights_of_catalogue(other_tracks), rule)
    assert one.lines == other.lines and one.rights == other.rights and one.parties == other.parties


@given(EFFECTS.filter(len), st.integers(1, 5), st.sampled_from(RULES), st.sampled_from([0, "0.05"]))
@settings(deadline=None, max_examples=30)
def test_splitting_a_catalogue_among_shell_names_does_not_raise_its_total_share(
    tmp_path_factory: pytest.TempPathFactory,
    effects: list[float],
    shells: int,
    rule: Rule,
    smallest: Any,
) -> None:
    tracks, folder = tracks_of(len(effects)), tmp_path_factory.mktemp("shells")
    read = attribution({t.track_id: effect(e) for t, e in zip(tracks, effects, strict=True)}, 10)
    owner = {t.track_id: "Honest" if i % 2 else "Owner" for i, t in enumerate(tracks)}
    whole = rights_of(folder, [holder(t, owner[t]) for t in owner], tracks)
    split = [
        holder(
            t, f"Shell {j}" if owner[t] == "Owner" else "Honest", f"1/{shells}" if owner[t] == "Owner" else 1
        )
        for t in owner
        for j in range(shells if owner[t] == "Owner" else 1)
    ]
    before = paid(share(read, whole, rule, smallest))
    after = paid(share(read, rights_of(folder, split, tracks), rule, smallest))
    assert sum(n for name, n in after.items() if "Shell" in name) <= before.get("Owner", 0)
    assert after.get("Honest", 0) == before.get("Honest", 0)


SAME = [
    {"isrc": "USSKG1912345"},
    {"extra": {"relation": "duplicate", "related_to": "t00"}},
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("same", SAME)
@pytest.mark.parametrize("copy_effect", [0.02, 0.011, 0.002])
@pytest.mark.parametrize("copy_named", [True, False])
def test_a_duplicate_uploaded_twice_changes_nobodys_share(
    rule: Rule, same: dict[str, Any], copy_effect: float, copy_named: bool
) -> None:
    tracks = tracks_of(2)
    tracks[0] = replace(tracks[0], isrc=same.get("isrc", ""))
    alone = {"t00": effect(0.02), "t01": effect(0.01)}
    before = share(attribution(alone, 0.1), rights_of_catalogue(tracks), rule)
    copy = replace(tracks[0], track_id="t99", file_name="again.wav", **same)
    with_copy = {**alone, "t99": effect(copy_effect, copy_named)}
    after = share(attribution(with_copy, 0.1 + copy_effect), rights_of_catalogue([*tracks, copy]), rule)
    assert paid(after) == paid(before)
    assert [r.remainder for r in after.rights] == [r.remainder for r in before.rights]


@pytest.mark.parametrize("same", [{"work_id": "w"}, {"iswc": "T-034.524.680-1"}])
def test_versions_of_one_work_count_once_for_its_composer_and_each_for_its_recording(
    tmp_path: Path, same: dict[str, str]
) -> None:
    tracks = [replace(t, **same) for t in tracks_of(2)]
    read = attribution({"t00": effect(0.01), "t01": effect(0.02)}, 0.1)
    rights = rights_of(tmp_path, [holder("t00", "Composer", right="composition")], tracks)
    shared = share(read, rights)
    (line,) = [x for x in shared.lines if x.right == "composition"]
    assert (line.recording, line.tracks, line.party) == ("t01", ["t00", "t01"], "Composer")
    assert line.share == pytest.approx(0.02 / 0.09, abs=2e-9)
    assert len([x for x in shared.lines if x.right == "recording"]) == 2


def test_splits_are_of_the_tracks_share_and_below_the_smallest_nothing_is_paid(tmp_path: Path) -> None:
    tracks = tracks_of(1)
    rows = [holder("t00", "Large", "1/3"), holder("t00", "Also large", "1/3"), holder("t00", "Label", "1/6")]
    rows += [holder("t00", "unknown", "9/60"), holder("t00", "Tiny", "1/60")]
    read = attribution({"t00": effect(0.01)}, 0.1)
    shared = share(read, rights_of(tmp_path, rows, tracks), smallest="0.002")
    assert {x.party: (x.kind, x.parts) for x in shared.lines if x.right == "recording"} == {
        "Also large": ("paid", 33_333_333),
        "Large": ("paid", 33_333_333),
        "Label": ("paid", 16_666_667),
        "": ("unknown", 15_000_000),
        "Tiny": ("withheld", 1_666_667),
    }
    assert shared.rights[0].remainder == {
        "tracks that cannot be told apart": 900_000_000,
        "unknown parties": 15_000_000,
        "below the smallest share paid": 1_666_667,
    }
    assert paid(shared) == {"Large": 33_333_333, "Also large": 33_333_333, "Label": 16_666_667}


def test_groups_are_summed_over_parties(tmp_path: Path) -> None:
    tracks = tracks_of(2)
    rows = [
        holder("t00", "A", 60, label="L"),
        holder("t00", "B", 40, label="L"),
        holder("t01", "C", 100, label="L", collection="X"),
    ]
    shared = share(
        attribution({"t00": effect(0.02), "t01": effect(0.01)}, 0.1), rights_of(tmp_path, rows, tracks)
    )
    assert {(t.of, t.name): t.share for t in shared.parties if t.of != "party"} == {
        ("label", "L"): 0.3,
        ("collection", "X"): 0.1,
    }


def test_named_effects_above_the_whole_are_shares_of_themselves_and_it_is_said() -> None:
    shared = share(
        attribution({"t00": effect(0.03), "t01": effect(0.01)}, -0.5), rights_of_catalogue(tracks_of(2))
    )
    assert [x.share for x in shared.lines if x.right == "recording"] == [0.75, 0.25]
    assert not shared.rights[0].remainder_share
    assert "come to more than all training tracks' together" in shared.notes[0]


def test_named_tracks_that_the_record_does_not_list_are_in_the_remainder_and_it_is_said() -> None:
    read = attribution({"t00": effect(0.02)}, 0.1)
    verdict = read.verdict.model_copy(update={"named": 3}) if read.verdict else None
    cut = read.model_copy(update={"verdict": verdict, "training_tracks": 9})
    shared = share(cut, rights_of_catalogue(tracks_of(1)))
    assert shared.rights[0].remainder_share == 0.8
    assert "names 3 tracks and the record lists 1 of them" in shared.notes[0]


def edited(change: dict[str, Any], effects: Sequence[Effect] = (effect(0.02),)) -> Attribution:
    read = attribution({f"t{i:02d}": e for i, e in enumerate(effects)}, 0.1)
    return read.model_copy(update=change)


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (edited({"verdict": None}), "is not calibrated"),
        (edited({"verdict": edited({}).verdict.model_copy(update={"named": 2})}), "verdict says 2"),
        (
            edited({"verdict": edited({}).verdict.model_copy(update={"total": float("nan")})}),
            "total effect nan",
        ),
        (edited({}, [Effect(expected=-0.1, low=-0.2, high=0.1, named=True)]), "effect -0.1"),
        (edited({}, [Effect(expected=0.1, low=0.2, high=0.3, named=True)]), "effect 0.1"),
        (
            edited({"tracks": [edited({}).tracks[0].model_copy(update={"split": "decoy"})]}),
            "names the decoy",
        ),
    ],
)
def test_an_attribution_that_cannot_be_credited_is_refused_in_a_sentence(read: Attribution, why: str) -> None:
    with pytest.raises(LinernotesError, match=why) as refusal:
        calibrated(PATH, read)
    assert "attribute the clip" in str(refusal.value)
