"""Where a model and a catalogue keep what is computed once for all queries, named by the hashes of what it
depends on.
"""

from __future__ import annotations

import functools
from pathlib import Path

from linernotes.artefacts import hash_files, hash_json
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.methods.contract import Prepared, Progress
from linernotes.models.contract import GenerativeModel, device_of, is_placed
from linernotes.settings.places import cache_folder
from linernotes.settings.training import Drawn
from linernotes.version import __version__

PACKAGE = Path(__file__).parent.parent


def prepare(
    model: GenerativeModel,
    catalogue: Catalogue,
    cache: Path | None = None,
    on_progress: Progress | None = None,
    model_folder: Path | None = None,
    vouched: bool = False,
    drawn: Drawn = "segments",
) -> Prepared:
    """A model and a catalogue that fit together, ready for any method.

    Raises:
        LinernotesError: the catalogue was encoded by another model, or holds nothing that was trained on.
    """
    catalogue.require(model.encoding, model.name)
    if not len(catalogue.training_rows):
        raise LinernotesError(
            f"{catalogue.path} holds no training segments, only decoys: add tracks whose split is 'train'"
        )
    device = device_of(model).type  # losses of a CPU and of a GPU differ in the last digits
    made_by = hash_json([__version__, code_hash(), device])[:8]
    told = "-placed" if is_placed(model) else ""  # the same weights make other losses
    folder = (cache or cache_folder()) / f"{model.weights_hash}-{catalogue.hash}-{made_by}{told}"
    return Prepared(model, catalogue, folder, on_progress, model_folder, vouched, drawn=drawn)


@functools.cache
def code_hash() -> str:
    """Hash of the code that fills the cache: what other code computed is never taken for its own."""
    return hash_files(code_files(), PACKAGE)


def code_files() -> list[Path]:
    """The code that fills the cache, in order."""
    rooms = ("audio", "models", "curvature", "methods")
    files = [
        *(path for room in rooms for path in PACKAGE.glob(f"{room}/**/*.py")),
        PACKAGE / "descriptors.py",
        PACKAGE / "draws.py",
        PACKAGE / "losses.py",
        PACKAGE / "attribution" / "fitness.py",
    ]
    return sorted(files)
