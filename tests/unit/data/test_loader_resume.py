"""Resume, for any mixture: cut anywhere, go on with other ranks and workers, and the batches are those that were to come."""

from itertools import islice

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from mm1.data.config import LoaderLimits
from mm1.data.load.loader import MixtureLoader
from mm1.store.local import LocalStore
from tests.support.mixtures import build_mix, make_samples

NUM_BATCHES, GLOBAL_BATCH = 6, 4
SOURCES = ("captions", "interleaved", "text")


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    """Mixtures by weights and sequence length, made once each; short sequences cut documents into several spans."""
    folder = tmp_path_factory.mktemp("resume")
    samples = {name: make_samples(name, 30) for name in SOURCES}
    made = {}

    def mixture(weights, length):
        if (weights, length) not in made:
            place = folder / str(len(made))
            store = LocalStore(place / "store")
            shares = dict(zip(SOURCES, weights, strict=True))
            chosen = {name: samples[name] for name in shares}
            made[weights, length] = (
                store,
                *build_mix(store, place, weights=shares, samples=chosen, sequence_length=length, max_images=3, per_shard=7),
            )
        return made[weights, length]

    return mixture


def sequences(mixture, count, **options):
    """The sequences of ``count`` micro-batches, one by one: tokens, labels, documents, and the images in them."""
    store, raw, mix = mixture
    source = MixtureLoader(store, mix, raw, global_batch=GLOBAL_BATCH, **options)
    iterator = iter(source)
    rows = []
    for batch in islice(iterator, count):
        images = iter(batch.get("pixel_values", torch.empty(0)).clone())
        for row in range(len(batch["input_ids"])):
            ids = batch["input_ids"][row].clone()
            starts = int((ids == source._opened.tokenizer.image_id).sum()) // mix.image_tokens
            rows.append((ids, batch["labels"][row].clone(), batch["document_ids"][row].clone(), [*islice(images, starts)]))
    state = source.state_dict()
    iterator.close()
    return rows, state


def equal(left, right):
    pairs = zip(left[:3], right[:3], strict=True)
    return (
        all(torch.equal(*pair) for pair in pairs) and all(map(torch.equal, left[3], right[3])) and len(left[3]) == len(right[3])
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    weights=st.sampled_from([(0.45, 0.45, 0.1), (1, 0, 0), (0, 3, 1), (0.2, 0.5, 0.3)]),
    length=st.sampled_from([12, 24, 64]),
    cut=st.integers(0, NUM_BATCHES),
    world_size=st.sampled_from([1, 2, 4]),
    micro_batch=st.sampled_from([1, 2, 4]),
    num_workers=st.sampled_from([0, 0, 0, 1, 2]),
    keep=st.booleans(),
    with_cursors=st.booleans(),
)
def test_what_comes_after_a_cut_does_not_depend_on_who_reads_it(
    mixtures, weights, length, cut, world_size, micro_batch, num_workers, keep, with_cursors
):
    mixture = mixtures(weights, length)
    one = {"rank": 0, "world_size": 1}
    expected, _ = sequences(mixture, NUM_BATCHES, micro_batch=GLOBAL_BATCH, **one)
    before, state = sequences(mixture, cut, micro_batch=GLOBAL_BATCH, **one)
    assert len(before) == GLOBAL_BATCH * cut == state["sequence"]
    micro_batch = min(micro_batch, GLOBAL_BATCH // world_size)
    options = {
        "world_size": world_size,
        "micro_batch": micro_batch,
        "num_workers": num_workers,
        "start_sequence": state["sequence"],
        "cursors": state["cursors"] if with_cursors else None,
        "limits": LoaderLimits() if keep else LoaderLimits(cache_bytes=0),
    }
    per_rank = GLOBAL_BATCH // world_size
    left = NUM_BATCHES - cut
    ranks = [sequences(mixture, left * per_rank // micro_batch, rank=rank, **options)[0] for rank in range(world_size)]
    after = [row for step in range(left) for rank in ranks for row in rank[step * per_rank : (step + 1) * per_rank]]
    assert all(map(equal, expected, before + after))


def test_the_cut_documents_above_really_are_cut(mixtures):
    store, raw, mix = mixtures((0, 3, 1), 12)
    plan = MixtureLoader(store, mix, raw, micro_batch=1, global_batch=1, rank=0, world_size=1)._opened.plan
    spans = [span for number in range(24) for span in plan[number].spans]
    assert sum(map(plan.is_cut, spans)) > 10
