"""``mm1 export MODEL FOLDER``: export a model to a folder in Hugging Face format, with a model card and a signature."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError
from mm1.lineage.adapters import adapter_of
from mm1.lineage.models import Model, fetch_model, find_model
from mm1.lineage.new_folder import check_new, new_folder
from mm1.lineage.signing import SIGNATURE_NAME
from mm1.manifests import manifest_key
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store, stored_run
from mm1_workflows.cli.output import console, say

DTYPES = ("float32", "bfloat16", "float16")
_SIZE = re.compile(r"[1-9]\d*(\.\d+)?\s?([KMGT]i?B)", re.IGNORECASE)


@command(name="export", help="Export a model from the store to a folder in Hugging Face format.")
@dataclass
class Command:
    """``mm1 export``."""

    model: Annotated[
        str,
        stored_run("A run; or a model's manifest by address or digest (or its beginning)."),
    ]
    folder: Annotated[Path | None, Arg(value_name="folder", help="Folder to create.")] = None
    to: Annotated[Path | None, Arg(long=True, value_name="FOLDER", help="The same as the second argument.")] = None
    task: Annotated[str, Arg(long=True, value_name="TASK", help="Task of the run [default: deploy, or the last training].")] = (
        ""
    )
    sign_key: Annotated[Path | None, Arg(long=True, value_name="FILE", help="Private key (PEM) that signs the folder.")] = None
    dtype: Annotated[str, Arg(long=True, value_name="DTYPE", help=f"Write weights as {', '.join(DTYPES)}.")] = ""
    max_shard_size: Annotated[
        str, Arg(long=True, value_name="SIZE", help="Maximum size of a file of weights [default: 5GB].")
    ] = ""
    adapter: Annotated[bool, Arg(long=True, help="Export the LoRA adapter alone, for peft.")] = False
    force: Annotated[bool, Arg(long=True, help="Replace a model that is in the folder.")] = False
    store: StoreArg = DEFAULT_STORE

    def __call__(self) -> int:
        """Export the model.

        Raises:
            ConfigurationError: an option is wrong, the folder is not empty, or there is no such model.
        """
        folder = self._checked_folder()
        model = find_model(existing_store(self.store), self.model, self.task)
        say(console(), f"{self.model}: {model.description}")
        if self.adapter:
            self._write_adapter(model, folder)
            return 0
        with new_folder(folder, force=self.force) as target:
            if model.exported and not self.dtype and not self.max_shard_size:
                self._copy(model, target)
            else:
                self._write(model, target)
            if self.sign_key:
                from mm1.lineage.signing import sign

                say(console(), "signing")
                sign(target, self.sign_key.expanduser())
            signed = (target / SIGNATURE_NAME).is_file()
        self._explain(folder, signed)
        return 0

    def _checked_folder(self) -> Path:
        """Check the options before anything is read."""
        if (self.folder is None) == (self.to is None):
            raise ConfigurationError("folder: expected one folder: mm1 export MODEL FOLDER")
        if self.dtype not in ("", *DTYPES):
            raise ConfigurationError(f"--dtype: expected {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.max_shard_size and not _SIZE.fullmatch(self.max_shard_size):
            raise ConfigurationError(f"--max-shard-size: expected a size such as 5GB or 200MB, got {self.max_shard_size!r}")
        if self.adapter and (self.dtype or self.max_shard_size or self.sign_key):
            raise ConfigurationError("--adapter: expected no --dtype, --max-shard-size or --sign-key: it is written as it is")
        if self.sign_key:
            from mm1.lineage.signing import check_private_key

            check_private_key(self.sign_key.expanduser())
        folder = (self.folder or self.to or Path()).expanduser()
        check_new(folder, force=self.force)
        return folder

    def _copy(self, model: Model, target: Path) -> None:
        """Copy an exported model as it is, with its signature."""
        say(console(), f"copying and verifying {_size(model)}")
        with tempfile.TemporaryDirectory(prefix="mm1-export-") as links:
            shutil.copytree(fetch_model(model, Path(links)), target, dirs_exist_ok=True)  # follows the links

    def _write(self, model: Model, target: Path) -> None:
        """Load a checkpoint, or an exported model whose weights change, and write it again with its model card."""
        say(console(), f"loading and verifying {_size(model)}")
        import torch

        from mm1.checkpoint.folder import load_folder
        from mm1.lineage.reports import reports_of
        from mm1.manifests import Checkpoint, load_digest
        from mm1.modeling.export import MAX_SHARD_SIZE
        from mm1.serve.export import write_export

        checkpoint = load_digest(model.store, model.checkpoint)
        if not isinstance(checkpoint, Checkpoint):
            raise ConfigurationError(f"{model.store.uri}/{manifest_key(model.checkpoint)} is not a Checkpoint")
        with tempfile.TemporaryDirectory(prefix="mm1-export-") as links:
            fetch_model(model, Path(links))
            loaded, processor = load_folder(Path(links), getattr(torch, self.dtype) if self.dtype else "auto", merge=True)
            say(console(), "writing")
            reports = reports_of(model.store, model.checkpoint)
            size = self.max_shard_size or MAX_SHARD_SIZE
            write_export(loaded, processor, model.store, checkpoint, target, reports=reports, max_shard_size=size)

    def _write_adapter(self, model: Model, folder: Path) -> None:
        """Write the adapter of a checkpoint in peft's format, with the address of its base model."""
        adapter = adapter_of(model)
        with new_folder(folder, force=self.force) as target:
            adapter.write(target)
        base = f"{model.store.uri}/{manifest_key(adapter.base)}"
        lines = [
            f"written: {folder}",
            f"serve it: mm1 serve {folder}",
            f"its base model, for peft: mm1 export {base} BASE",
            f"load it: PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained('BASE', ...), {str(folder)!r})",
        ]
        for line in lines:
            say(console(), line)

    def _explain(self, folder: Path, signed: bool) -> None:
        """Print what to do next."""
        lines = [f"written: {folder}", f"read its model card: {folder}/README.md", f"serve it: mm1 serve {folder}"]
        if signed:
            lines.append(
                f"verify it: model_signing verify key {folder} --signature {folder}/{SIGNATURE_NAME} --public_key mm1.pub"
            )
        lines.append(f"load it: AutoModelForImageTextToText.from_pretrained({str(folder)!r}, trust_remote_code=True)")
        for line in lines:
            say(console(), line)


def _size(model: Model) -> str:
    total = sum(ref.num_bytes for ref in model.files.values())
    return f"{len(model.files)} files, {total / 1e6:,.1f} MB"
