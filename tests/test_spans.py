"""Where in a track: pairs of passages add up to the score, and a planted passage is found where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import linernotes
from conftest import query_of
from linernotes.attribution.evidence import changes_by_passes
from linernotes.attribution.query import load_clip
from linernotes.attribution.result import RECORD, Attribution
from linernotes.attribution.spans import Alignment, align, find_spans, read_alignments
from linernotes.attribution.tables import read_segment_scores
from linernotes.catalog.store import Catalogue
from linernotes.methods.contract import Prepared
from linernotes.methods.readout import score_readout
from linernotes.methods.readout_pairs import frame_pairs
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.methods import METHOD_SETTINGS

FEW = {"draws": 8, "gradient_draws": 16}


def test_pairs_add_up_to_the_score_to_first_order(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue
) -> None:
    prepared = Prepared(model, catalogue, tmp_path / "cache")
    # with so small a step the second order is nothing
    settings = METHOD_SETTINGS["readout"](**FEW, step_size=1e-5)
    queries = [query_of(catalogue, 0), query_of(catalogue, 3)]
    scores_qn = score_readout(prepared, queries, settings, tmp_path / "sweep").scores_qn
    rows = np.array([4, 0, 2])
    pairs_nwqk = frame_pairs(prepared, queries, rows, settings).pairs_nwqk
    np.testing.assert_allclose(pairs_nwqk.sum(dim=(2, 3)).T, scores_qn[:, rows], rtol=2e-2)
    alone = frame_pairs(prepared, queries[1:], rows[:1], settings).pairs_nwqk
    np.testing.assert_allclose(alone[0, 0], pairs_nwqk[0, 1], rtol=1e-4, atol=1e-9)


def test_one_pass_gives_pairs_and_evidence(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What scoring has kept of a clip gives the same pairs; and the rises of frames are what passes under
    both sets of weights show."""
    prepared = Prepared(model, catalogue, tmp_path / "cache")
    settings = METHOD_SETTINGS["readout"](**FEW)
    queries, rows = [query_of(catalogue, 0), query_of(catalogue, 3)], [4, 0, 2]
    scores = score_readout(prepared, queries, settings, tmp_path / "sweep")
    kept = frame_pairs(prepared, queries, np.array(rows), settings, scores.cells)
    anew = frame_pairs(prepared, queries, np.array(rows), settings)
    assert len(scores.cells) == 2 and (kept.pairs_nwqk == anew.pairs_nwqk).all()
    assert (kept.rise_nwt == anew.rise_nwt).all()
    for q, share_q in enumerate(np.eye(2)):
        passes_nt = changes_by_passes(prepared, scores, rows, share_q)
        apart = np.abs(kept.rise_nwt[:, q].numpy() - passes_nt).max()
        assert apart < 1e-3 * np.abs(passes_nt).max()
    held = sum(cells.numel() * cells.element_size() for cells in scores.cells)
    monkeypatch.setattr("linernotes.methods.readout_cells.KEPT_BYTES", held)
    assert score_readout(prepared, queries, settings, tmp_path / "as-many").cells
    assert not score_readout(prepared, [*queries, queries[0]], settings, tmp_path / "more").cells


def test_alignments_of_tracks_add_up_to_their_segments_scores(
    tmp_path: Path, model: StableAudio, model_path: Path, catalogue: Catalogue
) -> None:
    clip = linernotes.generate("tone", tmp_path / "clip.flac", seed=1, model=model_path)
    settings = METHOD_SETTINGS["readout"](**FEW, step_size=1e-5)
    (found,) = linernotes.attribute(clip, tmp_path / "out", model_path, catalogue.path, **FEW, step_size=1e-5)
    scores_t = np.bincount(catalogue.track_n, read_segment_scores(tmp_path / "out"))
    prepared = Prepared(model, catalogue, tmp_path / "cache", drawn="tracks")
    alignments = align(load_clip(clip, model, None), prepared, settings, range(len(catalogue.tracks)))
    whole_s = catalogue.encoding.segment_s
    full = [t for t in alignments if (catalogue.seconds_n[catalogue.track_n == t] >= whole_s - 1e-6).all()]
    assert full  # of a shorter segment the model was given silence, too, which is in the score and not here
    for track in full:
        near = 0.02 * np.abs(scores_t).max()
        assert alignments[track].pairs_qn.sum() == pytest.approx(scores_t[track], abs=near)
    table = read_alignments(tmp_path / "out")
    assert list(table) == [track.track_id for track in found.first_trained(10)]
    read = Attribution.load(tmp_path / "out" / RECORD)
    for track in read.first_trained(10):
        at = next(i for i, other in enumerate(catalogue.tracks) if other.track_id == track.track_id)
        assert table[track.track_id][0].sum() == pytest.approx(
            alignments[at].pairs_qn.sum(), rel=1e-3, abs=1e-9
        )
        assert all(0 < span.strength <= 1 for span in track.spans)
    assert read.first_trained(1)[0].spans


def test_a_planted_passage_is_found_where_it_is_and_nothing_where_there_is_none() -> None:
    cell_s, errors, chances = 0.1, [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        pairs_qn = random.standard_normal((60, 900))
        q, n = int(random.integers(45)), int(random.integers(880))
        pairs_qn[q + np.arange(15), n + np.arange(15)] += 2.5
        first = find_spans(Alignment(pairs_qn, cell_s))[0]
        errors.append(abs(first.track_start_s - n * cell_s) + abs(first.clip_start_s - q * cell_s))
        chances.append(first.chance)
        assert first.track_end_s - first.track_start_s == pytest.approx(1.5)
    assert np.median(errors) <= 0.2 and np.median(chances) <= 0.01
    nothing = [
        find_spans(Alignment(np.random.default_rng(seed).standard_normal((30, 100)), 0.1))[0].chance
        for seed in range(40)
    ]
    assert np.mean(nothing) == pytest.approx(0.5, abs=0.17)  # evenly spread where there is nothing to find


def test_spans_do_not_overlap_and_weaken() -> None:
    pairs_qn = np.random.default_rng(0).standard_normal((50, 60))
    spans = find_spans(Alignment(pairs_qn, 0.1))
    assert [span.strength for span in spans] == sorted((span.strength for span in spans), reverse=True)
    for i, one in enumerate(spans):
        for other in spans[:i]:
            apart_in_clip = abs(one.clip_start_s - other.clip_start_s) >= 1.5 - 1e-6
            assert apart_in_clip or abs(one.track_start_s - other.track_start_s) >= 1.5 - 1e-6


def test_a_clip_shorter_than_a_span_has_shorter_ones() -> None:
    (first, *_) = find_spans(Alignment(np.ones((4, 40)), 0.1))
    assert first.clip_end_s == pytest.approx(
        0.4
    ) and first.track_end_s - first.track_start_s == pytest.approx(0.4)


def test_clips_together_are_aligned_as_alone(tmp_path: Path, model_path: Path, catalogue: Catalogue) -> None:
    clips = [
        linernotes.generate(f"tone {i}", tmp_path / f"clip{i}.flac", seed=i, model=model_path) for i in (0, 1)
    ]
    linernotes.attribute(clips, tmp_path / "both", model_path, catalogue.path, **FEW)
    for clip in clips:
        linernotes.attribute(clip, tmp_path / "alone" / clip.stem, model_path, catalogue.path, **FEW)
        alone, both = (read_alignments(tmp_path / where / clip.stem) for where in ("alone", "both"))
        assert alone.keys() == both.keys()
        for name, (products_qn, *_) in alone.items():
            largest = np.abs(products_qn).max()
            np.testing.assert_allclose(both[name][0], products_qn, rtol=1e-4, atol=1e-5 * largest)
