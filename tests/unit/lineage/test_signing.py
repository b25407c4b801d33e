"""Signatures of model folders: what was changed since, by anybody, is not loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mm1.errors import CheckpointError, ConfigurationError
from mm1.lineage.signing import SIGNATURE_NAME, Signatures, check_private_key, sign
from tests.support.signing_keys import key_pair


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mm1", "other"):
        key_pair(folder, name)
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path) -> Path:
    folder = keys / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "vocab.json").write_text("[]")
    sign(folder, keys / "mm1.key")
    return folder


@pytest.fixture
def folder(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "copy"))


def refusal(keys: Path, folder: Path, name: str = "mm1") -> str:
    with pytest.raises(CheckpointError) as caught:
        Signatures.of(keys / f"{name}.pub", required=True).check(folder, "the model")
    message = str(caught.value)
    assert message.startswith("the model") and "\n" not in message
    return message


def test_a_signed_folder_holds_wherever_it_lies(keys: Path, folder: Path, tmp_path: Path) -> None:
    Signatures.of(keys / "mm1.pub").check(folder)
    links = tmp_path / "links"
    for path in (path for path in folder.rglob("*") if path.is_file()):
        (links / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (links / path.relative_to(folder)).symlink_to(path)
    Signatures.of(keys / "mm1.pub").check(links)  # a store's files are links


def test_the_standard_command_verifies_it(keys: Path, folder: Path) -> None:
    command = ["-m", "model_signing", "verify", "key", str(folder), "--signature", str(folder / SIGNATURE_NAME)]
    run = subprocess.run(
        [sys.executable, *command, "--public_key", str(keys / "mm1.pub")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_signing_again_replaces_the_signature(keys: Path, folder: Path) -> None:
    (folder / "config.json").write_text("{} ")
    sign(folder, keys / "other.key")
    Signatures.of(keys / "other.pub").check(folder)
    assert "another key" in refusal(keys, folder)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed byte": (lambda folder: (folder / "config.json").write_text("[]"), "changed: config.json"),
    "a changed byte below": (lambda folder: (folder / "sub" / "vocab.json").write_text("{}"), "changed: sub/vocab.json"),
    "another file": (lambda folder: (folder / "code.py").write_text(""), "not signed: code.py"),
    "a hidden file": (lambda folder: (folder / ".gitattributes").write_text(""), "not signed: .gitattributes"),
    "a missing file": (lambda folder: (folder / "config.json").unlink(), "missing: config.json"),
    "a renamed file": (
        lambda folder: (folder / "config.json").rename(folder / "x.json"),
        "not signed: x.json; missing: config.json",
    ),
    "a linked folder": (lambda folder: (folder / "link").symlink_to("/etc"), "link"),
    "a broken link": (lambda folder: (folder / "link").symlink_to("/nowhere"), "link"),
    "no signature": (lambda folder: (folder / SIGNATURE_NAME).unlink(), "no signature"),
    "an empty signature": (lambda folder: (folder / SIGNATURE_NAME).write_text(""), "damaged"),
    "half a signature": (
        lambda folder: (folder / SIGNATURE_NAME).write_text((folder / SIGNATURE_NAME).read_text()[:200]),
        "damaged",
    ),
    "another kind of JSON": (lambda folder: (folder / SIGNATURE_NAME).write_text("[1]"), "damaged"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_since_is_named(keys: Path, folder: Path, change: str) -> None:
    make, says = CHANGES[change]
    make(folder)
    assert says in refusal(keys, folder)


def test_another_key_and_a_forged_signature_are_refused(keys: Path, folder: Path) -> None:
    assert "another key" in refusal(keys, folder, "other")
    signature = folder / SIGNATURE_NAME
    signature.write_text(signature.read_text().replace('"sig":"', '"sig":"AAAA'))
    assert "another key" in refusal(keys, folder)


def test_nothing_is_asked_without_a_key(folder: Path) -> None:
    (folder / "config.json").write_text("[]")
    Signatures.of().check(folder)
    (folder / SIGNATURE_NAME).unlink()
    Signatures.of().check(folder)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "k256"])
def test_keys_that_cannot_sign_are_refused_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    private, public = key_pair(tmp_path, kind=kind)
    with pytest.raises(ConfigurationError, match=r"expected an elliptic-curve private key on P-256.*openssl ecparam"):
        sign(tmp_path, private)
    with pytest.raises(ConfigurationError, match=r"expected an elliptic-curve public key"):
        Signatures.of(public)
    assert not (tmp_path / SIGNATURE_NAME).exists()


def test_files_that_are_no_keys_are_refused_with_the_remedy(tmp_path: Path, keys: Path) -> None:
    protected, _ = key_pair(tmp_path, password=b"secret")
    (tmp_path / "text").write_text("hello")
    for path, says in ((protected, "password"), (keys / "mm1.pub", "not a private key"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ConfigurationError, match=says):
            check_private_key(path)
    for path, says in (
        (keys / "mm1.key", "is a private key"),
        (tmp_path / "text", "not a public key"),
        (tmp_path, "cannot be"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            Signatures.of(path)
    with pytest.raises(ConfigurationError, match="--verify-key"):
        Signatures.of(required=True)
