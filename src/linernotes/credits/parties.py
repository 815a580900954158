"""Names of parties: as they are compared, and which of them may be one person under two spellings.

Whoever may be one is offered in a sentence and never merged: that is for the one who knows them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

UNKNOWN_WORDS = {"unknown", "?"}
UNKNOWN = ""  # the party of a share that nobody is known for


def party_name(text: str) -> str:
    """A party's name as it is told apart from others: composed letters, single spaces; empty for
    ``unknown``.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    return UNKNOWN if name.casefold() in UNKNOWN_WORDS else name


def spellings(parties: Iterable[tuple[str, str, str]]) -> list[str]:
    """A sentence for all names that may be one party: the same letters in any case, order and accents, or one
    IPI or ISNI.

    Args:
        parties: name, IPI name number and ISNI, the latter two empty where nobody knows.
    """
    alike: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, ipi, isni in parties:
        if name:
            alike["", _letters(name)].add(name)
            for kind, value in (("IPI", ipi), ("ISNI", isni)):
                if value:
                    alike[f"{kind} {value}", ""].add(name)
    said: dict[tuple[str, ...], str] = {}
    for (shared, _), names in sorted(alike.items()):
        if len(names) > 1:
            listed = tuple(sorted(names))
            why = f" ({shared} stands with each)" if shared else ""
            said[listed] = (
                f"{' and '.join(map(repr, listed))} may be one party{why} and are counted apart: write one "
                "spelling if they are"
            )
    return [said[names] for names in sorted(said)]


def _letters(name: str) -> str:
    """The words of a name without case, accents and punctuation, in the order of the alphabet."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(sorted(re.findall(r"\w+", plain)))
