"""Makes what the package has ready of the built-in model and catalogue, so that a first attribution takes
seconds: the curvature of the default method, the model's fitness, and an index that costs no pass. Run it
when one of them changes (the hashes in its files say so).

    linernotes index build -o INDEX --moments 0 --latents 128 --queries 16
    python dev/make_ready.py INDEX
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from linernotes.api.workspace import Workspace
from linernotes.attribution.fitness import FITNESS, fitness_of
from linernotes.curvature.packed import save_packed
from linernotes.demo.places import READY, SHIPPED_INDEX
from linernotes.methods.readout import curvature_name, fit_curvature
from linernotes.settings.methods import ReadoutSettings


def main(index: str) -> None:
    settings = ReadoutSettings()
    with Workspace() as work:
        prepared = replace(work.prepared, shipped=None)
        draws = prepared.draws(settings.draws, settings.seed)
        curvature = fit_curvature(prepared, draws, settings.noise_bands, settings.batch_size, settings.seed)
        fitness_of(prepared)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "ready"
            name = curvature_name(prepared, draws, settings.noise_bands)
            save_packed(made / name, curvature.cpu(), prepared.made_from(draws))
            shutil.copy(prepared.folder / FITNESS, made / FITNESS)
            shutil.copytree(index, made / SHIPPED_INDEX.name)
            shutil.rmtree(READY, ignore_errors=True)
            shutil.copytree(made, READY)
    print(*sorted(READY.rglob("*")), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
