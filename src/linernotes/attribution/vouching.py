"""Whether the question fits the model: was it trained on this catalogue, did it make this clip, is the prompt
known?
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from linernotes.artefacts import hash_bytes
from linernotes.attribution.query import Clip
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.models.contract import GenerativeModel
from linernotes.models.folder import training_record

ROWS_AT_ONCE = 1 << 12


def require_trained_on(folder: Path | None, model: GenerativeModel, catalogue: Catalogue) -> bool:
    """Whether the model in ``folder`` says that it was trained on ``catalogue``: True, or False where it says
    nothing.

    Raises:
        LinernotesError: it was trained on another one.
    """
    record = training_record(folder)
    if "data" not in record:
        return False
    if record.get("catalogue") == catalogue.hash or record["data"] == _data_hash(catalogue):
        return True
    raise LinernotesError(
        f"the model {model.name} was trained on another catalogue than {catalogue.path} (its training.json "
        "says so): give the catalogue it was trained on with --catalog"
    )


def _data_hash(catalogue: Catalogue) -> str:
    """Hash of the training segments, as training takes it: decoys may be added to a catalogue, and it may be
    moved.
    """
    rows = catalogue.training_rows
    parts = np.array_split(rows, max(1, len(rows) // ROWS_AT_ONCE))

    def chunks() -> Iterator[bytes]:  # as ``hash_arrays`` has them, a few segments at a time
        for name in ("latents", "seconds", "text"):
            for i, some in enumerate(parts):
                batch = catalogue.batch(some)
                values = {"latents": batch.latents_nct, "seconds": batch.seconds_n, "text": batch.text_nld}
                array = np.ascontiguousarray(values[name].numpy())
                if not i:
                    yield f"{name}:{array.dtype}:{(len(rows), *array.shape[1:])}".encode()
                yield array.tobytes()

    return hash_bytes(chunks())


def cautions(clips: Sequence[Clip], model: GenerativeModel, catalogue: Catalogue, vouched: bool) -> list[str]:
    """What a reader must know before the ranking, one plain sentence each."""
    said = []
    if strangers := [clip for clip in clips if clip.generated is None]:
        said.append(
            f"{', '.join(clip.path.name for clip in strangers)}: not known to come from the model "
            f"{model.name}. A recording made by anyone else is ranked just as plainly, often with higher "
            "scores, and the ranking then means nothing."
        )
    if unprompted := [clip for clip in clips if not clip.prompt_known]:
        said.append(
            f"{', '.join(clip.path.name for clip in unprompted)}: nobody knows the prompt, so the model was "
            "asked without one."
        )
    if not vouched:
        said.append(
            f"Nobody vouches that the model {model.name} was trained on the catalogue {catalogue.path.name}: "
            "if it was not, the tracks named are none that it learned from."
        )
    return said
