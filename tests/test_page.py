"""What an attribution's page says and plays: no more than its record, and all of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linernotes
from conftest import SEGMENT_SAMPLES, write_recordings
from linernotes.attribution.result import RECORD, AdapterPart, Attribution, Effect, Span, TrackScore
from linernotes.attribution.spans import CHANCE
from linernotes.audio import Sound
from linernotes.audio.loudness import integrated_lufs
from linernotes.report.cards import heat_map
from linernotes.report.excerpts import LONGEST_S, Excerpt, further_parts, gains, main_part
from linernotes.report.media import inline
from linernotes.report.shares import rounded_percents

LINE = "Below this line no track can be told apart from an unrelated one."
ATTACK = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>"
Drawn = Callable[[Callable[[Attribution], Attribution]], "Page"]


class Page(HTMLParser):
    """A page's elements in order: name, attributes, and the text within."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.elements = text, list[tuple[str, dict[str, str], list[str]]]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_data(self, data: str) -> None:
        if self.elements:
            self.elements[-1][2].append(data)

    def all(self, tag: str, *classes: str) -> list[tuple[dict[str, str], str]]:
        """Elements of that name and all these classes."""
        return [
            (attributes, "".join(text).strip())
            for name, attributes, text in self.elements
            if name == tag and set(classes) <= set(attributes.get("class", "").split())
        ]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    """Tracks of several segments and two decoys, attributed with what is calibrated; the model has learned
    nothing, so that none may be named.
    """
    folder = tmp_path_factory.mktemp("page")
    lengths = [SEGMENT_SAMPLES * k // 4 for k in (4, 40, 20, 4, 24, 9, 4, 12)]
    write_recordings(folder / "sounds", lengths, decoys=2)
    linernotes.build_catalogue(folder / "sounds", folder / "catalogue", model_path)
    clip = linernotes.generate("tone 1", folder / "clip.flac", seed=5, model=model_path)
    linernotes.attribute(clip, folder / "out", model_path, folder / "catalogue")
    return folder / "out"


@pytest.fixture
def drawn(record: Path) -> Drawn:
    """The page of a record that was changed."""

    def draw(change: Callable[[Attribution], Attribution]) -> Page:
        kept = (record / RECORD).read_bytes()
        try:
            change(Attribution.load(record / RECORD)).save(record / RECORD)
            return Page(linernotes.draw_page(record).read_text())
        finally:
            (record / RECORD).write_bytes(kept)

    return draw


def naming(read: Attribution, named: list[int]) -> Attribution:
    """The same with the training tracks of these places named, as if by a calibration of somebody's own."""
    trained = [t.track_id for t in read.first_trained(100)]
    effects = {
        name: Effect(
            expected=0.05 / (i + 1), low=0.01 if i in named else -0.01, high=0.1 / (i + 1), named=i in named
        )
        for i, name in enumerate(trained)
    }
    tracks = [t.model_copy(update={"effect": effects.get(t.track_id)}) for t in read.tracks]
    total = sum(effect.expected for effect in effects.values())
    assert read.verdict
    said = {"named": len(named), "reasons": [], "total": total, "calibration_hash": "somebody's own"}
    verdict = read.verdict.model_copy(update=said)
    return read.model_copy(update={"tracks": tracks, "verdict": verdict})


@pytest.mark.parametrize("named", [[0], [0, 1, 2], [0, 2], [0, 1, 2, 3, 4, 5]])
def test_the_line_stands_under_the_last_track_that_can_be_named(drawn: Drawn, named: list[int]) -> None:
    page = drawn(lambda read: naming(read, named))
    cards = re.split(r'<article class="card track', page.text)[1:]
    assert len(cards) == 6 and page.text.count(LINE) == 1
    assert [LINE in card for card in cards] == [i == max(named) for i in range(6)]
    badges = [text for _, text in page.all("span", "badge")]
    assert badges == ["named" if i in named else "not told apart" for i in range(6)]


@pytest.mark.parametrize("named", [[0], [0, 1, 2], [1, 2, 4], [0, 1, 2, 3, 4, 5]])
def test_the_shares_that_are_shown_sum_to_one(drawn: Drawn, record: Path, named: list[int]) -> None:
    page = drawn(lambda read: naming(read, named))
    shown = [float(text.removesuffix(" %")) for _, text in page.all("td", "n", "share")]
    whole = np.array([1 / (i + 1) for i in range(6)])
    assert len(shown) == len(named) + 1 and round(sum(shown), 6) == 100
    assert shown[:-1] == pytest.approx(100 * whole[named] / whole.sum(), abs=0.1)
    titles = [t.title for t in Attribution.load(record / RECORD).first_trained(6)]
    rows = [text for attributes, text in page.all("th") if attributes.get("scope") == "row"]
    assert rows == [*(titles[i] for i in named), "cannot be told apart"]


def test_named_effects_above_the_whole_are_shown_as_shares_of_themselves(drawn: Drawn) -> None:
    def small(read: Attribution) -> Attribution:
        whole = naming(read, [0, 1])
        assert whole.verdict
        return whole.model_copy(update={"verdict": whole.verdict.model_copy(update={"total": 1e-3})})

    page = drawn(small)
    shown = [float(text.removesuffix(" %")) for _, text in page.all("td", "n", "share")]
    assert shown == pytest.approx([100 * 2 / 3, 100 / 3, 0.0], abs=0.1) and round(sum(shown), 6) == 100


@pytest.mark.parametrize("part", [0.25, 1.0])
def test_tracks_are_shown_to_share_in_an_adapter_s_part_alone(drawn: Drawn, part: float) -> None:
    of_adapter = AdapterPart(base="big", base_hash="b", loss=0.5, base_loss=0.6, nothing=1.0, share=part)
    page = drawn(lambda read: naming(read, [0, 2]).model_copy(update={"adapter": of_adapter}))
    shown = [float(text.removesuffix(" %")) for _, text in page.all("td", "n", "share")]
    whole = np.array([1 / (i + 1) for i in range(6)])
    assert round(sum(shown), 6) == 100
    assert shown[:2] == pytest.approx(100 * part * whole[[0, 2]] / whole.sum(), abs=0.1)
    rows = [text for attributes, text in page.all("th") if attributes.get("scope") == "row"]
    assert rows[2:] == ["cannot be told apart", *(["the base model big"] if part < 1 else [])]
    assert part == 1 or shown[3] == 75.0


def test_a_named_tracks_effect_is_also_told_by_the_minute(drawn: Drawn, record: Path) -> None:
    seconds = [t.seconds for t in Attribution.load(record / RECORD).first_trained(2)]
    page = drawn(lambda read: naming(read, [0]))
    for number, length in enumerate(seconds, start=1):
        assert length and f"{100 * 0.05 / number * 60 / length:.2f} % a minute of the track" in page.text


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_rounded_shares_sum_to_a_hundred_and_lie_within_a_tenth(values: list[float]) -> None:
    shares = np.array([*values, 1e-3])
    shares /= shares.sum()
    percents = rounded_percents(shares.tolist())
    assert round(10 * sum(map(float, percents))) == 1000
    np.testing.assert_allclose([float(p) for p in percents], 100 * shares, atol=0.1 + 1e-6)


def test_nothing_is_shown_as_named_where_the_verdict_names_none(drawn: Drawn, record: Path) -> None:
    """Neither where nothing may be named whatever the scores are, nor where no track stands out, nor without
    a calibration.
    """
    verdict = Attribution.load(record / RECORD).verdict
    assert verdict and verdict.reasons and verdict.named == 0
    forbidden = drawn(lambda read: read)
    assert "None of the tracks below this line can be named." in forbidden.text
    assert verdict.reasons[0] in forbidden.text and not forbidden.all("svg", "interval")
    assert not forbidden.all("td", "n", "share")
    none = drawn(lambda read: naming(read, []))
    assert none.text.index(LINE) < none.text.index("<article")
    assert [text for _, text in none.all("td", "n", "share")] == ["100.0 %"]
    unknown = drawn(lambda read: read.model_copy(update={"verdict": None}))
    assert LINE not in unknown.text and "never" in unknown.all("p", "verdict")[0][1]
    for page in (forbidden, none, unknown):
        assert not page.all("span", "named") and not page.all("article", "named")


def test_buttons_carry_the_seconds_of_their_spans_and_sounds_hold_them(drawn: Drawn, record: Path) -> None:
    page = drawn(lambda read: read)
    players = {attributes["id"]: attributes for attributes, _ in page.all("audio")}
    buttons = [attributes for attributes, _ in page.all("button") if "data-player" in attributes]
    spans = [
        (i, s) for i, t in enumerate(Attribution.load(record / RECORD).first_trained(6), 1) for s in t.spans
    ]
    assert len(spans) > 6 and len(buttons) == len(spans)
    for button, (number, s) in zip(buttons, spans, strict=True):
        seconds = [float(x) for x in f"{button['data-clip']} {button['data-track']}".split()]
        assert seconds == [s.clip_start_s, s.clip_end_s, s.track_start_s, s.track_end_s]
        player = players[button["data-player"]]
        start_s = float(player["data-start"])
        assert start_s - 1e-3 <= s.track_start_s
        assert s.track_end_s <= start_s + float(player["data-seconds"]) + 0.12
        assert player["data-name"].startswith(f"track {number}, ")
    far = [b for b in buttons if b["data-player"].startswith("passage-")]
    assert far  # a track of several segments: passages outside the best one are there, too


SECONDS = st.floats(0, 200)


def with_passages(best_s: float, starts: list[float], span_s: float) -> TrackScore:
    """A track whose best segment begins at ``best_s``, with passages of ``span_s``."""
    spans = [
        Span(clip_start_s=0, clip_end_s=span_s, track_start_s=s, track_end_s=s + span_s, strength=1, chance=1)
        for s in starts
    ]
    return TrackScore(
        rank=1,
        track_id="a",
        title="",
        artist="",
        score=1,
        split="train",
        decoys_above=0,
        best_segment_start_s=best_s,
        spans=spans,
    )


def test_of_a_long_segment_the_part_about_its_strongest_passage_is_played() -> None:
    assert main_part(with_passages(50, [], 1), 47) == (50, 12)
    assert main_part(with_passages(50, [9, 70, 80], 1), 47) == (64.5, 12)
    assert main_part(with_passages(50, [51], 1), 47) == (50, 12)
    assert main_part(with_passages(50, [96], 1), 47) == (85, 12)
    assert main_part(with_passages(50, [53], 1), 6) == (50, 6)


@given(SECONDS, st.floats(1, 60), st.lists(SECONDS, max_size=3), st.floats(0.3, 1.5))
def test_what_is_played_holds_every_passage_and_stays_short(
    best_s: float, segment_s: float, starts: list[float], span_s: float
) -> None:
    track = with_passages(best_s, starts, span_s)
    start_s, seconds = main_part(track, segment_s)
    assert best_s - 1e-6 <= start_s and start_s + seconds <= best_s + segment_s + 1e-6
    assert seconds <= LONGEST_S
    excerpts = [
        Excerpt(a, Sound(np.zeros((1, round(100 * length)), dtype=np.float32), 100))
        for a, length in [(start_s, seconds), *further_parts(track, Excerpt(start_s, silence(seconds)))]
    ]
    for s in track.spans:  # to a rounded sample, and a cell of the alignment
        assert any(
            e.start_s <= s.track_start_s + 1e-3 and s.track_end_s <= e.start_s + e.sound.seconds + 0.12
            for e in excerpts
        )
    assert sum(e.sound.seconds for e in excerpts) <= LONGEST_S + len(starts) * (span_s + 1) + 0.1


def silence(seconds: float) -> Sound:
    return Sound(np.zeros((1, round(100 * seconds)), dtype=np.float32), 100)


def test_loudness_is_the_standards() -> None:
    """A sine of 997 Hz at full scale in one channel has -3.01 LUFS (BS.1770-4); what is too short for a gate
    has its root mean square, and silence nothing.
    """

    def sine(seconds: float, amplitude: float = 1.0, channels: int = 1) -> Sound:
        t = np.arange(round(48000 * seconds)) / 48000
        return Sound(
            np.tile(amplitude * np.sin(2 * np.pi * 997 * t), (channels, 1)).astype(np.float32), 48000
        )

    assert integrated_lufs(sine(3)) == pytest.approx(-3.01, abs=0.05)
    assert integrated_lufs(sine(3, channels=2)) == pytest.approx(0.0, abs=0.05)
    assert integrated_lufs(sine(3, 0.1)) == pytest.approx(-23.01, abs=0.05)
    assert integrated_lufs(sine(0.2)) == pytest.approx(-0.691 - 3.01, abs=0.05)
    assert integrated_lufs(sine(3, 1e-5)) == pytest.approx(-0.691 - 103.01, abs=0.05)  # below the gate
    assert integrated_lufs(silence(1)) == integrated_lufs(silence(0)) == -np.inf


def test_all_sounds_are_turned_down_to_one_loudness() -> None:
    lufs = [-12.0, -20.0, -15.5]
    found = gains(lufs)
    assert max(found) == 1.0
    np.testing.assert_allclose(np.array(lufs) + 20 * np.log10(found), -20.0)
    # one that is all but silent takes the others down by 20 dB, no more; silence takes nothing
    assert gains([-10.0, -60.0, -np.inf]) == pytest.approx([0.1, 1.0, 1.0])
    assert gains([]) == [] and gains([-np.inf]) == [1.0]


def test_a_heat_map_marks_its_pairs_where_they_are() -> None:
    aligned = np.ones((4, 10)), 0.5 * np.arange(4), 0.5 * np.arange(10)
    span = Span(clip_start_s=0.5, clip_end_s=1.5, track_start_s=4, track_end_s=5, strength=0.1, chance=0.01)
    found = heat_map(aligned, [span], inline, "alignment")
    assert (found.clip_s, found.track_s) == (2.0, 5.0)
    assert found.boxes == [(80.0, 25.0, 20.0, 50.0)]


def test_spans_that_are_not_told_apart_are_said_to_be_so(drawn: Drawn, record: Path) -> None:
    def told(read: Attribution) -> Attribution:
        def changed(spans: list[Span]) -> list[Span]:
            return [
                s.model_copy(update={"chance": chance})
                for s, chance in zip(spans, (CHANCE, 1.1 * CHANCE, 0.9), strict=False)
            ]

        tracks = [t.model_copy(update={"spans": changed(t.spans)}) for t in read.tracks]
        return read.model_copy(update={"tracks": tracks})

    counts = [len(t.spans) for t in Attribution.load(record / RECORD).first_trained(6)]
    page = drawn(told)
    assert page.text.count("· told apart from shuffled frames") == sum(n > 0 for n in counts) > 0
    assert page.text.count("· not told apart from") == len(page.all("li", "maybe")) == sum(counts) - 6 > 0


def test_text_of_others_stays_text(drawn: Drawn) -> None:
    """Titles, artists, prompts, details and reasons that try to break out of tags, attributes and scripts."""

    def attacked(read: Attribution) -> Attribution:
        read = naming(read, [0])
        tracks = [
            t.model_copy(update={"title": ATTACK, "artist": ATTACK, "details": {ATTACK: ATTACK}})
            for t in read.tracks
        ]
        assert read.verdict
        verdict = read.verdict.model_copy(update={"sentence": ATTACK, "calibration": ATTACK})
        query = read.query.model_copy(update={"prompt": ATTACK, "name": "</title>" + ATTACK})
        return read.model_copy(update={"tracks": tracks, "verdict": verdict, "query": query})

    plain, page = drawn(lambda read: naming(read, [0])), drawn(attacked)
    assert [(tag, set(a)) for tag, a, _ in page.elements if tag not in ("dt", "dd")] == [
        (tag, set(a)) for tag, a, _ in plain.elements if tag not in ("dt", "dd")
    ]
    assert ATTACK in page.all("audio")[1][0]["data-name"]


def test_the_page_can_be_read_without_eyes_on_paper_and_in_the_dark(drawn: Drawn) -> None:
    page = drawn(lambda read: naming(read, [0, 1]))
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and levels.count(2) >= 5
    assert all("alt" in attributes for attributes, _ in page.all("img"))
    assert all(a["aria-label"] for a, _ in page.all("audio") if "controls" in a)
    assert all(a.get("type") == "button" and (a.get("aria-label") or text) for a, text in page.all("button"))
    (said,) = page.all("output")
    assert said[0]["aria-live"] == "polite"
    identifiers = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    keys = [a["data-key"] for a, _ in page.all("audio") if "data-key" in a]
    assert keys == [str(i) for i in range(7)]  # 0 is the clip
    assert "@media screen and (prefers-color-scheme: dark)" in page.text and "@media print" in page.text
    starts = [
        page.text.index(f"<h2>{title}") for title in ("Whose share", "How sure", "Named", "What was not")
    ]
    assert all(a < b for a, b in pairwise([page.text.index('class="verdict"'), *starts]))
