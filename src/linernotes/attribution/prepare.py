"""What is computed once for a model and a catalogue, and kept: the noise bank, the base item losses, the Fisher."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from linernotes.artefacts import hash_json
from linernotes.catalog.store import Catalogue
from linernotes.curvature.diagonal import fit_diagonal_fisher
from linernotes.losses import item_losses
from linernotes.methods.contract import Prepared, Progress
from linernotes.models.contract import GenerativeModel
from linernotes.noise import draw_bank
from linernotes.settings import AttributionSettings


def cache_folder() -> Path:
    """Where prepared artefacts are kept: ``LINERNOTES_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("LINERNOTES_CACHE") or platformdirs.user_cache_dir("linernotes"))


def prepare(
    model: GenerativeModel,
    catalogue: Catalogue,
    settings: AttributionSettings,
    cache: Path | None = None,
    on_progress: Progress | None = None,
) -> Prepared:
    """Reads or computes what attributing any query needs. Artefacts are named by the hashes of all they depend on."""
    catalogue.require(model.codec_hash, model.text_hash, model.shape.frames, model.name)
    bank = draw_bank(settings.draws, model.shape.latent_channels, model.shape.frames, settings.seed)
    folder = (cache or cache_folder()) / f"{model.weights_hash}-{catalogue.hash}"

    def told(what: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: on_progress(what, done, total)) if on_progress else None

    base = item_losses(
        model, catalogue, bank, {"base": {}}, folder / f"base-{bank.hash}",
        batch_size=settings.batch_size, on_progress=told("base losses (once per model)"),
    )["base"]  # fmt: skip
    name = hash_json({"draws": settings.fisher_draws, "seed": settings.seed})
    fisher = fit_diagonal_fisher(
        model, catalogue, settings.fisher_draws, settings.seed, folder / f"fisher-{name}.safetensors",
        settings.batch_size, told("Fisher (once per model)"),
    )  # fmt: skip
    return Prepared(model, catalogue, bank, base, fisher)
