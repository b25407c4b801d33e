"""Step deploy: turn a checkpoint into a model that can be served.

decision != pass -> Deployment(deployed=false, reason)
otherwise        -> export -> contract test -> signature -> the real server answers a chat question about an image -> Deployment
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.checks import Producer
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.judged import check_judged
from mm1_components.wrapper.sources import Benchmarks, Kind, LocalFiles, kind_of, raw_files

if TYPE_CHECKING:
    from mm1.evals.items import Item
    from mm1.manifests import Checkpoint
    from mm1.store.base import Store


class Inputs(BaseModel):
    """Inputs of deploy."""

    checkpoint: ManifestUri = Field(description="Checkpoint to deploy")
    decision: str = Field(
        "pass", description="decision of the gate; with any value but pass, the step succeeds and deploys nothing"
    )
    question: str = Field("", description="chat question for the served model; empty: the first question of the task")
    benchmarks: Benchmarks = Field("world:0", description="benchmark folder with the image of the question")
    split: str = Field("test", description="subfolder of benchmarks")
    question_task: str = Field("instruct", description="task whose first item provides image and question")
    image: LocalFiles = Field("", description="image file of the question, instead of one from benchmarks")
    max_tokens: int = Field(64, ge=1, description="maximum number of tokens in the answer")
    sign_key: LocalFiles = Field(
        "",
        description="private key (PEM, elliptic curve) that signs the exported folder, such as a mounted Secret; empty: none",
    )


def check_question(image: str, question: str, question_task: str, benchmarks: str) -> None:
    """Check that an image has a question, and that the toy world has the task if no image is given."""
    from mm1.evals.tasks.registry import known_task

    if image and not question:
        raise ConfigurationError("question: required with an image; set question to what to ask about it")
    if not image and kind_of(benchmarks) is Kind.WORLD:
        known_task(question_task)


def check_decision(checkpoint: str, decision: Producer) -> None:
    """Check that the decision is about the given checkpoint."""
    check_judged(checkpoint, decision)


def check_decision_on_task(checkpoint: Producer, decision: Producer) -> None:
    """Check that the decision is about the checkpoint that another task produces."""
    check_judged(checkpoint, decision)


def check_sign_key(sign_key: Path) -> None:
    """Check that the key can sign."""
    from mm1.lineage.signing import check_private_key

    check_private_key(sign_key)


def evaluations(inputs: Inputs, store: Store) -> str:
    """Return the digests of the checkpoint's evaluations in the store, which the model card shows."""
    from mm1.lineage.reports import reports_of
    from mm1.manifests import digest_of_manifest, split_uri

    return " ".join(digest_of_manifest(report) for report in reports_of(store, split_uri(inputs.checkpoint)[1]))


class Outputs(BaseModel):
    """Outputs of deploy."""

    manifest: ManifestUri = Field(description="Deployment")
    deployed: bool = Field(description="whether the model was deployed")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Export the checkpoint, test the export and serve it once.

    Raises:
        ConfigurationError: no item of the task has an image, or a file is missing.
        CheckpointError: the checkpoint is damaged, or its export differs from it.
    """
    from mm1.manifests import Checkpoint, Deployment, split_uri

    checkpoint = context.load(inputs.checkpoint, Checkpoint)
    digest = split_uri(inputs.checkpoint)[1]
    if inputs.decision != "pass":
        reason = f"the gate's decision is {inputs.decision}"
        context.artifact("summary.md").write_text(f"# Not deployed\n\n{reason}\n")
        deployment = Deployment(parents=(digest,), deployed=False, reason=reason)
        return Outputs(manifest=context.publish(deployment), deployed=False)
    return _deploy(inputs, context, checkpoint)


def _deploy(inputs: Inputs, context: Context, checkpoint: Checkpoint) -> Outputs:
    item = _item(inputs, context.work)  # before torch is imported, so that errors in the files show within a second

    from mm1.data.images import extension_of
    from mm1.generation.images import bytes_of
    from mm1.lineage.reports import reports_of
    from mm1.manifests import Deployment, split_uri
    from mm1.serve.export import export_checkpoint
    from mm1.store.open import open_store

    source, digest = split_uri(inputs.checkpoint)
    key = raw_files(inputs.sign_key, "sign_key", context.work) if inputs.sign_key else None
    exported, folder = export_checkpoint(
        open_store(source),
        checkpoint,
        context.store,
        context.work,
        reports=reports_of(context.store, digest),
        sign_key=key,
    )
    address = context.publish(exported)
    question = inputs.question or item.question
    data = bytes_of(item.images[0])
    answer = _ask(folder, question, data, inputs.max_tokens, key)
    image = context.store.put_bytes(data)
    sample: dict[str, Any] = {
        "question": question,
        "answer": answer,
        "image": image.sha256,
        "max_tokens": inputs.max_tokens,
    }
    if not inputs.question and item.answer:
        sample["expected"] = item.answer
    deployment = Deployment(
        parents=(digest, split_uri(address)[1]),
        deployed=True,
        reason="passed the gate and the contract test, and answered",
        exported=split_uri(address)[1],
        sample=sample,
        images={f"{image.sha256}.{extension_of(data)}": image},
    )
    lines = [f"- {name}: {value:g}" for name, value in exported.contract.items()]
    lines += ["", "Signed." if exported.signature else "Not signed."]
    context.artifact("summary.md").write_text(
        "\n".join(["# Deployed", "", f"Asked: {question}", f"Answered: {answer}", "", "Contract test:", *lines, ""])
    )
    return Outputs(manifest=context.publish(deployment), deployed=True)


def _item(inputs: Inputs, work: Path) -> Item:
    """Return the question and its image: a benchmark item, or the given image."""
    from mm1.evals.benchmark_folder import BenchmarkFolder
    from mm1.evals.items import Item
    from mm1.evals.tasks.registry import find_task

    if inputs.image:
        image = raw_files(inputs.image, "image", work)
        return Item(id="given", images=(image,), question=inputs.question)
    folder = BenchmarkFolder(raw_files(inputs.benchmarks, "benchmarks", work), inputs.split)
    task = find_task(inputs.question_task, folder)
    for item in task.items(folder, task.split(folder, None)):
        if item.images:
            return item
    raise ConfigurationError(f"question_task: no item of {inputs.question_task} has an image in {folder.root}")


def _ask(folder: Path, question: str, image: bytes, max_tokens: int, key: Path | None) -> str:
    """Start the real server on the exported folder and return its answer to one chat request over HTTP."""
    import httpx

    from mm1.data.images import data_url
    from mm1.errors import NetworkError

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request

    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_url(image)}},
        {"type": "text", "text": question},
    ]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens}
    with _server(folder, key) as address:
        try:
            reply = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=600, trust_env=False)
        except httpx.HTTPError as error:
            raise NetworkError(f"the server did not answer: {type(error).__name__}: {error}") from None
    if reply.status_code != 200:
        raise NetworkError(f"the server rejected the test question ({reply.status_code}): {json.dumps(reply.json())[:500]}")
    return str(reply.json()["choices"][0]["message"]["content"])


@contextmanager
def _server(folder: Path, key: Path | None) -> Iterator[str]:
    from mm1.generation.engine import Engine
    from mm1.lineage.signing import Signatures, write_public_key
    from mm1.serve.app import create_app
    from mm1.serve.config import ServeSettings
    from mm1.serve.load import load
    from mm1.serve.server import running

    # A signed model is served as in production, where its signature is verified first.
    signatures = Signatures(write_public_key(key, folder.parent / "signer.pub")) if key else Signatures()
    engine = Engine(load(str(folder), signatures=signatures).generator)
    try:
        with running(create_app(engine, ServeSettings())) as address:
            yield address
    finally:
        engine.close()


STEP = Step(
    name="deploy",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="Deployment",
    summary="Export a checkpoint, verify that the export is the same model, and let the server answer one question",
    pool="eval",
    artifacts=("summary.md",),
    checks=(check_question, check_sign_key, check_decision, check_decision_on_task),
    state=evaluations,
    timeout_s=3_600,
)

if __name__ == "__main__":
    main(STEP)
