"""Limits on the content of a report."""

from __future__ import annotations

from mm1.config.base import Config


class ReportConfig(Config):
    """Limits that keep the page a single readable file below 3 MB."""

    documents_per_source: int = 16
    """Maximum documents shown per sequence; the rest is counted."""
    show_tokens: bool = False
    """Whether to show token boundaries."""
    images_per_document: int = 16
    """Maximum images shown per document; the rest is counted."""
    characters_per_part: int = 900
    """Maximum characters shown per text part; the rest is counted."""
    examples_per_task: int = 8
    """Questions shown per evaluation task: right and wrong ones, as far as there are both."""
    items_per_group: int = 12
    """Answers shown per task and number of shots on the page of an evaluation."""
    image_px: int = 224
    """Longer side of an embedded image, in pixels; larger ones are scaled down."""
    image_budget_bytes: int = 1_600_000
    """Total bytes of embedded images, before base64; further images are omitted with a note."""
    curve_points: int = 320
    """Maximum points per curve; longer histories are thinned out."""
    smoothing_share: float = 0.012
    """Smoothing width of the loss (standard deviation of the weights), as a fraction of all steps."""
