"""A packed decoder step: ``python tests/bench/bench_packed_step.py [--dtype fp32|bf16] [--small]``.

20 documents in one sequence of 4096 tokens, forward, backward, clipping and fused AdamW of a decoder of 34 million parameters.
The peer is transformers' own way of packing: positions that restart, no mask and no cache, from which it makes a dense mask
for SDPA. Ours is the same decoder inside MM1, whose attention takes one document at a time. Both have the same weights, the
same allocator and every position labelled; their first losses are compared before anything is measured.

``--small`` is for bfloat16 where it is emulated: 20 documents in 256 tokens; its ratios say little.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import peers
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

DOCUMENTS = 20


def main() -> None:
    """Measure and print, or be one of the sides."""
    parser = peers.options_parser(__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--side", choices=["ours", "peer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    lengths = document_lengths(256 if options.small else 4096)
    if options.side:
        model, batch = side(options.side, lengths, options.small)
        peers.serve_steps(peers.training_step(model, batch, options.dtype))
        return

    from mm1_components.ranks.torchrun import PROCESS_SETTINGS

    peers.say_machine(options.dtype, options.threads)
    check_losses(lengths, options.small)
    arguments = ["--dtype", options.dtype, *(["--small"] if options.small else [])]
    peer = peers.Side(__file__, [*arguments, "--side", "peer"], options.threads, PROCESS_SETTINGS)
    mine = peers.Side(__file__, [*arguments, "--side", "ours"], options.threads, PROCESS_SETTINGS)
    found = peers.take_turns({"Hugging Face, its packed mask": peer, "MM1": mine}, options.rounds)
    for name, seconds in found.items():
        peers.say_side(name, seconds, sum(lengths), "tokens")
    peers.say_ratio("packed mask / MM1", *found.values(), target="at least 2.5")
    peer.close()
    mine.close()


def document_lengths(tokens: int) -> list[int]:
    """Log-normal shares of the tokens, each document at least 4 tokens long."""
    shares = np.random.default_rng(0).lognormal(0.0, 0.9, DOCUMENTS)
    lengths = np.maximum(shares / shares.sum() * tokens, 4).astype(int)
    lengths[lengths.argmax()] += tokens - lengths.sum()
    return [int(length) for length in lengths]


def side(name: str, lengths: list[int], small: bool) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Model and batch of one side."""
    torch.manual_seed(1)
    ids = torch.randint(3, peers.VOCABULARY - 1, (1, sum(lengths)))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    batch = {"input_ids": ids, "position_ids": positions, "labels": ids}
    if name == "peer":
        torch.manual_seed(0)
        first = positions == 0
        model = Qwen3ForCausalLM(Qwen3Config(**peers.decoder_fields(small))).train()
        return model, {**batch, "labels": ids.masked_fill(first, -100)}
    return DecoderOnly(small), {**batch, "document_ids": (positions == 0).cumsum(dim=1)}


class DecoderOnly(torch.nn.Module):
    """MM1 without its vision tower and connector, which a batch without images would run idly."""

    def __init__(self, small: bool) -> None:
        super().__init__()
        self.model = peers.ours(small)
        twin, _ = side("peer", [8], small)
        self.model.model.language_model.load_state_dict(twin.model.state_dict())
        self.model.lm_head.load_state_dict(twin.lm_head.state_dict())
        for part in (self.model.model.vision_tower, self.model.model.connector):
            part.requires_grad_(False)

    def forward(self, **batch: Any) -> Any:
        return self.model(**batch)


def check_losses(lengths: list[int], small: bool) -> None:
    """Both sides must compute the same thing: their losses without an update agree."""
    losses = []
    for name in ("peer", "ours"):
        model, batch = side(name, lengths, small)
        with torch.no_grad():
            losses.append(model(**batch, use_cache=False).loss.item())
    if abs(losses[0] - losses[1]) > 1e-4:
        raise SystemExit(f"the sides differ: losses {losses[0]:.6f} and {losses[1]:.6f}")


if __name__ == "__main__":
    main()
