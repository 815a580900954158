"""The retrain bank: models trained on random halves of the catalogue and on all
of it, and what became of every query.

A bank under construction is a folder (``queries.safetensors``, ``retrains/NAME.safetensors``); a finished one
is the single file ``bank.safetensors`` in it, numbers and no weights, from which ``evaluate`` works alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from linernotes.artefacts import load_tensors, read_json, save_tensors
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.folder import BANK_FILE, bank_file
from linernotes.evaluation.bank.retraining import RETRAIN, read_retrain, run_retrains
from linernotes.evaluation.bank.setting import BankQuery, Retrain, Setting, remakable
from linernotes.jobs.executor import Executor
from linernotes.methods.contract import Progress
from linernotes.models.folder import TRAINING
from linernotes.settings.training import TrainingSettings

BANK = "retrain bank"
QUERIES = "clips of a retrain bank"
PACKED = {
    "present_n": "present_mn",
    "loss_qk": "loss_mqk",
    "change_qk": "change_mqk",
    "item_loss_n": "item_loss_ms",
    "contrast": "contrast_m",
    "distance_hd": "distance_mhd",
}  # what is measured of a retrain, and the name of all of them in a bank's file
AGAIN_EVERY = 4  # a second seed after so many halves: an unfinished bank knows its ceiling early
LEAST_MODELS = 8  # fewer give no interval worth printing


@dataclass(frozen=True)
class Bank:
    """What was measured of M retrains. N: training tracks, S: segments, Q: queries, H: heard queries, K:
    draws.
    """

    path: Path
    header: dict[str, Any]
    queries: list[BankQuery]
    names: list[str]
    kinds: np.ndarray  # of each retrain: full, half, again, group, without
    seeds: list[int]
    tracks: list[str]  # the training tracks' ids
    present_mn: np.ndarray  # bool
    # item loss of each query on each draw, and mean squared change of its prediction against the model the
    # clips are from; a file may have the means over k alone
    loss_mqk: np.ndarray
    change_mqk: np.ndarray
    item_loss_ms: np.ndarray  # loss of every segment of the catalogue, mean over a few draws
    # standard deviation of the latents of the heard queries, made again; nan if there are none
    contrast_m: np.ndarray
    distance_mhd: np.ndarray  # how far they moved (``measuring.DISTANCES``)
    latents_qct: np.ndarray  # of the queries; empty where a file came without its clips

    @property
    def holds_clips(self) -> bool:
        """Whether the clips themselves are there, not their losses alone."""
        return bool(self.latents_qct.size)

    def which(self, kind: str) -> np.ndarray:
        """The rows of the retrains of one kind."""
        return np.flatnonzero(self.kinds == kind)

    def runs(self) -> list[list[int]]:
        """For every half, in the order of ``which("half")``, the rows of all
        models trained on it: one a seed.
        """
        row = {name: i for i, name in enumerate(self.names)}
        further: dict[str, list[int]] = {name: [] for name in row}
        for name, i in row.items():
            half, again, _ = name.partition("-again")
            if again:
                further[half].append(i)
        return [[int(i), *further[self.names[i]]] for i in self.which("half")]

    def rows(self, split: str | None = None) -> list[int]:
        """The queries that may be used for ``split``; all if None."""
        return [i for i, query in enumerate(self.queries) if split in (None, query.split)]

    def without(self, models: Collection[str]) -> Bank:
        """The bank without some models; of a half that goes, its further seeds go too."""
        kept = [
            m
            for m, name in enumerate(self.names)
            if name not in models and name.partition("-again")[0] not in models
        ]
        return replace(
            self,
            names=[self.names[m] for m in kept],
            kinds=self.kinds[kept],
            seeds=[self.seeds[m] for m in kept],
            **{many: getattr(self, many)[kept] for many in PACKED.values()},
        )

    def require_same(self, other: Bank) -> None:
        """Refuses to be used together with retrains that were measured on other clips or other noise."""
        for name in ("model", "catalogue", "clips", "noise"):
            if self.header[name] != other.header[name]:
                raise LinernotesError(
                    f"{other.path} was made with another {name} than {self.path}: remove it, or use the "
                    "bank it belongs to"
                )

    def require(self, model_hash: str, catalogue_hash: str) -> None:
        """Refuses to be used with another model or catalogue."""
        for name, here in (("model", model_hash), ("catalogue", catalogue_hash)):
            if self.header[name] != here:
                raise LinernotesError(
                    f"{self.path} is the bank of another {name} ({self.header[name]}, not {here}): "
                    f"give that one, or build a bank with 'linernotes bank build'"
                )


def require_enough(halves: int, again: int, seeds: int, queries: Sequence[BankQuery]) -> None:
    """Refuses, before anything is trained, a bank that no measure could use.

    Raises:
        UsageError: too few models or clips.
    """
    if halves < LEAST_MODELS or again < 2:
        raise UsageError(
            f"{halves} halves, {again} of them twice, give no interval: build at least {LEAST_MODELS} and 2"
        )
    if again > halves:
        raise UsageError(f"{again} of {halves} halves cannot be trained again: ask for at most {halves}")
    if seeds < 2:
        raise UsageError(f"{seeds} seed for the halves trained again is none more: ask for at least 2")
    reporting = [query for query in queries if query.split == "reporting"]
    if len(reporting) < 2:
        raise UsageError(f"a bank needs at least two clips for reporting, not {len(reporting)}: add prompts")


def plan_retrains(
    n_training: int, halves: int, again: int, full: int, seed: int, seeds: int = 2
) -> list[Retrain]:
    """Full-data seeds first, then random halves of the training tracks, and some of
    the halves again with further seeds.

    Each is known by its name: a plan for more of any has all of a smaller one's, so a bank can grow. With the
    seed 0 no seed of the bank is that of a model trained with the seed 0.

    Raises:
        UsageError: there are no halves of so few tracks.
    """
    if n_training < 2:
        raise UsageError(
            f"a half of {n_training} training track{'s' * (n_training != 1)} is none: build the catalogue of "
            "2 at least, better of hundreds"
        )
    everything = np.ones(n_training, dtype=bool)
    retrains = [Retrain(f"full-{i}", "full", everything, seed + 1 + i) for i in range(full)]
    repeats: list[Retrain] = []
    for i in range(halves):
        present = np.zeros(n_training, dtype=bool)
        present[np.random.default_rng([seed, i]).permutation(n_training)[: n_training // 2]] = True
        retrains.append(Retrain(f"half-{i:03d}", "half", present, seed + 1000 + i))
        if i < again:
            repeats.append(Retrain(f"half-{i:03d}-again", "again", present, seed + 2000 + i))
        if repeats and (i + 1) % AGAIN_EVERY == 0:
            retrains.append(repeats.pop(0))
    halved = {r.name: r for r in retrains if r.kind == "half"}
    thirds = [
        Retrain(
            f"{name}-again-{s}",
            "again",
            halved[name].present_n,
            seed + 1000 * s + int(name.removeprefix("half-")),
        )
        for s in range(3, seeds + 1)
        for name in list(halved)[:again]
    ]
    return retrains + repeats + thirds


def recipe_of(model: Path) -> TrainingSettings:
    """How a model was trained.

    Raises:
        LinernotesError: it does not say.
    """
    recipe = read_json(model / TRAINING, "a model that linernotes trained").get("settings")
    if not isinstance(recipe, dict):
        raise LinernotesError(f"{model / TRAINING} does not say how the model was trained: train it anew")
    return TrainingSettings(**recipe)


def prepare_setting(
    model: Path,
    catalogue: Path,
    queries: Sequence[BankQuery],
    draws: int,
    seed: int,
    folder: Path,
    on_progress: Progress | None = None,
) -> Setting:
    """What all retrains of a bank share; generates its clips, or reads them back from ``folder``.

    Raises:
        LinernotesError: the model does not say how it was trained, or the folder holds clips of another bank.
    """
    training = recipe_of(model)
    opened = Catalogue(catalogue)
    loaded = remakable(model)
    opened.require(loaded.encoding, loaded.name)
    path = folder / "queries.safetensors"
    header = {"model": loaded.weights_hash, "queries": [query.__dict__ for query in queries]}
    if not path.exists() and (folder / BANK_FILE).exists():
        grown = read_bank(folder)
        save_tensors(
            path,
            {"latents_qct": torch.from_numpy(grown.latents_qct)},
            QUERIES,
            {n: grown.header[n] for n in header},
        )
    if not path.exists():
        clips = []
        for i, query in enumerate(queries, start=1):
            clips.append(loaded.sample(query.prompt, query.seconds, query.seed)[0].cpu())
            if on_progress:
                on_progress("generating the clips", i, len(queries))
        save_tensors(path, {"latents_qct": torch.stack(clips)}, QUERIES, header)
    latents = load_tensors(path, QUERIES, header)[0]["latents_qct"].numpy()
    return Setting(
        model=model,
        catalogue=catalogue,
        training=training,
        queries=list(queries),
        latents_qct=latents,
        draws=draws,
        noise_seed=seed,
    )


def build_bank(
    setting: Setting,
    retrains: Sequence[Retrain],
    folder: Path,
    on_progress: Progress | None = None,
    executor: Executor | None = None,
) -> Bank:
    """Runs all retrains and writes ``folder/bank.safetensors``. A killed build goes on and ends in the same
    bytes, whatever ``executor`` runs the retrains; a finished bank there is grown: what it holds is not
    trained again, and stays also where fewer are asked for.
    """
    if (folder / BANK_FILE).exists():
        retrains = _unpack(read_bank(folder), setting.header(), retrains, folder / "retrains")
    run_retrains(setting, retrains, folder / "retrains", on_progress, executor)
    return pack_bank(setting, retrains, folder / BANK_FILE, folder / "retrains")


def pack_bank(
    setting: Setting,
    retrains: Sequence[Retrain],
    path: Path,
    folder: Path,
    more: Mapping[str, Any] | None = None,
) -> Bank:
    """Puts finished retrains together in one file.

    Args:
        more: what else its header says.
    """
    header = setting.header()
    measured = [read_retrain(folder, retrain, header) for retrain in retrains]
    tensors = {many: torch.stack([one[name] for one, _ in measured]) for name, many in PACKED.items()}
    tensors["change_mqk"] = tensors["change_mqk"].mean(dim=2, keepdim=True, dtype=torch.float64).float()
    tensors["latents_qct"] = torch.from_numpy(setting.latents_qct)
    tracks = [track.track_id for track in Catalogue(setting.catalogue).tracks if track.trained]
    listed = [
        {"name": r.name, "kind": r.kind, "seed": r.seed, "linernotes": said["linernotes"]}
        for r, (_, said) in zip(retrains, measured, strict=True)
    ]
    axes = (
        "retrains m, training tracks n, segments s, queries q, draws k, heard queries h, channels c, frames "
        "t, distances d"
    )
    save_tensors(
        path, tensors, BANK, {**header, "retrains": listed, "tracks": tracks, "axes": axes, **(more or {})}
    )
    return read_bank(path)


def _unpack(bank: Bank, header: dict[str, Any], retrains: Sequence[Retrain], folder: Path) -> list[Retrain]:
    """Puts what a finished bank holds where a build looks for it.

    Returns:
        ``retrains``, and those of the bank that are not among them.

    Raises:
        LinernotesError: the bank is of another setting, or its models were trained on other tracks.
    """
    if differing := sorted(name for name in header if bank.header.get(name) != header[name]):
        raise LinernotesError(
            f"{bank.path} was built with other {' and '.join(differing)}: give the same, or another folder "
            "for a new bank"
        )
    asked = {retrain.name: retrain for retrain in retrains}
    held = [
        Retrain(name, str(kind), np.asarray(present_n), seed)
        for name, kind, present_n, seed in zip(
            bank.names, bank.kinds, bank.present_mn, bank.seeds, strict=True
        )
    ]
    for m, retrain in enumerate(held):
        same = asked.get(retrain.name, retrain)
        if same.seed != retrain.seed or not np.array_equal(same.present_n, retrain.present_n):
            raise LinernotesError(
                f"{retrain.name} in {bank.path} is of other tracks or another seed: give another folder"
            )
        path = folder / f"{retrain.name}.safetensors"
        if path.exists():
            continue
        arrays = {name: np.asarray(getattr(bank, many)[m]) for name, many in PACKED.items()}
        measured = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        save_tensors(
            path,
            measured,
            RETRAIN,
            {
                **header,
                # that trained it; banks of before this was kept have it of the whole
                "linernotes": bank.header["retrains"][m].get("linernotes", bank.header["linernotes"]),
                "name": retrain.name,
                "retrain": retrain.kind,
                "seed": retrain.seed,
            },
        )
    return [*retrains, *(retrain for retrain in held if retrain.name not in asked)]


def read_bank(path: Path) -> Bank:
    """Reads a finished bank, by its file or its folder.

    Raises:
        LinernotesError: none there, damaged or unfinished.
    """
    file = bank_file(path)
    tensors, header = load_tensors(file, BANK)
    if header.get("means"):  # a file of the package
        tensors["loss_mqk"] = tensors["loss_mqk"].expand(-1, -1, header["draws"])
    tensors["change_mqk"] = tensors["change_mqk"].expand_as(tensors["loss_mqk"])
    tensors["item_loss_ms"] = tensors["item_loss_ms"].float()  # half precision in some files of the package
    tensors.setdefault("latents_qct", torch.empty(0))  # of a file that came without its clips
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    retrains = header["retrains"]
    return Bank(
        path=file,
        header=header,
        queries=[BankQuery(**query) for query in header["queries"]],
        names=[r["name"] for r in retrains],
        kinds=np.array([r["kind"] for r in retrains]),
        seeds=[r["seed"] for r in retrains],
        tracks=header["tracks"],
        **arrays,
    )
