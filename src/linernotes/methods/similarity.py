"""Resemblance: how near each segment is to the query in sound, in latents, in the model's hidden states, or
by chance.

None of these asks what the model learned. An attribution that does not beat them has not shown that it sees
inside it. Sound is decoded from the catalogue's latents, so that query and segments have gone through the
same codec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays, hash_files, hash_json
from linernotes.audio import Sound
from linernotes.catalog.workplace import Opened, Workplace
from linernotes.descriptors import BANDS, timbre, tonal
from linernotes.draws import random_for
from linernotes.errors import LinernotesError, UsageError
from linernotes.index.space import code_shares
from linernotes.jobs.shards import in_shards
from linernotes.methods.contract import TENSOR_BYTES, Passes, Prepared, Query, Scores, Work, draws_together
from linernotes.methods.items import Pairs, sweep_items
from linernotes.models.contract import GenerativeModel, HiddenStatesModel, device_of
from linernotes.models.workers import in_order
from linernotes.settings.methods import (
    ActivationsSettings,
    ClapSettings,
    LatentSettings,
    MethodSettings,
    RandomSettings,
    SimilaritySettings,
    TimbreSettings,
    TonalSettings,
)

SEGMENTS_IN_CHUNK = 64
CLAP_WINDOW_S = 10.0
TIMBRE_NUMBERS = 3 * BANDS
DESCRIBED_NUMBERS = 300  # timbre and tonal content of one segment


def score_latent(prepared: Prepared, queries: list[Query], settings: LatentSettings, folder: Path) -> Scores:
    """Cosine of the latents' mean and deviation over frames, each dimension standardised over the training
    segments.
    """
    every = torch.split(torch.arange(len(prepared.catalogue)), SEGMENTS_IN_CHUNK)
    codes = prepared.model.encoding.codes
    features_nf = torch.cat(
        [latent_statistics(prepared.catalogue.latents(rows.numpy()), codes) for rows in every]
    )
    return _cosines(
        prepared, features_nf, torch.cat([latent_statistics(q.latents_ct[None], codes) for q in queries])
    )


def latent_statistics(latents_nct: Tensor, codes: int = 0) -> Tensor:
    """Mean and deviation over frames, ``[N, 2 C]``; of codes how often each one stands, ``[N, C x
    codes]``.
    """
    if codes:
        return code_shares(latents_nct, codes)
    return torch.cat([latents_nct.mean(dim=2), latents_nct.std(dim=2)], dim=1)


def score_timbre(prepared: Prepared, queries: list[Query], settings: TimbreSettings, folder: Path) -> Scores:
    """Cosine of ``descriptors.timbre``, standardised over the training segments."""
    features_nf = _heard(prepared)[:, :TIMBRE_NUMBERS]
    return _cosines(prepared, features_nf, _query_features(prepared, queries, timbre))


def score_tonal(prepared: Prepared, queries: list[Query], settings: TonalSettings, folder: Path) -> Scores:
    """Cosine of ``descriptors.tonal`` in the best of twelve transpositions of the query."""
    features_nf = _heard(prepared)[:, TIMBRE_NUMBERS:]
    turned = _query_features(prepared, queries, tonal)  # [Q, 12, F]
    return Scores((turned @ features_nf.T).amax(dim=1).double().numpy()[:, prepared.rows])


def score_clap(prepared: Prepared, queries: list[Query], settings: ClapSettings, folder: Path) -> Scores:
    """Cosine of CLAP embeddings of windows of 10 s, cut here (the checkpoint's own extractor crops at
    random).
    """
    embed, name = load_clap(settings.clap)
    features_nf = _sound_features(prepared, f"clap {name}", embed)
    return _cosines(prepared, features_nf, _query_features(prepared, queries, embed), standardise=False)


def load_clap(folder: str) -> tuple[Callable[[Sound], np.ndarray], str]:
    """An embedding of sound from a local CLAP checkpoint, and the checkpoint's hash.

    Raises:
        UsageError: no folder was given.
        LinernotesError: the folder is not a CLAP checkpoint in safetensors.
    """
    path, name = Path(folder), hash_clap(folder)
    from transformers import ClapFeatureExtractor, ClapModel

    try:
        model = ClapModel.from_pretrained(path, local_files_only=True, use_safetensors=True).eval()
        extractor = ClapFeatureExtractor.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise LinernotesError(
            f"{path} is no CLAP checkpoint ({str(error).splitlines()[0][:160]}): give another folder"
        ) from None
    rate = extractor.sampling_rate
    window = round(CLAP_WINDOW_S * rate)

    def embed(sound: Sound) -> np.ndarray:
        samples = sound.converted(rate, 1).samples[0]
        windows = [samples[start : start + window] for start in range(0, max(1, len(samples)), window)]
        whole = [w for w in windows if len(w) * 2 >= window] or windows[:1]
        embeddings = []
        # one by one: of several, a fused checkpoint's extractor treats one at random as longer
        for one in whole:
            inputs = extractor(one, sampling_rate=rate, return_tensors="pt", padding="repeatpad")
            with torch.inference_mode():
                found = model.get_audio_features(**inputs)
            embeddings.append(found if isinstance(found, Tensor) else found.pooler_output)
        return torch.cat(embeddings).mean(dim=0).numpy()

    return embed, name


def hash_clap(folder: str) -> str:
    """Hash of a CLAP checkpoint's files.

    Raises:
        UsageError: no folder was given.
        LinernotesError: the folder is not a CLAP checkpoint in safetensors.
    """
    if not folder:
        raise UsageError(
            "method clap needs a checkpoint: give its folder with --clap, as transformers saves it"
        )
    path = Path(folder)
    if not (path / "config.json").exists() or not any(path.glob("*.safetensors")):
        raise LinernotesError(
            f"{path} is no CLAP checkpoint (config.json and safetensors): give a folder transformers saved"
        )
    return hash_files([p for p in path.iterdir() if p.suffix in {".safetensors", ".json"}], path)


def score_activations(
    prepared: Prepared, queries: list[Query], settings: ActivationsSettings, folder: Path
) -> Scores:
    """Minus the squared distance of the blocks' outputs, each position scaled to length 1, mean over blocks,
    positions and draws; query and segments get the same noise.
    """
    draws = prepared.draws(settings.draws, settings.seed)
    model, here = prepared.model, draws.to(device_of(prepared.model))
    hidden_qkd = [block_outputs(model, (query.items(model, len(draws)), here)) for query in queries]

    look = partial(nearness, hidden_qkd=hidden_qkd, each=len(draws))
    header = {
        **prepared.made_from(draws),
        "queries": [
            hash_json([q.name, q.prompt, q.seconds, hash_arrays({"latents": q.latents_ct.numpy()})])
            for q in queries
        ],
    }
    cosine_nq = sweep_items(
        prepared, draws, settings.batch_size, look, folder, "activations", header, prepared.rows
    )["nearness_nq"]
    return Scores((2 * cosine_nq.double() - 2).T.numpy(), draws)


def nearness(
    worker: GenerativeModel, pairs: Pairs, hidden_qkd: Sequence[Tensor], each: int
) -> dict[str, Tensor]:
    """Mean cosine of items' block outputs with the queries', over ``each`` item's draws."""
    hidden_bd = block_outputs(worker, pairs)
    items = hidden_bd.reshape(-1, each, hidden_bd.shape[1])
    return {"nearness_nq": torch.stack([(items * h).sum(dim=(1, 2)) for h in hidden_qkd], dim=1) / each}


def block_outputs(model: GenerativeModel, pairs: Pairs) -> Tensor:
    """Outputs of the blocks ``[B, D]``, scaled so that the dot product of two rows is the mean cosine of
    their positions.
    """
    assert isinstance(model, HiddenStatesModel)
    hidden = model.hidden_states(*pairs)
    units = [torch.nn.functional.normalize(hidden_bpf, dim=-1) for hidden_bpf in hidden]
    scaled = [unit_bpf.flatten(1) / unit_bpf.shape[1] ** 0.5 for unit_bpf in units]
    return torch.cat(scaled, dim=1) / len(scaled) ** 0.5


def score_random(prepared: Prepared, queries: list[Query], settings: RandomSettings, folder: Path) -> Scores:
    """Standard normal numbers; the same query and seed, the same numbers."""
    rows = [
        torch.randn(len(prepared.catalogue), generator=random_for(f"random {q.name}", settings.seed))
        for q in queries
    ]
    return Scores(torch.stack(rows).double().numpy()[:, prepared.rows])


def _cosines(
    prepared: Prepared, features_nf: Tensor, features_qf: Tensor, standardise: bool = True
) -> Scores:
    if standardise:
        trained = features_nf[torch.from_numpy(prepared.catalogue.training_rows)]
        mean, deviation = trained.mean(dim=0), trained.std(dim=0, correction=0).clamp_min(1e-6)
        features_nf, features_qf = (features_nf - mean) / deviation, (features_qf - mean) / deviation
    n, q = (torch.nn.functional.normalize(x.double(), dim=1) for x in (features_nf, features_qf))
    return Scores((q @ n.T).numpy()[:, prepared.rows])


def describe_both(sound: Sound) -> np.ndarray:
    """Timbre, then tonal content as it sounds: decoding is what costs, so a sound is decoded once for
    both.
    """
    return np.concatenate([timbre(sound), tonal(sound)[0]])


def _heard(prepared: Prepared) -> Tensor:
    return _sound_features(prepared, "timbre and tonal", describe_both)


def _sound_features(prepared: Prepared, name: str, describe: Callable[[Sound], np.ndarray]) -> Tensor:
    """``describe`` of every segment's decoded sound ``[N, F]``, from the prepared folder or computed now."""
    catalogue, model = prepared.catalogue, prepared.model
    header = {"codec": model.encoding.codec_hash, "catalogue": catalogue.hash, "described": name}

    report = prepared.progress("describing the catalogue's sound")
    return in_shards(
        prepared.folder / f"features-{hash_json(header)}.safetensors",
        "sound features",
        header,
        len(catalogue),
        SEGMENTS_IN_CHUNK,
        _Described(prepared.workplace, describe),
        None,  # a description may hold a model of its own, which is opened here
        (lambda done: report(done, len(catalogue))) if report else None,
    )["features_nf"]


@dataclass(frozen=True)
class _Described:
    """The same as workers take it."""

    setup: Workplace
    describe: Callable[[Sound], np.ndarray]

    @property
    def paths(self) -> Sequence[Path]:
        return self.setup.paths

    def compute(self, worker: Opened, rows: slice) -> dict[str, Tensor]:
        model, catalogue = worker
        latents_nct = catalogue.latents(np.arange(rows.start, rows.stop))
        jobs = zip(latents_nct, catalogue.seconds_n[rows], strict=True)
        described = in_order(model, jobs, lambda m, job: describe_sound(m, *job, self.describe))
        return {"features_nf": torch.stack(list(described))}


def _query_features(
    prepared: Prepared, queries: list[Query], describe: Callable[[Sound], np.ndarray]
) -> Tensor:
    return torch.stack([describe_sound(prepared.model, q.latents_ct, q.seconds, describe) for q in queries])


def describe_sound(
    model: GenerativeModel, latents_ct: Tensor, seconds: float, describe: Callable[[Sound], np.ndarray]
) -> Tensor:
    """``describe`` of a segment's decoded sound, cut to its length."""
    samples = (
        model.decode(latents_ct[None])[0].cpu().numpy()[:, : max(1, round(seconds * model.encoding.rate_hz))]
    )
    return torch.from_numpy(np.asarray(describe(Sound(samples, model.encoding.rate_hz)), dtype=np.float32))


def work_of_sound(prepared: Prepared, settings: SimilaritySettings, _query: Query) -> Work:
    """Timbre, tonal and CLAP. Once: every segment is decoded and described."""
    unit = "clap" if isinstance(settings, ClapSettings) else "sound"
    return Work(
        {unit: len(prepared.catalogue)},
        {},
        {unit: 1},
        TENSOR_BYTES * len(prepared.catalogue) * DESCRIBED_NUMBERS,
    )


def passes_of_activations(prepared: Prepared, settings: ActivationsSettings, _queries: int = 1) -> Passes:
    """Forward passes whose hidden states are kept, all draws of a segment at once."""
    return Passes("hidden", together=draws_together(prepared, settings))


def work_of_activations(prepared: Prepared, settings: ActivationsSettings, _query: Query) -> Work:
    """One pass over the segments for all queries of a run."""
    return Work({}, {"activation": len(prepared.rows) * settings.draws})


def no_work(_prepared: Prepared, _settings: MethodSettings, _query: Query) -> Work:
    """Nothing worth counting."""
    return Work()
