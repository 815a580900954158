"""As many passes at once as there is memory for."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

from linernotes.artefacts import read_json, write_json
from linernotes.errors import LinernotesError
from linernotes.losses import items_of
from linernotes.methods.contract import Passes, Prepared, weight_bytes
from linernotes.methods.similarity import block_outputs
from linernotes.models.contract import GenerativeModel, device_of
from linernotes.models.passes import bytes_held, fitting, memory_of
from linernotes.models.workers import at_once
from linernotes.settings.methods import MethodSettings

ON_GPU = 512  # passes at once there, unless another number is asked for
GB = 1e9

Settings = TypeVar("Settings", bound=MethodSettings)


def in_room(
    prepared: Prepared, settings: Settings, passes: Passes | None, beside: float = 0, begun: bool = False
) -> Settings:
    """The same settings with as many passes at once as half of the memory holds, ``batch_size`` at the most;
    on a GPU ``ON_GPU``, where that is as by default. Of *all* memory, so that a run that is taken up again
    takes the same number and ends in the same bytes.

    What a pass holds is measured once for a model and kept with what else is.

    Args:
        beside: bytes that the method holds besides.
        begun: it is the end of a run, which is not to be lost: nothing is refused.

    Raises:
        LinernotesError: free memory does not hold so many.
    """
    if passes is None:
        return settings
    model = prepared.model
    device, workers = device_of(model), 1 if passes.alone else at_once(model)
    most = settings.batch_size
    if device.type == "cuda" and "batch_size" not in settings.model_fields_set:
        most = ON_GPU
    each, memory = bytes_of_pass(prepared, passes), memory_of(device)
    gradient = weight_bytes(prepared, passes.layers) if passes.formed else 0
    size = fitting(most, each, gradient, memory.total // workers)
    count = max(size, passes.together)
    # each worker's gradient, their sum, and one that waits to be added to it
    held = workers * (count * each + gradient) + 2 * gradient + round(beside)
    if held > memory.free and not begun:
        raise LinernotesError(_too_little(model.name, passes, count, workers, held, memory.free))
    return settings.model_copy(update={"batch_size": size})


def bytes_of_pass(prepared: Prepared, passes: Passes) -> int:
    """What one pass of the model over a segment on one draw holds, measured once."""
    kind = f"{passes.kind}-{passes.layers}" if passes.layers else passes.kind
    path = prepared.folder / f"pass-{kind}.json"
    if path.exists():
        return int(read_json(path, "what a pass holds")["bytes"])
    model = prepared.model
    pair = items_of(model, prepared.catalogue, [0]), prepared.draws(1, 0).to(device_of(model))

    def one(worker: GenerativeModel) -> object:
        return block_outputs(worker, pair) if passes.kind == "hidden" else worker.loss_bt(*pair)

    trained = model.layers(passes.layers).keys() if passes.layers else ()
    held = bytes_held(model, one, trained)
    with suppress(OSError):  # a cache that cannot be written to
        write_json(path, {"bytes": held})
    return held


def _too_little(name: str, passes: Passes, count: int, workers: int, held: int, free: int) -> str:
    what = "one pass" if count == 1 else f"{count} passes"
    what += ", which go together," if count == passes.together > 1 else ""
    at_once = f", {workers} times at once," if workers > 1 else ""
    remedies = ["end other programs"]
    remedies += ["give a smaller --batch-size"] if count > passes.together else []
    remedies += [f"give fewer {passes.fewer}"] if count == passes.together > 1 else []
    remedies += ["set OMP_NUM_THREADS=1, for one at a time"] if workers > 1 else []
    return (
        f"{what} of {name}{at_once} and what is kept meanwhile take {held / GB:.1f} GB of memory, and "
        f"{free / GB:.1f} GB are free: {', '.join(remedies)}, or take a machine with more"
    )
