"""A model and a catalogue as workers hold them: in this process the ones that are open, in any other opened
again from where they lie, and held against what the work was planned for.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linernotes.artefacts import hash_json
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.jobs.executor import Here
from linernotes.models.adapter_folder import places_of
from linernotes.models.contract import GenerativeModel, device_of
from linernotes.models.opening import open_model

Opened = tuple[GenerativeModel, Catalogue]


@dataclass(frozen=True)
class Workplace:
    """A ``Setup`` that opens to a model and a catalogue."""

    opened: Here[Opened]
    model_folder: Path | None  # None: the model is an object of this process alone
    catalogue_folder: Path
    model_hash: str
    catalogue_hash: str
    device: str  # cpu or cuda: losses of the two differ in the last digits

    @property
    def key(self) -> str:
        places = [str(self.model_folder), str(self.catalogue_folder)]
        return hash_json([*places, self.model_hash, self.catalogue_hash, self.device])

    @property
    def paths(self) -> Sequence[Path]:
        """What other processes need to reach."""
        return [*(places_of(self.model_folder) if self.model_folder else []), self.catalogue_folder]

    def open(self) -> Opened:
        """Model and catalogue.

        Raises:
            LinernotesError: here they are others, or run on another kind of device, or the model lies
                nowhere.
        """
        if self.opened.value is not None:
            return self.opened.value
        host = socket.gethostname()
        if self.model_folder is None:
            raise LinernotesError(
                "workers open a model from its folder, and this one was given as an object: save it, and "
                "give its folder, or use --engine threads"
            )
        model, catalogue = open_model(self.model_folder), Catalogue(self.catalogue_folder)
        for path, found, wanted in (
            (self.model_folder, model.weights_hash, self.model_hash),
            (self.catalogue_folder, catalogue.hash, self.catalogue_hash),
        ):
            if found != wanted:
                raise LinernotesError(
                    f"{path} on {host} is another than here ({found}, not {wanted}): put it on a disk that "
                    "all nodes share"
                )
        device = device_of(model).type
        if device != self.device:
            remedy = "give --gpus-per-worker" if device == "cpu" else "start this on a machine with a GPU"
            raise LinernotesError(
                f"a worker on {host} runs on {device}, and this on {self.device}, whose losses differ in the "
                f"last digits: {remedy}"
            )
        return model, catalogue


def workplace(model: GenerativeModel, catalogue: Catalogue, model_folder: Path | None = None) -> Workplace:
    """The place where this model and this catalogue are worked on; ``model_folder``: where the model lies."""
    return Workplace(
        Here((model, catalogue)),
        model_folder.absolute() if model_folder else None,
        catalogue.path.absolute(),
        model.weights_hash,
        catalogue.hash,
        device_of(model).type,
    )
