"""What ACE-Step is told in words: a caption, metadata and lyrics, out of one prompt, as its text encoder was
trained to read them.

A prompt is a caption, and may go on with the sections that ACE-Step itself writes: ``# Metas`` with lines
such as ``- bpm: 120``, ``# Languages`` with a code, ``# Lyric`` with the words sung, in any order:

    a slow air for voice and harp
    # Metas
    - bpm: 72
    - keyscale: G major
    # Languages
    en
    # Lyric
    [Verse] ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

METAS = ("bpm", "timesignature", "keyscale")
SECTIONS = ("Metas", "Languages", "Lyric")
HEADING = re.compile(rf"^# ({'|'.join(SECTIONS)})[ \t]*$", re.MULTILINE)
LINE = re.compile(r"^\s*-?\s*(\w+)\s*:\s*(.+?)\s*$", re.MULTILINE)
UNKNOWN = "N/A"
INSTRUCTION = "Fill the audio semantic mask based on the given conditions:"


@dataclass(frozen=True)
class Words:
    """A prompt, taken apart."""

    caption: str
    metas: dict[str, str] = field(default_factory=dict)  # of METAS, those that are said
    language: str = "en"
    lyrics: str = ""

    @property
    def prompt(self) -> str:
        """One prompt that says it all."""
        said = [self.caption]
        if self.metas:
            said += ["# Metas", *(f"- {name}: {value}" for name, value in self.metas.items())]
        if self.lyrics:
            said += ["# Languages", self.language, "# Lyric", self.lyrics]
        return "\n".join(said)


def words_of(prompt: str) -> Words:
    """A prompt, taken apart. What is under ``# Metas`` and no metadata of ACE-Step's is left out."""
    caption, *rest = HEADING.split(prompt)
    sections = {name: text.strip() for name, text in zip(rest[::2], rest[1::2], strict=True)}
    said = {name.lower(): value for name, value in LINE.findall(sections.get("Metas", ""))}
    metas = {name: said[name] for name in METAS if said.get(name, UNKNOWN) != UNKNOWN}
    return Words(caption.strip(), metas, sections.get("Languages", "") or "en", sections.get("Lyric", ""))


def text_of(words: Words, seconds: float) -> str:
    """What the text encoder reads of a clip that lasts so long."""
    metas = [f"- {name}: {words.metas.get(name, UNKNOWN)}" for name in METAS]
    metas += [f"- duration: {int(seconds)} seconds"]
    return (
        f"# Instruction\n{INSTRUCTION}\n\n# Caption\n{words.caption}\n\n# Metas\n" + "\n".join(metas) + "\n"
        "<|endoftext|>\n"
    )


def lyrics_of(words: Words) -> str:
    """What is looked up, token by token, of what is sung."""
    return f"# Languages\n{words.language}\n\n# Lyric\n{words.lyrics}<|endoftext|>"
