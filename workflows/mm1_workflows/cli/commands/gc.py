"""``mm1 gc``: remove what nothing needs any more."""

from __future__ import annotations

from mm1.lineage.gc import find_garbage, remove
from mm1.store.open import open_store
from mm1_workflows.cli.commands.output import console, say
from mm1_workflows.cli.tree.looking import Gc

KINDS = ("runs", "cache", "resume", "watch", "manifests", "blobs")


def collect(command: Gc) -> int:
    """List what nothing needs; with --yes remove it."""
    output = console()
    store = open_store(command.store)
    garbage = find_garbage(store, command.keep, command.keep_run)
    counts = {kind: sum(key.startswith(f"{kind}/") for key in garbage.keys) for kind in KINDS}
    summary = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "nothing"
    if not command.yes:
        say(output, f"{store.uri}: would remove {summary}; {garbage.num_kept} objects stay. Remove with --yes")
        return 0
    remove(store, garbage)
    say(output, f"{store.uri}: removed {summary}; {garbage.num_kept} objects stay")
    return 0
