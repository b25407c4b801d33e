"""``mm1 pin``: protect manifests from ``mm1 gc``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError, DataError
from mm1.lineage.graph import describe
from mm1.lineage.pins import pin, pins, unpin
from mm1.manifests import load_digest
from mm1.store.base import Store
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store, stored_run
from mm1_workflows.cli.output import console, plain, say, table


@command(name="pin", help="Protect the manifests of a run, and all that they were made from, from mm1 gc; or list the pins.")
@dataclass
class Command:
    """``mm1 pin``."""

    name: Annotated[str, Arg(value_name="name", help="Name of the pin [default: list all pins].")] = ""
    target: Annotated[
        str,
        stored_run("A run; or a manifest by address or digest (or its beginning)."),
    ] = ""
    store: StoreArg = DEFAULT_STORE
    remove: Annotated[bool, Arg(long=True, help="Remove the pin.")] = False

    def __call__(self) -> int:
        """List, add or remove pins.

        Raises:
            ConfigurationError: a name without a target, or a target with ``--remove``.
        """
        store = existing_store(self.store)
        if self.remove:
            if not self.name or self.target:
                raise ConfigurationError("--remove takes the name of a pin: mm1 pin NAME --remove")
            unpin(store, self.name)
            say(console(), f"removed pin {self.name}")
        elif not self.name:
            _print_pins(store)
        elif not self.target:
            raise ConfigurationError(f"expected what to pin: mm1 pin {self.name} RUN (or a digest); mm1 runs lists the runs")
        else:
            for digest in pin(store, self.name, self.target):
                say(console(), f"pinned as {self.name}: {_description(store, digest)} {digest[:12]}")
        return 0


def _print_pins(store: Store) -> None:
    listing = table("pin", "manifest", "digest")
    for name, digests in pins(store).items():
        for digest in digests:
            listing.add_row(plain(name), plain(_description(store, digest)), digest[:12])
    if listing.row_count:
        console().print(listing)
    else:
        say(console(), f"no pins in {store.uri}")


def _description(store: Store, digest: str) -> str:
    try:
        manifest = load_digest(store, digest)
    except DataError:
        return "missing or damaged"
    return f"{type(manifest).__name__}: {describe(manifest)}".removesuffix(": ")
