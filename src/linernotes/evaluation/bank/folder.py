"""Where a finished retrain bank lies, and the files that people bring to one, looked at without anything
heavy, so that a wrong path is refused at once.
"""

from __future__ import annotations

from pathlib import Path

from linernotes.settings.paths import require_file, require_there

BANK_FILE = "bank.safetensors"


def bank_file(bank: Path) -> Path:
    """The file of a finished bank, given by its path or its folder.

    Raises:
        LinernotesError: there is none.
    """
    file = bank / BANK_FILE if bank.is_dir() else bank
    require_there(
        file, f"there is no finished bank at {bank}: build one with 'linernotes bank build -o {bank}'"
    )
    return file


def require_prompts(path: Path) -> None:
    """Refuses what is no file that clips' prompts could be in."""
    require_file(path, "a CSV file of prompts")


def require_scores(path: Path) -> None:
    """Refuses what is no file that scores from elsewhere could be in."""
    require_file(path, "a Parquet file of scores")
