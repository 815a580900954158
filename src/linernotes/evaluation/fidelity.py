"""Whether the built-in model is good enough to attribute: what its codec keeps, and whether clips are what
the prompt says.

Melody is compared by chroma, instruments by a small classifier trained on
sound that never went through the codec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from linernotes.audio import Sound
from linernotes.catalog.track import Track
from linernotes.descriptors import chroma_correlation, timbre
from linernotes.methods.contract import Progress
from linernotes.models.contract import GeneratingModel


@dataclass(frozen=True)
class ModelFidelity:
    """What a model keeps and what it understands. The classifier is fitted on original training tracks."""

    tracks: int  # decoys: the codec was not fitted on them, the classifier not trained on them
    chroma_correlation: float  # of original and decoded sound, mean over tracks
    instrument_before: float  # share of original sounds whose instrument the classifier names
    instrument_after: float  # the same of decoded sounds
    clips: int
    # share of generated clips in which it finds the instrument that the prompt names
    instrument_generated: float


def fit_instrument_classifier(sounds: Sequence[Sound], instruments: Sequence[str]) -> Pipeline:
    """A logistic regression from ``timbre`` to the instrument's name."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return classifier.fit(np.stack([timbre(sound) for sound in sounds]), list(instruments))


def instrument_accuracy(classifier: Pipeline, sounds: Sequence[Sound], instruments: Sequence[str]) -> float:
    """Share of sounds whose instrument the classifier names."""
    named = classifier.predict(np.stack([timbre(sound) for sound in sounds]))
    return float(np.mean(named == np.asarray(instruments)))


def measure_fidelity(
    model: GeneratingModel,
    tracks: Sequence[Track],
    sound_of: Callable[[Track], Sound],
    clips: int,
    on_progress: Progress | None = None,
) -> ModelFidelity:
    """Encodes and decodes every decoy, and generates ``clips`` clips from captions of
    decoys, each instrument equally often.

    Args:
        tracks: tracks whose ``extra`` names an ``instrument`` that stands in the caption.
        sound_of: the sound of a track, at the model's rate.
    """
    report = on_progress or (lambda what, done, total: None)

    def listen(what: str, chosen: Sequence[Track], hear: Callable[[Track], Sound]) -> list[Sound]:
        sounds = []
        for i, track in enumerate(chosen, start=1):
            sounds.append(hear(track))
            report(what, i, len(chosen))
        return sounds

    def through(track: Track) -> Sound:
        samples = torch.from_numpy(sound_of(track).samples)[None]
        return Sound(model.decode(model.encode(samples))[0].cpu().numpy(), model.encoding.rate_hz)

    training = [track for track in tracks if track.trained][::2]
    decoys = [track for track in tracks if not track.trained]
    instruments = sorted({track.extra["instrument"] for track in tracks})
    classifier = fit_instrument_classifier(
        listen("hearing training tracks", training, sound_of),
        [track.extra["instrument"] for track in training],
    )
    named = [track.extra["instrument"] for track in decoys]
    originals, decoded = (
        listen("hearing decoys", decoys, sound_of),
        listen("encoding and decoding", decoys, through),
    )
    asked = [instruments[i % len(instruments)] for i in range(clips)]
    generated = []
    for i, instrument in enumerate(asked):
        track = decoys[i % len(decoys)]
        prompt = track.caption.replace(f"for {track.extra['instrument']}", f"for {instrument}")
        sound = model.decode(model.sample(prompt, model.encoding.segment_s, seed=i))[0].cpu().numpy()
        generated.append(Sound(sound, model.encoding.rate_hz))
        report("generating clips", i + 1, clips)
    return ModelFidelity(
        tracks=len(decoys),
        chroma_correlation=float(
            np.mean([chroma_correlation(a, b) for a, b in zip(originals, decoded, strict=True)])
        ),
        instrument_before=instrument_accuracy(classifier, originals, named),
        instrument_after=instrument_accuracy(classifier, decoded, named),
        clips=clips,
        instrument_generated=instrument_accuracy(classifier, generated, asked),
    )
