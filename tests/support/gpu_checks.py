"""What the GPU tier checks, as functions of a device, so that the same lines also run on the CPU at small size.

Names of dimensions: B sequences, S tokens of a sequence, H query heads, G key-value heads, E width of a head, L tokens of a
document, T tokens, D width.
"""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import httpx
import torch
from torch import nn
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

from mm1.evals.config import EvalConfig
from mm1.evals.harness import evaluate
from mm1.evals.models.own import OwnModel
from mm1.generation.device import move_to
from mm1.generation.encode import read_image
from mm1.generation.engine import Engine
from mm1.generation.generator import Generator
from mm1.generation.prompt import Request
from mm1.modeling.attention import PackedLayout, packed_attention_forward
from mm1.modeling.experts import SORTED_EXPERTS
from mm1.serve.app import create_app
from mm1.serve.config import ServeSettings
from mm1.serve.server import running
from mm1.train.config import RunConfig
from mm1.train.step import StepResult
from tests.support.synthetic import release, synthetic_batch, training_step
from tests.support.tiny_mm1 import picture, tiny_mm1, write_benchmarks
from tests.support.tiny_model import packed_batch, tiny_model

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Length of the difference over the length of what is wanted."""
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-30))


# -- attention, experts, precision ---------------------------------------------------------------------------------------


def check_attention(
    device: str,
    dtype: torch.dtype,
    rows: list[list[int]],
    heads: tuple[int, int] = (4, 2),
    head_size: int = 16,
    window: int | None = None,
) -> None:
    """Packed attention is the attention of each document alone: outputs and gradients."""
    query_heads, kv_heads = heads
    layout = PackedLayout(packed_batch(rows, images=False)["document_ids"].to(device))
    generator = torch.Generator().manual_seed(0)
    exact = [
        torch.randn(*layout.shape, count, head_size, generator=generator).to(device, dtype).transpose(1, 2).detach()
        for count in (query_heads, kv_heads, kv_heads)
    ]
    weights = torch.randn(*layout.shape, query_heads, head_size, generator=generator).to(device, dtype)
    states = [tensor.clone().requires_grad_() for tensor in exact]
    layer = nn.Module()
    layer.is_causal, layer.num_key_value_groups = True, query_heads // kv_heads
    output, _ = packed_attention_forward(layer, *states, layout.placeholder, packed=layout, sliding_window=window)
    output.backward(weights)
    reference = [tensor.double().requires_grad_() for tensor in exact]
    wanted = _attention_of_each_document(*reference, layout.lengths, window).unflatten(0, layout.shape)
    wanted.backward(weights.double())
    pairs = [(output, wanted), *((one.grad, other.grad) for one, other in zip(states, reference, strict=True))]
    for found, right in pairs:
        assert found.dtype == dtype and distance(found, right) < TOLERANCE[dtype]


def _attention_of_each_document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int], window: int | None
) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    rows = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]
    outputs = []
    for pieces in zip(*(states.split(lengths) for states in rows), strict=True):
        query_HLE, key_HLE, value_HLE = (piece.transpose(0, 1) for piece in pieces)
        scores_HLL = query_HLE @ key_HLE.transpose(1, 2) / query.shape[-1] ** 0.5
        seen_LL = torch.ones(scores_HLL.shape[1:], dtype=torch.bool, device=query.device).tril()
        if window is not None:
            seen_LL = seen_LL.triu(1 - window)
        outputs.append((scores_HLL.masked_fill(~seen_LL, -torch.inf).softmax(-1) @ value_HLE).transpose(0, 1))
    return torch.cat(outputs)


def check_experts(device: str, dtype: torch.dtype, tokens: int, width: int, num_experts: int) -> None:
    """Sorted experts are transformers' plain loop over experts, also when one of them gets no token."""
    results = []
    for implementation in ("eager", SORTED_EXPERTS):
        config = Qwen3MoeConfig(hidden_size=width, moe_intermediate_size=width, num_experts=num_experts, num_experts_per_tok=2)
        config._experts_implementation = implementation
        generator = torch.Generator().manual_seed(0)
        experts = Qwen3MoeExperts(config)
        for weight in experts.parameters():
            weight.data = torch.randn(weight.shape, generator=generator) * width**-0.5
        experts.to(device, dtype)
        scores = torch.randn(tokens, num_experts, generator=generator)
        scores[:, 1] = -torch.inf
        shares, chosen = (part.to(device) for part in scores.softmax(-1).topk(2))
        hidden_TD = torch.randn(tokens, width, generator=generator).to(device, dtype).requires_grad_()
        output_TD = experts(hidden_TD, chosen, shares.to(dtype))
        output_TD.backward(torch.randn(tokens, width, generator=generator).to(device, dtype))
        results.append([output_TD, hidden_TD.grad, *(weight.grad for weight in experts.parameters())])
    for found, wanted in zip(results[1], results[0], strict=True):
        assert distance(found, wanted) < TOLERANCE[dtype]


def check_bfloat16(device: str, rows: list[list[int]], moe: bool, **sizes: int) -> None:
    """Loss and gradient of a whole model in bfloat16 are near those in float32."""
    exact = tiny_model("c_abstractor", moe=moe, text={"initializer_range": 0.05, **sizes}).train().to(device)
    rounded = move_to(copy.deepcopy(exact), torch.device(device), torch.bfloat16)
    batch = {name: tensor.to(device) for name, tensor in packed_batch(rows).items()}
    losses, gradients = [], []
    for model in (exact, rounded):
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([weight.grad.flatten().float() for weight in model.parameters() if weight.grad is not None]))
    assert distance(losses[1], losses[0]) < 0.005
    # Rounding sends some tokens to other experts, whose gradients are then others altogether.
    assert torch.cosine_similarity(*gradients, dim=0) > (0.99 if moe else 0.999)


# -- training ------------------------------------------------------------------------------------------------------------


def check_training(config: RunConfig, device: str, documents: int, steps: int) -> StepResult:
    """Optimizer steps on one batch: finite, trained on all of it, and the loss falls."""
    step = training_step(config, device)
    assert step.engine.device.type == torch.device(device).type
    batch_plan = step.engine.batch_plan
    batches = [
        synthetic_batch(step.engine.model.config, config.sequence, batch_plan.micro_batch, documents, seed)
        for seed in range(batch_plan.accumulation)
    ]
    results = [step([dict(batch) for batch in batches], rate_factor=1.0) for _ in range(steps)]
    assert results[0].tokens == batch_plan.global_batch * config.sequence.length
    assert all(0 < result.grad_norm < float("inf") for result in results)
    assert results[-1].loss < results[0].loss
    release(step)
    return results[-1]


# -- answering -----------------------------------------------------------------------------------------------------------


def make_generator() -> tuple[Generator, Any]:
    """A tiny model where this machine answers, and the same in float32 on the CPU."""
    model, processor = tiny_mm1()
    reference = copy.deepcopy(model)
    return Generator(model, processor), reference


def check_generation(device: str) -> None:
    """Answers come from the device; likelihoods with and without images are near those of float32."""
    generator, reference = make_generator()
    assert generator.model.device.type == torch.device(device).type
    prompts = [("a big ring",), (picture(1), "what is this ?"), (picture(2), "what colour is the ring ?", picture(3), "red")]
    requests = [Request(prompt, prefix=(picture(9), "this is dax .")) for prompt in prompts]
    completions = generator.generate(requests, max_new_tokens=8)
    assert completions == generator.generate(requests, max_new_tokens=8)
    assert any(completion.tokens for completion in completions)
    choices = [[" red", " big blue ring"]] * len(requests)
    found = torch.tensor([[each.logprob for each in row] for row in generator.score(requests, choices)])
    wanted = torch.tensor(_scores_alone(generator, reference, requests, choices))
    assert distance(found, wanted) < TOLERANCE[generator.model.dtype]


@torch.inference_mode()
def _scores_alone(generator: Generator, model: Any, requests: list[Request], choices: list[list[str]]) -> list[list[float]]:
    encoder, rows = generator.encoder, []
    for request, texts in zip(requests, choices, strict=True):
        encoded = encoder.encode(request.prefix + request.prompt)
        pixels = generator.processor.pixel_values([read_image(image) for image in encoded.images])
        scores = []
        for text in texts:
            wanted = torch.tensor(encoder.tokenize(text))
            ids = torch.cat([torch.tensor(encoded.tokens), wanted])[None]
            logits = model(input_ids=ids, pixel_values=pixels).logits[0, -len(wanted) - 1 : -1]
            scores.append(float(logits.log_softmax(-1).gather(1, wanted[:, None]).sum()))
        rows.append(scores)
    return rows


def check_evaluation(folder: Path) -> None:
    """The harness runs through with demonstrations, controls and choices."""
    benchmarks = write_benchmarks(folder)
    generator, _ = make_generator()
    config = EvalConfig(tasks=("captions", "vqa", "novel@2", "text"), shots=(0, 2), items=8)
    scores = evaluate(OwnModel(generator), benchmarks, "test", config, lambda done, total: None).scores
    assert {score.control for score in scores} == {"none", "shuffled"}
    assert all(score.value == score.value and score.num_items > 0 for score in scores)


def check_serving() -> None:
    """A question about an image over HTTP, whole and as a stream, gets the same answer."""
    image = f"data:image/png;base64,{base64.b64encode(picture(1)).decode()}"
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "what is this ?"}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0}
    app = create_app(Engine(make_generator()[0]), ServeSettings(model_name="tiny"))
    with running(app) as address, httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        reply = client.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        assert reply.json()["usage"]["completion_tokens"] > 0
        stream = client.post("/v1/chat/completions", json=body | {"stream": True})
    assert stream.status_code == 200 and "data: [DONE]" in stream.text
