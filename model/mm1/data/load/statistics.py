"""Statistics of a mixture's plan: fill, images, documents, repetitions. Works on lengths and reads no samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mm1.data.load.open_mix import source_stream
from mm1.data.load.sequences import MixturePlan, SampleSpan, SourceStream
from mm1.data.reader import ShardIndex
from mm1.data.source_names import parent_of
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import DataMix

MEASURED_SEQUENCES = 2_000
"""Number of sequences to measure."""
FEW_LABELS = 1 / 3
"""A source whose share of the labels is below this fraction of its share of the sequences is reported."""
INSTRUCTIONS = "instructions"


@dataclass
class Tally:
    """Sums over a number of sequences."""

    sequences: int = 0
    tokens: int = 0
    images: int = 0
    labels: float = 0.0
    """Tokens with loss; NaN if the data do not tell."""
    documents: int = 0
    """Documents and parts of documents."""
    begun: int = 0
    """Documents that begin in one of the sequences."""
    cut: int = 0
    """Parts of documents that did not fit into one sequence."""

    def add(self, span: SampleSpan, labels: float, *, cut: bool) -> None:
        """Add a span."""
        self.tokens += span.stop - span.start
        self.images += span.num_images
        self.labels += labels
        self.documents += 1
        self.begun += span.start == 0
        self.cut += cut

    def figures(self, sequence_length: int) -> dict[str, float]:
        """Fill (fraction of tokens that are not padding), and tokens, labels, images and documents per sequence."""
        number = max(1, self.sequences)
        labels = {} if math.isnan(self.labels) else {"labels_per_sequence": round(self.labels / number, 3)}
        return {
            "fill": round(self.tokens / number / sequence_length, 6),
            "tokens_per_sequence": round(self.tokens / number, 3),
            **labels,
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
        """Return total and per-source statistics.

        A source also has its shares of all tokens and labels, and the documents begun per sequence.
        """
        figures = {"sequences": float(self.total.sequences)} | self.total.figures(self.sequence_length)
        for name, tally in self.by_source.items():
            figures |= {f"{name}/{figure}": value for figure, value in tally.figures(self.sequence_length).items()}
            figures[f"{name}/token_share"] = round(tally.tokens / max(1, self.total.tokens), 6)
            if not math.isnan(self.total.labels):
                figures[f"{name}/label_share"] = round(tally.labels / max(1.0, self.total.labels), 6)
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
            labels, cut = _labels(mix, span, plan.num_labels(span)), plan.is_cut(span)
            for tally in (statistics.total, statistics.by_source[names[span.source]]):
                tally.add(span, labels, cut=cut)
    return statistics


def _labels(mix: DataMix, span: SampleSpan, counted: float | None) -> float:
    """Return the tokens with loss in a span; in shards without these counts, only conversations have texts without loss."""
    if counted is not None:
        return counted
    if parent_of(mix.sources[span.source].name) == INSTRUCTIONS:
        return math.nan
    return span.stop - span.start - span.num_images * mix.image_tokens  # marks between tiles count as text here


def num_long_documents(mix: DataMix, indexes: Mapping[int, Sequence[ShardIndex]]) -> dict[str, float]:
    """Count documents that do not fit into one sequence: ``<source>/long_documents`` -> number."""
    streams = {number: source_stream(mix, number, shard_indexes) for number, shard_indexes in indexes.items()}
    return {f"{mix.sources[number].name}/long_documents": float(stream.num_long) for number, stream in streams.items()}


def sequence_shares(mix: DataMix, indexes: Mapping[int, Sequence[ShardIndex]]) -> dict[int, float]:
    """Convert shares of tokens, images, labels or samples to sequence shares.

    A source with more of them per sequence (or per document, if sequences mix sources) needs fewer sequences. They are
    measured over the first sequences of an epoch of each source. Sources without any, such as text in a mixture by images,
    keep their weights as shares of sequences.

    Returns:
        Source -> its share of sequences.

    Raises:
        ConfigurationError: no source has any.
        DataError: an earlier version wrote the shards of conversations, and did not count their labels.
    """
    weights = {number: mix.sources[number].weight for number in indexes}
    units = {number: _units(mix, source_stream(mix, number, shard_indexes)) for number, shard_indexes in indexes.items()}
    without = {number: weights[number] for number in indexes if not units[number]}
    if len(without) == len(units):
        raise ConfigurationError(f"weights_by: the sources have no {mix.weights_by}s: set weights_by=sequence or token")
    shares = {number: weights[number] / units[number] for number in indexes if units[number]}
    rest = sum(weights.values()) - sum(without.values())
    scaled = {number: share * rest for number, share in shares.items()} if without else shares
    total = sum(shares.values())
    return {number: round(without[number] if number in without else scaled[number] / total, 9) for number in indexes}


def _units(mix: DataMix, stream: SourceStream) -> float:
    """Return the tokens, images, labels or samples per sequence of a source (or per document, if sequences mix sources)."""
    tally = Tally()
    for spans in stream.first_epoch(MEASURED_SEQUENCES):
        tally.sequences += 1
        for span in spans:
            tally.add(span, _labels(mix, span, stream.num_labels(span)), cut=False)
    amounts = {"image": tally.images, "label": tally.labels, "sample": tally.begun}
    amount = amounts.get(mix.weights_by, tally.tokens)
    if math.isnan(amount):
        raise DataError(
            f"weights_by=label: an earlier version wrote the shards of {stream.name} and did not count their tokens with loss: "
            "ingest the data again"
        )
    return amount / max(1, tally.sequences if mix.one_source else tally.begun)


def few_labels(mix: DataMix) -> list[str]:
    """Describe the sources that give much less of the labels than of the sequences (of tokens, if sequences mix sources)."""
    sentences = []
    for source in mix.sources:
        share = source.share if mix.one_source else mix.packing.get(f"{source.name}/token_share", 0.0)
        label_share = mix.packing.get(f"{source.name}/label_share")
        if label_share is not None and label_share < share * FEW_LABELS:
            unit = "sequences" if mix.one_source else "tokens"
            sentences.append(
                f"{source.name} is {share:.1%} of the {unit}, but gives {label_share:.1%} of the tokens with loss: "
                "weights_by=label makes weights shares of these"
            )
    return sentences


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
