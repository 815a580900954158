"""Identifiers: published ones pass, a changed digit does not (where the rule can see it at all)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linernotes.catalog.identifiers import identifier, ipi_check_digits, iswc_check_digit
from linernotes.errors import LinernotesError

NINE = st.text("0123456789", min_size=9, max_size=9)
PUBLISHED = [
    ("isrc", "US-SKG-19-12345", "USSKG1912345"),  # python-stdnum
    ("iswc", "T-034.524.680-1", "T0345246801"),  # ISO 15707
    ("iswc", "ISWC T-010.171.314-7", "T0101713147"),  # "Ernie", in Wikipedia's article on IPI
    ("iswc", "T-000.000.001-0", "T0000000010"),  # "Dancing Queen", the first one given
    ("ipi", "00014107338", "00014107338"),  # Benny Hill, same article
    ("ipi", "00045620792", "00045620792"),  # Prince's three, same article
    ("ipi", "52210040", "00052210040"),  # zeros that a spreadsheet dropped
    ("ipi", "00334284961", "00334284961"),
    ("isni", "0000 0001 2281 955X", "000000012281955X"),  # python-stdnum
    ("isni", ["https://isni.org/isni", "0000000121032683"][1], "0000000121032683"),
]


@pytest.mark.parametrize(("kind", "written", "bare"), PUBLISHED)
def test_published_identifiers_are_read_however_they_are_written(kind: str, written: str, bare: str) -> None:
    assert identifier(kind, written) == identifier(kind, bare) == bare
    assert identifier(kind, f" {bare.lower()} ") == bare
    assert identifier(kind, " ") == ""


@given(NINE, st.integers(0, 10), st.integers(1, 9))
def test_any_single_changed_digit_of_an_ipi_is_found(nine: str, place: int, by: int) -> None:
    number = nine + ipi_check_digits(nine)
    assert identifier("ipi", number) == number
    changed = number[:place] + str((int(number[place]) + by) % 10) + number[place + 1 :]
    with pytest.raises(LinernotesError, match="check digit is wrong"):
        identifier("ipi", changed)


@given(NINE, st.integers(1, 10), st.integers(1, 9))
def test_a_changed_digit_of_an_iswc_is_found_unless_its_weight_hides_it(
    nine: str, place: int, by: int
) -> None:
    """The standard's own weights: a digit at place i that changes by a multiple of 10 / gcd(i, 10) is not
    seen.
    """
    number = f"T{nine}{iswc_check_digit(nine)}"
    changed = number[:place] + str((int(number[place]) + by) % 10) + number[place + 1 :]
    weight = place if place < 10 else 1
    if weight * by % 10 == 0:
        assert identifier("iswc", changed) == changed
        return
    with pytest.raises(LinernotesError, match="check digit is wrong"):
        identifier("iswc", changed)


@given(st.integers(0, 15), st.integers(1, 9))
def test_any_single_changed_digit_of_an_isni_is_found(place: int, by: int) -> None:
    number = "0000000121032683"
    changed = number[:place] + str((int(number[place]) + by) % 10) + number[place + 1 :]
    with pytest.raises(LinernotesError, match="check digit is wrong"):
        identifier("isni", changed)


@pytest.mark.parametrize(
    ("kind", "written", "why"),
    [
        ("isrc", "GB-AYE-69-0053", "seven digits"),
        ("isrc", "XX-SKG-19-12345", "country"),
        ("iswc", "034.524.680-1", "T and ten digits"),
        ("iswc", "T-034.524.680", "T and ten digits"),
        ("ipi", "I-001068130-6", "eleven digits"),
        ("ipi", "123456789012", "eleven digits"),
        ("isni", "0000 0001 2281", "16 digits"),
    ],
)
def test_a_malformed_identifier_is_one_sentence(kind: str, written: str, why: str) -> None:
    with pytest.raises(LinernotesError, match=why) as refusal:
        identifier(kind, written)
    assert written in str(refusal.value) and "\n" not in str(refusal.value)
