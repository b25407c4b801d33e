"""The model from Python, without any workflow: load, generate, score.

mm1 export toy --to models/toy
python examples/python_api.py models/toy picture.jpg "a red circle" "a blue square"
"""

import sys
from pathlib import Path

from mm1.generation.prompt import Request
from mm1.serve.load import load


def describe(folder: str, picture: Path, choices: list[str]) -> list[str]:
    """Caption a picture, and say how likely each of some captions is.

    Args:
        folder: an exported model; the address of a Checkpoint does as well.
        picture: an image file.
        choices: captions to compare.
    """
    generator = load(folder).generator
    request = Request((picture, "a photo of"))  # text and images in any order
    lines = [generator.generate([request], max_new_tokens=20)[0].text]
    if choices:
        scores = generator.score([request], [[f" {choice}" for choice in choices]])[0]
        lines += [f"{score.logprob:8.2f}  {choice}" for score, choice in zip(scores, choices, strict=True)]  # log-likelihoods
    return lines


if __name__ == "__main__":
    print(*describe(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]), sep="\n")
