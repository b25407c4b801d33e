"""Lessons in Markdown: the summary of a run, and docs/lessons.md for one or several runs. Torch-free."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from mm1.studies.files import names, read_studies
from mm1.studies.lessons_file import Lessons, RunLessons
from mm1.studies.results import Results, StudyResult
from mm1.studies.verdict import Verdict

GENERATED = "<!-- written by `mm1 lessons RUN --write docs` from the results of runs; do not edit -->"


def summary_markdown(results: Results) -> str:
    """Format the verdicts as a table, under a title."""
    counts = ", ".join(f"{number} {outcome}" for outcome, number in results.counts.items()) or "no claims"
    lines = ["# Studies", "", f"{counts}.", ""]
    if results.failed:
        lines += [*(f"- {_plain(line)}" for line in failed_lines(results.failed)), ""]
    return "\n".join([*lines, *_table(results.studies), ""])


def lessons_markdown(lessons: Lessons) -> str:
    """Format docs/lessons.md: all lessons in a table, then each study with the paper's numbers, the scores and the command."""
    lines = [GENERATED, "", "# The paper's lessons", "", *_introduction(lessons), "", *_table(lessons.studies), ""]
    for study in lessons.studies:
        lines += [f"## {_plain(study.title)}", "", *_study(study)]
    return "\n".join(lines).rstrip() + "\n"


def _introduction(lessons: Lessons) -> list[str]:
    verdicts = [verdict for run in lessons.runs for verdict in run.results.verdicts]
    num_tested = sum(run.results.num_tested for run in lessons.runs)
    return [
        "Claims and smallest effects of interest are from before each run, in its plan; "
        f"{num_tested} of {len(verdicts)} were tested.",
        "Effects are in units of the score, ± one standard error over seeds and items, positive in the claimed direction.",
        "[Verdicts](reference/verdicts.md) describes the method.",
        "",
        *map(_run, lessons.runs),
        *(f"- {_plain(line)}" for line in failed_lines(lessons.failed)),
    ]


def _run(run: RunLessons) -> str:
    results, source = run.results, run.provenance
    date = f"{source.date:%Y-%m-%d}" if source.date else "unknown date"
    machine = ", ".join(source.devices) or source.processor or "unknown machine"
    cores = f" ({source.cores} cores)" if source.cores else ""
    commit = f"commit `{source.commit}`" if source.commit else "commit not recorded"
    names = ", ".join(study.name for study in results.studies)
    return (
        f"- Run `{source.run}`, {date}: {results.num_cells} trainings on {machine}{cores}, {commit}, "
        f"plan `{results.plan[:12]}`. Studies taken from it: {names}."
    )


def failed_lines(failed: Mapping[str, str]) -> list[str]:
    """Return a line for each cell without a result, with the reason if it is known."""
    return [f"no result of {name}" + (f": {reason}" if reason else "") for name, reason in failed.items()]


def _table(studies: tuple[StudyResult, ...]) -> list[str]:
    lines = ["| lesson | paper | effect | p | verdict | command |", "| --- | --- | --- | --- | --- | --- |"]
    for study in studies:
        for verdict in study.verdicts:
            cells = (_plain(verdict.claim.says), _plain(study.paper.section), effect_text(verdict), p_text(verdict.p_study))
            lines.append(f"| {' | '.join(cells)} | {_outcome(verdict)} | `{command(study)}` |")
    return lines


def _study(study: StudyResult) -> Iterator[str]:
    yield f"MM1 {_plain(study.paper.section)}: {_plain(study.paper.says)}"
    yield ""
    for verdict in study.verdicts:
        yield f"- **{_outcome(verdict)}**: {_plain(verdict.claim.says)} {_details(verdict)}"
    yield ""
    yield from _scores(study)
    yield ""
    if study.limits:
        yield f"Limits: {_plain(study.limits)}"
        yield ""
    yield f"<!-- needs: minutes -->\n```bash\n{command(study)}\n```"
    yield ""


def _details(verdict: Verdict) -> str:
    claim = verdict.claim
    kind = "equals" if claim.kind == "equal" else "against"
    compared = f"{claim.score}, {claim.better} {kind} {claim.than}" + (f" ({claim.than_score})" if claim.than_score else "")
    bound = f"{'within' if claim.kind == 'equal' else 'at least'} {claim.effect:g} expected"
    texts = [_plain(compared), bound]
    if verdict.effect is not None:
        texts.append(effect_text(verdict) + (f" over {verdict.over}" if verdict.over else ""))
    if verdict.low is not None and verdict.high is not None:
        texts.append(f"95 % interval {verdict.low:+.3f} to {verdict.high:+.3f}")
    texts += [_plain(verdict.reason)] * bool(verdict.reason)
    return "(" + "; ".join(texts) + ")"


def _scores(study: StudyResult) -> Iterator[str]:
    columns = list(dict.fromkeys(column for row in study.paper.figures.values() for column in row))
    heads = [study.factor, *(table.name for table in study.scores), *(f"paper: {column}" for column in columns)]
    yield f"| {' | '.join(map(_plain, heads))} |"
    yield "|" + " --- |" * len(heads)
    for level in (*study.levels, *(name for name in study.paper.figures if name not in study.levels)):
        scores = [table.levels.get(level) for table in study.scores]
        own = ["–" if score is None else number_text(score.mean, score.stderr) for score in scores]
        paper = [study.paper.figures.get(level, {}).get(column) for column in columns]
        yield f"| {' | '.join([_plain(level), *own, *('–' if value is None else f'{value:g}' for value in paper)])} |"


def command(study: StudyResult) -> str:
    """Return the command that repeats a study: one of this project by its name, others by a file of that name."""
    is_own = study.name in names()
    text = f"make ablate STUDY={shlex.quote(study.name if is_own else f'{study.name}.yaml')}"
    if not is_own or read_studies(study.name)[study.name].seeds == study.seeds:
        return text
    return f"{text} PARAMS=\"-p seeds='{' '.join(map(str, study.seeds))}'\""


def effect_text(verdict: Verdict) -> str:
    """Format an effect with its standard error; a dash if there is none."""
    return "–" if verdict.effect is None else f"{verdict.effect:+.3f}" + (f" ± {verdict.stderr:.3f}" if verdict.stderr else "")


def number_text(mean: float, stderr: float | None) -> str:
    """Format a mean with its standard error, if it is known."""
    return f"{mean:.3f}" + (f" ± {stderr:.3f}" if stderr is not None else "")


def p_text(p_value: float | None) -> str:
    """Format a p-value."""
    return "–" if p_value is None else "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def _outcome(verdict: Verdict) -> str:
    limit = verdict.detectable
    if verdict.outcome != "not shown" or limit is None:
        return verdict.outcome
    return f"not shown (smallest {'provable margin' if verdict.claim.kind == 'equal' else 'detectable effect'} {limit:.3g})"


def _plain(text: str) -> str:
    """Escape what would end a cell of a table or start HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
