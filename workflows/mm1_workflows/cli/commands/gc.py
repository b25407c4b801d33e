"""``mm1 gc``: delete unreferenced objects from the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from cappa import Arg, command

from mm1.lineage.gc import find_garbage, remove
from mm1.lineage.text import count
from mm1_workflows.cli.options import DEFAULT_STORE, FromLine, StoreArg, complete_run, count_option, existing_store
from mm1_workflows.cli.output import console, say

KINDS = {
    "runs": "run record",
    "cache": "cached result",
    "resume": "resume pointer",
    "watch": "progress file",
    "manifests": "manifest",
    "blobs": "blob",
}
"""Folder of the store -> what an object there is."""


@command(
    name="gc",
    help="Delete the objects in the store that no kept run, pin (mm1 pin) or model refers to and that are older than an hour.",
)
@dataclass
class Command:
    """``mm1 gc``."""

    store: StoreArg = DEFAULT_STORE
    keep: Annotated[int, count_option("Keep the N newest runs.", least=0)] = 20
    keep_run: Annotated[
        list[str],
        Arg(long=True, value_name="NAME", help="Also keep this run; may be repeated.", completion=FromLine(complete_run)),
    ] = field(default_factory=list)
    listing: Annotated[bool, Arg(long="--list", help="Print every object that would be deleted.")] = False
    yes: Annotated[bool, Arg(long=True, help="Delete the objects; without it, they are only counted.")] = False

    def __call__(self) -> int:
        """List unreferenced objects; with --yes, delete them."""
        output = console()
        store = existing_store(self.store)
        garbage = find_garbage(store, self.keep, self.keep_run)
        numbers = {noun: sum(key.startswith(f"{kind}/") for key in garbage.keys) for kind, noun in KINDS.items()}
        numbers["temporary file"] = len(garbage.leftovers)
        summary = ", ".join(count(number, noun) for noun, number in numbers.items() if number) or "nothing"
        young = f" ({garbage.num_young} of them only because they are younger than an hour)" if garbage.num_young else ""
        kept = f"{count(garbage.num_kept, 'object')}{young}"
        if self.listing:
            for key in [*garbage.keys, *garbage.leftovers]:
                say(output, key)
        if self.yes:
            remove(store, garbage)
            say(output, f"{store.uri}: deleted {summary}, kept {kept}")
            return 0
        running = f" once {' and '.join(garbage.running)} has ended" if garbage.running else ""
        say(output, f"{store.uri}: would delete {summary} and keep {kept}; delete with --yes{running}")
        return 0
