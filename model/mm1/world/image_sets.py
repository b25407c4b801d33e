"""Benchmark files of questions about several images, in the format of MuirBench as Hugging Face distributes it.

One Parquet file per task and another one with its demonstrations, ``<task>_demo.parquet``. A row has ``idx``, ``task`` (the
kind of question), ``question`` with a mark per image, ``options``, ``answer`` (the letter of an option) and ``image_list``
(encoded images); the column ``steps``, which lead to the answer, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.world.render import encoded_images
from mm1.world.scene import SceneSampler
from mm1.world.steps import COMPARE_KINDS, STEP_KINDS, TwoStep, illustrate, two_step

SET_TASKS = {"compare": COMPARE_KINDS, "count_across": ("sum",), "steps": STEP_KINDS}
"""Task -> kinds of its questions, equally often."""
ROWS_PER_GROUP = 16
"""Number of rows that a reader must decode to see one image."""

_IMAGE_MARK = "<image>"
_SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("idx", "task", "question")],
        ("options", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("image_list", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("steps", pa.string()),
    ]
)


def _row(number: int, kind: str, drawn: TwoStep, pictures: Iterator[bytes]) -> dict[str, object]:
    images = [{"bytes": next(pictures), "path": f"{number:06d}-{index}.jpg"} for index in range(len(drawn.values))]
    return {
        "idx": str(number),
        "task": kind,
        "question": _IMAGE_MARK * len(images) + drawn.question,
        "options": list(drawn.options),
        "answer": ascii_uppercase[drawn.options.index(drawn.answer)],
        "image_list": images,
        "steps": drawn.steps,
    }


def _write(path: Path, kinds: Sequence[str], sampler: SceneSampler, count: int, side: int, noise: np.random.Generator) -> None:
    asked = [(kind, two_step(kind, sampler.rng)) for kind in islice(cycle(kinds), count)]
    scenes = [scene for kind, drawn in asked for scene in illustrate(kind, drawn, sampler)]
    pictures = encoded_images(scenes, side, noise)
    rows = [_row(number, kind, drawn, pictures) for number, (kind, drawn) in enumerate(asked, start=1)]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path, row_group_size=ROWS_PER_GROUP)


def write(
    folder: Path, items: SceneSampler, demos: SceneSampler, count: int, side: int, noise: np.random.Generator
) -> dict[str, int]:
    """Write the files of all :data:`SET_TASKS`.

    Args:
        folder: folder of the split.
        items: sampler of the questions to evaluate.
        demos: sampler of the demonstrations.
        count: number of questions, and of demonstrations, per task.
        side: height and width of an image, in pixels.
        noise: stream of pixel noise.

    Returns:
        Number of questions per task.
    """
    for task, kinds in SET_TASKS.items():
        _write(folder / f"{task}.parquet", kinds, items, count, side, noise)
        _write(folder / f"{task}_demo.parquet", kinds, demos, count, side, noise)
    return dict.fromkeys(SET_TASKS, count)
