"""What of a run goes onto the report's page, and how much of it."""

from __future__ import annotations

from mm1.config.base import Config


class ReportConfig(Config):
    """Limits that keep the page one readable file below 3 MB."""

    documents_per_source: int = 16
    """Documents shown of a source's sequence, at most; the rest is counted."""
    show_tokens: bool = False
    """Whether the borders of tokens can be seen."""
    images_per_document: int = 16
    """Images shown of one document; the rest is counted."""
    characters_per_part: int = 900
    """Characters shown of one stretch of text; the rest is counted."""
    examples_per_task: int = 8
    """Questions shown of each task of an evaluation: right and wrong ones, as far as there are both."""
    image_px: int = 224
    """Longer side of a picture on the page; larger ones are scaled down."""
    image_budget_bytes: int = 1_600_000
    """Bytes of all pictures together, before base64; what comes later is left out and said to be."""
    curve_points: int = 320
    """Points of one drawn curve; longer histories are thinned."""
    smoothing_share: float = 0.012
    """Width of the smoothed loss (standard deviation of its weights), as a share of all steps."""
