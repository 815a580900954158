"""Stable Audio as stable-audio-tools trains it: a folder of ``model_config.json`` and ``model.safetensors``,
read into diffusers' modules, which are the same functions under other names.

Weights are mapped into memory and taken as they lie there: a model of 5 GB costs no second 5 GB.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from linernotes.artefacts import hash_arrays, hash_json, replacing
from linernotes.errors import LinernotesError
from linernotes.models import stable_audio_tools_names as names
from linernotes.models.encoding import Encoding
from linernotes.models.folder import is_pointer
from linernotes.models.hashing import kept_hashes
from linernotes.models.objectives import Objective, shift_of_length
from linernotes.models.parts import (
    FAILURES,
    hash_parts,
    not_loaded,
    read_sampling,
    read_text_encoder,
    read_tokenizer,
)
from linernotes.models.stable_audio_folder import Parts
from linernotes.models.stable_audio_tools_config import (
    WEIGHTS,
    check_tools_folder,
    is_tools_folder,
    read_config,
)
from linernotes.models.stable_audio_tools_modules import (
    Modules,
    is_projected,
    new_modules,
    rotary_features,
    start_at_nothing,
)
from linernotes.models.stable_audio_tools_schema import ToolsConfig

Tables = tuple[names.Names, names.Names, names.Names]  # of the modules, in their order

HALF_RTOL = 1e-2  # of a number that was kept as bfloat16
SAMPLING: dict[str, dict[str, Any]] = {  # steps and guidance where no generation.json says others
    "v": {"steps": 100, "guidance": 7.0},
    "rectified_flow": {"steps": 50, "guidance": 7.0},
    "rf_denoiser": {"steps": 8, "guidance": 1.0, "renoise": True},  # distilled to a few steps
}


class ToolsFolder:
    """Stable Audio in the layout of stable-audio-tools."""

    @staticmethod
    def holds(folder: Path) -> bool:
        """Whether the folder has this layout."""
        return is_tools_folder(folder)

    @staticmethod
    def read(folder: Path) -> Parts:
        """All parts.

        Raises:
            LinernotesError: a part that is not supported, weights that are missing or do not fit, no text
                encoder.
        """
        check_tools_folder(folder)
        config = read_config(folder)
        try:
            text_encoder = read_text_encoder(folder / "text_encoder")
            own_tokenizer = (folder / "tokenizer").is_dir()
            tokenizer = read_tokenizer(folder / ("tokenizer" if own_tokenizer else "text_encoder"))
            stored = _read_weights(folder / WEIGHTS)
        except FAILURES as error:
            raise not_loaded(folder, error) from error
        tokenizer.model_max_length = config.text.config.max_length
        text_dim = text_encoder.config.d_model
        with torch.device("meta"):
            modules = new_modules(config, text_dim)
        tables = _tables(config, text_dim)
        try:
            _check_frequencies(stored, config)
            _fill(modules, tables, stored)
        except LinernotesError as error:
            raise LinernotesError(
                f"{folder / WEIGHTS} does not fit model_config.json ({error}): copy both anew"
            ) from None
        codec, projection, network = modules
        for note in config.notes():
            logging.getLogger("linernotes").warning(f"{folder}: {note}")
        objective = _objective(config)
        hashes = _hashes(folder, stored, tables[0])
        audio, sizes = config.model.pretransform, config.model.diffusion.config
        tokens = config.text.config.max_length
        text_parts = ("text_encoder", "tokenizer") if own_tokenizer else ("text_encoder",)

        def save(to: Path) -> None:
            _save(to, modules, tables)

        return Parts(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            codec=codec,
            projection=projection,
            network=network,
            encoding=Encoding(
                model=folder.resolve().name,
                codec_hash=hash_json([hashes["codec"], audio.scale, audio.config.model_dump()]),
                text_hash=hash_json([hash_parts(folder, *text_parts), tokens]),
                rate_hz=config.sample_rate,
                channels=config.audio_channels,
                latent_channels=sizes.io_channels,
                frames=config.frames,
                frame_samples=audio.config.downsampling_ratio,
                text_tokens=tokens,
                text_dim=text_dim,
            ),
            weights_hash=hash_json([hashes["trained"], *_function(config), asdict(objective)]),
            rotary=rotary_features(sizes.embed_dim // sizes.num_heads),
            sampling=read_sampling(folder, SAMPLING[config.model.diffusion.diffusion_objective]),
            save=save,
            objective=objective,
            latent_scale=audio.scale,
            ends_in_tanh=audio.config.decoder.config.final_tanh,
        )

    @staticmethod
    def write_untrained(model: Path, folder: Path, seed: int) -> None:
        """The model in ``model`` with new random weights in its denoiser and conditioners."""
        config = read_config(model)
        text_dim = read_text_encoder(model / "text_encoder").config.d_model
        tables = _tables(config, text_dim)
        stored = _read_weights(model / WEIGHTS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, projection, network = new_modules(config, text_dim)
        if config.model.diffusion.config.zero_init_branch_outputs:
            start_at_nothing(network)
        patterns = shutil.ignore_patterns(WEIGHTS, "training*", "checkpoints")
        # at the top only: the text encoder's weights are called the same
        shutil.copytree(
            model, folder, ignore=lambda at, found: patterns(at, found) if Path(at) == model else set()
        )
        _write_weights(
            folder / WEIGHTS,
            {n: t for n, t in stored.items() if n in tables[0] or n == names.FREQUENCIES}
            | names.fused(projection.state_dict(), tables[1])
            | names.fused(network.state_dict(), tables[2]),
        )


def _fill(modules: Modules, tables: Tables, stored: Mapping[str, Tensor]) -> None:
    """Gives modules their weights; in fp32 as they lie in the file, without a copy.

    Raises:
        LinernotesError: one is missing, has no place or does not fit.
    """
    for module, table in zip(modules, tables, strict=True):
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        found = {name: part.float() for name, part in names.split(stored, table, shapes).items()}
        module.load_state_dict(found, strict=True, assign=True)
        module.requires_grad_(False)
    unknown = set(stored).difference(*tables, {names.FREQUENCIES})
    if unknown:
        raise LinernotesError(f"{min(unknown)}, of {len(unknown)}, is nothing that it names")


def _function(config: ToolsConfig) -> list[Any]:
    """What makes weights a function: the denoiser's and the conditioners' part of the file."""
    return [config.model.diffusion.config.model_dump(), config.model.conditioning.model_dump()]


def _tables(config: ToolsConfig, text_dim: int) -> Tables:
    """Names of the codec's, the conditioners' and the denoiser's weights."""
    sizes = config.model.diffusion.config
    seconds = {name: part.type for name in names.SECONDS if (part := config.seconds(name)) is not None}
    return (
        names.codec_names(len(config.model.pretransform.config.encoder.config.strides)),
        names.conditioner_names(config.text.id, is_projected(config, text_dim), seconds),
        names.denoiser_names(sizes.depth, sizes.attn_kwargs.qk_norm == "ln"),
    )


def _objective(config: ToolsConfig) -> Objective:
    diffusion, training = config.model.diffusion, config.training
    shift = diffusion.distribution_shift_options
    options = training.timestep_sampler_options
    logs = training.timestep_sampler == "log_snr"
    return Objective(
        path="v" if diffusion.diffusion_objective == "v" else "flow",
        sampler=training.timestep_sampler,
        mean=(options.mean_logsnr if options else -1.2) if logs else 0.0,
        deviation=(options.std_logsnr if options else 2.0) if logs else 1.0,
        shift=1.0
        if shift is None
        else shift_of_length(
            config.frames, shift.base_shift, shift.max_shift, shift.max_length, shift.min_length
        ),
        sine=shift is not None and shift.use_sine,
        pure_noise=training.p_one_shot,
    )


def _check_frequencies(stored: dict[str, Tensor], config: ToolsConfig) -> None:
    """Positions turn features at the usual speeds, or the model would be another."""
    found = stored.get(names.FREQUENCIES)
    sizes = config.model.diffusion.config
    features = rotary_features(sizes.embed_dim // sizes.num_heads)
    usual = 10000.0 ** -(torch.arange(0, features, 2) / features)
    if found is not None and (
        found.shape != usual.shape or not torch.allclose(found.float(), usual, HALF_RTOL)
    ):
        raise LinernotesError(f"{names.FREQUENCIES} has other speeds than 10000^-(2 i / {features})")


def _read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors by their plain names, mapped into memory."""
    if is_pointer(path):
        raise LinernotesError(
            f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' in {path.parent}"
        )
    with safe_open(path, framework="pt") as file:
        places = names.unwrapped(list(file.keys()))
        return {name: file.get_tensor(place) for name, place in places.items()}


def _write_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    with replacing(path) as temporary:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, temporary, {"format": "pt"})


def _save(folder: Path, modules: Modules, tables: Tables) -> None:
    """The whole model in stable-audio-tools' layout, whose file holds the codec too."""
    tensors: dict[str, Tensor] = {}
    for module, table in zip(modules, tables, strict=True):
        tensors |= names.fused(module.state_dict(), table)
    config = modules[2].config
    features = rotary_features(config.attention_head_dim)
    tensors[names.FREQUENCIES] = 10000.0 ** -(torch.arange(0, features, 2) / features)
    _write_weights(folder / WEIGHTS, tensors)


def _hashes(folder: Path, stored: dict[str, Tensor], codec: names.Names) -> dict[str, str]:
    """Of the codec's weights, and of those that training moves."""

    def compute() -> dict[str, str]:
        return {
            what: hash_arrays({n: _bytes(t) for n, t in stored.items() if (n in codec) == (what == "codec")})
            for what in ("codec", "trained")
        }

    return kept_hashes([folder / WEIGHTS], "stable-audio-tools", compute)


def _bytes(tensor: Tensor) -> Any:
    """A tensor as numpy knows it, which knows no bfloat16."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
