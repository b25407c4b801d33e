"""Write the cards of the laptop recipes anew: ``python cards/make.py FOLDER [STEPS]``.

The folder keeps the store, logs and cards; run it again after an error. Each training is a short one, and its card says so.
The last part, `mm1 verify --write`, adds the resume proofs. On two cores it takes half an hour with 90 steps.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CARDS = Path(__file__).parent
RAW = ("captions", "interleaved", "text", "instructions")


def main() -> None:
    """Make the data, train, verify, and copy the cards."""
    folder, steps = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "90"
    folder.mkdir(parents=True, exist_ok=True)

    def step(name: str, task: str, *options: str) -> str:
        sys.stdout.write(f"{task}\n")
        output, store = folder / task, folder / "store"
        command = [sys.executable, "-m", f"mm1_components.{name}", "--store", str(store), "--run", "cards", "--task", task]
        with (folder / f"{task}.log").open("w") as log:
            subprocess.run([*command, "--out.manifest", str(output), *options], stderr=log, check=True)
        return output.read_text()

    def train(name: str, task: str, recipe: str, *options: str) -> str:
        card = ("--artifact.card.yaml", str(folder / f"{recipe}.yaml"))
        return step(name, task, "--recipe", recipe, "--overrides", f"train.steps={steps}", "--processes", "1", *card, *options)

    raw = step("ingest", "ingest", *(word for name in RAW for word in (f"--{name}", "world:0")))
    text, mix, chat = (
        step("data_mix", task, "--data", raw, "--weights", weights, "--holdout", "0.01")
        for task, weights in (("text-mix", "text"), ("mix", "mm1"), ("instruction-mix", "instructions=1"))
    )
    base = train("pretrain", "text-base", "mm1_tiny_lm", "--data", text)
    model = train("pretrain", "pretrain", "mm1_tiny", "--data", mix, "--init", base)
    train("pretrain", "pretrain-moe", "mm1_tiny_moe", "--data", mix, "--init", base)
    train("sft", "sft", "mm1_tiny_sft", "--data", chat, "--init", model)
    for recipe in ("mm1_tiny_lm", "mm1_tiny", "mm1_tiny_moe", "mm1_tiny_sft"):
        card = folder / f"{recipe}.yaml"
        command = ["-m", "mm1_workflows.cli", "verify", str(card), "--store", str(folder / "store"), "--write"]
        subprocess.run([sys.executable, *command], check=True)
        shutil.copy(card, CARDS)


if __name__ == "__main__":
    main()
