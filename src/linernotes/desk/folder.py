"""Where a desk keeps what: one folder, everything in it named relative to it, so that a copy of the folder is
a backup.

    FOLDER/desk.sqlite      what there is, and the queue of jobs
           clips/ID/        a clip as it came, and its sidecar if it was generated
           attributions/ID/ what 'linernotes attribute' writes, 'credits' beside it, and the parts of its page
           comparisons/ID/  how far methods agree on a clip
           statements/ID/   what 'linernotes statement' writes
           sittings/ID/     the sounds of a blind test, under names that say nothing
           truth/           how well methods predict retraining
           keys/            what statements are signed with
           sounds/          tracks as browsers play them; made anew if removed
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

DATABASE = "desk.sqlite"
CONTENT, PARTS, VERIFIED = "content.html", "parts", "verified"  # in the folder of an attribution


@dataclass(frozen=True)
class DeskFolder:
    """The places in a desk's folder."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / DATABASE

    @property
    def incoming(self) -> Path:
        """Uploads that are not known to be sound yet."""
        return self.path / ".incoming"

    @property
    def making(self) -> Path:
        """Clips that the worker is making."""
        return self.path / ".making"

    def clip(self, clip_id: str) -> Path:
        return self.path / "clips" / clip_id

    def attribution(self, attribution_id: str) -> Path:
        return self.path / "attributions" / attribution_id

    def comparison(self, comparison_id: str) -> Path:
        return self.path / "comparisons" / comparison_id

    def statement(self, statement_id: str) -> Path:
        return self.path / "statements" / statement_id

    def sitting(self, sitting_id: str) -> Path:
        return self.path / "sittings" / sitting_id

    @property
    def key(self) -> Path:
        """The private key that statements are signed with."""
        return self.path / "keys" / "desk"

    @property
    def truth(self) -> Path:
        return self.path / "truth"

    @property
    def sounds(self) -> Path:
        return self.path / "sounds"

    def make(self) -> None:
        """Makes the folder, for nobody but its owner to enter."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)


def emptied(folder: Path) -> Path:
    """A folder without what a process that was ended has left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
