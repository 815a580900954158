"""From a prompt to a clip and the sidecar that lets it be attributed exactly as it was generated."""

from __future__ import annotations

from pathlib import Path

from linernotes.artefacts import held
from linernotes.attribution.query import save_generated, stands_generated
from linernotes.errors import UsageError
from linernotes.methods.contract import Progress
from linernotes.models.contract import POWERS, GeneratingModel, GenerativeModel
from linernotes.settings.paths import require_sound_name
from linernotes.settings.verbs import GenerateSettings


def generate_clip(
    model: GenerativeModel,
    prompt: str,
    out: Path,
    settings: GenerateSettings,
    on_progress: Progress | None = None,
) -> None:
    """Generates a clip into ``out``, and beside it the sidecar that ``attribute`` reads; that very clip, if
    it is there already, is kept.

    Raises:
        UsageError: the model cannot generate here, or not so long.
        LinernotesError: something else stands at ``out``.
    """
    if not isinstance(model, GeneratingModel):
        raise UsageError(
            f"{model.name} lacks {POWERS[GeneratingModel]}: generate where it was made, and attribute here"
        )
    require_sound_name(out)
    encoding, seed = model.encoding, settings.seed
    longest, least = encoding.segment_s, encoding.frame_samples / encoding.rate_hz
    seconds = longest if settings.seconds is None else settings.seconds
    if not least <= seconds <= longest + 1e-6:
        raise UsageError(
            f"--seconds {seconds:g} is out of range: this model generates {least:.2f} to {longest:.2f} s"
        )
    with held(out):
        if stands_generated(out, model, prompt, seconds, seed):
            return
        on_step = (lambda done, total: on_progress("generating", done, total)) if on_progress else None
        latents = model.sample(prompt, seconds, seed, on_step)
        save_generated(
            path=out, model=model, latents_1ct=latents.cpu(), prompt=prompt, seconds=seconds, seed=seed
        )
