"""Trains a model again on chosen tracks and measures what became of it: the ground truth every score is held
against.

Each retrain runs in a process of its own with one thread, one process a core (several to a GPU) or on a
cluster, so that its result does not depend on how many run beside it. A finished one is a file; a killed run
goes on at the last checkpoint of the unfinished ones.
"""

from __future__ import annotations

import logging
import math
import secrets
import shutil
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays, hash_json, held, load_tensors, save_tensors
from linernotes.errors import DamagedError, LinernotesError
from linernotes.evaluation.bank.measuring import References, measure, references_of
from linernotes.evaluation.bank.setting import Retrain, Setting, remakable
from linernotes.jobs.engines import cores, executor_of, local
from linernotes.jobs.executor import Executor
from linernotes.jobs.shards import reachable, wait_to_see
from linernotes.methods.contract import Progress
from linernotes.models.adapter_folder import places_of
from linernotes.models.starts import write_untrained_copy
from linernotes.models.training import train
from linernotes.settings.engine import RetrainEngineSettings
from linernotes.version import __version__

_log = logging.getLogger("linernotes")
RETRAIN = "retrained model, measured"
AT_ONCE_ON_GPU = 8  # a small model leaves most of a GPU idle


def run_retrains(
    setting: Setting,
    retrains: Sequence[Retrain],
    folder: Path,
    on_progress: Progress | None = None,
    executor: Executor | None = None,
) -> None:
    """Trains and measures all of ``retrains`` that have no file in ``folder`` yet, several at once. One whose
    file is damaged is trained anew, and which are of another version of linernotes is said.

    Args:
        executor: what runs them; processes of this machine if None.

    Raises:
        LinernotesError: a file there was made in another setting, or on other tracks; a process was killed.
    """
    header = setting.header()
    todo, versions = [], defaultdict[str, list[str]](list)
    for retrain in retrains:
        path = folder / f"{retrain.name}.safetensors"
        if path.exists():
            try:
                versions[read_retrain(folder, retrain, header)[1]["linernotes"]].append(retrain.name)
                continue
            except DamagedError as error:
                _log.warning(f"{error}; it is trained anew now")
                path.unlink(missing_ok=True)
        todo.append(retrain)
    for version, names in versions.items():
        if version != __version__:
            _log.warning(
                f"{len(names)} models in {folder} ({names[0]}, ...) were trained by linernotes {version}, "
                f"under the same recipe; this is {__version__}: remove them to have them trained anew"
            )
    done = len(retrains) - len(todo)
    report = on_progress or (lambda what, done, total: None)
    report("retraining", done, len(retrains))
    if not todo:
        return

    def count(_retrain: Retrain) -> None:
        nonlocal done
        done += 1
        report("retraining", done, len(retrains))

    folder = folder.absolute()  # a worker may stand elsewhere
    setting = replace(setting, model=setting.model.absolute(), catalogue=setting.catalogue.absolute())
    with reachable(folder / ".work" / f"{secrets.token_hex(8)}.reached") as sign:
        paths = (*places_of(setting.model), setting.catalogue, sign)
        task = _Retraining(_Bench(setting, header), folder, paths)
        if executor:
            _exhaust(executor.run(task, todo, count))
        else:
            with local(min(at_once(), len(todo))) as processes:
                _exhaust(processes.run(task, todo, count))
    for retrain in todo:
        wait_to_see(folder / f"{retrain.name}.safetensors")


def retrainers(engine: RetrainEngineSettings | None) -> Executor:
    """What trains models again, not yet entered: processes of this machine if None."""
    return executor_of(engine or RetrainEngineSettings(), at_once())


def at_once() -> int:
    """How many retrains this machine runs at once."""
    return AT_ONCE_ON_GPU if torch.cuda.is_available() else cores()


@dataclass(frozen=True)
class _Bench:
    """The ``Setup`` of a worker that retrains in one setting."""

    setting: Setting
    header: dict[str, Any]

    @property
    def key(self) -> str:
        return hash_json(self.header)

    def open(self) -> References:
        """What retrained models are held against.

        Raises:
            LinernotesError: model, catalogue or device are not those that the work was planned for.
        """
        found = self.setting.header()
        for name, wanted in self.header.items():
            if found[name] != wanted:
                raise LinernotesError(
                    f"a worker on {socket.gethostname()} has another {name} ({found[name]}, not {wanted}): "
                    "give it the same files and the same kind of device"
                )
        return references_of(self.setting)


@dataclass(frozen=True)
class _Retraining:
    """The ``Task`` of training models again."""

    setup: _Bench
    folder: Path
    paths: Sequence[Path]

    def do(self, worker: References, retrain: Retrain) -> None:
        path = self.folder / f"{retrain.name}.safetensors"
        with held(path, "trained", wait_s=math.inf):  # by a worker that outlived a run that was killed
            if not path.exists():
                self._retrain(worker, retrain, path)

    def _retrain(self, worker: References, retrain: Retrain, path: Path) -> None:
        setting, catalogue, header = self.setup.setting, worker.catalogue, self.setup.header
        made_from = hash_json([header, retrain.seed, hash_arrays({"present": retrain.present_n})])
        work = self.folder / ".work" / f"{retrain.name}-{made_from[:8]}"
        template = work / "untrained"
        shutil.rmtree(template, ignore_errors=True)
        write_untrained_copy(setting.model, template, retrain.seed)
        trained = [i for i, track in enumerate(catalogue.tracks) if track.trained]
        present = np.zeros(len(catalogue.tracks), dtype=bool)
        present[np.array(trained)[retrain.present_n]] = True
        rows = np.flatnonzero(present[catalogue.track_n])
        if not (work / "model").exists():
            settings = setting.training.model_copy(update={"seed": retrain.seed, "checkpoints": 0})
            data = catalogue.batch(rows)
            train(
                template,
                work / "model",
                data.latents_nct,
                data.text_nld,
                data.seconds_n,
                settings,
                track_n=catalogue.track_n[rows],
            )
        measured = measure(setting, worker, remakable(work / "model"))
        measured["present_n"] = torch.from_numpy(retrain.present_n)
        about = {**header, "name": retrain.name, "retrain": retrain.kind, "seed": retrain.seed}
        save_tensors(path, measured, RETRAIN, about)
        shutil.rmtree(work)


def _exhaust(results: Iterable[None]) -> None:
    for _ in results:
        pass


def read_retrain(
    folder: Path, retrain: Retrain, header: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was measured of one retrain, and what its file says of itself.

    Raises:
        LinernotesError: its file is missing, damaged, or was made in another setting or on other tracks.
    """
    path = folder / f"{retrain.name}.safetensors"
    tensors, said = load_tensors(
        path, RETRAIN, {**header, "name": retrain.name, "retrain": retrain.kind, "seed": retrain.seed}
    )
    if not np.array_equal(tensors["present_n"].numpy(), retrain.present_n):
        raise LinernotesError(
            f"{path} was trained on other tracks than are asked for now: give another folder, or remove it"
        )
    return tensors, said
