"""Credits inside the clip: a copy of a generated clip with a C2PA manifest that names the model and the
credited tracks as inputs and carries the credits in an assertion of our own. The sound is untouched.

The manifest is signed by an Ed25519 key of 'linernotes key new'. With a certificate chain beside it (KEY.crt)
the signer is whoever the chain says; without one the key certifies itself, and readers show a valid manifest
of an untrusted signer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from linernotes.artefacts import hash_arrays, replacing
from linernotes.attribution.result import Attribution
from linernotes.audio import read_sound
from linernotes.catalog.reservations import FORMATS
from linernotes.credits.record import Credits
from linernotes.credits.signing import fingerprint, load_private_key
from linernotes.errors import LinernotesError, UsageError
from linernotes.version import __version__

ASSERTION = "org.linernotes.credits"
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
VALID_DAYS = 365


def require_clip(clip: Path, attribution: Attribution, key_path: Path) -> None:
    """Refuses a clip that cannot carry these credits, and a key that cannot sign them.

    Raises:
        UsageError: a format that no manifest can be put into.
        LinernotesError: no model is known to have generated it, it is another clip, the key or its
            certificates are none, or c2pa-python is not installed.
    """
    if find_spec("c2pa") is None:
        raise LinernotesError(
            "C2PA manifests need c2pa-python, which is not installed: pip install c2pa-python"
        )
    certificates(key_path, load_private_key(key_path))
    if clip.suffix.lower() not in FORMATS:
        raise UsageError(f"{clip} cannot carry a manifest: use one of {', '.join(FORMATS)}")
    if attribution.query.generated is None:
        raise LinernotesError(
            f"{clip} is not known to be generated, which a manifest says: attribute it with its sidecar"
        )
    known = {file.sound_hash for file in attribution.sources.clips}  # as attribution.query hashes them
    if hash_arrays({"samples": read_sound(clip).samples}) not in known:
        raise LinernotesError(f"{clip} is not the clip that was attributed: give {attribution.query.file}")


def write_manifest(clip: Path, credits: Credits, credits_sha256: str, key_path: Path, out: Path) -> None:
    """Writes a copy of ``clip`` with its manifest to ``out``.

    Args:
        credits_sha256: of the ``credits.json``, so that it can be asked for.

    Raises:
        LinernotesError: c2pa refuses clip or certificates.
    """
    from c2pa import Builder, C2paError, C2paSigningAlg, Signer  # 53 MB, and an extra

    key = load_private_key(key_path)
    chain, sign = certificates(key_path, key), _signing(key)
    kind = FORMATS[clip.suffix.lower()]
    with replacing(out) as temporary, clip.open("rb") as source, temporary.open("w+b") as target:
        try:
            builder = Builder(json.dumps(manifest_of(credits, credits_sha256, clip.name)))
            signer = Signer.from_callback(sign, C2paSigningAlg.ED25519, chain)
            builder.sign(signer, kind, source, target)
        except C2paError as error:
            raise LinernotesError(
                f"no manifest can be put into {clip} ({error}): check the clip and {key_path}.crt"
            ) from None


def manifest_of(credits: Credits, credits_sha256: str, title: str) -> dict[str, Any]:
    """The manifest as C2PA's builder takes it: model and credited tracks as ``inputTo`` ingredients."""
    named = {line.recording: line for line in reversed(credits.lines) if line.right == "recording"}
    inputs = [(credits.model, f"linernotes:model/{credits.hashes.model}")]
    inputs += [
        (f"{line.artist}: {line.title}" if line.artist else line.title, _name(credits, track, line.isrc))
        for track, line in sorted(named.items())
    ]
    return {
        "claim_generator_info": [{"name": "linernotes", "version": __version__}],
        "title": title,
        "ingredients": [
            {
                "title": name,
                "relationship": "inputTo",
                "format": "application/octet-stream",
                "instance_id": each,
            }
            for name, each in inputs
        ],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": GENERATED}]},
            },
            {"label": ASSERTION, "data": _assertion(credits, credits_sha256)},
        ],
    }


def certificates(key_path: Path, key: Ed25519PrivateKey) -> str:
    """The certificate chain beside a key (PEM, the signer's first), or one by which the key certifies itself.

    Raises:
        LinernotesError: the file holds no chain, or another key's.
    """
    place = key_path.with_name(key_path.name + ".crt")
    if not place.exists():
        return _own_chain(key)
    try:
        text = place.read_text()
        public = x509.load_pem_x509_certificates(text.encode())[0].public_key()
    except (OSError, ValueError) as error:
        raise LinernotesError(f"{place} holds no certificates ({error}): give a PEM chain") from None
    if not isinstance(public, Ed25519PublicKey) or fingerprint(public) != fingerprint(key.public_key()):
        raise LinernotesError(f"{place} certifies another key than {key_path}: give the chain of this one")
    return text


def _assertion(credits: Credits, credits_sha256: str) -> dict[str, Any]:
    lines = [
        line.model_dump(
            include={"kind", "right", "title", "artist", "isrc", "work", "iswc", "party", "role", "ipi"}
        )
        | {"isni": line.isni, "parts": line.parts, "share": line.share, "low": line.low, "high": line.high}
        for line in credits.lines
    ]
    return {
        "schema_version": credits.schema_version,
        "verdict": credits.verdict,
        "rule": credits.rule,
        "validation": credits.validation.model_dump(),
        "hashes": credits.hashes.model_dump() | {"credits_sha256": credits_sha256},
        "lines": lines,
        "remainder": {right.right: right.remainder for right in credits.rights},
    }


def _name(credits: Credits, track_id: str, isrc: str) -> str:
    return f"isrc:{isrc}" if isrc else f"linernotes:track/{credits.hashes.catalogue}/{track_id}"


def _signing(key: Ed25519PrivateKey) -> Callable[[bytes], bytes]:
    return lambda data: key.sign(data)


def _own_chain(key: Ed25519PrivateKey) -> str:
    """A signer's certificate for ``key`` and the root that issued it, whose own key is thrown away."""
    root = Ed25519PrivateKey.generate()
    leaf = _certificate(f"key {fingerprint(key.public_key())}", key.public_key(), root, authority=False)
    issuer = _certificate("self-issued root", root.public_key(), root, authority=True)
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in (leaf, issuer))


def _certificate(
    name: str, public: Ed25519PublicKey, issuer: Ed25519PrivateKey, authority: bool
) -> x509.Certificate:
    """A certificate of C2PA's profile: digital signatures, for e-mail protection as its stand-in purpose."""
    now = datetime.now(UTC)
    usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(_subject("self-issued root"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(own, critical=False)
        .add_extension(usage, critical=True)
    )
    if not authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(issuer, None)


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "linernotes"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
