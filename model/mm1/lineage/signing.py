"""Signatures of model folders in the format of OpenSSF model-signing, with an elliptic-curve key.

    folder, private key (PEM) -> sign -> model.sig in the folder
    folder, public key (PEM) -> Signatures.check, before anything is loaded

The signature covers every file of the folder but itself. The command ``model_signing verify key`` verifies it, too.
An ECDSA signature has a random part: signing twice gives two valid signatures with different bytes.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm1.errors import CheckpointError, ConfigurationError

SIGNATURE_NAME = "model.sig"
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
MAX_KEY_BYTES = 64 << 10
_MAKE = "make one with `openssl ecparam -name prime256v1 -genkey -noout -out mm1.key`"
_PUBLIC = "write it with `openssl ec -in mm1.key -pubout -out mm1.pub`"

log = logging.getLogger("mm1")


@dataclass(frozen=True)
class Signatures:
    """Requirements for the signature of a model, checked before it is loaded."""

    verify_key: Path | None = None
    """Public key (PEM); what is not signed with its private key is refused. None: signatures are not checked."""

    @classmethod
    def of(cls, verify_key: str | Path | None = None, *, required: bool = False) -> Signatures:
        """Build it from the options ``--verify-key`` and ``--require-signature``, and check the key.

        Raises:
            ConfigurationError: the file is no public elliptic-curve key, or a signature is required without a key.
        """
        if verify_key:
            read_public_key(Path(verify_key))
            return cls(Path(verify_key))
        if required:
            raise ConfigurationError("--require-signature: needs --verify-key with the public key of the signer")
        return cls()

    def check(self, folder: Path, name: str = "", signature: Path | None = None) -> None:
        """Check the signature of a folder.

        Args:
            folder: the folder of the model.
            name: name for messages; the folder by default.
            signature: the signature, if it is not in the folder.

        Raises:
            CheckpointError: there is no signature, it is by another key, or a file was changed, added or removed.
        """
        signature, name = signature or folder / SIGNATURE_NAME, name or str(folder)
        if self.verify_key is None:
            if signature.is_file():
                log.info("%s is signed; its signature is not checked without --verify-key", name)
            return
        if not signature.is_file():
            raise CheckpointError(f"{name} has no signature ({SIGNATURE_NAME}): {UNSIGNED_REMEDY}")
        verify(folder, self.verify_key, signature, name)

    def refuse_unsigned(self, name: str, kind: str) -> None:
        """Refuse a result that has no signature by its kind, such as a Checkpoint.

        Raises:
            CheckpointError: signatures are checked.
        """
        if self.verify_key is not None:
            raise CheckpointError(f"{name}: a {kind} has no signature: {UNSIGNED_REMEDY}")


UNSIGNED_REMEDY = "export it with mm1 export --sign-key, or deploy it with sign_key"


def sign(folder: Path, private_key: Path) -> Path:
    """Sign all files of a folder; an earlier signature in it is replaced.

    Args:
        folder: the folder; links in it count as the files that they refer to.
        private_key: elliptic-curve key (PEM) without a password.

    Returns:
        The signature, a file in the folder.

    Raises:
        ConfigurationError: the file is no such key.
    """
    check_private_key(private_key)
    from model_signing import signing

    signature = folder / SIGNATURE_NAME
    signature.unlink(missing_ok=True)
    with _removed_on_failure(signature):
        config = signing.Config().use_elliptic_key_signer(private_key=private_key).set_hashing_config(_hashing(signature))
        config.sign(folder, signature)
    return signature


def verify(folder: Path, public_key: Path, signature: Path, name: str) -> None:
    """Verify the signature of a folder.

    Args:
        folder: the folder.
        public_key: key (PEM) of the signer.
        signature: the signature, a bundle of Sigstore.
        name: name of the folder for messages.

    Raises:
        ConfigurationError: the key is not a public elliptic-curve key.
        CheckpointError: the signature is damaged or by another key, or a file was changed, added or removed.
    """
    read_public_key(public_key)
    if folders := [path.name for path in folder.rglob("*") if path.is_symlink() and path.is_dir()]:
        raise CheckpointError(
            f"{name}: the signature cannot cover folders behind links: {', '.join(folders)}; copy their files"
        )
    from model_signing import verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(_hashing(signature))
    try:
        config.verify(folder, signature)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged bundle fails in protobuf, pydantic, base64 or cryptography
        raise CheckpointError(
            f"{name}: signature verification failed: {_reason(error, folder, signature)}; do not use it, fetch it again"
        ) from None


def _hashing(signature: Path) -> Any:
    """Return how files are hashed: all of them, also those of git, but not the signature; links by their content."""
    from model_signing import hashing

    config = hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
    return config.set_allow_symlinks(True)


@contextmanager
def _removed_on_failure(signature: Path) -> Iterator[None]:
    """Remove a half-written signature."""
    try:
        yield
    except BaseException:
        signature.unlink(missing_ok=True)
        raise


def _reason(error: Exception, folder: Path, signature: Path) -> str:
    text = " ".join(str(error).split())
    if type(error).__name__ == "InvalidSignature" or "Key mismatch" in text:
        return "it was made with another key"
    if type(error) is not ValueError:
        return f"{SIGNATURE_NAME} is damaged ({type(error).__name__})"
    return "; ".join(_changes(folder, signature)) if text.startswith("Signature mismatch") else text


def _changes(folder: Path, signature: Path) -> Iterator[str]:
    """Yield what differs between a folder and a signature that is valid by itself."""
    payload = json.loads(base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"]))
    expected = {resource["name"]: resource["digest"] for resource in payload["predicate"]["resources"]}
    actual = {item.identifier: item.digest.digest_hex for item in _hashing(signature).hash(folder).resource_descriptors()}
    differences = {
        "changed": [name for name in expected if actual.get(name, expected[name]) != expected[name]],
        "not signed": actual.keys() - expected.keys(),
        "missing": expected.keys() - actual.keys(),
    }
    yield from (f"{label}: {', '.join(sorted(names))}" for label, names in differences.items() if names)


# -- keys -------------------------------------------------------------------------------------------------------------


def check_private_key(path: Path) -> None:
    """Check that a file is an elliptic-curve private key that model-signing supports.

    Raises:
        ConfigurationError: missing, unreadable, of another kind, or protected by a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    data = _read_key(path, "private")
    try:
        key = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise ConfigurationError(
            f"{path} is protected by a password: pass an unprotected copy from a Secret, `openssl ec -in {path} -out mm1.key`"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{path} is not a private key in PEM: {_MAKE}") from None
    _check_curve(key, path, "private", _MAKE)


def read_public_key(path: Path) -> Any:
    """Return an elliptic-curve public key that model-signing supports.

    Raises:
        ConfigurationError: missing, unreadable or of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    data = _read_key(path, "public")
    if b"PRIVATE KEY" in data:
        raise ConfigurationError(f"{path} is a private key; a signature is verified with the public one: {_PUBLIC}")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{path} is not a public key in PEM: {_PUBLIC}") from None
    _check_curve(key, path, "public", _PUBLIC)
    return key


def write_public_key(private_key: Path, path: Path) -> Path:
    """Write the public key of a private one as PEM, and return its file."""
    from cryptography.hazmat.primitives import serialization

    check_private_key(private_key)
    key = serialization.load_pem_private_key(private_key.read_bytes(), None).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, form))
    return path


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a public key, as signatures name it."""
    from hashlib import sha256

    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(read_public_key(path).public_bytes(serialization.Encoding.PEM, form)).hexdigest()


def _read_key(path: Path, kind: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES)
    except OSError as error:
        remedy = _MAKE if kind == "private" else _PUBLIC
        raise ConfigurationError(f"{path}: the {kind} key cannot be read ({error.strerror}); {remedy}") from None


def _check_curve(key: Any, path: Path, kind: str, remedy: str) -> None:
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve not in CURVES:
        got = f"one on {curve}" if curve else type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
        raise ConfigurationError(
            f"{path}: expected an elliptic-curve {kind} key on {', '.join(CURVES.values())}, got {got}, which model-signing "
            f"refuses; {remedy}"
        )
