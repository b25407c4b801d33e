"""MME: two yes/no questions per image, in 10 perception and 4 cognition subtasks.

Format: the folder of the download, ``MME_Benchmark_release_version/<subtask>/``, with ``<image>.txt`` of lines
"question<TAB>Yes|No" beside the image, or in ``questions_answers_YN/`` with the images in ``images/``. A subtask's score is
100 (accuracy + accuracy of images with both answers right); the benchmark's scores are sums over subtasks (MM1 5 reports
both).
"""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import Path

from mm1.errors import DataError
from mm1.evals.files import Files, MissingFile
from mm1.evals.items import Item
from mm1.evals.listing import IMAGE_SUFFIXES
from mm1.evals.metrics import literal_accuracy, mme_cognition, mme_perception
from mm1.evals.metrics.yes_no import COGNITION, PERCEPTION, mme_answer
from mm1.evals.tasks.base import Task


def read(files: Files, split: str) -> list[Item]:
    """Read the questions of all subtasks that the folder has."""
    items = [item for subtask in (*PERCEPTION, *COGNITION) for item in _subtask(files, subtask)]
    if not items:
        raise MissingFile(
            f"task {files.task}: no subtask such as {PERCEPTION[0]}/ with <image>.txt in {files.folder}: expected the folder "
            f"MME_Benchmark_release_version of the download{files.packed()}"
        )
    return items


def _subtask(files: Files, subtask: str) -> Iterator[Item]:
    folders = sorted(path for path in files.folder.rglob(subtask) if path.is_dir())
    for text in sorted(text for folder in folders for text in folder.rglob("*.txt")):
        yield from _of_image(files, subtask, text, _image_of(text))


def _of_image(files: Files, subtask: str, text: Path, image: Path) -> list[Item]:
    def make(entry: tuple[int, str]) -> Item:
        number, line = entry
        question, answer = line.rstrip().rsplit("\t", 1)
        if answer.lower() not in ("yes", "no"):
            raise ValueError(f"expected Yes or No after a tab, got {answer!r}")
        return Item(
            id=f"{subtask}/{text.stem}/{number}",
            images=(image,),
            question=question,
            question_type=subtask,
            answer=answer.lower(),
            references=(answer.lower(),),
            group=f"{subtask}/{text.stem}",
        )

    lines = [(number, line) for number, line in enumerate(files.text(text).splitlines(), 1) if line.strip()]
    return files.items(text, ((number, (number, line)) for number, line in lines), make)


def _image_of(text: Path) -> Path:
    folder = text.parent.parent / "images" if text.parent.name == "questions_answers_YN" else text.parent
    images = [path for path in sorted(folder.glob(f"{escape(text.stem)}.*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DataError(f"{text} has no image {text.stem}.jpg or .png in {folder}")
    return images[0]


mme = Task(
    name="mme",
    summary="answer two yes/no questions per image about perception and cognition",
    files=("MME_Benchmark_release_version/<subtask>/*.txt and images",),
    form="question",
    read=read,
    splits=("test",),
    extract=lambda prediction, item: mme_answer(prediction) or "",
    metrics={"accuracy": literal_accuracy},
    corpus_metrics={"mme_perception": mme_perception, "mme_cognition": mme_cognition},
    max_new_tokens=16,
)
