"""Where an adapter's base model is: ``base.json`` beside the adapter, whatever the adapter's layout. A folder
with one opens as a model. Looked at without torch.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from linernotes.artefacts import hash_files, hash_json, read_json, replace_folder, write_json
from linernotes.errors import LinernotesError
from linernotes.models.folder import ADAPTER_BASE, PICKLES
from linernotes.settings.places import cache_folder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Base:
    """The model that an adapter was made for."""

    folder: str
    name: str
    weights_hash: str = ""  # that the model must have; empty where nobody wrote it down
    made_for: str = ""  # the model that the adapter was trained on, where another is given in its place


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter that says where its base model is."""
    return (folder / ADAPTER_BASE).is_file()


def read_base(folder: Path) -> Base:
    """What an adapter says of its base model.

    Raises:
        LinernotesError: it is damaged, or the model is not there any more.
    """
    path = folder / ADAPTER_BASE
    try:
        base = Base(**read_json(path, "an adapter"))
    except TypeError as error:
        raise LinernotesError(f"{path} is damaged ({error}): copy the adapter anew") from None
    if not Path(base.folder).is_dir():
        raise LinernotesError(
            f"the model {base.name} that {folder} is an adapter to is not at {base.folder}: say where it is "
            f"with --model FOLDER --adapter {folder}"
        )
    return base


def places_of(folder: Path) -> list[Path]:
    """All folders that a worker needs to open the model in ``folder``: of an adapter its base model's too."""
    return [folder, Path(read_base(folder).folder)] if is_adapter(folder) else [folder]


def write_base(folder: Path, base: Base) -> None:
    """Says of an adapter where its base model is."""
    write_json(folder / ADAPTER_BASE, asdict(base))


def paired(model: Path, adapter: Path, name: str = "") -> Path:
    """A folder that opens as the model in ``model`` with an adapter: the adapter's own if it names that
    model, else a copy in the cache that does.

    Args:
        name: what people call the model; its folder's if empty.

    Raises:
        LinernotesError: no adapter there, or one that is only there as a pickle.
    """
    _require_adapter(adapter)
    said = read_json(adapter / ADAPTER_BASE, "an adapter") if is_adapter(adapter) else {}
    if said and Path(said.get("folder", "")).resolve() == model.resolve():
        return adapter
    base = Base(
        folder=str(model.resolve()),
        name=name or model.resolve().name,
        weights_hash=said.get("weights_hash", ""),
        made_for=said.get("made_for") or said.get("name", ""),
    )
    files = [adapter] if adapter.is_file() else [p for p in adapter.iterdir() if p.is_file()]
    made_from = hash_json([asdict(base), hash_files(files, adapter.parent)])
    folder = cache_folder() / "adapters" / made_from / (adapter.stem if adapter.is_file() else adapter.name)
    if not folder.exists():
        built = folder.with_name(f"{folder.name}.{hash_json([str(adapter)])}")
        shutil.rmtree(built, ignore_errors=True)
        if adapter.is_file():
            built.mkdir(parents=True)
            shutil.copy(adapter, built / adapter.name)
        else:
            shutil.copytree(adapter, built)
        write_base(built, base)
        replace_folder(built, folder)
    return folder


def _require_adapter(path: Path) -> None:
    if not path.exists():
        raise LinernotesError(f"there is no adapter at {path}: check the path")
    inside = [path] if path.is_file() else sorted(path.iterdir())
    if any(p.suffix == ".safetensors" for p in inside):
        return
    pickles = [p for p in inside if any(p.match(pattern) for pattern in PICKLES)]
    if pickles:
        raise LinernotesError(
            f"{pickles[0]} is a pickle, which can run code and is never loaded: save the adapter as "
            "safetensors"
        )
    raise LinernotesError(f"{path} holds no adapter: give a folder with {CONFIG} and {WEIGHTS}")
