"""``mm1 export RUN --to FOLDER``: export a model to a folder in Hugging Face format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cappa import Arg, command

from mm1.lineage.models import export_model, find_model
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store, stored_run
from mm1_workflows.cli.output import console, say


@command(name="export", help="Export a model from the store to a folder in Hugging Face format.")
@dataclass
class Command:
    """``mm1 export``."""

    model: Annotated[
        str,
        stored_run("A run; or a model's manifest by address or digest (or its beginning)."),
    ]
    to: Annotated[Path, Arg(long=True, value_name="FOLDER", help="Folder to create.")]
    task: Annotated[str, Arg(long=True, value_name="TASK", help="Task of the run [default: deploy, or the last training].")] = (
        ""
    )
    store: StoreArg = DEFAULT_STORE

    def __call__(self) -> int:
        """Export the model."""
        model = find_model(existing_store(self.store), self.model, self.task)
        folder = export_model(model, self.to.expanduser())
        lines = [
            f"written: {folder} ({model.description})",
            "load it: AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)",
        ]
        for line in lines:
            say(console(), line)
        return 0
