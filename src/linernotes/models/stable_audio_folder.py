"""The parts of a Stable Audio pipeline, and how they are read from a folder in diffusers' layout.

Loads the parts by hand instead of through ``StableAudioPipeline.from_pretrained``, so that only safetensors
are ever read (a pickle can run code) and no class is imported because a file names it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioProjectionModel
from diffusers.schedulers import CosineDPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, T5EncoderModel
from transformers.utils import logging as transformers_logging

from linernotes.artefacts import hash_files, hash_json, read_json, write_json
from linernotes.errors import LinernotesError
from linernotes.models.codec import SpectrogramCodec
from linernotes.models.encoding import Encoding
from linernotes.models.folder import PIPELINE, check_folder, kind_of, variant_of
from linernotes.models.hashing import kept_hashes
from linernotes.models.objectives import Objective, PathKind

CODECS = {"AutoencoderOobleck": AutoencoderOobleck, "SpectrogramCodec": SpectrogramCodec}
TRAINED = ("transformer", "projection_model")
OF_T5_ALONE = ("decoder.", "lm_head.")  # the half of a whole T5 that embeds no prompts
DEFAULT_SAMPLING: Mapping[str, Any] = {"steps": 100, "guidance": 7.0}  # those of StableAudioPipeline
OBJECTIVE = "objective.json"  # ``Objective``'s fields; a folder without it was trained as Stable Audio was
FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


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


def quiet_libraries() -> None:
    """No bars and warnings of diffusers and transformers: linernotes says what is wrong with a folder."""
    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def read_objective(folder: Path, default: Objective | None = None) -> Objective:
    """What the model in ``folder`` was trained to predict, and at which times; the family's ``default``, or
    Stable Audio's, if it does not say.

    Raises:
        LinernotesError: its ``objective.json`` is damaged.
    """
    path = folder / OBJECTIVE
    if not path.exists():
        return default or Objective()
    try:
        return Objective(**read_json(path, "a model"))
    except TypeError as error:
        raise LinernotesError(f"{path} is no objective ({error}): train the model anew") from None


def v_scheduler() -> CosineDPMSolverMultistepScheduler:
    """The sampler of a small model that is trained as Stable Audio was."""
    return CosineDPMSolverMultistepScheduler(
        sigma_min=0.03, sigma_max=500.0, sigma_data=1.0, solver_order=2, prediction_type="v_prediction"
    )


def read_tokenizer(folder: Path) -> Any:
    """A tokenizer, without code of its own."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def read_text_encoder(folder: Path) -> Any:
    """A T5 encoder; the folder may hold a whole T5."""
    return read_part(T5EncoderModel, folder, passed_over=OF_T5_ALONE)


def read_sampling(folder: Path, default: Mapping[str, Any] = DEFAULT_SAMPLING) -> dict[str, Any]:
    """How the model in a folder generates, as its ``generation.json`` says."""
    generation = folder / "generation.json"
    return {**default, **(read_json(generation, "a model") if generation.exists() else {})}


def read_part(kind: Any, folder: Path, passed_over: tuple[str, ...] = ()) -> Any:
    """A part of diffusers' or transformers' class ``kind``, in single precision.

    Args:
        passed_over: how weights begin that the folder may hold and the part has no use for.

    Raises:
        ValueError: weights are missing, or there are others.
    """
    dtype = "dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype"
    part, loading = kind.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        variant=variant_of(folder),
        **{dtype: torch.float32},
    )
    wrong = [
        f"{name} is {how}"
        for how in ("missing", "unexpected")
        for name in sorted(loading[f"{how}_keys"])
        if not (how == "unexpected" and name.startswith(passed_over or ("\0",)))
    ]
    if wrong:  # what is missing would be random numbers, in silence
        raise ValueError(
            f"the weights in {folder.name} do not fit its config.json: {wrong[0]}, of {len(wrong)}"
        )
    if hasattr(part, "register_to_config"):
        part.register_to_config(_name_or_path="")  # or what is saved would say where this was loaded from
    return part.requires_grad_(False)


def hash_parts(folder: Path, *parts: str) -> str:
    """Hash of what parts of a model are made of: weights, configs and vocabularies."""
    files = [
        path
        for part in parts
        for path in (folder / part).iterdir()
        if path.suffix in {".safetensors", ".json", ".model"}
    ]
    return kept_hashes(files, " ".join(parts), lambda: {"hash": hash_files(files, folder)})["hash"]


def not_loaded(folder: Path, error: Exception, what: str = "Stable Audio") -> LinernotesError:
    """What is said of a model that its libraries could not load."""
    text = str(error).strip()
    brief = text.splitlines()[0][:200] if text else type(error).__name__
    return LinernotesError(f"{folder} could not be loaded as a {what} pipeline ({brief}): copy it anew")
