"""``mm1 lineage``: print the ancestors of a manifest, and verify them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cappa import Arg, command
from rich.markup import escape
from rich.tree import Tree

from mm1.lineage.graph import Lineage, ancestors, describe, resolve, to_dot
from mm1.lineage.read_policy import read_policy
from mm1.lineage.signing import Signatures
from mm1.lineage.verify import Verification, verify_lineage
from mm1.manifests import MANIFEST_NAME
from mm1.store.base import Store
from mm1.store.local import atomic_path
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store, stored_run
from mm1_workflows.cli.output import console, say


@command(name="lineage", help="Print the ancestors of a manifest, back to the raw shards.")
@dataclass
class Command:
    """``mm1 lineage``."""

    uri: Annotated[
        str,
        stored_run("A run; or a manifest by address or digest (or its beginning); or a served model, mm1@DIGEST."),
    ]
    store: StoreArg = DEFAULT_STORE
    html: Annotated[Path | None, Arg(long=True, value_name="FILE", help="Also write an HTML file with a diagram.")] = None
    dot: Annotated[Path | None, Arg(long=True, value_name="FILE", help="Also write a file for Graphviz.")] = None
    policy: Annotated[
        Path | None, Arg(long=True, value_name="FILE", help="Also write the policy (S3) that a server of this model needs.")
    ] = None
    verify: Annotated[bool, Arg(long=True, help="Verify every digest, and with --verify-key every signature.")] = False
    verify_key: Annotated[
        Path | None, Arg(long=True, value_name="FILE", help="Public key (PEM) of the signer; implies --verify.")
    ] = None

    def __call__(self) -> int:
        """Print the tree of ancestors, write the requested files, and verify.

        Raises:
            ConfigurationError: the key is not a public key, or there is no such manifest.
            DataError: a manifest or a blob is missing.
            CheckpointError: content does not match its digest or signature.
        """
        output = console()
        signatures = Signatures.of(self.verify_key and self.verify_key.expanduser())
        match = MANIFEST_NAME.match(self.uri)
        store = existing_store(match["store"] if match else self.store)
        digests = [match["digest"]] if match else resolve(store, self.uri)
        if self.verify or self.verify_key:
            _verify(store, digests, signatures)
        whole: Lineage = {}
        for digest in digests:
            branch = ancestors(store, digest)
            whole |= branch
            output.print(tree(digest, branch))
        files = {}
        if self.dot:
            files[self.dot] = to_dot(whole)
        if self.html:
            from mm1.report.lineage_page import render_lineage  # jinja2

            files[self.html] = render_lineage(digests, whole)
        if self.policy:
            files[self.policy] = read_policy(store, digests[-1])
        for path, text in files.items():
            with atomic_path(path) as temporary:
                temporary.write_text(text)
            say(output, f"written: {path}")
        return 0


def _verify(store: Store, digests: list[str], signatures: Signatures) -> None:
    """Print each manifest when it is verified, then the counts or the problems."""
    output, verification = console(), Verification()
    for digest, manifest in verify_lineage(store, digests, signatures, verification):
        say(output, f"{type(manifest).__name__} {digest[:12]}  {describe(manifest)}")
    for problem in verification.problems:
        say(output, f"wrong: {problem}")
    verification.raise_problems()
    say(output, f"verified: {verification}")


def tree(digest: str, lineage: Lineage) -> Tree:
    """Build the tree of ancestors; the parents of a repeated manifest are only shown once."""
    seen: set[str] = set()

    def grow(current: str) -> Tree:
        manifest = lineage[current]
        description = escape(describe(manifest))
        node = Tree(f"[bold]{type(manifest).__name__}[/bold] [cyan]{current[:12]}[/cyan]  [dim]{description}[/dim]")
        if current in seen:
            if manifest.parents:
                node.add("[dim](as above)[/dim]")
            return node
        seen.add(current)
        for parent in manifest.parents:
            node.add(grow(parent))
        return node

    return grow(digest)
