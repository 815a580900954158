"""Hidden states by hooks, for adapters whose blocks return them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def outputs_of(module: nn.Module, names: Sequence[str], run: Callable[[], object]) -> list[Tensor]:
    """What the submodules of these names return while ``run`` goes through them once, without gradients; of
    several results the first.
    """
    found: list[Tensor] = []

    def keep(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        found.append(output if isinstance(output, Tensor) else output[0])

    handles = [module.get_submodule(name).register_forward_hook(keep) for name in names]
    try:
        with torch.inference_mode():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found
