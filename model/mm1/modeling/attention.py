"""Packed attention: several documents in one sequence that do not attend to each other.

Registered as `mm1_packed` in the attention interface *and* the mask interface of transformers. (A name that is only in
the attention interface gets no mask even for a padded batch, so padded generation would silently be wrong.) Without a
packed layout it is transformers' own SDPA with its own masks: padding and key-value cache behave as usual. With one,
`MM1Model` passes the layout to every layer as the keyword argument `packed`:

    document_ids_BS -> PackedLayout (once per forward) -> packed_attention_forward (every layer) -> one of
        varlen     CUDA, half precision: torch's variable-length attention
        documents  one SDPA call per document: long sequences with few documents
        mask       one SDPA call for the whole batch with a block mask: short sequences with many documents

Names of dimensions:
    B sequences of the batch, S tokens of a sequence, T = B * S tokens, H query heads, G key-value heads, E width of
    a head, L tokens of a document
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

PACKED_ATTENTION = "mm1_packed"

# Cost of one more SDPA call (forward and backward, with its slices), in units of the work on one element of
# query times key times head width. Measured on 2 cores of an EPYC (Zen 5): 0.11 ms per call, 0.28 ns per unit.
_UNITS_PER_CALL = 400_000


class PackedLayout:
    """Boundaries of the documents of a packed batch, computed once for all layers.

    A document is a run of equal ids inside a row; padding (id 0) is a separate run, which keeps every softmax well
    defined at negligible cost.

    Args:
        document_ids_BS: document of each token, 1, 2, 3 … inside a row, 0 for padding.
    """

    def __init__(self, document_ids_BS: torch.Tensor) -> None:
        self.shape = tuple(document_ids_BS.shape)
        starts_BS = torch.ones_like(document_ids_BS, dtype=torch.bool)
        torch.ne(document_ids_BS[:, 1:], document_ids_BS[:, :-1], out=starts_BS[:, 1:])
        self._starts_BS = starts_BS
        starts = starts_BS.flatten().nonzero().flatten()
        self.offsets = F.pad(starts, (0, 1), value=document_ids_BS.numel()).to(torch.int32)
        self.lengths: list[int] = self.offsets.diff().tolist()
        self.max_length = max(self.lengths)
        self._squared_length = sum(length * length for length in self.lengths)
        self._masks: dict[tuple[torch.dtype, int | None], torch.Tensor] = {}

    @property
    def placeholder(self) -> torch.Tensor:
        """A four-dimensional placeholder that keeps a decoder from building its own mask."""
        return self._starts_BS[:1, :1].new_ones(1, 1, 1, 1)

    def mask(self, sliding_window: int | None = None) -> torch.Tensor:
        """Return the boolean (B, 1, S, S) mask, True where a query (row) attends to a key (column)."""
        return self._cached(torch.bool, sliding_window)

    def bias(self, dtype: torch.dtype, sliding_window: int | None = None) -> torch.Tensor:
        """Return the additive (B, 1, S, S) mask: 0 where a query attends to a key, minus infinity elsewhere."""
        return self._cached(dtype, sliding_window)

    def _cached(self, dtype: torch.dtype, sliding_window: int | None) -> torch.Tensor:
        window = sliding_window if sliding_window is not None and sliding_window < self.max_length else None
        if (dtype, window) not in self._masks:
            self._masks[dtype, window] = self._build(dtype, window)
        return self._masks[dtype, window]

    def _build(self, dtype: torch.dtype, window: int | None) -> torch.Tensor:
        if dtype != torch.bool:
            visible = self._cached(torch.bool, window)
            return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)
        run_BS = self._starts_BS.cumsum(dim=1, dtype=torch.int32)
        visible = run_BS[:, None, :, None] == run_BS[:, None, None, :]
        position_S = torch.arange(self.shape[1], device=visible.device)
        distance_SS = position_S[:, None] - position_S[None, :]
        allowed_SS = distance_SS >= 0 if window is None else (distance_SS >= 0) & (distance_SS < window)
        return visible.logical_and_(allowed_SS)

    def prefers_documents(self, heads: int, head_size: int) -> bool:
        """Whether one SDPA call per document is cheaper than one for the batch with a mask."""
        rows, columns = self.shape
        saved = (rows * columns * columns - self._squared_length) * heads * head_size
        return len(self.lengths) * _UNITS_PER_CALL < saved


def documents_from_positions(
    position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, past_key_values: Cache | None
) -> torch.Tensor | None:
    """Interpret positions that restart at 0 as packed documents, so that they cannot leak into each other.

    transformers does the same, but only without mask and cache, and leaks silently otherwise.

    Args:
        position_ids: (B, S), or None.
        attention_mask: (B, S), 0 for padding; with padding, positions are not interpreted.
        past_key_values: cache that the tokens continue.

    Returns:
        document_ids_BS, or None if nothing is packed.
    """
    if position_ids is None or position_ids.ndim != 2 or position_ids.shape[1] < 2:
        return None
    if past_key_values is not None and past_key_values.get_seq_length() > 0:
        return None
    starts_BS = position_ids == 0
    if not starts_BS[:, 1:].any():
        return None
    if attention_mask is not None and not attention_mask.all():
        return None
    return starts_BS.cumsum(dim=1) + 1


def packed_mask(
    config: PreTrainedConfig, document_ids_BS: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, PackedLayout | None]:
    """Return the mask and the layout for the decoder of packed documents.

    Args:
        config: configuration of the decoder.
        document_ids_BS: document of each token, 1, 2, 3 … inside a row, 0 for padding.
        dtype: dtype of the hidden states.

    Returns:
        A mask for every layer, and the layout if the decoder uses it; the mask is then a placeholder.

    Raises:
        ValueError: the decoder's attention does not support such a mask, or its window is shorter than a document.
    """
    layout, implementation = PackedLayout(document_ids_BS), config._attn_implementation
    if implementation == PACKED_ATTENTION:
        return layout.placeholder, layout
    window = getattr(config, "sliding_window", None)
    if implementation not in ("sdpa", "eager") or (window is not None and window < layout.max_length):
        raise ValueError(f"Packed documents need attn_implementation={PACKED_ATTENTION!r}; this decoder has {implementation!r}")
    return layout.mask() if implementation == "sdpa" else layout.bias(dtype), None


def packed_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packed: PackedLayout | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention function `mm1_packed` of the transformers interface.

    Args:
        module: the attention layer.
        query: (B, H, S, E).
        key: (B, G, S, E); H is a multiple of G.
        value: (B, G, S, E).
        attention_mask: mask of the decoder, or the placeholder with `packed`.
        dropout: probability that a weight is dropped.
        scaling: factor of the scores, one over the square root of E by default.
        packed: layout of the documents; without it this is transformers' SDPA.
        sliding_window: number of tokens, itself included, that a token attends to, if limited.
        **kwargs: other arguments of the decoder.

    Returns:
        The output (B, S, H, E), and None for the weights.
    """
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    query, key, value = _in_autocast_type(query, key, value)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and not dropout:
        return _attend_varlen(query, key, value, packed, scaling, sliding_window), None
    windowed = sliding_window is not None and sliding_window < packed.max_length
    if not windowed and packed.prefers_documents(query.shape[1], query.shape[3]):
        return _attend_documents(query, key, value, packed, scaling, dropout), None
    bias = packed.bias(query.dtype, sliding_window)
    return sdpa_attention_forward(module, query, key, value, bias, dropout=dropout, scaling=scaling)


def _attend_documents(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: PackedLayout,
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    # `split` and `cat` rather than slices: the backward of a slice fills a full-size tensor for each document.
    pieces = zip(*(_tokens_first(states).split(packed.lengths) for states in (query, key, value)), strict=True)
    outputs_LHE = [
        F.scaled_dot_product_attention(
            query_LHE.transpose(0, 1)[None],
            key_LGE.transpose(0, 1)[None],
            value_LGE.transpose(0, 1)[None],
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=key.shape[1] != query.shape[1],
        )[0].transpose(0, 1)
        for query_LHE, key_LGE, value_LGE in pieces
    ]
    return torch.cat(outputs_LHE).unflatten(0, packed.shape)


def _attend_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: PackedLayout,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn  # its kernels exist on CUDA only

    output_THE: torch.Tensor = varlen_attn(  # type: ignore[assignment]  # a pair only with return_aux
        _tokens_first(query),
        _tokens_first(key),
        _tokens_first(value),
        packed.offsets,
        packed.offsets,
        packed.max_length,
        packed.max_length,
        scale=scaling,
        # (left, right) tokens besides the query's own; (-1, 0) is plain causal
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return output_THE.unflatten(0, packed.shape)


def _in_autocast_type(*states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cast to autocast's dtype: queries and keys from a norm are in single precision under autocast, values are not."""
    device = states[0].device.type
    if not torch.is_autocast_enabled(device):
        return states
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in states)


def _tokens_first(states: torch.Tensor) -> torch.Tensor:
    """Reshape (B, H, S, E) to (T, H, E), a view in the memory layout of decoders."""
    return states.transpose(1, 2).flatten(0, 1)


AttentionInterface.register(PACKED_ATTENTION, packed_attention_forward)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
