"""The diagonal Fisher: for every weight, the mean over training items and draws of its squared loss
gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from linernotes.catalog.store import Catalogue
from linernotes.curvature.fitting import Drawn, fit_sums
from linernotes.curvature.per_item import item_loss_b, layer_gradients, observe_items
from linernotes.draws import Batch, Draws
from linernotes.models.contract import GenerativeModel

FITTED = ["all", "output"]


def fit_diagonal_fisher(
    model: GenerativeModel,
    catalogue: Catalogue,
    draws: int,
    seed: int,
    path: Path,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """F_p = E_{i, t, eps} [ (dL(z_i; t, eps) / d theta_p)^2 ] over the training segments (empirical Fisher;
    Wang et al. 2024, eq. 5), for every parameter of the model's layers, its output layer among them, by name.

    A draw is one sample of the loss: gradients are squared before they are averaged over items and draws.
    Each segment has its own ``draws`` draws, fixed by ``seed``. Written to ``path``; a finished one is read
    back, a killed one resumed.

    Raises:
        LinernotesError: no training segments, catalogue of another model, or ``path`` was made from something
            else.
    """

    def squares(worker: GenerativeModel, drawn: Drawn) -> dict[str, Tensor]:
        return squared_gradients(worker, drawn.items, drawn.draws)

    sums = fit_sums(
        model,
        catalogue,
        draws,
        seed,
        path,
        "diagonal Fisher, summed",
        {"layers": FITTED},
        squares,
        batch_size,
        on_progress,
    )
    return {name: total / (len(catalogue.training_rows) * draws) for name, total in sums.items()}


def squared_gradients(model: GenerativeModel, items: Batch, draws: Draws) -> dict[str, Tensor]:
    """Sum over the batch of each item's squared gradient, by parameter name."""
    sums: dict[str, Tensor] = {}

    def see(prefix: str, layer: nn.Module, given: Tensor, gradient: Tensor) -> None:
        for name, gradient_ip in layer_gradients(prefix, layer, given, gradient).items():
            sums[name] = gradient_ip.square().sum(dim=0)

    names = [name for kind in FITTED for name in model.layers(kind)]
    observe_items(model, names, see, item_loss_b, items, draws)
    return sums


def precondition(gradient: dict[str, Tensor], fisher: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
    """(F + lambda)^-1 g, with lambda = ``damping`` times the mean of F in each layer (each parameter
    tensor).
    """
    return {
        name: g / (fisher[name].to(g.device) + damping * fisher[name].mean().to(g.device))
        for name, g in gradient.items()
    }
