"""Identifiers of recordings, works and parties: as they are written in tables -> without separators, their
check digits checked.

ISRC (ISO 3901) and ISNI (ISO 27729) by python-stdnum; ISWC (ISO 15707) and IPI name numbers (CISAC) by their
rules below. An ISRC has no check digit, so only its form can be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from stdnum import isni, isrc
from stdnum.exceptions import ValidationError

from linernotes.errors import LinernotesError

SEPARATORS = re.compile(r"[\s.\-/]+")
ISWC_FORM = re.compile(r"T\d{10}")
LABELS = {"isrc": "ISRC", "iswc": "ISWC", "ipi": "IPI name number", "isni": "ISNI"}


def iswc_check_digit(digits: str) -> int:
    """The check digit of an ISWC's nine digits (ISO 15707, Annex A).

    Weights share factors with 10, so a changed digit at place 2, 4, 5, 6 or 8 is not always found.
    """
    return (10 - (1 + sum(i * int(d) for i, d in enumerate(digits, start=1))) % 10) % 10


def ipi_check_digits(digits: str) -> str:
    """The two check digits of an IPI name number's nine digits; any single changed digit is found."""
    r = sum(int(d) * (10 - i) for i, d in enumerate(digits)) % 101
    return f"{(101 - r) % 100 if r else 0:02d}"


def identifier(kind: str, text: str) -> str:
    """An identifier without separators and with its leading zeros; empty if ``text`` is.

    Args:
        kind: ``isrc``, ``iswc``, ``ipi`` or ``isni``.

    Raises:
        LinernotesError: it has not the form of one, or its check digit is wrong.
    """
    if not text.strip():
        return ""
    try:
        return READ[kind](text)
    except ValueError as error:
        raise LinernotesError(
            f"{text!r} is no {LABELS[kind]} ({error}): correct it, or leave it empty if nobody knows"
        ) from None


def malformed(kind: str, text: str) -> bool:
    """Whether something stands there that is no identifier of this kind."""
    try:
        identifier(kind, text)
    except LinernotesError:
        return True
    return False


def _isrc(text: str) -> str:
    try:
        return isrc.validate(_bare(text).removeprefix("ISRC"))
    except ValidationError:
        raise ValueError(
            "it has a country's two letters, three letters or digits, and seven digits"
        ) from None


def _isni(text: str) -> str:
    found = _bare(text).removeprefix("ISNI")
    try:
        return isni.validate(found)
    except ValidationError:
        raise _refused(re.fullmatch(r"\d{15}[\dX]", found), "16 digits, the last may be X") from None


def _iswc(text: str) -> str:
    found = _bare(text).removeprefix("ISWC")
    if not ISWC_FORM.fullmatch(found) or int(found[-1]) != iswc_check_digit(found[1:10]):
        raise _refused(ISWC_FORM.fullmatch(found), "T and ten digits")
    return found


def _ipi(text: str) -> str:
    """Spreadsheets drop leading zeros, so fewer digits are the last ones of eleven."""
    found = _bare(text).removeprefix("IPI")
    if not re.fullmatch(r"\d{3,11}", found):
        raise _refused(None, "eleven digits")
    full = found.zfill(11)
    if full[9:] != ipi_check_digits(full[:9]):
        raise _refused(found, "eleven digits")
    return full


def _refused(formed: object, form: str) -> ValueError:
    return ValueError("its check digit is wrong" if formed else f"it has {form}")


def _bare(text: str) -> str:
    return SEPARATORS.sub("", text).upper().replace(":", "")


READ: dict[str, Callable[[str], str]] = {"isrc": _isrc, "iswc": _iswc, "ipi": _ipi, "isni": _isni}
