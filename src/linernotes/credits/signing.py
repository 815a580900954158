"""Ed25519 keys and signatures (RFC 8032): who signed a record, and that not a digit of it has changed since.

FILE         private key, PKCS8 PEM, for its owner's eyes (mode 0600)
FILE.pub     public key, PEM: what others check with
X.sig.json   beside the record X.json: signature over its canonical JSON
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from linernotes.artefacts import HASH_DIGITS, read_json, write_json
from linernotes.errors import LinernotesError
from linernotes.records.seal import canonical

OWNER_ONLY = 0o600
OTHERS = 0o077


class Signature(BaseModel):
    """What ``X.sig.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["signature"] = "signature"
    schema_version: Literal[1] = 1
    algorithm: Literal["Ed25519"] = "Ed25519"
    of: str  # the record's file name
    sha256: str  # of the record's canonical JSON
    key: str  # the public key's fingerprint
    public_key: str  # its 32 bytes, base64
    signature: str  # base64


def new_key(path: Path) -> Path:
    """Makes a key pair: the private key at ``path``, the public one at the path that is returned.

    Raises:
        LinernotesError: one of the two exists already.
    """
    public_path = path.with_name(path.name + ".pub")
    for each in (path, public_path):
        if each.exists():
            raise LinernotesError(f"{each} exists already, and keys are never overwritten: give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, private, OWNER_ONLY)
    try:
        _write(public_path, _pem(key.public_key()), 0o644)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return public_path


def key_at(path: Path) -> Path:
    """The public key of the pair at ``path``; a pair that is not there is made, and one whose making was cut
    short after the private key gets its public one.

    Raises:
        LinernotesError: the private key is gone, or is none.
    """
    public_path = path.with_name(path.name + ".pub")
    if path.exists():
        if not public_path.exists():
            _write(public_path, _pem(load_private_key(path).public_key()), 0o644)
        return public_path
    if public_path.exists():
        raise LinernotesError(
            f"the private key {path} is gone, and its public one is there: put it back, or move "
            f"{public_path.name} elsewhere for a new pair"
        )
    return new_key(path)


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key that 'linernotes key new' wrote.

    Raises:
        LinernotesError: it is none, or others can read it.
    """
    data = _read(path)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise LinernotesError(f"{path} is no private Ed25519 key: make one with 'linernotes key new'")
    if os.name == "posix" and path.stat().st_mode & OTHERS:
        raise LinernotesError(f"{path} is a private key that others can read: run 'chmod 600 {path}' first")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file.

    Raises:
        LinernotesError: it is none.
    """
    try:
        key = serialization.load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise LinernotesError(f"{path} is no public Ed25519 key: give the .pub file of the one who signed")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """What a key is called in sentences: the first digits of its bytes' SHA-256."""
    return hashlib.sha256(_raw(key)).hexdigest()[:HASH_DIGITS]


def signature_path(record: Path) -> Path:
    """Where the signature of a record lies."""
    return record.with_name(f"{record.stem}.sig.json")


def sign(path: Path, record: Mapping[str, Any], key: Ed25519PrivateKey) -> Path:
    """Signs the record that lies at ``path``, or is about to, and writes its signature beside it."""
    content, public = canonical(record), key.public_key()
    signature = Signature(
        of=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        key=fingerprint(public),
        public_key=base64.b64encode(_raw(public)).decode(),
        signature=base64.b64encode(key.sign(content)).decode(),
    )
    write_json(signature_path(path), signature.model_dump())
    return signature_path(path)


def check_signature(path: Path, record: Mapping[str, Any], key: Ed25519PublicKey | None) -> str:
    """Checks the signature beside the record at ``path``, and says whose it is.

    Args:
        key: whose it must be; the key that the signature itself names if None, which proves that nothing has
            changed since and not who signed.

    Raises:
        LinernotesError: the signature is damaged, of another key, or does not fit the record.
    """
    place = signature_path(path)
    try:
        signature = Signature(**read_json(place, "signed"))
        named = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature.public_key, validate=True))
        data = base64.b64decode(signature.signature, validate=True)
    except (ValidationError, TypeError, ValueError, binascii.Error):
        raise LinernotesError(f"{place} is damaged: ask whoever signed {path.name} for it anew") from None
    if key is not None and _raw(key) != _raw(named):
        raise LinernotesError(
            f"{path} was signed by the key {fingerprint(named)}, not by {fingerprint(key)}: give the .pub "
            "file of the one who signed, or do not trust it"
        )
    try:
        named.verify(data, canonical(record))
    except InvalidSignature:
        raise LinernotesError(
            f"{path} is not what the key {fingerprint(named)} signed: it or its signature was changed since"
        ) from None
    vouched = "" if key is not None else ", which nobody here vouches for: give the signer's .pub with --key"
    return f"signed by the key {fingerprint(named)}{vouched}"


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _write(path: Path, data: bytes, mode: int) -> None:
    """A file that from its first moment nobody reads who should not."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some file systems have no modes
        path.chmod(mode)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LinernotesError(f"{path} cannot be read ({error.strerror}): check the path") from None
