"""``mm1 eval compare A B``: compare two evaluations item by item."""

from __future__ import annotations

import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cappa import Arg, command

from mm1.errors import ConfigurationError
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, count_option, existing_store
from mm1_workflows.cli.output import console, plain, say, table

if TYPE_CHECKING:
    from mm1.evals.differences import Compared, Comparison

MAX_TEXT = 48
"""Characters of a text in the list of items."""


@command(name="compare", help="Compare two evaluations item by item: differences with confidence intervals.")
@dataclass
class EvalCompare:
    """``mm1 eval compare``."""

    first: Annotated[str, Arg(value_name="A", help="Output folder, or an EvalReport by address or digest.")]
    second: Annotated[str, Arg(value_name="B", help="The same for the other model.")]
    items: Annotated[int, count_option("Items to list per task and number of shots, those that differ most.", least=0)] = 5
    store: StoreArg = DEFAULT_STORE

    def __call__(self) -> int:
        """Print a table per task, and the items that differ most."""
        from mm1.evals.differences import compare_tables
        from mm1.lineage.text import split_labels

        comparison = compare_tables(self._table(self.first), self._table(self.second))
        if not comparison.results:
            raise ConfigurationError(
                "nothing to compare: the answers have no metric in common; a test set has none, and some tasks need a judge "
                "(--judge)"
            )
        output = console()
        say(output, f"A = {self.first}\nB = {self.second}\n")
        labels = split_labels((result.task, result.split) for result in comparison.results)
        for (task, split), label in labels.items():
            results = [result for result in comparison.results if (result.task, result.split) == (task, split)]
            output.print(_task_table(results, label))
        say(output, "\nA - B with a 95 % confidence interval over items, clustered by image; p: of no difference;")
        say(output, "detectable: the smallest true difference that these items detect (95 % confidence, 80 % power)")
        self._list_items(comparison)
        for keys, name in ((comparison.only_a, "A"), (comparison.only_b, "B")):
            if keys:
                say(output, f"only in {name}: {', '.join(map(_round_name, keys))}")
        return 0

    def _table(self, name: str) -> Any:
        from mm1.evals.outputs import SAMPLES
        from mm1.evals.samples import read_samples
        from mm1.lineage.graph import resolve
        from mm1.manifests import MANIFEST_NAME, EvalReport, load_digest

        folder = Path(name).expanduser()
        if folder.is_dir():
            if not (folder / SAMPLES).is_file():
                raise ConfigurationError(f"{folder}: no {SAMPLES}: expected the output folder of a finished mm1 eval")
            return read_samples(folder / SAMPLES)
        match = MANIFEST_NAME.match(name)
        if not match and not re.fullmatch(r"[0-9a-f]{6,64}", name):
            raise ConfigurationError(f"expected an output folder of mm1 eval or an EvalReport, got {name!r}: no such folder")
        store = existing_store(match["store"] if match else self.store)
        (digest,) = [match["digest"]] if match else resolve(store, name)
        report = load_digest(store, digest)
        if not isinstance(report, EvalReport) or report.samples is None:
            raise ConfigurationError(f"{name}: expected an EvalReport with its answers, got {type(report).__name__}")
        with tempfile.TemporaryDirectory(prefix="mm1-eval-") as work:
            path = Path(work) / SAMPLES
            path.write_bytes(store.get_bytes(report.samples))
            return read_samples(path)

    def _list_items(self, comparison: Comparison) -> None:
        listing = table("task", "shots", "item", "question", "reference", "A", "B", "A value", "B value")
        rows = list(comparison.most_different(self.items)) if self.items else []
        for key, metric, row, other in rows:
            texts = [row["question"], next(iter(row["references"] or []), ""), row["prediction"], other["prediction"]]
            values = [f"{dict(each['values'])[metric]:.3g}" for each in (row, other)]
            listing.add_row(*map(plain, (key[0], key[2], row["item"], *map(_short, texts), *values)))
        if rows:
            console().print("\nitems that differ most", listing, sep="\n")


def _task_table(results: list[Compared], label: str) -> Any:
    listing = table(label, "shots", "A", "B", "A - B", "95 %", "p", "detectable", "items")
    for result in results:
        difference = result.difference
        control = "" if result.control == "none" else f", {result.control.replace('_', ' ')}"
        listing.add_row(
            *map(plain, (result.metric + control, result.shots, f"{result.value_a:.3f}", f"{result.value_b:.3f}")),
            f"{difference.mean:+.3f}",
            plain(f"{difference.low:+.3f} to {difference.high:+.3f}"),
            f"{difference.p_value:.3f}",
            f"{difference.smallest_effect:.3f}" if math.isfinite(difference.smallest_effect) else "–",
            str(result.num_items),
        )
    return listing


def _round_name(key: tuple[str, str, int, str]) -> str:
    task, split, shots, control = key
    return f"{task}:{split}@{shots}" + ("" if control == "none" else f" {control.replace('_', ' ')}")


def _short(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 1]}…"
