"""The examples of README and of the documentation run as they stand, one after the other, in one empty
folder.

A block marked ``sh`` or ``python`` on these pages is run; one that stands on two pages is run once. A block
marked ``console`` only shows what to type.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENVIRONMENT = dict(os.environ)  # before the other tests' own cache: what a demo has prepared may be used
PAGES = [  # in the order in which one page's files are the next one's
    "README.md",
    "docs/index.md",
    "docs/first-attribution.md",
    "docs/own-recordings.md",
    "docs/how-to/attribute-many-clips.md",
    "docs/how-to/compare-methods.md",
]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.M | re.S)
BLOCKS = list(dict.fromkeys(block for page in PAGES for block in BLOCK.findall((ROOT / page).read_text())))


def test_there_are_examples_of_both_kinds() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}


def test_no_page_has_commands_that_are_not_run() -> None:
    pages = {
        str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if "```sh" in page.read_text()
    }
    assert pages <= set(PAGES)


def test_the_reference_has_every_function_and_class() -> None:
    offered = re.findall(
        r"^from (\S+) import (\w+) as", (ROOT / "src/linernotes/__init__.pyi").read_text(), re.M
    )
    listed = re.findall(r"^::: (\S+)\.(\w+)$", (ROOT / "docs/reference/python.md").read_text(), re.M)
    assert set(offered) - set(listed) == {("linernotes.version", "__version__")}


@pytest.mark.examples
def test_the_examples_run(tmp_path: Path, recordings: Path) -> None:
    (tmp_path / "recordings").symlink_to(recordings)
    environment = {**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"}
    for kind, text in BLOCKS:
        if text.startswith("make ") or text.startswith("git "):
            continue
        command = ["bash", "-ec", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stderr[-2000:]}"
