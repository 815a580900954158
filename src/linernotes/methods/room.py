"""As many passes at once as there is memory for."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from linernotes.artefacts import read_json, write_json
from linernotes.errors import LinernotesError
from linernotes.losses import items_of
from linernotes.methods.contract import Prepared
from linernotes.models.contract import device_of
from linernotes.models.passes import fitting, free_bytes, pass_bytes
from linernotes.models.workers import at_once
from linernotes.settings.methods import (
    DasSettings,
    MethodSettings,
    MucsSettings,
    ReadoutSettings,
    RescoringSettings,
    SimilaritySettings,
)

ON_GPU = 512  # passes at once there, unless another number is asked for
GB = 1e9

Settings = TypeVar("Settings", bound=MethodSettings)


class Passes(NamedTuple):
    """What passes a method makes."""

    backward: bool  # not forward alone
    together: int = 1  # that only go at once: all draws of a segment that is looked at whole


FORWARD = Passes(backward=False)


def passes_of(settings: MethodSettings) -> Passes | None:
    """The passes that a method makes; None if it makes none."""
    if not settings.item_draws:
        return None
    if isinstance(settings, ReadoutSettings | SimilaritySettings):
        return Passes(False, settings.item_draws)
    if isinstance(settings, MucsSettings):
        return Passes(True, max(settings.gradient_draws, settings.retain_batch))
    whole = not isinstance(settings, DasSettings | RescoringSettings) or (
        isinstance(settings, RescoringSettings) and settings.score_by == "first-order"
    )
    return Passes(True, max(1, settings.item_draws // settings.bands) if whole else 1)


def in_room(prepared: Prepared, settings: Settings, passes: Passes | None) -> Settings:
    """The same settings with as many passes at once as half of free memory holds, ``batch_size`` at the most;
    on a GPU ``ON_GPU``, where that is as by default.

    What a pass holds is measured once for a model and kept with what else is.

    Raises:
        LinernotesError: there is no room for the passes that must go together.
    """
    if passes is None:
        return settings
    model = prepared.model
    device, workers = device_of(model), at_once(model)
    most, together = settings.batch_size, passes.together if model.random else 1
    if device.type == "cuda" and most == MethodSettings.model_fields["batch_size"].default:
        most = ON_GPU
    each, free = bytes_of_pass(prepared, passes.backward), free_bytes(device)
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    beside = weights if passes.backward else 0
    if (least := workers * (together * each + beside)) > free:
        raise LinernotesError(_too_little(model.name, together, workers, least, free))
    return settings.model_copy(update={"batch_size": fitting(most, each, beside, free // workers)})


def bytes_of_pass(prepared: Prepared, backward: bool) -> int:
    """What one pass of the model over a segment on one draw holds, measured once."""
    kind = "backward" if backward else "forward"
    path = prepared.folder / f"pass-{kind}.json"
    if not path.exists():
        model = prepared.model
        item, draw = items_of(model, prepared.catalogue, [0]), prepared.draws(1, 0).to(device_of(model))
        write_json(path, {"bytes": pass_bytes(model, item, draw, backward)})
    return int(read_json(path, f"a {kind} pass")["bytes"])


def _too_little(name: str, together: int, workers: int, least: int, free: int) -> str:
    passes = "one pass" if together == 1 else f"{together} passes, which go together,"
    at_once = f" {workers} times at once" if workers > 1 else ""
    remedies = ["end other programs"]
    remedies += ["give fewer --draws"] if together > 1 else []
    remedies += ["set OMP_NUM_THREADS=1, for one at a time"] if workers > 1 else []
    return (
        f"{passes} of {name}{at_once} take {least / GB:.1f} GB of memory, and {free / GB:.1f} GB are free: "
        f"{', '.join(remedies)}, or take a machine with more"
    )
