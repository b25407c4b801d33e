"""``mm1 gc``: remove what nothing needs any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from cappa import Arg, command

from mm1.lineage.gc import find_garbage, remove
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, count_option, existing_store
from mm1_workflows.cli.output import console, say

KINDS = ("runs", "cache", "resume", "watch", "manifests", "blobs")


@command(name="gc", help="Remove what no kept run or pin (mm1 pin) needs from the store.")
@dataclass
class Command:
    """``mm1 gc``."""

    store: StoreArg = DEFAULT_STORE
    keep: Annotated[int, count_option("Keep the N newest runs.", least=0)] = 20
    keep_run: Annotated[list[str], Arg(long=True, value_name="NAME", help="Keep this run as well; may be repeated.")] = field(
        default_factory=list
    )
    listing: Annotated[bool, Arg(long="--list", help="Print every object that would be removed.")] = False
    yes: Annotated[bool, Arg(long=True, help="Remove; without it only what would be removed is listed.")] = False

    def __call__(self) -> int:
        """List what nothing needs; with --yes remove it."""
        output = console()
        store = existing_store(self.store)
        garbage = find_garbage(store, self.keep, self.keep_run)
        counts = {kind: sum(key.startswith(f"{kind}/") for key in garbage.keys) for kind in KINDS}
        summary = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "nothing"
        if self.listing:
            for key in garbage.keys:
                say(output, key)
        if not self.yes:
            say(output, f"{store.uri}: would remove {summary}; {garbage.num_kept} objects stay. Remove with --yes")
            return 0
        remove(store, garbage)
        say(output, f"{store.uri}: removed {summary}; {garbage.num_kept} objects stay")
        return 0
