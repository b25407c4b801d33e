"""An evaluation task of your own: pictures in one folder per answer become files in VQAv2's format.

    python examples/own_task.py PICTURES benchmarks      # PICTURES/cat/1.jpg, PICTURES/dog/2.jpg, ...
    mm1 run mm1:evaluate_model -p checkpoint=ADDRESS -p benchmarks=benchmarks -p tasks=animals -p shots="0 4" \
        -p rules="animals/4/accuracy>=0.5"

The name of the files is the name of the task. Every other picture is a demonstration.
"""

import json
import shutil
import sys
from pathlib import Path

TASK, QUESTION = "animals", "what is it ?"


def write_task(pictures: Path, benchmarks: Path) -> None:
    """Copy the pictures and write questions and annotations of the task and of its demonstrations."""
    images = benchmarks / "test/images"
    images.mkdir(parents=True, exist_ok=True)
    files = {number: file for number, file in enumerate(sorted(pictures.glob("*/*.*")), start=1)}
    for number, file in files.items():
        shutil.copy(file, images / f"{number}{file.suffix}")
    for name, numbers in ((TASK, [*files][::2]), (f"{TASK}_demo", [*files][1::2])):
        questions = [{"question_id": number, "image_id": number, "question": QUESTION} for number in numbers]
        annotations = [{"question_id": number, "answers": [{"answer": files[number].parent.name}]} for number in numbers]
        (images.parent / f"{name}_questions.json").write_text(json.dumps({"questions": questions}))
        (images.parent / f"{name}_annotations.json").write_text(json.dumps({"annotations": annotations}))


if __name__ == "__main__":
    write_task(Path(sys.argv[1]), Path(sys.argv[2]))
