"""A workspace: an opened model, catalogue and cache, ready for any verb, for as long as a program wants
them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from linernotes.api.reporting import PAGE, draw_page
from linernotes.artefacts import held
from linernotes.attribution.effects import Calibration
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import Clip, load_clip, save_generated
from linernotes.attribution.result import Attribution
from linernotes.attribution.run import (
    Attributed,
    attribute_clips,
    filed,
    finished,
    judged_anew,
    refuse_others,
)
from linernotes.attribution.verdict import Judge
from linernotes.attribution.vouching import require_trained_on
from linernotes.audio import check_writable
from linernotes.catalog.store import Catalogue
from linernotes.demo.opening import open_catalogue
from linernotes.demo.places import BUILTIN
from linernotes.demo.provider import judge_for, load_model, model_folder
from linernotes.errors import LinernotesError, UsageError
from linernotes.methods.all import require_layers, require_runs_on
from linernotes.methods.contract import Prepared, Progress
from linernotes.models.contract import POWERS, GeneratingModel, GenerativeModel
from linernotes.settings.methods import DEFAULT_METHOD, MethodSettings
from linernotes.settings.reading import checked, settings_of


class Workspace:
    """What ``linernotes.open`` gives: nothing in it is loaded or hashed twice, however many verbs are called.

    >>> with linernotes.open("my-model", "my.catalogue") as work:
    ...     clip = work.generate("a slow air", "air.flac", seed=1)
    ...     (attribution,) = work.attribute(clip, "air")
    """

    def __init__(
        self,
        model: str | Path = BUILTIN,
        catalogue: str | Path = BUILTIN,
        cache: str | Path | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Opens both.

        Args:
            cache: folder for what is computed once for a model and a catalogue; the user's cache if None.
            on_progress: ``on_progress(what, done, total)`` is called while long work runs.

        Raises:
            LinernotesError: one of them is missing or damaged, they do not fit together, or the model says
                that it was trained on another catalogue.
        """
        self.names = (str(model), str(catalogue))
        loaded, opened = load_model(model), open_catalogue(catalogue)
        vouched = require_trained_on(model_folder(model), loaded, opened)
        self._prepared: Prepared | None = prepare(
            loaded, opened, Path(cache) if cache else None, on_progress, model_folder(model), vouched
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of model and catalogue. A second time does nothing."""
        self._prepared = None

    @property
    def prepared(self) -> Prepared:
        """Model and catalogue, as methods take them.

        Raises:
            UsageError: the workspace was closed.
        """
        if self._prepared is None:
            raise UsageError(
                f"the workspace of {' and '.join(self.names)} was closed: open it again with linernotes.open"
            )
        return self._prepared

    @property
    def model(self) -> GenerativeModel:
        """The opened model."""
        return self.prepared.model

    @property
    def catalogue(self) -> Catalogue:
        """The opened catalogue."""
        return self.prepared.catalogue

    def generate(self, prompt: str, out: str | Path, seed: int = 0, seconds: float | None = None) -> Path:
        """Generates a clip; see ``linernotes.generate``."""
        return generate_with(self.model, prompt, out, seed, seconds, self.prepared.on_progress)

    def load_clips(self, clips: str | Path | Sequence[str | Path], prompt: str | None = None) -> list[Clip]:
        """Clips as queries.

        Raises:
            UsageError: none was given.
        """
        paths = [Path(clip) for clip in ([clips] if isinstance(clips, str | Path) else clips)]
        if not paths:
            raise UsageError("no clip was given: name at least one")
        return [load_clip(path, self.model, prompt) for path in paths]

    def attribute(
        self,
        clips: str | Path | Sequence[str | Path],
        out: str | Path,
        prompt: str | None = None,
        method: str = DEFAULT_METHOD,
        calibration: str | Path | None = None,
        **settings: Any,
    ) -> list[Attribution]:
        """Attributes clips; see ``linernotes.attribute``."""
        chosen = checked(settings_of(method), settings, f" for {method}")
        require_runs_on(method, self.model)
        require_layers(self.model, chosen)
        loaded = self.load_clips(clips, prompt)
        words = ["linernotes", "attribute", *(str(clip.path) for clip in loaded)]
        done = self.attributions(loaded, method, chosen, Path(out), words, prompt, calibration)
        for item in done:
            if not (item.folder / PAGE).is_file():
                _draw(item)
        return [item.attribution for item in done]

    def attributions(
        self,
        clips: list[Clip],
        method: str,
        settings: MethodSettings,
        folder: Path,
        words: Sequence[str],
        prompt: str | None = None,
        calibration: str | Path | None = None,
    ) -> list[Attributed]:
        """The attributions of loaded clips in ``folder``: found there, or made now.

        Raises:
            LinernotesError: the folder holds others, or is being written.
        """
        model, catalogue = self.names
        words = [*words, "--model", model, "--catalog", catalogue, *(["--prompt", prompt] if prompt else [])]
        words += ["--calibration", str(calibration)] if calibration else []
        judge = self.judge(method, settings, calibration)
        with held(folder):
            if found := finished(clips, self.prepared, method, settings, folder):
                return [self._judged(item, clip, judge) for item, clip in zip(found, clips, strict=False)]
            refuse_others(clips, self.prepared, method, settings, folder)
            for place, _ in filed(clips, settings, folder):
                if (place / PAGE).is_file():  # of a record that has gone, or is made anew
                    (place / PAGE).unlink()
            return attribute_clips(clips, self.prepared, method, settings, folder, words, judge)

    def judge(
        self, method: str, settings: MethodSettings, calibration: str | Path | None = None
    ) -> Judge | None:
        """What scores of a method are worth here; None if nobody knows.

        Args:
            calibration: made by ``linernotes.calibrate``; what the package has if None.

        Raises:
            UsageError: it is of another method, or of other settings.
        """
        if calibration is None:
            return judge_for(self.model, method, settings)
        read = Calibration.load(Path(calibration))
        if not read.fits(method, settings):
            raise UsageError(
                f"{calibration} says what scores of {read.method} are worth, made with other settings or by "
                "another method than these: give the one that fits, or leave out --calibration"
            )
        return Judge(read, read.model_hash != self.model.weights_hash)

    def _judged(self, item: Attributed, clip: Clip, judge: Judge | None) -> Attributed:
        """An attribution found on disk, judged anew if by another calibration."""
        before = item.attribution.verdict
        if (before.calibration_hash if before else None) == (judge.calibration.hash if judge else None):
            return item
        (item.folder / PAGE).unlink(missing_ok=True)
        return judged_anew(item, clip, self.prepared, judge)


def _draw(item: Attributed) -> None:
    try:
        draw_page(item.folder)
    except (LinernotesError, OSError) as error:
        hint = shlex.join(["linernotes", "report", str(item.folder)])
        raise LinernotesError(
            f"the attribution stands in {item.folder}, but not its page ({error}): draw it with '{hint}'"
        ) from error


def generate_with(
    model: GenerativeModel,
    prompt: str,
    out: str | Path,
    seed: int,
    seconds: float | None,
    on_progress: Progress | None,
) -> Path:
    """Generates a clip, and beside it the sidecar ``attribute`` reads.

    Raises:
        UsageError: the model cannot generate here, or not so long.
    """
    if not isinstance(model, GeneratingModel):
        raise UsageError(
            f"{model.name} lacks {POWERS[GeneratingModel]}: generate where it was made, and attribute here"
        )
    check_writable(Path(out))
    encoding = model.encoding
    longest, least = encoding.segment_s, encoding.frame_samples / encoding.rate_hz
    seconds = longest if seconds is None else seconds
    if not least <= seconds <= longest + 1e-6:
        raise UsageError(
            f"--seconds {seconds:g} is out of range: this model generates {least:.2f} to {longest:.2f} s"
        )
    on_step = (lambda done, total: on_progress("generating", done, total)) if on_progress else None
    latents = model.sample(prompt, seconds, seed, on_step)
    save_generated(Path(out), model, latents.cpu(), prompt, seconds, seed)
    return Path(out)


open = Workspace  # linernotes.open(model, catalogue)
