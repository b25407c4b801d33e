"""What a mixture looks like, from its plan: fill, images, documents; works on lengths, reads no samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mm1.data.packing import PackingLimits
from mm1.data.plan import MixturePlan
from mm1.manifests import MixSource


@dataclass
class Tally:
    """Sums over some sequences."""

    sequences: int = 0
    tokens: int = 0
    images: int = 0
    documents: int = 0
    cut: int = 0
    """Pieces of documents that did not fit into one sequence."""


@dataclass
class MixStatistics:
    """Measured over the first sequences of a mixture.

    Attributes:
        limits: of a sequence.
        total: over all sources.
        by_source: per source, by name.
    """

    limits: PackingLimits
    total: Tally = field(default_factory=Tally)
    by_source: dict[str, Tally] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Fill (tokens in place of padding), and tokens, images, documents per sequence; of all and per source."""
        found = {"sequences": float(self.total.sequences)} | self._figures(self.total)
        for name, tally in self.by_source.items():
            found |= {f"{name}/{figure}": value for figure, value in self._figures(tally).items()}
        return found

    def _figures(self, tally: Tally) -> dict[str, float]:
        number = max(1, tally.sequences)
        return {
            "fill": round(tally.tokens / number / self.limits.sequence_length, 6),
            "tokens_per_sequence": round(tally.tokens / number, 3),
            "images_per_sequence": round(tally.images / number, 3),
            "documents_per_sequence": round(tally.documents / number, 3),
            "cut_share": round(tally.cut / max(1, tally.documents), 6),
        }


def measure(plan: MixturePlan, sources: Sequence[MixSource], limits: PackingLimits, num_sequences: int) -> MixStatistics:
    """Go through the first sequences of a plan."""
    found = MixStatistics(limits, by_source={source.name: Tally() for source in sources if source.weight})
    for number in range(num_sequences):
        source, pieces = plan[number]
        name = sources[source].name
        for tally in (found.total, found.by_source[name]):
            tally.sequences += 1
            tally.tokens += sum(piece.stop - piece.start for piece in pieces)
            tally.images += sum(piece.num_images for piece in pieces)
            tally.documents += len(pieces)
            tally.cut += sum(plan.is_cut(source, piece) for piece in pieces)
    return found
