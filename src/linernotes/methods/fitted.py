"""Curvature of a model and a catalogue, fitted once and kept in the prepared folder, and what it costs."""

from __future__ import annotations

from torch import Tensor

from linernotes.artefacts import hash_json
from linernotes.curvature.diagonal import FITTED, fit_diagonal_fisher
from linernotes.curvature.ekfac import Ekfac, fit_ekfac
from linernotes.curvature.per_item import matrix_layers, sides
from linernotes.methods.contract import TENSOR_BYTES, Prepared
from linernotes.settings.methods import AbuEkfacSettings, EkfacSettings


def fisher_of(prepared: Prepared, draws: int, seed: int, batch_size: int) -> dict[str, Tensor]:
    """The diagonal Fisher of the model and catalogue, from the prepared folder or fitted now."""
    path = (
        prepared.folder / f"fisher-{hash_json({'draws': draws, 'seed': seed, 'layers': FITTED})}.safetensors"
    )
    on_progress = prepared.progress("Fisher (once per model)")
    return fit_diagonal_fisher(prepared.model, prepared.catalogue, draws, seed, path, batch_size, on_progress)


def ekfac_of(prepared: Prepared, settings: AbuEkfacSettings | EkfacSettings, layers: str) -> Ekfac:
    """EK-FAC of the model and catalogue, from the prepared folder or fitted now."""
    made_from = {
        "layers": layers,
        "fisher": settings.fisher,
        "draws": settings.fisher_draws,
        "seed": settings.seed,
    }
    return fit_ekfac(
        prepared.model,
        prepared.catalogue,
        layers,
        settings.fisher,
        settings.fisher_draws,
        settings.seed,
        prepared.folder / f"ekfac-{hash_json(made_from)}",
        settings.batch_size,
        prepared.progress("EK-FAC (once per model)"),
    )


def ekfac_units(prepared: Prepared, settings: AbuEkfacSettings | EkfacSettings) -> dict[str, float]:
    """The two passes over the training segments that EK-FAC is fitted in."""
    passes = prepared.n_training * settings.fisher_draws
    return {"covariance": passes, "value": passes}


def factor_bytes(prepared: Prepared, layers: str) -> int:
    """Bytes of EK-FAC's two bases and its values, over all linear layers of a kind."""
    matrices = matrix_layers(prepared.model.network, prepared.model.layers(layers).keys()).values()
    return TENSOR_BYTES * sum(i * i + o * o + i * o for i, o in map(sides, matrices))
