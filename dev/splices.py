"""How well spans find a passage: clips are made of a recording that the model was trained on, a few seconds of it
at a place that no segment begins at, between the beginnings of other recordings; where do the spans say it is from?

    python dev/splices.py MODEL CATALOGUE [CLIPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from linernotes.api.workspace import Workspace
from linernotes.attribution.query import load_clip
from linernotes.attribution.spans import CHANCE, align, find_spans
from linernotes.audio import Sound, read_part, write_sound
from linernotes.settings.methods import METHOD_SETTINGS

PASSAGE_S = 2.5


def main(model: str, catalogue: str, clips: int = 20) -> None:
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    with Workspace(model, catalogue) as work:
        catalog, encoding = work.catalogue, work.catalogue.encoding
        source = Path(catalog.record["source"])
        long = [t for t in range(len(catalog.tracks)) if (catalog.track_n == t).sum() >= 4]
        folder = Path("splices")
        folder.mkdir(exist_ok=True)
        errors, told, lags = [], [], []
        for number in range(clips):
            track, other = random.choice(long, 2, replace=False)
            length_s = float((catalog.start_s_n + catalog.seconds_n)[catalog.track_n == track].max())
            start_s = float(random.uniform(0, length_s - PASSAGE_S - 0.1))
            at_s = float(random.uniform(0, encoding.segment_s - PASSAGE_S))

            def samples(t: int, from_s: float, seconds: float) -> np.ndarray:
                part = read_part(source / catalog.tracks[t].file_name, from_s, seconds)
                return part.converted(encoding.rate_hz, encoding.channels).samples

            clip = samples(other, 0.0, encoding.segment_s)
            passage = samples(track, start_s, PASSAGE_S)
            begin = round(at_s * encoding.rate_hz)
            clip[:, begin : begin + passage.shape[1]] = passage
            path = folder / f"{number:02d}.flac"
            write_sound(path, Sound(clip, encoding.rate_hz))
            loaded = load_clip(path, work.model, None)
            found = align(loaded, work.prepared, METHOD_SETTINGS["readout"](), [int(track)])
            spans = find_spans(found[int(track)])
            first = spans[0]
            lag = (first.track_start_s - first.clip_start_s) - (start_s - at_s)
            inside = at_s - 1.0 <= first.clip_start_s <= at_s + PASSAGE_S
            errors.append(abs(lag))
            told.append(first.chance <= CHANCE)
            lags.append(min(abs((s.track_start_s - s.clip_start_s) - (start_s - at_s)) for s in spans))
            print(
                f"{path}: passage {at_s:.1f} s <- {start_s:.1f} s of {length_s:.0f} s; found "
                f"{first.clip_start_s:.1f} s <- {first.track_start_s:.1f} s, off by {lag:+.2f} s, "
                f"chance {first.chance:.3f}{'' if inside else ', elsewhere in the clip'}",
                flush=True,
            )
    print(
        f"\nmedian error {np.median(errors):.2f} s, best of three {np.median(lags):.2f} s; within half a second "
        f"{np.mean(np.array(errors) <= 0.5):.0%}; told apart from shuffled frames {np.mean(told):.0%}; of those "
        f"median error {np.median(np.array(errors)[told]) if any(told) else float('nan'):.2f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4]))
