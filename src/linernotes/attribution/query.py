"""The clip in question: a generated clip with its sidecar, or any sound file with a prompt -> ``Query``.

The sidecar of ``clip.flac`` is ``clip.flac.safetensors``: the latents exactly as generated, and a header with
prompt, seed, duration, the model's hash and a hash of the clip's samples, so that an edited clip is not taken
for the generated one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import hash_arrays, load_tensors, replacing, save_tensors
from linernotes.attribution.result import ClipFile
from linernotes.audio import SILENCE_PEAK, Sound, loudness_db, read_sound, write_sound
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.methods.contract import SILENCE_DB, Query
from linernotes.models.contract import GenerativeModel

SIDECAR = "generated clip"
LOOKED_AT = 1 << 12  # segments at once


@dataclass(frozen=True)
class Clip:
    """A query with the sound it is about and what is known of its making."""

    windows: list[Query]  # one after the other, each as long as the model hears; the last may be shorter
    sound: Sound
    path: Path
    generated: dict[str, Any] | None  # seed, model, ... of the sidecar; None for other sound
    prompt_known: bool = True
    files: list[ClipFile] = field(default_factory=list)
    members: list[Clip] = field(default_factory=list)  # of a set of clips that is unlearned as one

    @property
    def query(self) -> Query:
        """The clip as a whole: its name, prompt and duration, with the latents of its first window."""
        if len(self.windows) == 1:
            return self.windows[0]
        own = [member.query for member in self.members]
        return replace(
            self.windows[0],
            name="+".join(query.name for query in own) or self.path.stem,
            prompt=" | ".join(dict.fromkeys(query.prompt for query in own)) or self.windows[0].prompt,
            seconds=sum(window.seconds for window in self.windows),
        )

    @property
    def made_here(self) -> bool:
        """Whether the model is known to have made it."""
        return all(member.generated for member in self.members or [self])


def as_set(clips: list[Clip]) -> Clip:
    """Several clips as one that is unlearned as a set: with all their windows, their sound one after the
    other.
    """
    return Clip(
        windows=[window for clip in clips for window in clip.windows],
        sound=joined([clip.sound for clip in clips]),
        path=clips[0].path,
        generated=None,
        prompt_known=all(clip.prompt_known for clip in clips),
        files=[file for clip in clips for file in clip.files],
        members=clips,
    )


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a clip is."""
    return path.with_name(path.name + ".safetensors")


def stands_generated(path: Path, model: GenerativeModel, prompt: str, seconds: float, seed: int) -> bool:
    """Whether this very clip stands at ``path`` already.

    Raises:
        LinernotesError: something else does.
    """
    sidecar = sidecar_path(path)
    if not (path.exists() or sidecar.exists()):
        return False
    if sidecar.exists():
        header = load_tensors(sidecar, SIDECAR)[1]
        made_from = _made_from(model, prompt, seconds, seed)
        if {name: header.get(name) for name in made_from} == made_from:
            if not path.exists():  # a run that was stopped leaves the sidecar
                return False
            if header["sound"] == _sound_hash(read_sound(path)):
                return True
    raise LinernotesError(
        f"{path if path.exists() else sidecar} exists already and is not this clip: choose another name or "
        "remove it"
    )


def save_generated(
    path: Path, model: GenerativeModel, latents_1ct: Tensor, prompt: str, seconds: float, seed: int
) -> None:
    """Writes a generated clip and its sidecar; the sidecar first, so that no clip ever stands without.

    Raises:
        LinernotesError: there is nothing to be heard, or no sound at all: the model is broken, or the seed is
            unlucky.
    """
    samples = model.decode(latents_1ct)[0].cpu().numpy()[:, : round(seconds * model.encoding.rate_hz)]
    if not np.isfinite(samples).all() or float(np.abs(samples).max()) < SILENCE_PEAK:
        what = "silence" if np.isfinite(samples).all() else "numbers that are no sound"
        raise LinernotesError(
            f"{model.name} generated {what} for {path} (seed {seed}): try another seed, or another model"
        )
    sound = Sound(samples, model.encoding.rate_hz)
    with replacing(path) as written:
        write_sound(written, sound)
        header = {
            **_made_from(model, prompt, seconds, seed),
            "model": model.name,
            "sound": _sound_hash(read_sound(written)),
            "axes": "channels, frames",
        }
        save_tensors(sidecar_path(path), {"latents_ct": latents_1ct[0]}, SIDECAR, header)


def _made_from(model: GenerativeModel, prompt: str, seconds: float, seed: int) -> dict[str, Any]:
    """All that a generated clip depends on."""
    return {
        "prompt": prompt,
        "seconds": seconds,
        "seed": seed,
        "model_hash": model.weights_hash,
        "codec_hash": model.encoding.codec_hash,
    }


def load_clip(path: Path, model: GenerativeModel, prompt: str | None) -> Clip:
    """Loads a query.

    Args:
        prompt: what a clip without a sidecar was generated from, None if nobody knows; for one with a sidecar
            it must be absent or the same.

    Raises:
        AudioError: the sound cannot be used.
        UsageError: another prompt than the clip was generated from.
        LinernotesError: too short, generated by another model, or not what its sidecar describes.
    """
    sound = read_sound(path)
    sidecar = sidecar_path(path)
    if not sidecar.exists():
        return _from_sound(path, sound, model, prompt)
    tensors, header = load_tensors(sidecar, SIDECAR)
    if (header["model_hash"], header["codec_hash"]) != (model.weights_hash, model.encoding.codec_hash):
        raise LinernotesError(
            f"{path} was generated by {header['model']} ({header['model_hash']}), not by {model.name} "
            f"({model.weights_hash}): give that model with --model, or generate the clip anew"
        )
    if header["sound"] != _sound_hash(sound):
        raise LinernotesError(
            f"{path} is no longer what its sidecar {sidecar.name} describes: "
            "restore the clip, or remove the sidecar and give --prompt"
        )
    if prompt not in (None, header["prompt"]):
        raise UsageError(f"{path} was generated from {header['prompt']!r}: leave out --prompt")
    samples = sound.converted(model.encoding.rate_hz, model.encoding.channels).samples
    query = _query(path.stem, tensors["latents_ct"], header["prompt"], header["seconds"], samples, model)
    generated = {name: header[name] for name in ("seed", "model", "model_hash")}
    return Clip([query], sound, path, generated, files=[_clip_file(path, sound)])


def segment_query(catalogue: Catalogue, row: int) -> Query:
    """A training segment as a query, from what the catalogue stores of it (self-influence)."""
    batch = catalogue.batch([row])
    track = catalogue.tracks[catalogue.track_n[row]]
    return Query(
        name=f"{track.track_id}@{catalogue.start_s_n[row]:.0f}s",
        latents_ct=batch.latents_nct[0],
        prompt=track.caption,
        text_ld=batch.text_nld[0],
        seconds=float(batch.seconds_n[0]),
        heard_t=torch.from_numpy(catalogue.loudness_db([row])[0] > SILENCE_DB),
        place=(float(batch.start_s_n[0]), float(batch.whole_s_n[0])),
    )


def heard_rows(catalogue: Catalogue, count: int, rows: np.ndarray | None = None) -> np.ndarray:
    """The first ``count`` training segments, or of ``rows`` of them, that can be queries: those with sound in
    them. Fewer if there are no more.

    Raises:
        LinernotesError: there is none.
    """
    rows, found = catalogue.training_rows if rows is None else rows, []
    for start in range(0, len(rows), LOOKED_AT):
        some = rows[start : start + LOOKED_AT]
        found.extend(some[(catalogue.loudness_db(some) > SILENCE_DB).any(axis=1)].tolist())
        if len(found) >= count:
            break
    if not found:
        raise LinernotesError(
            f"{catalogue.path} holds no training segment with sound in it: add tracks that have some"
        )
    return np.array(found[:count])


def clip_query(name: str, latents_ct: Tensor, prompt: str, seconds: float, model: GenerativeModel) -> Query:
    """A generated clip as a query, from its latents alone."""
    samples = model.decode(latents_ct[None])[0].cpu().numpy()[:, : round(seconds * model.encoding.rate_hz)]
    return _query(name, latents_ct, prompt, seconds, samples, model)


def _from_sound(path: Path, sound: Sound, model: GenerativeModel, prompt: str | None) -> Clip:
    """Any sound, cut into windows just as a track is into segments."""
    shape = model.encoding
    samples = sound.converted(shape.rate_hz, shape.channels).samples
    if samples.shape[1] < shape.frame_samples:
        raise LinernotesError(
            f"{path} lasts {sound.seconds:.3f} s, less than one latent frame "
            f"({shape.frame_samples / shape.rate_hz:.3f} s): give a longer clip"
        )
    starts = range(0, max(1, samples.shape[1] - shape.frame_samples + 1), shape.segment_samples)
    windows = []
    for start in starts:
        part = samples[:, start : start + shape.segment_samples]
        padded = np.zeros((shape.channels, shape.segment_samples), dtype=np.float32)
        padded[:, : part.shape[1]] = part
        latents = model.encode(torch.from_numpy(padded)[None])[0].cpu()
        name = path.stem if len(starts) == 1 else f"{path.stem}@{start / shape.rate_hz:.2f}s"
        windows.append(_query(name, latents, prompt or "", part.shape[1] / shape.rate_hz, part, model))
    return Clip(windows, sound, path, None, prompt is not None, [_clip_file(path, sound)])


def _query(
    name: str, latents_ct: Tensor, prompt: str, seconds: float, samples: np.ndarray, model: GenerativeModel
) -> Query:
    shape = model.encoding
    frames = min(shape.frames, math.ceil(samples.shape[1] / shape.frame_samples))
    whole = np.zeros((samples.shape[0], frames * shape.frame_samples), dtype=np.float32)
    n = min(samples.shape[1], whole.shape[1])
    whole[:, :n] = samples[:, :n]
    heard = torch.zeros(shape.frames, dtype=torch.bool)
    heard[:frames] = torch.from_numpy(loudness_db(whole, shape.frame_samples) > SILENCE_DB)
    return Query(name, latents_ct, prompt, model.embed_text([prompt])[0].cpu(), seconds, heard)


def _clip_file(path: Path, sound: Sound) -> ClipFile:
    return ClipFile(path=str(path.resolve()), sound_hash=_sound_hash(sound))


def _sound_hash(sound: Sound) -> str:
    return hash_arrays({"samples": sound.samples})


def clip_sound(files: Sequence[ClipFile]) -> Sound:
    """What was attributed, as sound, one file after the other.

    Raises:
        LinernotesError: a file has gone or has changed.
    """
    sounds = []
    for file in files:
        sound = read_sound(Path(file.path))
        if _sound_hash(sound) != file.sound_hash:
            raise LinernotesError(f"{file.path} is no longer the clip that was attributed")
        sounds.append(sound)
    return joined(sounds)


def joined(sounds: Sequence[Sound]) -> Sound:
    """Sounds one after the other, as the first one is sampled."""
    first = sounds[0]
    samples = [sound.converted(first.rate_hz, len(first.samples)).samples for sound in sounds]
    return Sound(np.concatenate(samples, axis=1), first.rate_hz)
