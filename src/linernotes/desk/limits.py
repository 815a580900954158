"""How large things may be that come from outside."""

from __future__ import annotations

UPLOAD_BYTES = 200 << 20
SIDECAR_BYTES = 8 << 20
FORM_BYTES = 64 << 10  # of anything that is no upload
LONGEST_S = 15 * 60.0
PAGE_ROWS = 50
MOST_ROWS = 200
