"""A step that does what a test asks of it, run through the real step wrapper: ``python -m tests.support.toy_steps``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel, Field

from mm1.errors import BY_OUTCOME, Outcome
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from tests.support.waiting import wait_until


class Inputs(BaseModel):
    """What to do."""

    say: str = Field("", description="text that comes out again")
    then: str = Field("", description="more text, appended")
    seconds: float = Field(0.0, description="how long it takes, s", ge=0)
    fail: int = Field(0, description="exit code of the outcome class to fail with; 0 = none")
    fail_times: int = Field(0, description="so many attempts fail, the next one does not; 0 = all fail")
    folder: str = Field("", description="where to leave a line per execution: start and end")
    count: int = Field(3, description="steps of progress")
    company: int = Field(1, description="go on when so many tasks have started")
    outlives: str = Field("", description="go on when the process of this task has come and gone")


class Outputs(BaseModel):
    """What came of it."""

    text: str = Field(description="say + then")
    items: str = Field(description="the words of the text as a JSON list")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Do it."""
    note = Path(inputs.folder or context.work) / "events.txt"
    _append(note, f"start {context.task} {time.time()} {os.getpid()}")
    wait_until(lambda: len(_starts(note)) >= inputs.company, f"{inputs.company} tasks")
    wait_until(lambda: not inputs.outlives or _is_gone(_starts(note).get(inputs.outlives)), f"the end of {inputs.outlives}")
    for done in range(inputs.count):
        context.progress(done, inputs.count)
        time.sleep(inputs.seconds / inputs.count)
    failures = note.read_text().count(f"start {context.task} ")
    if inputs.fail and (not inputs.fail_times or failures <= inputs.fail_times):
        raise BY_OUTCOME[Outcome(inputs.fail)](f"told to fail at attempt {failures}")
    context.artifact("summary.md").write_text(f"# {inputs.say}\n")
    _append(note, f"end {context.task} {time.time()}")
    text = inputs.say + inputs.then
    return Outputs(text=text, items="[" + ", ".join(f'"{word}"' for word in text.split()) + "]")


def _starts(note: Path) -> dict[str, int]:
    """Task -> its process, of the last attempt."""
    lines = [line.split() for line in note.read_text().splitlines()]
    return {words[1]: int(words[3]) for words in lines if words[0] == "start"}


def _is_gone(pid: int | None) -> bool:
    return pid is not None and not Path(f"/proc/{pid}").exists()  # a process stays there until its parent has noticed


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")


STEP = Step(
    name="toy", inputs=Inputs, outputs=Outputs, run=run, summary="A toy.", artifacts=("summary.md",), timeout_s=60, grace_s=60
)

if __name__ == "__main__":
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "a step must be able to be stopped"
    main(STEP)
