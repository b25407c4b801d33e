"""A training step against Hugging Face's LLaVA: ``python tests/bench/bench_train_step.py [--dtype fp32|bf16] [--small]``.

Forward, backward, clipping and fused AdamW of a vision-language model of 39 million parameters, 4 sequences of 1024 tokens
with 4 images each. The peer runs twice: as it comes, and with the allocator tuned by its user. Ours runs as the training step
of the project starts it. Each side is a process of its own; steps alternate.

What differs: ours has Qwen3 for Llama (norms on queries and keys more), a pool and one linear layer for a connector of two
(0.3 % of the arithmetic less), and puts only labelled positions through the output layer.

``--small`` is for bfloat16 where it is emulated: a model and a batch that end within seconds; its ratios say little.
"""

from __future__ import annotations

import argparse

import peers


def main() -> None:
    """Measure and print, or be one of the sides."""
    parser = peers.options_parser(__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--side", choices=["ours", "llava"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    sequences, tokens, images = (1, 128, 1) if options.small else (4, 1024, 4)
    if options.side:
        model = getattr(peers, options.side)(options.small)
        batch = peers.image_text_batch(sequences, tokens, images)
        peers.serve_steps(peers.training_step(model, batch, options.dtype))
        return

    from mm1_components.ranks.torchrun import PROCESS_SETTINGS

    arguments = ["--dtype", options.dtype, *(["--small"] if options.small else [])]
    sides = {
        "Hugging Face LLaVA, as it comes": peers.Side(__file__, [*arguments, "--side", "llava"], options.threads, {}),
        "Hugging Face LLaVA, allocator tuned": peers.Side(
            __file__, [*arguments, "--side", "llava"], options.threads, peers.TUNED_ALLOCATOR
        ),
        "MM1": peers.Side(__file__, [*arguments, "--side", "ours"], options.threads, PROCESS_SETTINGS),
    }
    peers.say_machine(options.dtype, options.threads)
    found = peers.take_turns(sides, options.rounds)
    for name, seconds in found.items():
        peers.say_side(name, seconds, sequences * tokens, "tokens")
        sides[name].close()
    plain, tuned, mine = found.values()
    note = "" if options.dtype == "bf16" and peers.has_bfloat16() else " (set for native bf16)"
    peers.say_ratio("as it comes / MM1", plain, mine, f"at least 1.4{note}")
    peers.say_ratio("allocator tuned / MM1", tuned, mine, f"at least 1.15{note}")


if __name__ == "__main__":
    main()
