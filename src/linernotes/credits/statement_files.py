"""A statement on disk: the tables that people and royalty systems read, its signature, and last the record
that vouches for them.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from linernotes.artefacts import write_json
from linernotes.credits.ddex import write_tsv
from linernotes.credits.record import write_csv
from linernotes.credits.signing import sign, signature_path
from linernotes.credits.statement_record import EXPORT, RECORD, TABLE, Statement
from linernotes.errors import LinernotesError
from linernotes.records.seal import sealed, sha256_of


def save_statement(statement: Statement, folder: Path, key: Ed25519PrivateKey | None = None) -> Path:
    """Writes the tables, the signature if there is a ``key``, and then ``statement.json`` into ``folder``.

    Raises:
        LinernotesError: there is a statement already.
    """
    path = folder / RECORD
    if path.exists():
        raise LinernotesError(f"{path} exists already: give another folder with --out, or remove it")
    write_csv(folder / TABLE, statement.rows())
    write_tsv(folder / EXPORT, statement)
    files = {name: sha256_of(folder / name) for name in (TABLE, EXPORT)}
    record = sealed({**statement.model_dump(mode="json"), "files": files})
    signature_path(path).unlink(missing_ok=True)  # of a run that was stopped
    if key is not None:
        sign(path, record, key)
    write_json(path, record)
    return path
