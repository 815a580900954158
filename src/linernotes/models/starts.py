"""What a training starts from: a model untrained, or an adapter to it that changes nothing yet."""

from __future__ import annotations

from pathlib import Path

from linernotes.errors import LinernotesError, UsageError
from linernotes.models.adapted import write_new_adapter, write_untrained_adapter
from linernotes.models.adapter_folder import is_adapter, read_base
from linernotes.models.contract import POWERS, ObjectiveModel, TrainableModel
from linernotes.models.opening import family_of, open_model
from linernotes.settings.training import NewModelSettings


def open_trainable(folder: Path) -> TrainableModel:
    """The model in a folder, to be trained or trained anew.

    Raises:
        LinernotesError: it cannot be trained here.
    """
    model = open_model(folder)
    if not isinstance(model, TrainableModel):
        raise LinernotesError(f"{model.name} lacks {POWERS[TrainableModel]}: train it where it was made")
    return model


def write_untrained_copy(model: Path, folder: Path, seed: int) -> None:
    """The model in ``model`` with new random weights in the parts that are trained; an adapter as it was
    before its training.
    """
    if is_adapter(model):
        write_untrained_adapter(open_model(Path(read_base(model).folder)), model, folder, seed)
    else:
        family_of(model).write_untrained(model, folder, seed)


def write_start(model: Path, folder: Path, chosen: NewModelSettings, seed: int, name: str = "") -> None:
    """What training starts from: the model in ``model`` untrained, or an adapter to it that changes nothing.

    Args:
        name: what people call the model; its folder's if empty.

    Raises:
        UsageError: models of this family have no objective to choose, or the adapter's rank is too high.
    """
    if chosen.adapter:
        if chosen.objective:
            raise UsageError(
                "an adapter keeps the objective of the model it changes: leave out --objective, or --adapter"
            )
        opened = open_trainable(model)
        opened.name = name or opened.name
        write_new_adapter(opened, model, folder, chosen.rank, chosen.adapter == "dora", seed)
        return
    write_untrained_copy(model, folder, seed)
    if chosen.objective:
        family = family_of(model)
        if is_adapter(model) or not issubclass(family, ObjectiveModel):
            raise UsageError(
                f"{model.name} has no objective to choose from: leave out --objective, or give another --init"
            )
        family.write_objective(folder, chosen.objective)
