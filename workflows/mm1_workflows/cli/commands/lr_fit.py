"""``mm1 lr-fit``: print the learning-rate law and the predictions of a run of studies, and plot them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError
from mm1.store.local import atomic_path
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store, stored_run
from mm1_workflows.cli.output import console, plain, say, table

if TYPE_CHECKING:
    from mm1.studies.results import StudyResult
    from mm1.studies.section import Block

REFUSED = 1
"""Exit code if a law could not be fitted."""


@command(name="lr-fit", help="Print the learning-rate law and the scaling ladder that a run of studies gives.")
@dataclass
class Command:
    """``mm1 lr-fit``."""

    run: Annotated[str, stored_run("Run of studies, its studies.json, or a lessons.json.")]
    store: StoreArg = DEFAULT_STORE
    plot: Annotated[Path, Arg(long=True, value_name="FILE", help="Page with the tables and plots.")] = Path("lr-fit.html")

    def __call__(self) -> int:
        """Print the laws and write their plots.

        Raises:
            ConfigurationError: there is no such run, or no study of it fits a law.
            DataError: the results are missing or damaged.
        """
        from mm1.studies.laws import is_refused, stored_blocks

        studies = self._studies()
        blocks = [block for study in studies for block in stored_blocks(study.section, study.name)]
        if not blocks:
            raise ConfigurationError(
                f"{self.run}: no study with analysis learning_rate or scaling; run `make ablate STUDY=learning_rate` "
                "or STUDY=scaling"
            )
        for block in blocks:
            _print(block)
        _write(self.plot.expanduser(), blocks, Path(self.run).name)
        return REFUSED if any(is_refused(study.section) for study in studies) else 0

    def _studies(self) -> tuple[StudyResult, ...]:
        from mm1.studies.lessons_file import lessons_of_run, read_studies

        path = Path(self.run).expanduser()
        return read_studies(path) if path.suffix == ".json" else lessons_of_run(existing_store(self.store), self.run).studies


def _print(block: Block) -> None:
    output = console()
    say(output, f"{block.title}. {block.text}")
    if block.columns:
        listing = table(*block.columns)
        for row in block.rows:
            listing.add_row(*map(plain, row))
        output.print(listing)
    output.print()


def _write(path: Path, blocks: list[Block], name: str) -> None:
    from mm1.report.page import environment
    from mm1.studies.page import TEMPLATES

    page = environment(TEMPLATES).get_template("laws.html.j2").render(title=f"Laws of {name}", blocks=blocks)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    say(console(), f"written: {path}")
