"""The model contract: all that linernotes asks of a generative model. To support a new family, write a class
with the methods of ``GenerativeModel``; no other room knows which model it works on (docs/add-a-model.md).

Sound is ``[B, channels, samples]`` float32 in -1..1. Latents are ``[B, C, T]``, real numbers or codes of C
codebooks; T counts *frames*. *Items* and *draws* are the model's own: other rooms index and move them, and
look at nothing inside.

Beyond the contract lie powers, each a small protocol. A method asks for those it needs; a model without one
says so by not having it, and the other methods run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from linernotes.draws import EVERY_LEVEL, Batch, Draws, Levels
from linernotes.models.encoding import Encoding
from linernotes.models.objectives import PathKind

OnStep = Callable[[int, int], None]  # done, to do


@runtime_checkable
class GenerativeModel(Protocol):
    """A text-to-music model, ready in fp32, evaluation mode, without gradients."""

    name: str
    encoding: Encoding
    weights_hash: str  # of the trained weights that item losses depend on
    network: nn.Module  # holds every layer that can be unlearned; each layer is called once in a pass
    random: bool  # whether the item loss depends on draws; where not, one draw is as good as many
    layer_kinds: Sequence[str]  # the kinds of layers it has, "all" and "output" among them

    def encode(self, sound_bcs: Tensor) -> Tensor:
        """Sound of one segment's length -> latents ``[B, C, T]``, without randomness (the posterior's
        mode).
        """

    def decode(self, latents_bct: Tensor) -> Tensor:
        """Latents -> sound ``[B, channels, samples]``."""

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> text embeddings ``[B, L, D]`` of the frozen text encoder; what a catalogue stores."""

    def items(self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor) -> Batch:
        """Segments as the loss takes them, on the model's device: latents and conditioning, once for all
        passes.
        """

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        levels: Levels = EVERY_LEVEL,
        order: Tensor | None = None,
    ) -> Draws:
        """``count`` draws from a part of the noise levels; ``generator`` alone decides which.

        Args:
            order: a permutation: its i-th entry says which of the noise levels, counted upwards, draw i gets.
                As they come, upwards, if None.
        """

    def loss_bt(self, items: Batch, draws: Draws) -> Tensor:
        """The training loss of each item under its draw, one value per frame ``[B, T]``; its mean over frames
        is the item loss.

        Nothing else may be random, and no item's loss may depend on the others in its batch.
        """

    def draw_targets(self, count: int, generator: torch.Generator) -> Batch:
        """The randomness of ``sampled_loss_b`` beyond the draws."""

    def sampled_loss_b(self, items: Batch, draws: Draws, targets: Batch) -> Tensor:
        """The item loss against targets drawn from the model's own output, ``[B]``, up to what has no
        gradient: the mean outer product of its gradients is the Gauss-Newton (true Fisher) matrix of the item
        loss.
        """

    def layers(self, kind: str) -> dict[str, nn.Parameter]:
        """The network's parameters of one kind, by their name in ``network``.

        Raises:
            UsageError: not one of ``layer_kinds``.
        """


@runtime_checkable
class PredictingModel(GenerativeModel, Protocol):
    """A model that predicts noise, a velocity or a flow: its item loss is the squared error, a mean over
    channels.
    """

    def prediction(self, items: Batch, draws: Draws) -> Tensor:
        """The network's output, ``[B, C, T]``."""

    def target(self, items: Batch, draws: Draws) -> Tensor:
        """What it should be, ``[B, C, T]``."""


@dataclass(frozen=True)
class Readout:
    """A linear layer between a model's last features and its output, and nothing but linear maps after it:
    changing the layer's weight by D changes the output by ``projection_co @ D @ given``, frame by frame,
    exactly.
    """

    layer: str  # its name in ``network``
    projection_co: Tensor  # [latent channels, outputs of the layer]
    skipped: int  # positions that stand before the first frame


@runtime_checkable
class ReadoutModel(PredictingModel, Protocol):
    """A model whose prediction is linear in the weights of one of its layers."""

    def readout(self) -> Readout:
        """That layer."""


@dataclass(frozen=True)
class HeadsPass:
    """What the heads of a model of codes are given and return in one pass."""

    given_bktf: Tensor  # of each codebook's head, at the place where it foretells a frame
    logits_bktv: Tensor
    codes_bkt: Tensor  # what stands there
    counts_bt: Tensor  # 1, or 0 for frames that are no part of the item loss


@runtime_checkable
class SoftmaxReadoutModel(GenerativeModel, Protocol):
    """A model of codes whose logits are given by a linear layer without bias for each codebook; its item loss
    is their cross-entropy, a mean over codebooks.
    """

    heads: Sequence[str]  # these layers' names in ``network``, one a codebook

    def heads_pass(self, items: Batch) -> HeadsPass:
        """One pass forward."""


AnyReadout = ReadoutModel | SoftmaxReadoutModel


@runtime_checkable
class HiddenStatesModel(GenerativeModel, Protocol):
    """A model whose hidden states can be compared."""

    def hidden_states(self, items: Batch, draws: Draws) -> list[Tensor]:
        """The outputs of its blocks, each ``[B, positions, features]``."""


@runtime_checkable
class GeneratingModel(GenerativeModel, Protocol):
    """A model that generates here, and not only elsewhere."""

    def sample(self, prompt: str, seconds: float, seed: int, on_step: OnStep | None = None) -> Tensor:
        """Latents ``[1, C, T]`` from a prompt."""


@runtime_checkable
class TrainableModel(GenerativeModel, Protocol):
    """A model that can be trained anew here: what ``train`` and retrain banks need."""

    def trained_parts(self) -> nn.ModuleDict:
        """The modules that training moves, the network among them, by the name of their folder."""

    def training_items(
        self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor, unconditional_b: Tensor
    ) -> Batch:
        """``items`` with gradients to the trained parts, and without conditioning where
        ``unconditional_b``.
        """

    def save_parts(self, folder: Path) -> None:
        """Writes the trained parts into a folder that holds the rest of the model."""

    @staticmethod
    def write_untrained(model: Path, folder: Path, seed: int) -> None:
        """Writes the model in ``model`` with new random weights in its trained parts."""


@runtime_checkable
class ObjectiveModel(Protocol):
    """A trainable model that can be trained with one of several objectives."""

    @staticmethod
    def write_objective(folder: Path, path: PathKind) -> None:
        """Says of the untrained model in ``folder`` which one."""


@runtime_checkable
class PlacedModel(GenerativeModel, Protocol):
    """A model whose training may have told it where in its recording a segment lies."""

    placed: bool  # whether it did

    def items_at(self, latents_bct: Tensor, text_bld: Tensor, start_b: Tensor, whole_b: Tensor) -> Batch:
        """``items`` of segments that begin at ``start_b`` of recordings of ``whole_b``, in seconds."""


def is_placed(model: GenerativeModel) -> bool:
    """Whether training told the model where in its recording a segment lies."""
    return isinstance(model, PlacedModel) and model.placed


def placed_items(
    model: GenerativeModel,
    latents_bct: Tensor,
    text_bld: Tensor,
    seconds_b: Tensor,
    place: tuple[Tensor, Tensor] | None,
) -> Batch:
    """Items, with where they begin in recordings of which length if that is known and training told it."""
    if place and isinstance(model, PlacedModel) and model.placed:
        return model.items_at(latents_bct, text_bld, *place)
    return model.items(latents_bct, text_bld, seconds_b)


@runtime_checkable
class PreEncodedModel(Protocol):
    """A model that takes latents which its autoencoder made elsewhere."""

    def rescaled(self, latents_bct: Tensor) -> Tensor:
        """Latents ``[B, C, T]`` as the autoencoder alone makes them -> as this model takes them."""


POWERS: dict[type | UnionType, str] = {
    PredictingModel: "a target that it predicts, as diffusion and flow models have",
    AnyReadout: "a layer that its prediction is linear in",
    HiddenStatesModel: "hidden states to compare",
    GeneratingModel: "a way to generate here",
    TrainableModel: "a way to be trained here",
    PreEncodedModel: "a way to take latents that were made elsewhere",
}


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def exact_device(device: torch.device | None) -> torch.device:
    """The device given, or the best one, with TF32 off from now on: it rounds at 1e-3, and unlearning moves a
    loss by less.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return device or best_device()


def device_of(model: GenerativeModel) -> torch.device:
    """Where the model's network is."""
    return next(model.network.parameters()).device
