"""A layer of experts: ``python tests/bench/bench_experts.py [--dtype fp32|bf16] [--tokens 4096] [--experts 32]``.

Forward and backward on one rank of experts of width 1376 over tokens of width 512, two experts a token, against a dense layer
of equal active size (one of width 2752), and against what transformers brings. Tokens are spread evenly, or as Zipf's law has
it: expert n is wanted 1/n as often as the first. The router is not measured: its choices are given.
"""

from __future__ import annotations

from collections.abc import Callable

import peers
import torch
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts, Qwen3MoeMLP

WIDTH, EXPERT_WIDTH, CHOSEN = 512, 1376, 2
TARGETS = {"MM1, balanced": "at most 1.25", "MM1, Zipf": "at most 1.35"}


def main() -> None:
    """Measure and print."""
    parser = peers.options_parser(__doc__)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--experts", type=int, default=32)
    options = parser.parse_args()
    peers.start_again_as_trainer(options.threads)
    peers.say_machine(options.dtype, options.threads)
    found = peers.take_turns(layers(options.dtype, options.tokens, options.experts), options.rounds)
    print(f"{options.tokens} tokens, {options.experts} experts")
    for name, seconds in found.items():
        peers.say_side(name, seconds)
    for name, seconds in found.items():
        if name != "dense":
            peers.say_ratio(f"{name} / dense", seconds, found["dense"], TARGETS.get(name, "none: a peer"))
    peers.say_ratio("MM1, Zipf / balanced", found["MM1, Zipf"], found["MM1, balanced"], "at most 1.10")


def layers(dtype: str, tokens: int, experts: int) -> dict[str, Callable[[], peers.Seconds]]:
    """Forward and backward of each side over the same tokens."""
    from mm1.modeling.experts import SORTED_EXPERTS

    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_experts": experts, "num_experts_per_tok": CHOSEN}
    config = Qwen3MoeConfig(**sizes, moe_intermediate_size=EXPERT_WIDTH)
    sparse, dense = Qwen3MoeExperts(config), Qwen3MoeMLP(config, intermediate_size=CHOSEN * EXPERT_WIDTH)
    for weight in (*sparse.parameters(), *dense.parameters()):
        torch.nn.init.normal_(weight, std=0.02)
    hidden_TD = torch.randn(tokens, WIDTH, requires_grad=True)
    gradient_TD = torch.randn(tokens, WIDTH)

    def side(module: torch.nn.Module, implementation: str, *routing: torch.Tensor) -> Callable[[], peers.Seconds]:
        def work() -> None:
            config._experts_implementation = implementation
            with peers.autocast(dtype):
                output_TD = module(hidden_TD, *routing)
            output_TD.backward(gradient_TD.to(output_TD.dtype))
            for weight in (hidden_TD, *module.parameters()):
                weight.grad = None

        return peers.timed(work)

    balanced, zipf = routing_of(tokens, experts, 0.0), routing_of(tokens, experts, 1.0)
    return {
        "dense": side(dense, SORTED_EXPERTS),
        "MM1, balanced": side(sparse, SORTED_EXPERTS, *balanced),
        "MM1, Zipf": side(sparse, SORTED_EXPERTS, *zipf),
        "transformers, grouped_mm, balanced": side(sparse, "grouped_mm", *balanced),
        "transformers, grouped_mm, Zipf": side(sparse, "grouped_mm", *zipf),
        "transformers, eager, balanced": side(sparse, "eager", *balanced),
    }


def routing_of(tokens: int, experts: int, exponent: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Chosen experts of each token and their weights; expert n is wanted as often as n to the power of -exponent."""
    wanted_X = -exponent * torch.log(torch.arange(1.0, experts + 1))
    weights_TK, chosen_TK = (torch.randn(tokens, experts) + wanted_X).softmax(-1).topk(CHOSEN)
    return chosen_TK, weights_TK


if __name__ == "__main__":
    main()
