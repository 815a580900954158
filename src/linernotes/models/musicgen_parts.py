"""Opens a folder of MusicGen in transformers' layout: its parts in single precision, checked, and the hashes
of what they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, MusicgenConfig, MusicgenForConditionalGeneration
from transformers.utils import logging

from linernotes.artefacts import hash_arrays, hash_files, hash_json
from linernotes.errors import LinernotesError
from linernotes.models import residual_codec
from linernotes.models.folder import MUSICGEN, TOKENIZERS

POSITIONS = "embed_positions.weights"  # sinusoids, which old checkpoints hold and nothing reads
CODECS = ("encodec", residual_codec.KIND)
CHANCE = ("dropout", "attention_dropout", "activation_dropout", "layerdrop")


def load_musicgen(folder: Path) -> tuple[Any, Any]:
    """The model in single precision, without dropout in training either, and its tokenizer.

    Raises:
        LinernotesError: of a kind that is not known here, or weights are missing or do not fit.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = MusicgenConfig.from_pretrained(folder, local_files_only=True)
        for name in CHANCE:  # what a training step draws must depend on its seed alone
            setattr(config.decoder, name, 0.0)
        if what := _unknown(config):
            raise LinernotesError(f"{folder} holds a MusicGen with {what}: give another model")
        model, loading = MusicgenForConditionalGeneration.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise LinernotesError(
            f"{folder} could not be loaded as a {MUSICGEN} model ({_brief(error)}): copy it anew"
        ) from error
    wrong = [f"{name} is missing" for name in sorted(loading["missing_keys"])]
    wrong += [f"{name} is unexpected" for name in sorted(_stored(folder) - model.state_dict().keys())]
    if wrong:  # what is missing would be random numbers, in silence
        raise LinernotesError(
            f"the weights in {folder} do not fit its config.json: {wrong[0]}, of {len(wrong)}: copy it anew"
        )
    if model.generation_config.max_length is None:
        raise LinernotesError(
            f"{folder / 'generation_config.json'} does not say max_length, how many frames a clip has at "
            "most: add it (1500 for MusicGen)"
        )
    for part in (model.config, model.config.text_encoder, model.config.audio_encoder, model.config.decoder):
        part._name_or_path = ""  # or what is saved would say where this was loaded from
    return model, tokenizer


def _stored(folder: Path) -> set[str]:
    """The names of the weights of the parts that are trained, as the files have them. Asked for transformers
    does not say what it leaves unread: its T5 tells it to ignore whatever is called a decoder.
    """
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
    return {n for n in names if n.startswith(("decoder.", "enc_to_dec_proj.")) and not n.endswith(POSITIONS)}


def _unknown(config: Any) -> str:
    """What of a model is not known here; empty if all is."""
    audio, decoder = config.audio_encoder, config.decoder
    if audio.model_type not in CODECS:
        return f"the codec {audio.model_type}, and only {CODECS[0]} is known"
    if getattr(audio, "normalize", False) or getattr(audio, "chunk_length_s", None):
        return "an EnCodec that scales or cuts its sound, of which codes do not tell all"
    each = decoder.num_codebooks // decoder.audio_channels
    if audio.num_quantizers < each or audio.codebook_size != decoder.vocab_size:
        return (
            f"{each} codebooks of {decoder.vocab_size} and a codec with {audio.num_quantizers} of "
            f"{audio.codebook_size}"
        )
    return ""


def hash_part(model: Any, name: str) -> str:
    """Hash of a part's weights and of what its config says, whichever version of transformers wrote it."""
    part, config = getattr(model, name), getattr(model.config, name, None)
    said = config.to_dict() if config is not None else {}
    ignored = {"transformers_version", "_name_or_path", "dtype", "architectures"}
    arrays = {n: t.cpu().numpy() for n, t in part.state_dict().items()}
    return hash_json([hash_arrays(arrays), {n: v for n, v in said.items() if n not in ignored}])


def hash_tokenizer(folder: Path) -> str:
    """Hash of the files that say how prompts are cut into tokens."""
    return hash_files([folder / name for name in TOKENIZERS if (folder / name).exists()], folder)


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
