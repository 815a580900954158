"""How long a segment's vector must be: the share of the exact first twenty tracks, and of their summed
score, that shortlists hold by vectors of 128 bytes to 128 KiB. All of it on tracks that no direction was
fitted on, for clips of the model's own.

    python dev/index_sizes.py MODEL CATALOGUE WORK [SEGMENTS]

Half of the part's tracks are what directions are fitted on, the others what is searched. In WORK it leaves
what one pass made, 0.26 MB a segment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import linernotes
from linernotes.attribution import indexing
from linernotes.attribution.indexing import vector_settings
from linernotes.attribution.prepare import prepare
from linernotes.catalog.store import Catalogue
from linernotes.evaluation.cost.scale import part_of
from linernotes.index.recall import measure_recall
from linernotes.index.space import fit_latents, principal_directions, second_moments
from linernotes.index.vectors import LATENTS_WEIGHT, directions, in_bytes
from linernotes.methods.readout_moments import query_moments
from linernotes.settings.verbs import IndexSettings

SHARES = (0.01, 0.02, 0.04, 0.1)
FITTED = (1024, 2048, 4096)
NUMBERS = (128, 256, 512, 1024, 2048, 4096)
KEPT = (16, 32, 64, 128, 256)  # features of a band, nothing projected; the last is the score to first order
LATENTS = 256
CLIPS = 32
AT_ONCE = 256


def main(model: str, catalogue: str, work: str, segments: str = "10000") -> None:
    folder = Path(work)
    with linernotes.open(model, catalogue) as opened:
        whole = opened.prepared
        place = folder / "part"
        part = Catalogue(place) if place.exists() else part_of(whole.catalogue, int(segments), place)
        prepared = prepare(whole.model, part, folder / "cache", print_progress, whole.model_folder)
        settings = IndexSettings(queries=CLIPS, seed=1)
        clips = indexing._hold(prepared, settings)
        sweep = indexing._Sweep(prepared, settings, clips.queries, folder)
        strongest_bfk = sweep.strongest()
        rows = part.training_rows
        found = sweep._moments(strongest_bfk, rows, "all", sweep.step_qbcf)
        y_qd = query_moments(prepared, clips.queries, strongest_bfk, vector_settings(sweep.method))
        space = fit_latents(part, LATENTS)
        clips_qct = torch.stack([clip.latents_ct for clip in clips.queries])
    track_n, draw = part.track_n[rows], np.random.default_rng(0)
    tracks = draw.permutation(np.unique(track_n))
    searched_n = np.isin(track_n, tracks[: len(tracks) // 2])
    judged, fitted = np.flatnonzero(searched_n), draw.permutation(np.flatnonzero(~searched_n))
    exact_qn = found["rise_nq"].T.numpy()[:, judged]
    print(len(judged), "segments of", len(tracks) // 2, "tracks;", CLIPS, "clips")
    print("bytes", "of what", *(f"in {share:.0%}, of their score" for share in SHARES), sep="\t")

    def say(size: int, what: str, said_qn: np.ndarray) -> None:
        recall = measure_recall(said_qn, exact_qn, track_n[judged], "clips", "readout", {})
        sizes = [round(share * recall.tracks) for share in SHARES]
        cells = [f"{recall.of(size)[0]:.3f}, {recall.of_score(size)[0]:.3f}" for size in sizes]
        print(size, what, *cells, sep="\t", flush=True)

    sounds = [sounds_of(latents_nct, space) for latents_nct in (clips_qct, part.latents(rows[judged]))]
    sounds_qn = directions(sounds[0]) @ directions(sounds[1]).T
    say(LATENTS, "latents", sounds_qn)
    y_nd = found["y_nd"]
    length_n = y_nd[judged].float().norm(dim=1).numpy()

    def judge(what: str, z_qr: Tensor, z_nr: Tensor) -> None:
        cosine_qn = directions(in_bytes(z_qr)) @ directions(in_bytes(z_nr)).T
        size = z_nr.shape[1]
        say(size, f"{what}, inner product", (z_qr @ z_nr.T).numpy())
        say(size, f"{what}, cosine", cosine_qn * length_n)
        say(
            size + LATENTS, f"{what}, cosine and latents", (cosine_qn + LATENTS_WEIGHT * sounds_qn) * length_n
        )

    for count in (count for count in FITTED if count <= len(fitted)):
        basis_dr = principal_directions(y_nd[fitted[:count]], count).float().T
        z_qr, z_nr = (
            y_qd @ basis_dr,
            torch.cat([some.float() @ basis_dr for some in y_nd[judged].split(AT_ONCE)]),
        )
        for kept in (kept for kept in NUMBERS if kept <= count):
            judge(f"{kept} directions of {count}", z_qr[:, :kept], z_nr[:, :kept])
    shape = (len(strongest_bfk), part.encoding.latent_channels, strongest_bfk.shape[-1])
    for kept in KEPT:
        cut = [y.float().reshape(len(y), *shape)[..., :kept].flatten(1) for y in (y_qd, y_nd[judged])]
        judge(f"{kept} features a band", *cut)


def sounds_of(latents_nct: Tensor, space: dict[str, Tensor]) -> np.ndarray:
    """As ``Space.latents`` has them."""
    pairs_nl = second_moments(latents_nct, space["mean_c"], space["spread_c"]) - space["middle_l"]
    return in_bytes(pairs_nl @ space["pairs_pl"].T)


def print_progress(what: str, done: int, total: int) -> None:
    if done == total or not done % 640:
        print(what, done, "of", total, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
