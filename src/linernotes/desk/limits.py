"""How large things may be that come from outside."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

UPLOAD_BYTES = 200 << 20
SIDECAR_BYTES = 8 << 20
FORM_BYTES = 64 << 10  # of anything that is no upload
LONGEST_S = 15 * 60.0
PAGE_ROWS = 50
MOST_ROWS = 200

MOST = 2**31  # that is counted to, far below what the database can count to

Offset = Annotated[int, Query(ge=0, le=MOST, description="How many rows to leave out.")]
Number = Annotated[int, Path(ge=0, le=MOST)]
