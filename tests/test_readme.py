"""The README's examples run as they stand, one after the other, in one empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENVIRONMENT = dict(os.environ)  # before the other tests' own cache: what a demo has prepared may be used
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def test_there_are_examples_of_both_kinds() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}


@pytest.mark.examples
def test_the_readmes_examples_run(tmp_path: Path, recordings: Path) -> None:
    (tmp_path / "recordings").symlink_to(recordings)
    environment = {**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"}
    for kind, text in BLOCKS:
        if text.startswith("make ") or text.startswith("git "):
            continue
        command = ["bash", "-ec", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr[-2000:]}"
