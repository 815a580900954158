"""Weights that a training keeps on its way, for methods that look at them (TracIn)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from linernotes.artefacts import load_tensors, save_tensors

KEPT = "checkpoints"
CHECKPOINT = "denoiser of a training checkpoint"


def write_checkpoint(folder: Path, step: int, weights: Mapping[str, Tensor], learning_rate: float) -> None:
    """Keeps the denoiser's averaged weights after a step, in the model's ``folder``."""
    path = folder / KEPT / f"step-{step:08d}.safetensors"
    save_tensors(path, weights, CHECKPOINT, {"learning_rate": learning_rate, "step": step})


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints that the training of the model in ``folder`` kept, in order."""
    return sorted((folder / KEPT).glob("step-*.safetensors"))


def read_checkpoints(folder: Path) -> Iterator[tuple[dict[str, Tensor], float]]:
    """The denoiser's averaged weights at the checkpoints a training kept, by parameter name, with the
    learning rates there; one after the other.
    """
    for path in checkpoint_files(folder):
        tensors, header = load_tensors(path, CHECKPOINT)
        yield tensors, float(header["learning_rate"])
