"""Which parameters Muon trains: matrices of blocks and connector, stacked matrices of experts. Torch-free.

Not embeddings, the output layer or routers, which AdamW trains.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NOT_FOR_MUON = re.compile(r"embed|lm_head|\.mlp\.gate\.weight$|positions|queries")


def takes_muon(name: str, shape: Sequence[int]) -> bool:
    """Whether a parameter of this name and shape is one of them."""
    is_matrix = len(shape) == 2 or (len(shape) == 3 and ".experts." in name)
    return is_matrix and not NOT_FOR_MUON.search(name)
