"""Choice of the model to evaluate, and its settings. Torch-free."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import Field

from mm1.config.base import Config
from mm1.config.resolve import canonical_json

Kind = Literal["mm1", "transformers", "api"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelSettings(Config):
    """Settings for running a model."""

    batch_size: int = Field(default=64, ge=1)
    """Prompts per batch; a model of transformers halves it when memory runs out."""
    dtype: Dtype = "auto"
    """Dtype of the weights of a transformers model; auto: bfloat16 on a GPU, float32 on a CPU."""
    device_map: str = ""
    """Placement of a transformers model on several devices, such as auto; empty: one device."""
    trust_remote_code: bool = False
    """Whether code in the folder may run."""
    verify_key: str = ""
    """Public key (PEM) that the signature of an MM1 model must match; empty: signatures are not checked."""
    model_name: str = ""
    """Name of the model behind an address; empty: the only one that it serves."""
    api_key_file: str = ""
    """File with the API key; empty: the environment variable OPENAI_API_KEY."""
    concurrency: int = Field(default=8, ge=1)
    """Requests to an address at the same time."""
    request_timeout_s: float = Field(default=120.0, gt=0)
    """Time for one answer of an address, s."""
    max_tiles: int = Field(default=0, ge=0)
    """Maximum number of tiles of an image of an MM1 model, without the overview; 0: as in its training."""
    retry_s: float = Field(default=600.0, ge=0)
    """Time in which a failed request to an address is repeated, s."""


class ModelChoice(Config):
    """A model to evaluate."""

    name: str
    """Name given by the user: folder, address of a manifest, digest, or http address."""
    kind: Kind
    digest: str
    """Digest of the manifest, of the files of a folder, or of address and name of a model behind an API."""
    store: str = ""
    """Address of the store of a manifest."""
    checkpoint: str = ""
    """Digest of the checkpoint that the model is, or was exported from; empty for a folder or an address."""
    model_type: str = ""
    """model_type in the folder's config.json."""
    settings: ModelSettings = ModelSettings()

    @property
    def short_name(self) -> str:
        """A name for folders."""
        name = self.settings.model_name or self.name.rstrip("/").rpartition("/")[2].removesuffix(".json")
        return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[:40] or self.kind

    @property
    def identity(self) -> str:
        """Everything about the model that its answers depend on, for the names of kept replies."""
        content: dict[str, Any] = {"kind": self.kind, "digest": self.digest}
        if self.kind != "api":
            content |= {"dtype": self.settings.dtype, "batch_size": self.settings.batch_size, "versions": versions()}
        if self.settings.max_tiles:
            content["max_tiles"] = self.settings.max_tiles
        return canonical_json(content)

    @property
    def facts(self) -> dict[str, Any]:
        """Content for the manifest of a report: no address and no path."""
        facts: dict[str, Any] = {"kind": self.kind, "digest": self.digest, "model_type": self.model_type}
        facts |= {"name": self.settings.model_name, "max_tiles": self.settings.max_tiles}
        return {name: value for name, value in facts.items() if value}


def versions() -> dict[str, str]:
    """Return the versions of the packages that answers depend on; torch and transformers are not imported."""
    installed = {}
    for name in ("mm1", "torch", "transformers"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
