"""The answers of an evaluation as a table: one row per prompt, with its input, its output and its values. Torch-free.

The gate and the comparison of models pair the rows of two tables by task, split, shots, control, draw and item.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.errors import DataError
from mm1.evals.items import IMAGE_MARK
from mm1.evals.segments import ImageDigests, segments
from mm1.generation.images import bytes_of

if TYPE_CHECKING:
    from mm1.evals.harness import Answer, Evaluation, TaskResult

SCHEMA = pa.schema(
    {
        "task": pa.string(),
        "split": pa.string(),
        "shots": pa.int32(),
        "control": pa.string(),
        "draw": pa.int32(),
        "item": pa.string(),
        "cluster": pa.string(),  # items of one image
        "question_type": pa.string(),
        "question": pa.string(),
        "prompt": pa.string(),  # everything that the model saw; images as <image>
        "images": pa.list_(pa.string()),  # sha256 of the encoded images of the prompt, in order
        "references": pa.list_(pa.string()),
        "choices": pa.list_(pa.string()),
        "logprobs": pa.list_(pa.float64()),  # of the choices, rounded
        "output": pa.string(),  # generated text
        "prediction": pa.string(),  # the answer in it, or the likeliest choice
        "values": pa.map_(pa.string(), pa.float64()),  # metric -> value
        "num_prompt_tokens": pa.int32(),
        "num_new_tokens": pa.int32(),
        "finish_reason": pa.string(),
    }
)
LOGPROB_DIGITS = 3
"""Decimals of log-probabilities: fewer than those in which another number of threads shows."""
PAIRED_BY = ("task", "split", "shots", "control", "draw", "item")


class Samples:
    """The table of the answers of an evaluation, and the images of its prompts.

    Args:
        evaluation: the evaluation.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        digests = ImageDigests()
        self.rows = [_row(result, answer, digests) for result in evaluation.results for answer in result.answers]
        self.images = digests.images
        """Image by its digest."""

    def write(self, path: Path) -> None:
        """Write the table to a Parquet file."""
        pq.write_table(pa.Table.from_pylist(self.rows, SCHEMA), path, compression="zstd")

    def image(self, digest: str) -> bytes | None:
        """Read an image by its digest; None if it is not one of the prompts'."""
        image = self.images.get(digest)
        return None if image is None else bytes_of(image)


def read_samples(path: Path) -> pa.Table:
    """Read a table of answers.

    Raises:
        DataError: it is damaged, or another kind of table.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a Parquet file of answers: {error}") from None
    if missing := [name for name in (*PAIRED_BY, "cluster", "values") if name not in table.column_names]:
        raise DataError(f"{path}: not a table of answers: no column {', '.join(missing)}")
    return table


def _row(result: TaskResult, answer: Answer, digests: ImageDigests) -> Mapping[str, Any]:
    trial, completion = answer.trial, answer.completion
    pieces = list(segments(trial.request))
    return {
        "task": result.task.name,
        "split": result.split,
        "shots": result.shots,
        "control": result.control,
        "draw": trial.draw,
        "item": trial.item.id,
        "cluster": trial.item.group or " ".join(map(digests, trial.item.images)) or trial.item.id,  # no path of this machine
        "question_type": trial.item.question_type,
        "question": trial.item.question,
        "prompt": "".join(piece if isinstance(piece, str) else IMAGE_MARK for piece in pieces),
        "images": [digests(piece) for piece in pieces if not isinstance(piece, str)],
        "references": list(trial.item.references),
        "choices": list(trial.item.choices),
        "logprobs": [round(each.logprob, LOGPROB_DIGITS) for each in answer.likelihoods],
        "output": completion.text if completion else "",
        "prediction": answer.prediction,
        "values": list(answer.values.items()),
        "num_prompt_tokens": completion.num_prompt_tokens if completion else None,
        "num_new_tokens": len(completion.tokens) if completion else None,
        "finish_reason": completion.finish_reason if completion else None,
    }
