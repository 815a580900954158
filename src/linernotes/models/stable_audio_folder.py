"""The parts of a Stable Audio model, and how they are read from a folder in diffusers' layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioProjectionModel
from diffusers.schedulers import CosineDPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from linernotes.artefacts import hash_json, read_json, write_json
from linernotes.models.codec import SpectrogramCodec
from linernotes.models.encoding import Encoding
from linernotes.models.folder import PIPELINE, check_folder, kind_of
from linernotes.models.objectives import Objective, PathKind
from linernotes.models.parts import (
    FAILURES,
    OBJECTIVE,
    hash_parts,
    not_loaded,
    read_objective,
    read_part,
    read_sampling,
    read_text_encoder,
    read_tokenizer,
)

CODECS = {"AutoencoderOobleck": AutoencoderOobleck, "SpectrogramCodec": SpectrogramCodec}
TRAINED = ("transformer", "projection_model")


@dataclass(frozen=True)
class Parts:
    """A Stable Audio model as it lies on disk, in fp32, on the CPU."""

    tokenizer: Any
    text_encoder: Any
    codec: Any
    projection: Any  # conditioning: called as diffusers' StableAudioProjectionModel is
    network: Any
    encoding: Encoding
    weights_hash: str
    rotary: int  # features of a head that positions turn
    sampling: Mapping[str, Any]  # steps, guidance; "renoise": whether each step draws new noise
    save: Callable[[Path], None]  # writes network and projection into a folder that holds the rest
    objective: Objective = Objective()  # noqa: RUF009 (frozen)
    scheduler: Any = None  # the pipeline's own sampler; None: the path is followed step by step
    latent_scale: float = 1.0  # the codec's latents are divided by it
    ends_in_tanh: bool = False  # whether decoded sound goes through one


class DiffusersFolder:
    """Stable Audio in the layout of diffusers' ``StableAudioPipeline``."""

    @staticmethod
    def holds(folder: Path) -> bool:
        """Whether the folder has this layout."""
        return kind_of(folder) == PIPELINE

    @staticmethod
    def read(folder: Path) -> Parts:
        """All parts.

        Raises:
            LinernotesError: one is missing or damaged, or its weights do not fit its config.
        """
        check_folder(folder)
        name = folder.resolve().name
        try:
            tokenizer = read_tokenizer(folder / "tokenizer")
            codec = read_part(
                CODECS[read_json(folder / "vae/config.json", "a model")["_class_name"]], folder / "vae"
            )
            text_encoder = read_text_encoder(folder / "text_encoder")
            projection = read_part(StableAudioProjectionModel, folder / "projection_model")
            network = read_part(StableAudioDiTModel, folder / "transformer")
            objective = read_objective(folder)
            scheduler = None
            if objective.path == "v":
                scheduler = CosineDPMSolverMultistepScheduler.from_pretrained(
                    folder / "scheduler", local_files_only=True
                )
        except FAILURES as error:
            raise not_loaded(folder, error) from error
        encoding = Encoding(
            model=name,
            codec_hash=hash_parts(folder, "vae"),
            text_hash=hash_parts(folder, "text_encoder", "tokenizer"),
            rate_hz=codec.config.sampling_rate,
            channels=codec.config.audio_channels,
            latent_channels=network.config.in_channels,
            frames=network.config.sample_size,
            frame_samples=codec.hop_length,
            text_tokens=tokenizer.model_max_length,
            text_dim=text_encoder.config.d_model,
        )

        trained, usual = hash_parts(folder, *TRAINED), objective == Objective()

        def save(to: Path) -> None:
            for part, module in zip(TRAINED, (network, projection), strict=True):
                module.save_pretrained(to / part)

        return Parts(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            codec=codec,
            projection=projection,
            network=network,
            encoding=encoding,
            weights_hash=trained if usual else hash_json([trained, asdict(objective)]),
            rotary=network.config.attention_head_dim // 2,
            sampling=read_sampling(folder),
            save=save,
            objective=objective,
            scheduler=scheduler,
        )

    @staticmethod
    def write_untrained(model: Path, folder: Path, seed: int) -> None:
        """The model in ``model`` with new random weights in its trained parts."""
        ignored = shutil.ignore_patterns(*TRAINED, "training*", "checkpoints")
        shutil.copytree(model, folder, ignore=ignored)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, kind in zip(TRAINED, (StableAudioDiTModel, StableAudioProjectionModel), strict=True):
                kind.from_config(kind.load_config(model / name)).save_pretrained(folder / name)

    @staticmethod
    def write_objective(folder: Path, path: PathKind) -> None:
        """Says of an untrained model which objective it is trained with, and gives it that one's sampler."""
        (folder / OBJECTIVE).unlink(missing_ok=True)
        if path == "v":
            v_scheduler().save_pretrained(folder / "scheduler")
        else:
            write_json(folder / OBJECTIVE, asdict(Objective(path)))
            FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")


def v_scheduler() -> CosineDPMSolverMultistepScheduler:
    """The sampler of a small model that is trained as Stable Audio was."""
    return CosineDPMSolverMultistepScheduler(
        sigma_min=0.03, sigma_max=500.0, sigma_data=1.0, solver_order=2, prediction_type="v_prediction"
    )
