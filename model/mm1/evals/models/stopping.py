"""The end of each row's answer while transformers generates a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria

from mm1.generation.transcript import Transcript


class StopPerRow(StoppingCriteria):
    """Ends a row at a stop token or a stop string, as this project's generator does.

    Args:
        transcripts: the answers, which grow with each token.
    """

    def __init__(self, transcripts: Sequence[Transcript]) -> None:
        self.transcripts = transcripts

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Add the newest token (B, S) to each answer; return which answers are done (B)."""
        for transcript, token in zip(self.transcripts, input_ids[:, -1].tolist(), strict=True):
            if not transcript.done:
                transcript.push(int(token))
        return torch.tensor([transcript.done for transcript in self.transcripts], device=input_ids.device)
