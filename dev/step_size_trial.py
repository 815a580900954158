"""Step sizes against decoys, on one generated clip: python dev/step_size_trial.py demo-out/clip.flac (see
dev/LOG.md).

With ``--quick`` it takes so few draws and tracks that its figures only show that it still runs.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import linernotes
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import load_clip
from linernotes.curvature.diagonal import precondition
from linernotes.losses import item_losses
from linernotes.methods.fitted import fisher_of
from linernotes.methods.rescoring import base_losses
from linernotes.methods.unlearning import take_steps
from linernotes.settings.methods import AbuSettings

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("clip", type=Path)
parser.add_argument("--quick", action="store_true", help="few draws and tracks: does it still run?")
given = parser.parse_args()
training_tracks = 16 if given.quick else 640
settings = AbuSettings(draws=1, gradient_draws=8, fisher_draws=1) if given.quick else AbuSettings()
model, catalogue = linernotes.load_model(), linernotes.open_catalogue()
prepared = prepare(model, catalogue)
bank = prepared.draws(settings.draws, settings.seed)
fisher = fisher_of(prepared, settings.fisher_draws, settings.seed, settings.batch_size)
query = load_clip(given.clip, model, None).query
decoy = np.array([track.split == "decoy" for track in catalogue.tracks])
chosen = np.random.default_rng(0).choice(catalogue.training_rows, training_tracks, replace=False)
rows = np.sort(np.concatenate([np.flatnonzero(decoy), chosen]))
is_decoy = decoy[rows]
with tempfile.TemporaryDirectory() as folder:
    base_nk = base_losses(prepared, bank, settings.batch_size, Path(folder))[rows]
print(
    f"base loss: training {float(base_nk[~is_decoy].mean()):.3f}, decoys "
    f"{float(base_nk[is_decoy].mean()):.3f}"
)


def unlearned(a: float) -> dict:
    def step(gradient: dict) -> dict:
        return {
            n: a / prepared.n_training * g
            for n, g in precondition(gradient, fisher, settings.damping).items()
        }

    return take_steps(model, [query], settings, 1, step)


sets = {f"{a:g}": unlearned(a) for a in (1e-3, 1e-4, 1e-5)}
with tempfile.TemporaryDirectory() as folder:
    losses = item_losses(model, catalogue, bank, sets, Path(folder), rows)
for a, loss_nk in losses.items():
    skew_nk = (loss_nk - base_nk) / (loss_nk + base_nk)
    for name, score_n in (
        ("difference", (loss_nk - base_nk).mean(1).numpy()),
        ("skew", skew_nk.mean(1).numpy()),
    ):
        first = is_decoy[np.argsort(-score_n)]
        ordered = (score_n[~is_decoy][:, None] > score_n[is_decoy]).mean()
        print(f"a {a} {name}: max {score_n.max():.3g}, median {np.median(score_n):.3g}, ", end="")
        print(
            f"decoys in the first 10 / 30: {first[:10].sum()} / {first[:30].sum()}, pairs in order "
            f"{ordered:.3f}"
        )
