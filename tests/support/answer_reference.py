"""The published answer metrics: the benchmarks' own scripts, and lmms-eval.

    python -m tests.support.answer_reference FOLDER

writes `tests/golden/metrics/answers.json.xz`: made answers with their published values. FOLDER holds

    vqaEval.py                     GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation, commit a013f00
    mmmu_eval_utils.py             MMMU-Benchmark/MMMU, mmmu/utils/eval_utils.py
    mathvista_calculate_score.py   lupantech/MathVista, evaluation/calculate_score.py
    lmms_eval/                     the wheel of lmms-eval 0.7.3, unpacked
"""

from __future__ import annotations

import ast
import json
import logging
import lzma
import random
import re
import statistics
import string
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden/metrics/answers.json.xz"
NUM_CASES = 400
"""Cases of each metric."""
_TEXTS = (
    "yes|no|Yes.|NO|red|the red ring|a dog|two dogs|2|2.0|3.5|1,000|1000|10%|0.1|5%|-4|none|ten|dont know|can't|"
    "couldntve|they'dve|somebody'd|yall'll|im|'ow's'at|black/white|black-white|t-shirt|yes, it is|it's|man's hat|"
    "a.m.|U.S.A.|$5|3:30|?|unknown|not sure|The answer is 7.|The answer is (B).|B|b|(B)|B.|B) ring|Answer: C|A|"
    "A dog|I think A or B|so it is 12|x = 4|1e3|.5|2007 and 2008|[1, 2]|ring|circle|blue ring|the big red circle|"
    "It could be the blue ring because it is round|the|an|new york|New York City|12.345|0|0.0|-0.5%|N/A|"
    "it is a circle. It is red|therefore the result is 3.14159|C: circle|no dog, not a cat|not at all|other"
)
TEXTS = (
    *_TEXTS.split("|"),
    "",
    " red ",
    "red\nring",
    "red\tring",
    "a\n\nB",
    "....",
    "5 %",
    "“red”",
    "café",
    "RED RING",
    "red  ring",
)
OPTIONS = ("red ring", "blue ring", "circle", "the big red circle", "7", "12", "2 dogs", "none")


def read_golden() -> dict[str, list[list[Any]]]:
    """Read the committed cases by metric; each ends with its value."""
    return json.loads(lzma.decompress(GOLDEN.read_bytes()))


def functions_of(path: Path, *names: str, **known: Any) -> dict[str, Any]:
    """Define some functions and classes of a file, without what else it does."""
    # The VQA challenge's script is for Python 2.
    source = re.sub(r'^(\s*)print "(.*)"$', r'\1print("\2")', path.read_text(), flags=re.MULTILINE)
    chosen = [node for node in ast.parse(source).body if getattr(node, "name", None) in names]
    for node in chosen:
        node.decorator_list = []
    scope: dict[str, Any] = {
        "re": re,
        "random": random,
        "statistics": statistics,
        "string": string,
        "logging": logging,
        **known,
    }
    exec(compile(ast.Module(chosen, []), str(path), "exec"), scope)
    return scope


def make_cases(folder: Path) -> dict[str, list[list[Any]]]:
    """Make answers and compute their published values."""
    rng = random.Random(0)
    texts = lambda number: [rng.choice(TEXTS) for _ in range(number)]  # noqa: E731
    cases: dict[str, list[list[Any]]] = defaultdict(list)
    lmms = folder / "lmms_eval"
    process = functions_of(lmms / "tasks/_task_utils/vqa_eval_metric.py", "EvalAIAnswerProcessor")["EvalAIAnswerProcessor"]()
    textvqa = functions_of(lmms / "tasks/textvqa/utils.py", "textvqa_process_results", EvalAIAnswerProcessor=lambda: process)
    metrics = functions_of(lmms / "api/metrics.py", "anls", "levenshtein_distance")
    chart = functions_of(lmms / "tasks/chartqa/utils.py", "relaxed_correctness")
    mme = functions_of(
        lmms / "tasks/mme/utils.py", "parse_pred_ans", "mme_aggregate_results", defaultdict=defaultdict, eval_logger=logging
    )
    science = functions_of(lmms / "tasks/scienceqa/utils.py", "sqa_process_results", "sqa_doc_to_target")
    bench = functions_of(lmms / "tasks/mmbench/mmbench_evals.py", "MMBench_Evaluator", eval_logger=logging)["MMBench_Evaluator"]
    for _ in range(NUM_CASES):
        prediction = rng.choice(TEXTS)
        answers = (
            [rng.choice(texts(3)) for _ in range(10)]
            if rng.random() < 0.7
            else [rng.choice([prediction, rng.choice(TEXTS)])] * 10
        )
        cases["vqa"].append([prediction, answers, _vqa(folder, prediction, answers)])
        row = {"answers": list(answers), "question_id": 1}
        cases["evalai"].append([prediction, answers, textvqa["textvqa_process_results"](row, [prediction])["exact_match"]])
        close = prediction[:-1] + rng.choice("abc 1")
        few = [*texts(rng.randint(0, 2)), rng.choice([close, prediction, rng.choice(TEXTS)])]
        cases["anls"].append([prediction, few, metrics["anls"](few, [prediction])["anls"]])
        cases["relaxed"].append([prediction, few[-1], float(chart["relaxed_correctness"](prediction, few[-1]))])
        options = rng.sample(OPTIONS, 4)
        longer = rng.choice([prediction, f"I see that {prediction} and {rng.choice(options)} {rng.choice(TEXTS)}"])
        guess = {"image": None, "choices": options, "answer": rng.randint(0, 3)}
        cases["scienceqa"].append(
            [longer, "ABCD"[guess["answer"]], science["sqa_process_results"](guess, [longer])["exact_match"]]
        )
        choices = dict(zip("ABCD", options, strict=True))
        cases["mmbench"].append([longer, options, _mmbench(bench, longer, choices)])
        _add_mmmu(folder, cases, longer, options, few)
        _add_mathvista(folder, cases, prediction, options)
    cases["mme"] = _mme(mme, rng)
    return dict(cases)


def _vqa(folder: Path, prediction: str, answers: list[str]) -> float:
    class Answers:
        def __init__(self, content: dict[str, Any]) -> None:
            self.qa = {1: content}

        def getQuesIds(self) -> list[int]:  # noqa: N802
            return [1]

    rows = [{"answer": answer, "answer_id": number} for number, answer in enumerate(answers)]
    truth = {"answers": rows, "question_type": "q", "answer_type": "a"}
    evaluator = functions_of(folder / "vqaEval.py", "VQAEval", sys=sys)["VQAEval"]
    evaluation = evaluator(Answers(truth), Answers({"answer": prediction}), n=12)
    evaluation.updateProgress = lambda share: None
    evaluation.evaluate()
    return evaluation.accuracy["overall"] / 100


def _mmbench(evaluator: Any, prediction: str, choices: dict[str, str]) -> str:
    instance = evaluator.__new__(evaluator)
    return instance.can_infer_option(prediction, 4) or instance.can_infer_text(prediction, dict(choices)) or ""


def _add_mmmu(folder: Path, cases: dict[str, list[list[Any]]], text: str, options: list[str], answers: list[str]) -> None:
    import numpy

    names = (
        "parse_multi_choice_response",
        "parse_open_response",
        "eval_open",
        "normalize_str",
        "check_is_number",
        "extract_numbers",
    )

    class NoGuess:
        @staticmethod
        def choice(letters: list[str]) -> str:
            return ""

    official = functions_of(folder / "mmmu_eval_utils.py", *names, np=numpy, random=NoGuess)
    named = dict(zip("ABCD", options, strict=True))
    cases["mmmu_choice"].append([text, options, official["parse_multi_choice_response"](text, list("ABCD"), named)])
    cases["mmmu_open"].append([text, answers, float(official["eval_open"](answers, official["parse_open_response"](text)))])


def _add_mathvista(folder: Path, cases: dict[str, list[list[Any]]], text: str, options: list[str]) -> None:
    distance = functions_of(folder / "lmms_eval/api/metrics.py", "levenshtein_distance")["levenshtein_distance"]
    official = functions_of(
        folder / "mathvista_calculate_score.py", "normalize_extracted_answer", "get_most_similar", distance=distance
    )["normalize_extracted_answer"]
    cases["mathvista"].append([text, options, "text", 1, official(text, options, "multi_choice", "text", 1)])
    for kind, precision in (("integer", 1), ("float", 1), ("float", 2), ("list", 1)):
        cases["mathvista"].append([text, [], kind, precision, official(text, [], "free_form", kind, precision)])


def _mme(functions: dict[str, Any], rng: random.Random) -> list[list[Any]]:
    cases = []
    for _ in range(10):
        subtasks = rng.sample(["existence", "count", "OCR", "code_reasoning"], 3)
        rows = [[rng.choice(["Yes", "no", "No.", "yes, it", "maybe", "I say no"]), label, f"image {number}", subtask]
                for subtask in subtasks for number in range(5) for label in ("Yes", "No")]  # fmt: skip
        results = [
            {"question_id": image, "category": subtask, "score": float(functions["parse_pred_ans"](said) == label.lower())}
            for said, label, image, subtask in rows
        ]
        cases.append([rows, functions["mme_aggregate_results"](results)])
    return cases


def main(folder: str) -> None:
    """Write the golden file."""
    GOLDEN.write_bytes(lzma.compress(json.dumps(make_cases(Path(folder)), ensure_ascii=False).encode(), preset=9))
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
