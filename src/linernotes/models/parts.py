"""Parts of a model as diffusers and transformers leave them in folders: read by hand instead of through a
pipeline, so that only safetensors are ever read (a pickle can run code) and no class is imported because a
file names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, T5EncoderModel
from transformers.utils import logging as transformers_logging

from linernotes.artefacts import hash_files, read_json
from linernotes.errors import LinernotesError
from linernotes.models.folder import variant_of
from linernotes.models.hashing import kept_hashes
from linernotes.models.objectives import Objective

OF_T5_ALONE = ("decoder.", "lm_head.")  # the half of a whole T5 that embeds no prompts
DEFAULT_SAMPLING: Mapping[str, Any] = {"steps": 100, "guidance": 7.0}  # those of StableAudioPipeline
OBJECTIVE = "objective.json"  # ``Objective``'s fields; a folder without it was trained as Stable Audio was
FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


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
