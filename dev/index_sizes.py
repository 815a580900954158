"""How long a segment's vector must be: the share of the exact first twenty tracks that shortlists hold, by
vectors of 256 bytes to 128 KiB, and by the first-order score itself. All of it on tracks that no direction
was fitted on, for clips of the model's own.

    python dev/index_sizes.py MODEL CATALOGUE WORK [SEGMENTS]

Half of the part's tracks are what directions are fitted on, the others what is searched. In WORK it leaves
what one pass made, 0.26 MB a segment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

import linernotes
from linernotes.attribution import indexing
from linernotes.attribution.indexing import vector_settings
from linernotes.attribution.prepare import prepare
from linernotes.catalog.store import Catalogue
from linernotes.evaluation.cost.scale import part_of
from linernotes.index.space import fit_latents, principal_directions, second_moments
from linernotes.index.vectors import LATENTS_WEIGHT
from linernotes.methods.readout_moments import query_moments
from linernotes.settings.verbs import IndexSettings

SHARES = (0.01, 0.02, 0.04, 0.1)
FITTED = (1024, 2048, 4096)
NUMBERS = (128, 256, 512, 1024, 2048, 4096)
KEPT = (16, 32, 64, 128, 256)  # features of a band, nothing projected
FIRST = 20
CLIPS = 32


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
        latents = fit_latents(part, 256)
        pairs_nl = pairs_of(part.latents(rows), latents)
        pairs_ql = pairs_of(torch.stack([clip.latents_ct for clip in clips.queries]), latents)
    shape = (len(strongest_bfk), part.encoding.latent_channels, strongest_bfk.shape[-1])
    judge(found["y_nd"], found["rise_nq"].T.numpy(), part.track_n[rows], y_qd, pairs_nl, pairs_ql, shape)


def print_progress(what: str, done: int, total: int) -> None:
    if done == total or not done % 640:
        print(what, done, "of", total, file=sys.stderr, flush=True)


def pairs_of(latents_nct: torch.Tensor, space: dict[str, torch.Tensor]) -> torch.Tensor:
    pairs_nl = second_moments(latents_nct, space["mean_c"], space["spread_c"]) - space["middle_l"]
    return unit(pairs_nl @ space["pairs_pl"].T)


def unit(x_nd: torch.Tensor) -> torch.Tensor:
    return x_nd / x_nd.norm(dim=1, keepdim=True).clamp(min=1e-12)


def judge(
    y_nd: torch.Tensor,
    exact_qn: np.ndarray,
    track_n: np.ndarray,
    y_qd: torch.Tensor,
    pairs_nl: torch.Tensor,
    pairs_ql: torch.Tensor,
    shape: tuple[int, int, int],
) -> None:
    draw = np.random.default_rng(0)
    searched = draw.permutation(np.unique(track_n))
    searched = searched[: len(searched) // 2]
    judged = np.flatnonzero(np.isin(track_n, searched))
    fitted = draw.permutation(np.flatnonzero(~np.isin(track_n, searched)))
    _, own_n = np.unique(track_n[judged], return_inverse=True)
    exact_qt = gathered(exact_qn[:, judged], own_n)
    first_qf = np.argsort(-exact_qt, axis=1)[:, :FIRST]
    sounds_qn = (pairs_ql @ pairs_nl[judged].T).numpy()
    length_n = y_nd[judged].float().norm(dim=1).numpy()
    tracks = exact_qt.shape[1]
    print(f"{len(judged)} segments of {tracks} tracks, {len(exact_qn)} clips")
    print("bytes", "of what", *(f"in {share:.0%}" for share in SHARES), "share of summed score", sep="\t")

    def say(size: int, what: str, said_qn: np.ndarray) -> None:
        order_qt = np.argsort(-gathered(said_qn, own_n), axis=1)
        place_qt = np.argsort(order_qt, axis=1)
        place_qf = np.take_along_axis(place_qt, first_qf, axis=1)
        score_qf = np.take_along_axis(exact_qt, first_qf, axis=1)
        held = [place_qf < round(share * tracks) for share in SHARES]
        summed = [f"{((h * score_qf).sum(1) / score_qf.sum(1)).mean():.3f}" for h in held]
        print(size, what, *(f"{h.mean():.3f}" for h in held), " ".join(summed), sep="\t", flush=True)

    def with_sounds(cosine_qn: np.ndarray, weight: float = LATENTS_WEIGHT) -> np.ndarray:
        return (cosine_qn + weight * sounds_qn) * length_n

    say(256, "latents", sounds_qn)
    for count in FITTED:
        if count > len(fitted):
            continue
        basis_rd = principal_directions(y_nd[fitted[:count]], count)
        z_nr = torch.cat([y_nd[rows].float() @ basis_rd.float().T for rows in np.array_split(judged, 20)])
        z_qr = y_qd.float() @ basis_rd.float().T
        for kept in NUMBERS:
            if kept > count:
                continue
            inner_qn = z_qr[:, :kept] @ z_nr[:, :kept].T
            cosine_qn = (unit(z_qr[:, :kept]) @ in_bytes(z_nr[:, :kept]).T).numpy()
            what = f"{kept} directions of {count}"
            say(kept, f"{what}, inner product", inner_qn.numpy())
            say(kept, f"{what}, cosine", cosine_qn * length_n)
            say(kept + 256, f"{what}, cosine and latents", with_sounds(cosine_qn))
    for kept in KEPT:
        cut_nd = torch.cat([strongest(y_nd[rows], shape, kept) for rows in np.array_split(judged, 20)])
        cut_qd = strongest(y_qd, shape, kept)
        long = cut_nd.shape[1]
        say(long, f"{kept} features a band, inner product", (cut_qd @ cut_nd.float().T).numpy())
        cosine_qn = (unit(cut_qd) @ unit(cut_nd.float()).T).numpy()
        say(long + 256, f"{kept} features a band, cosine and latents", with_sounds(cosine_qn))


def strongest(y_nd: torch.Tensor, shape: tuple[int, int, int], kept: int) -> torch.Tensor:
    return y_nd.float().reshape(len(y_nd), *shape)[..., :kept].flatten(1)


def in_bytes(z_nr: torch.Tensor) -> torch.Tensor:
    scale_n1 = 127 / z_nr.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    return unit((z_nr * scale_n1).round())


def gathered(values_qn: np.ndarray, own_n: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(own_n, values_n) for values_n in values_qn])


if __name__ == "__main__":
    main(*sys.argv[1:])
