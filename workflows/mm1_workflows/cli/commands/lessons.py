"""``mm1 lessons``: print the verdicts of studies, and write docs/lessons.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cappa import Arg, command

from mm1.store.local import atomic_path
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store, stored_run
from mm1_workflows.cli.output import console, plain, say, table

if TYPE_CHECKING:
    from mm1.studies.lessons_file import Lessons


@command(name="lessons", help="Print the verdicts of runs of studies: effects, errors, p-values.")
@dataclass
class Command:
    """``mm1 lessons``."""

    runs: Annotated[
        list[str],
        stored_run("Run of studies, or a lessons.json. A study of several is taken from the last one."),
    ]
    store: StoreArg = DEFAULT_STORE
    write: Annotated[
        Path | None, Arg(long=True, value_name="FOLDER", help="Also write lessons.md and lessons.json into this folder.")
    ] = None

    def __call__(self) -> int:
        """Print a table of the claims, and write the files.

        Raises:
            ConfigurationError: there is no such run, or it has no results of studies.
            DataError: the results are missing or damaged.
        """
        from mm1.studies.lessons import effect_text, failed_lines, p_text

        lessons, output = self._lessons(), console()
        listing = table("study", "claim", "effect", "p", "verdict", "why", less_important=("p", "study"))
        for study in lessons.studies:
            for verdict in study.verdicts:
                cells = (study.name, verdict.claim.says, effect_text(verdict), p_text(verdict.p_study), verdict.outcome)
                listing.add_row(*map(plain, (*cells, verdict.reason)))
        output.print(listing)
        say(output, "\neffects ± standard errors over seeds and items, positive in the claimed direction")
        for line in failed_lines(lessons.failed):
            say(output, line)
        if self.write:
            self._write(lessons, self.write.expanduser())
        return 0

    def _lessons(self) -> Lessons:
        from mm1.studies.lessons_file import joined, lessons_of_run, read_lessons

        def of(run: str) -> Lessons:
            path = Path(run).expanduser()
            return read_lessons(path) if path.suffix == ".json" else lessons_of_run(existing_store(self.store), run)

        return joined([of(run) for run in self.runs])

    def _write(self, lessons: Lessons, folder: Path) -> None:
        from mm1.studies.lessons import lessons_markdown

        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("lessons.json", lessons.json_text()), ("lessons.md", lessons_markdown(lessons))):
            with atomic_path(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            say(console(), f"written: {folder / name}")
