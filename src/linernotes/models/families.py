"""Which models can be opened, for people: what their folders hold, and a command to try each."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points

from linernotes.models.folder import PLUGINS
from linernotes.models.opening import FAMILIES


@dataclass(frozen=True)
class Layout:
    """One form in which models of a family lie on disk."""

    family: str
    folder: str  # what its folders hold
    example: str  # a command to try


LAYOUTS = (
    Layout(
        "Stable Audio",
        "diffusers' StableAudioPipeline: model_index.json and a folder for each part",
        'linernotes generate --prompt "a jig for flute" -o clip.flac --model builtin',
    ),
    Layout(
        "Stable Audio",
        "stable-audio-tools: model_config.json, model.safetensors ('linernotes convert' makes it of a .ckpt) "
        "and text_encoder",
        'linernotes generate --prompt "a jig for flute" -o clip.flac --model FOLDER',
    ),
    Layout(
        "Stable Audio",
        "an adapter, LoRA or DoRA, in PEFT's layout, or Stable Audio 3's to a model of that family",
        "linernotes train builtin -o ADAPTER --adapter lora --steps 100",
    ),
    Layout(
        "Stable Audio 3",
        "diffusers' StableAudio3Pipeline",
        'linernotes generate --prompt "a jig for flute" -o clip.flac --model FOLDER',
    ),
    Layout(
        "ACE-Step 1.5",
        "diffusers' AceStepPipeline",
        'linernotes generate --prompt "a jig for flute" -o clip.flac --model FOLDER',
    ),
    Layout(
        "MusicGen",
        "transformers' MusicgenForConditionalGeneration, in mono or stereo",
        "linernotes rebuild --benchmark codec-lm -o CODEC",
    ),
)


def list_models() -> list[Layout]:
    """All families, those of other packages last."""
    own = [layout for name in FAMILIES for layout in LAYOUTS if layout.family == name]
    return own + [
        Layout(
            plugin.name,
            f"see {plugin.value}",
            "linernotes generate --prompt PROMPT -o clip.flac --model FOLDER",
        )
        for plugin in entry_points(group=PLUGINS)
    ]
