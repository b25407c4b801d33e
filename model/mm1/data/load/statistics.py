"""Statistics of a mixture's plan: fill, images, documents, repetitions. Works on lengths and reads no samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile

from mm1.data.load.open_mix import source_stream
from mm1.data.load.sequences import MixturePlan, SampleSpan, SourceStream
from mm1.data.reader import ShardIndex
from mm1.manifests import DataMix

MEASURED_SEQUENCES = 2_000
"""Number of sequences to measure."""


@dataclass
class Tally:
    """Sums over a number of sequences."""

    sequences: int = 0
    tokens: int = 0
    images: int = 0
    documents: int = 0
    """Documents and parts of documents."""
    begun: int = 0
    """Documents that begin in one of the sequences."""
    cut: int = 0
    """Parts of documents that did not fit into one sequence."""

    def figures(self, sequence_length: int) -> dict[str, float]:
        """Fill (fraction of tokens that are not padding), and tokens, images and documents per sequence."""
        number = max(1, self.sequences)
        return {
            "fill": round(self.tokens / number / sequence_length, 6),
            "tokens_per_sequence": round(self.tokens / number, 3),
            "images_per_sequence": round(self.images / number, 3),
            "documents_per_sequence": round(self.documents / number, 3),
            "cut_share": round(self.cut / max(1, self.documents), 6),
        }


@dataclass
class MixStatistics:
    """Statistics of the first sequences of a mixture.

    Attributes:
        sequence_length: tokens per sequence.
        total: sums over all sources.
        by_source: sums by source name; a sequence counts for every source with documents in it.
    """

    sequence_length: int
    total: Tally = field(default_factory=Tally)
    by_source: dict[str, Tally] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Return total and per-source statistics, the latter with the share of all tokens and documents begun per sequence."""
        figures = {"sequences": float(self.total.sequences)} | self.total.figures(self.sequence_length)
        for name, tally in self.by_source.items():
            figures |= {f"{name}/{figure}": value for figure, value in tally.figures(self.sequence_length).items()}
            figures[f"{name}/token_share"] = round(tally.tokens / max(1, self.total.tokens), 6)
            figures[f"{name}/documents_begun"] = round(tally.begun / max(1, self.total.sequences), 6)
        return figures


def measure(plan: MixturePlan, mix: DataMix, num_sequences: int = MEASURED_SEQUENCES) -> MixStatistics:
    """Measure the first sequences of a plan."""
    names = [source.name for source in mix.sources]
    statistics = MixStatistics(mix.sequence_length, by_source={source.name: Tally() for source in mix.sources if source.weight})
    for number in range(num_sequences):
        spans = plan[number].spans
        statistics.total.sequences += 1
        for source in sorted({span.source for span in spans}):
            statistics.by_source[names[source]].sequences += 1
        for span in spans:
            for tally in (statistics.total, statistics.by_source[names[span.source]]):
                tally.tokens += span.stop - span.start
                tally.images += span.num_images
                tally.documents += 1
                tally.begun += span.start == 0
                tally.cut += plan.is_cut(span)
    return statistics


def num_long_documents(mix: DataMix, indexes: Mapping[int, Sequence[ShardIndex]]) -> dict[str, float]:
    """Count documents that do not fit into one sequence: ``<source>/long_documents`` -> number."""
    streams = {number: source_stream(mix, number, shard_indexes) for number, shard_indexes in indexes.items()}
    return {f"{mix.sources[number].name}/long_documents": float(stream.num_long) for number, stream in streams.items()}


def sequence_shares(mix: DataMix, indexes: Mapping[int, Sequence[ShardIndex]]) -> dict[int, float]:
    """Convert token shares to sequence shares.

    A source with more tokens per sequence (or per document, if sequences mix sources) needs fewer sequences. The tokens are
    measured over the first sequences of an epoch of each source.

    Returns:
        Source -> its share of sequences.
    """
    tokens = {}
    for number, shard_indexes in indexes.items():
        spans = [*_first_sequences(source_stream(mix, number, shard_indexes))]
        total = sum(span.stop - span.start for sequence in spans for span in sequence)
        begun = sum(span.start == 0 for sequence in spans for span in sequence)
        tokens[number] = total / max(1, len(spans) if mix.one_source else begun)
    shares = {number: mix.sources[number].weight / tokens[number] for number in indexes}
    return {number: round(share / sum(shares.values()), 9) for number, share in shares.items()}


def _first_sequences(stream: SourceStream) -> list[list[SampleSpan]]:
    """List the sequences of the first epoch, a few thousand at most."""
    numbers = takewhile(lambda number: number < MEASURED_SEQUENCES and stream.cursor(number).epoch == 0, count())
    return [stream.sequence(number) for number in numbers]


def epochs_of(mix: DataMix, num_sequences: int) -> dict[str, float]:
    """Estimate the epochs over each source after a number of sequences, based on the measured packing."""
    epochs = {}
    for source in mix.sources:
        if source.weight:
            left = source.num_samples
            if mix.long_documents == "drop":
                left -= int(mix.packing.get(f"{source.name}/long_documents", 0))
            epochs[source.name] = num_sequences * mix.packing.get(f"{source.name}/documents_begun", 0.0) / max(1, left)
    return epochs


def sequences_until(mix: DataMix, max_epochs: float) -> int:
    """Return the number of sequences after which the first source reaches ``max_epochs``."""
    return math.floor(max_epochs / max(*epochs_of(mix, 1).values(), 1e-12))


def check_epochs(mix: DataMix, num_sequences: int) -> str:
    """Return an error message for taking too many sequences of a mixture; empty if the number is allowed."""
    if mix.max_sequences is None or num_sequences <= mix.max_sequences:
        return ""
    name, epochs = max(epochs_of(mix, num_sequences).items(), key=lambda item: item[1])
    return (
        f"{num_sequences:,} sequences repeat the source {name!r} {epochs:.1f} times, but the mixture allows {mix.max_epochs:g} "
        f"(max_epochs), i.e. {mix.max_sequences:,} sequences: train fewer steps, give {name} a smaller weight, add data, "
        "or create the mixture with a larger max_epochs"
    )
