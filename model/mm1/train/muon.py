"""Selection of Muon's parameters: matrices of blocks and connector, stacked matrices of experts. Torch-free.

AdamW trains embeddings, the output layer, routers and adapters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ROUTER = re.compile(r"\.mlp\.gate\.weight$|\.router\.")
"""Names of the routers' weights in the families of decoders."""
NOT_FOR_MUON = re.compile(rf"embed|\.wte\.|\.wpe\.|lm_head|{ROUTER.pattern}|positions|queries|\.lora_")


def takes_muon(name: str, shape: Sequence[int]) -> bool:
    """Whether Muon trains a parameter of this name and shape."""
    is_matrix = len(shape) == 2 or (len(shape) == 3 and ".experts." in name)
    return is_matrix and not NOT_FOR_MUON.search(name)
