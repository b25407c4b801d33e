"""Finding out what a model's name means, before anything heavy is imported. Torch-free.

http(s)://host/v1                        a model behind an OpenAI-compatible API
folder, model_type mm1 in config.json    a model of this project
folder, another model_type               a model of transformers
<store>/manifests/<sha256>.json          a Checkpoint, ExportedModel or Deployment; with a store, its digest is enough
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from mm1.config.resolve import canonical_json
from mm1.errors import ConfigurationError
from mm1.evals.models.config import Kind, ModelChoice, ModelSettings
from mm1.lineage.graph import resolve
from mm1.lineage.models import model_of
from mm1.manifests import MANIFEST_NAME, load_digest, split_uri
from mm1.store.base import digest_of, digest_of_file
from mm1.store.open import find_store

_DIGEST = re.compile(r"[0-9a-f]{6,64}")
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
OWN_TYPE = "mm1"


def find_model(name: str, settings: ModelSettings, store: str = "", other_kinds: Collection[Kind] = ()) -> ModelChoice:
    """Find a model.

    Args:
        name: a folder, the address or digest of a manifest, or an http address.
        settings: how to run it.
        store: address of the store of a digest.
        other_kinds: kinds of models that the settings are for, too; settings for these alone are not used.

    Raises:
        ConfigurationError: it is none of these, or settings do not apply to it.
        NetworkError: the address does not answer.
    """
    folder = Path(name).expanduser()
    if name.startswith(("http://", "https://")):
        choice = _behind_address(name, settings)
    elif folder.is_dir():
        choice = _in_folder(folder, settings)
    else:
        choice = _in_store(name, settings, store)
    return choice.model_copy(update={"settings": _applicable(choice, other_kinds)})


def _behind_address(address: str, settings: ModelSettings) -> ModelChoice:
    from mm1.evals.models.client import ApiClient, checked_address

    address = checked_address(address)
    if not settings.model_name:
        with ApiClient(address, settings) as client:
            settings = settings.model_copy(update={"model_name": client.only_model()})
    digest = digest_of(canonical_json({"address": address, "model": settings.model_name}).encode())
    return ModelChoice(name=address, kind="api", digest=digest, settings=settings)


def _in_folder(folder: Path, settings: ModelSettings) -> ModelChoice:
    path = folder / CONFIG
    if (folder / ADAPTER_CONFIG).is_file():  # names its base model
        return ModelChoice(
            name=str(folder), kind="mm1", digest=digest_of_folder(folder), model_type=OWN_TYPE, settings=settings
        )
    try:
        model_type = json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except FileNotFoundError:
        raise ConfigurationError(f"{folder}: no {CONFIG}: expected the folder of a model in Hugging Face format") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path}: expected JSON with a model_type: {error!r}") from None
    kind = "mm1" if model_type == OWN_TYPE else "transformers"
    return ModelChoice(
        name=str(folder), kind=kind, digest=digest_of_folder(folder), model_type=str(model_type), settings=settings
    )


def _in_store(name: str, settings: ModelSettings, store: str) -> ModelChoice:
    if MANIFEST_NAME.match(name):
        store, digest = split_uri(name)
    elif store and _DIGEST.fullmatch(name):
        (digest,) = resolve(find_store(store), name)
    else:
        hint = "; a digest needs --store" if _DIGEST.fullmatch(name) else ""
        if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            hint = f"; to evaluate a model of the Hugging Face Hub, download it first: hf download {name} --local-dir FOLDER"
        raise ConfigurationError(
            f"model: expected a folder, an http(s) address or the address of a manifest, got {name!r}: no such folder{hint}"
        )
    opened = find_store(store)
    model = model_of(opened, load_digest(opened, digest), name)  # refuses other kinds
    return ModelChoice(
        name=name,
        kind="mm1",
        digest=digest,
        store=opened.uri,
        checkpoint=model.checkpoint,
        model_type=OWN_TYPE,
        settings=settings,
    )


def digest_of_folder(folder: Path) -> str:
    """Compute the digest of a folder's files, by name and content; hidden files do not count."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    files = {name: digest_of_file(path).sha256 for name, path in names.items() if not any(p[0] == "." for p in name.split("/"))}
    return digest_of(canonical_json(files).encode())


def _applicable(choice: ModelChoice, other_kinds: Collection[Kind]) -> ModelSettings:
    """Return the settings that apply to a model, and refuse those that would be ignored."""
    settings, default = choice.settings, ModelSettings()
    of_kind: dict[Kind, tuple[str, ...]] = {
        "transformers": ("dtype", "device_map", "trust_remote_code"),
        "api": ("model_name", "api_key_file", "concurrency", "request_timeout_s", "retry_s"),
        "mm1": ("verify_key", "max_tiles"),
    }
    unused: dict[str, object] = {}
    for kind, names in of_kind.items():
        for name in names:
            if kind != choice.kind and getattr(settings, name) != getattr(default, name):
                if kind in other_kinds and name != "model_name":
                    unused[name] = getattr(default, name)
                    continue
                option = "--" + name.removesuffix("_s").replace("_", "-")
                what = {"mm1": "an MM1 model", "api": "a model behind an address", "transformers": "a transformers model"}
                raise ConfigurationError(f"{option} does not apply to {what[choice.kind]} ({choice.name})")
    return settings.model_copy(update=unused)
