"""Groups of tasks by name, whose mean is a score of its own, as in the paper's ablations (MM1 3.1) and text averages (MM1 3.3).

textcore      mean accuracy on TextCore, each task with the same weight (the paper gives no weights)
mm1-fewshot   mean over captioning (CIDEr-D) and questions (accuracy); VQAv2 and VizWiz on val, since the answers of
              the splits in the paper's tables are on servers
toy-fewshot   mean over tasks of the toy world at one number of demonstrations
toy-text      mean over the kinds of text of the toy world
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import fmean

from mm1.evals.tasks.names import parse_name
from mm1.manifests import Score

GROUPS: dict[str, tuple[str, ...]] = {
    "textcore": (
        "arc_easy",
        "arc_challenge",
        "piqa",
        "lambada",
        "winogrande",
        "hellaswag",
        "sciq",
        "triviaqa",
        "webqs",
    ),
    "mm1-fewshot": ("coco", "nocaps", "textcaps", "vqav2:val", "textvqa", "vizwiz:val", "gqa", "okvqa"),
    "toy-fewshot": ("captions", "vqa", "vague", "style"),
    "toy-text": (
        "text_facts",
        "text_sums",
        "text_copy",
        "text_binding",
        "text_scene",
        "text_last",
        "text_pronoun",
        "text_bigger",
        "text_ending",
        "text_steps",
    ),
}
"""Name -> tasks, with their splits if they are not the default ones."""
MEAN = "mean"
"""Metric of a group: the mean of the tasks' first metrics."""


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Replace each group by its tasks, with the group's shots if it has some (``textcore@5``); a task occurs once."""
    tasks: list[str] = []
    for name in names:
        parsed = parse_name(name)
        members = [str(parse_name(member)._replace(shots=parsed.shots)) for member in GROUPS.get(parsed.base, ())]
        tasks += members or [name]
    return tuple(dict.fromkeys(tasks))


def group_scores(scores: Sequence[Score], headlines: Mapping[str, str]) -> list[Score]:
    """Compute the mean of each group whose tasks all have a score at a number of shots.

    Args:
        scores: scores of tasks.
        headlines: task -> its first metric.

    Returns:
        Scores of the groups; their standard errors assume independent tasks.
    """
    first = {
        (score.task, score.split, score.shots): score
        for score in scores
        if score.control == "none" and score.metric == headlines.get(score.task)
    }
    defaults = {score.task: score.split for score in reversed(scores)}
    means = []
    for group, members in GROUPS.items():
        keys = [(name.base, name.split or defaults.get(name.base, "")) for name in map(parse_name, members)]
        for shots in sorted({score.shots for score in scores}):
            if all((*key, shots) in first for key in keys):
                means.append(_mean(group, [first[*key, shots] for key in keys]))
    return means


def _mean(group: str, scores: Sequence[Score]) -> Score:
    return Score(
        task=group,
        split=",".join(sorted({score.split for score in scores})),
        metric=MEAN,
        shots=scores[0].shots,
        value=fmean(score.value for score in scores),
        stderr=sqrt(sum(score.stderr**2 for score in scores)) / len(scores),
        num_items=sum(score.num_items for score in scores),
    )
