"""The published caption metrics: pycocoevalcap, whose tokenizer needs Java.

    pip download pycocoevalcap==1.2 --no-deps --dest FOLDER && unzip FOLDER/pycocoevalcap-*.whl -d FOLDER
    python -m tests.support.caption_reference FOLDER

writes `tests/golden/metrics/captions.json.xz`: made captions, their tokens, and the metrics of one half against the other.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.caption_templates import make_captions

GOLDEN = Path(__file__).parents[1] / "golden/metrics/captions.json.xz"
NUM_CAPTIONS = 10_000
REFERENCES = 4
"""References of each image; a fifth caption is the prediction."""


@dataclass(frozen=True)
class Published:
    """Tokens and metrics of the published toolkit."""

    tokens: list[str]
    """One string per caption."""
    cider: list[float]
    bleu: list[float]
    rouge: list[float]


def why_not_here() -> str | None:
    """Say what the toolkit lacks on this machine."""
    if shutil.which("java") is None:
        return "no java"
    return None if importlib.util.find_spec("pycocoevalcap") else "no package pycocoevalcap"


def split(captions: list[str]) -> tuple[list[str], list[list[str]]]:
    """Deal captions to images: predictions, references of each image."""
    rows = [captions[start : start + REFERENCES + 1] for start in range(0, len(captions), REFERENCES + 1)]
    # A prediction shares words with its references, so that the metrics have something to measure.
    predictions = [" ".join([*row[1].split()[:4], *row[0].split()[2:]]) for row in rows]
    return predictions, [row[1:] for row in rows]


def tokenize(captions: list[str]) -> list[str]:
    """Run the published tokenizer."""
    tokenizer = importlib.import_module("pycocoevalcap.tokenizer.ptbtokenizer")
    jar = Path(tokenizer.__file__).parent / tokenizer.STANFORD_CORENLP_3_4_1_JAR
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write("\n".join(captions))
        file.flush()
        command = ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", str(jar)]
        command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", file.name]
        lines = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout.decode().split("\n")
    return [
        " ".join(word for word in line.rstrip().split(" ") if word not in tokenizer.PUNCTUATIONS)
        for line in lines[: len(captions)]
    ]


def publish(captions: list[str]) -> Published:
    """Compute the published tokens and metrics."""
    predictions, references = split(captions)
    flat = tokenize([caption for texts in references for caption in texts])
    gold = {index: flat[index * REFERENCES : (index + 1) * REFERENCES] for index in range(len(references))}
    given = {index: [text] for index, text in enumerate(tokenize(predictions))}

    def score(module: str, name: str, **options: Any) -> Any:
        return getattr(importlib.import_module(f"pycocoevalcap.{module}"), name)().compute_score(gold, given, **options)

    cider, bleu, rouge = (
        score("cider.cider", "Cider")[1],
        score("bleu.bleu", "Bleu", verbose=0)[0],
        score("rouge.rouge", "Rouge")[1],
    )
    return Published(tokens=tokenize(captions), cider=cider.tolist(), bleu=list(map(float, bleu)), rouge=rouge.tolist())


def read_golden() -> tuple[list[str], Published]:
    """Read the committed captions and what the toolkit made of them."""
    content = json.loads(lzma.decompress(GOLDEN.read_bytes()))
    return content.pop("captions"), Published(**content)


def main(folder: str) -> None:
    """Write the golden file."""
    sys.path.append(folder)
    captions = list(make_captions(NUM_CAPTIONS))
    published = publish(captions)
    rounded = {name: [round(value, 6) for value in getattr(published, name)] for name in ("cider", "bleu", "rouge")}
    content = {"captions": captions, "tokens": published.tokens} | rounded
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_bytes(lzma.compress(json.dumps(content, ensure_ascii=False).encode(), preset=9))
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
