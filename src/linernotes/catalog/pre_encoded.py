"""Folders of latents that stable-audio-tools made (``pre_encode.py``): a ``.npy`` of latents beside a
``.json`` of what is said of them, so that nobody encodes a catalogue twice.

Latents of one recording, told by its path, are segments of one track. Every file is accounted for: it belongs
to a track, or to a reject that says why not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from linernotes.audio import SUFFIXES, require_reach
from linernotes.catalog.columns import split_of
from linernotes.catalog.listing import Listing
from linernotes.catalog.track import RECORDING_SECONDS, Reject, Split, Track, printable
from linernotes.errors import LinernotesError
from linernotes.models.encoding import Encoding

LATENTS, WORDS = ".npy", ".json"
SECONDS = ("seconds_start", "seconds_total")
DETAILS = "details.json"  # how the folder was made
SAID_OF_TRACKS = ("title", "artist", "album", "isrc", "iswc", "licence", "source", "work_id")


@dataclass(frozen=True)
class Window:
    """Latents of one segment as the autoencoder made them, and where in its recording it lies."""

    latents_ct: np.ndarray
    start_s: float
    content_frames: int  # the rest is padding


def holds_latents(listing: Listing) -> bool:
    """Whether a folder holds latents in place of recordings."""
    suffixes = {PurePosixPath(name).suffix.lower() for name in listing.names}
    return LATENTS in suffixes and not suffixes & set(SUFFIXES)


@dataclass(frozen=True)
class LatentsFolder:
    """Such a folder as it was listed; ``files``: the latents of each track, by its ``file_name``."""

    tracks: list[Track]
    files: dict[str, list[str]]
    rejects: list[Reject]
    notes: list[str]


def read_latents_folder(listing: Listing) -> LatentsFolder:
    """Lists a folder of latents."""
    paths = [PurePosixPath(name) for name in listing.names]
    encoded = {str(path.with_suffix("")) for path in paths if path.suffix.lower() == LATENTS}
    rejects: list[Reject] = []
    said: dict[str, dict[str, Any]] = {}
    for name in listing.names:
        path = PurePosixPath(name)
        if path.suffix.lower() == WORDS and path.name != DETAILS and str(path.with_suffix("")) not in encoded:
            detail = f"its latents, {path.with_suffix(LATENTS).name}, are missing; copy them too"
            rejects.append(Reject(printable(name), "no latents", detail))
        if path.suffix.lower() != LATENTS:
            continue
        words = _words(listing.folder / path.with_suffix(WORDS))
        if isinstance(words, str):
            rejects.append(Reject(printable(name), "no words", words))
        else:
            said[name] = words
    groups: dict[str, list[str]] = {}
    for name, words in said.items():
        groups.setdefault(_recording(name, words), []).append(name)
    tracks: list[Track] = []
    taken: dict[str, list[str]] = {}
    used: set[str] = set()
    other_prompts = 0
    for recording, files in groups.items():
        words = said[files[0]]
        split = split_of(str(words["split"])) if words.get("split") else "train"
        if split is None:
            detail = f"split is {words['split']!r}; use train or decoy"
            rejects += [Reject(printable(name), "unknown split", detail) for name in files]
            continue
        other_prompts += sum(said[name].get("prompt") != words.get("prompt") for name in files)
        tracks.append(_track(recording, files[0], words, split, used))
        taken[files[0]] = files
    notes = [f"latents that are already encoded: {len(said)} files of {len(tracks)} recordings"]
    if unworded := sum(not said[name].get("prompt") for name in said):
        notes.append(f"{unworded} of them name no prompt and are taken without one")
    if other_prompts:
        notes.append(f"{other_prompts} have another prompt than the first of their recording, whose stands")
    return LatentsFolder(tracks, taken, rejects, notes)


def _words(path: Path) -> dict[str, Any] | str:
    """What is said of latents, or why it is not known."""
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"what is said of it, {path.name}, is missing; copy it too"
    except (OSError, ValueError) as error:
        require_reach(path, error)
        return f"{path.name} cannot be read ({error}); copy it anew"
    if not isinstance(words, dict):
        return f"{path.name} does not describe latents; copy it anew"
    # loaders wrap single values in lists
    lists = {key for key, value in words.items() if isinstance(value, list) and len(value) == 1}
    words = {k: v[0] if k in lists and k != "padding_mask" else v for k, v in words.items()}
    for key in SECONDS:
        value = words.get(key)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            return f"{path.name} has {key} {value!r}, which is no number of seconds; encode it again"
    return words


def _recording(name: str, words: Mapping[str, Any]) -> str:
    """What latents are of: the path of the recording, or themselves if that is not said."""
    return str(words.get("path") or words.get("relpath") or name)


def _track(recording: str, name: str, words: Mapping[str, Any], split: Split, used: set[str]) -> Track:
    short = PurePosixPath(str(words.get("relpath") or recording).replace("\\", "/"))
    track_id = str(words.get("track_id") or short.with_suffix("")).lstrip("/")
    while track_id in used:
        track_id += "'"
    used.add(track_id)
    known = {field: str(words[field]) for field in SAID_OF_TRACKS if words.get(field)}
    known.setdefault("title", short.stem)
    extra = {} if recording == name else {"recording": recording}
    if (total_s := words.get("seconds_total")) is not None:
        extra[RECORDING_SECONDS] = str(total_s)
    known["caption"] = str(words.get("prompt") or "")
    return Track(track_id=track_id, file_name=name, split=split, extra=extra, **known)


def read_windows(folder: Path, names: Sequence[str], encoding: Encoding) -> list[Window] | Reject:
    """The segments of a track's latents, in order; a file that is longer than a segment gives several, the
    last of which ends where the latents end.
    """
    windows: list[Window] = []
    for name in names:
        found = _windows_of(folder, name, encoding)
        if isinstance(found, Reject):
            return found
        windows += found
    return sorted(windows, key=lambda window: window.start_s)


def _windows_of(folder: Path, name: str, encoding: Encoding) -> list[Window] | Reject:
    def reject(reason: str, detail: str) -> Reject:
        return Reject(printable(name), reason, detail)

    words = _words((folder / name).with_suffix(WORDS))
    if isinstance(words, str):
        return reject("no words", words)
    try:
        latents_ct = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        require_reach(folder / name, error)
        return reject("unreadable", f"it is no array of numbers ({error}); encode it again")
    if not isinstance(latents_ct, np.ndarray):
        return reject("unreadable", "it is an archive and no array of numbers; encode it again")
    if latents_ct.ndim == 3 and latents_ct.shape[0] == 1:
        latents_ct = latents_ct[0]
    shape, kind = latents_ct.shape, latents_ct.dtype.kind
    if len(shape) != 2 or shape[0] != encoding.latent_channels or kind != "f":
        return reject(
            "other autoencoder",
            f"it holds {latents_ct.dtype} {shape}, and {encoding.model} takes "
            f"{encoding.latent_channels} channels of real numbers; use the model that was trained on it",
        )
    frames = shape[1]
    if frames < encoding.frames:
        return reject(
            "too short",
            f"it holds {frames} frames, and a segment of {encoding.model} has {encoding.frames}; encode with "
            f"--sample-size {encoding.segment_samples}",
        )
    if not np.isfinite(latents_ct).all():
        return reject("not finite", "some of its numbers are none; encode it again")
    mask = words.get("padding_mask", [1] * frames)
    if not isinstance(mask, list) or len(mask) != frames:
        return reject("other length", f"its padding_mask does not have {frames} values; encode it again")
    content = max((i + 1 for i, heard in enumerate(mask) if heard), default=0)
    start_s, total_s = (words.get(key) for key in SECONDS)
    start_s = float(start_s or 0)
    if not content:
        return reject("silent", "its padding_mask says that it is all padding; remove it")
    frame_s = encoding.frame_samples / encoding.rate_hz
    if total_s is not None and _contradicts(content, frames, frame_s, start_s, float(total_s)):
        return reject(
            "other autoencoder",
            f"its {content} frames are {content * frame_s:.1f} s for {encoding.model}, and {total_s} s are "
            "said of it; use the model that was trained on it",
        )
    size = encoding.frames
    starts = [*range(0, content - size + 1, size)] or [0]
    if starts[-1] + size < content:
        starts.append(min(starts[-1] + size, frames - size))
    return [
        Window(np.asarray(latents_ct[:, s : s + size]), start_s + s * frame_s, min(size, content - s))
        for s in starts
    ]


def _contradicts(content: int, frames: int, frame_s: float, start_s: float, total_s: float) -> bool:
    """Whether so many frames cannot be what is said: times are in whole seconds, the total rounded up."""
    slack_s = 1 + 2 * frame_s
    if content == frames:
        return content * frame_s > total_s - start_s + slack_s
    return abs(content * frame_s - (total_s - start_s)) > slack_s


def check_details(folder: Path, encoding: Encoding) -> None:
    """Holds what the folder says of its autoencoder, where it does, against a model's.

    Raises:
        LinernotesError: it is another one, or one of codes.
    """
    details = _json(folder / DETAILS)
    if isinstance(details.get("args"), dict) and details["args"].get("is_discrete"):
        raise LinernotesError(f"{folder} holds codes, and {encoding.model} takes latents: encode it anew")
    try:
        described: Any = details.get("model_config")
        if isinstance(described, str):
            described = _json(folder / described)
        part = described["model"]
        audio = part["pretransform"]["config"] if "pretransform" in part else part
        said = (described["sample_rate"], audio["downsampling_ratio"], audio["latent_dim"])
    except (KeyError, TypeError):
        return  # it says nothing, or what it names is elsewhere
    own = (encoding.rate_hz, encoding.frame_samples, encoding.latent_channels)
    if said != own:
        raise LinernotesError(
            f"{folder} was encoded by another autoencoder (rate, samples a frame and channels are {said}) "
            f"than that of {encoding.model} ({own}): use the model that was trained on it"
        )


def _json(path: Path) -> dict[str, Any]:
    """What a file says; nothing if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def content_s(window: Window, encoding: Encoding) -> float:
    """Seconds of a segment that are not padding."""
    return window.content_frames * encoding.frame_samples / encoding.rate_hz
