"""Forward passes with a key-value cache, for generation and scoring.

A `DecodingState` is a batch of sequences processed so far. `Decoder.extend` processes more tokens of each, of any lengths. So a
shared prefix is processed once, `select` gives each request its row, and `extend` processes the requests' own parts::

    prefixes -> extend -> select (rows repeated) -> extend(prompts) -> extend(one token each) -> ...

Names of dimensions: B sequences, S tokens of this pass (with padding), K tokens in the cache after it, T image tokens, N any
positions, D width of the decoder, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mm1.generation.cache import RowCache, RowStates


class DecodingState:
    """Sequences processed so far.

    Args:
        cache: their keys and values.
        lengths: number of tokens of each row; the columns of the cache before them are padding.
        last_BD: output of the decoder at the last token of each row.
        hidden_BSD: output at all positions of the last pass, if requested; the tokens are at the beginning of S.
    """

    def __init__(
        self, cache: RowCache, lengths: Sequence[int], last_BD: torch.Tensor, hidden_BSD: torch.Tensor | None = None
    ) -> None:
        self.cache = cache
        self.lengths = list(lengths)
        self.last_BD = last_BD
        self.hidden_BSD = hidden_BSD

    @classmethod
    @torch.inference_mode()
    def of_row(cls, states: RowStates, last_D: torch.Tensor) -> DecodingState:
        """Create a state of one row."""
        return cls(RowCache.of_rows([states]), [states[0].shape[1]], last_D[None].clone())

    def __len__(self) -> int:
        return len(self.lengths)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> DecodingState:
        """Return a new state of these rows, in this order; a row may be repeated."""
        index = torch.tensor(rows, device=self.last_BD.device)
        lengths = [self.lengths[row] for row in rows]
        return DecodingState(self.cache.select(index, max(lengths)), lengths, self.last_BD[index])

    def row(self, row: int, start: int = 0, stop: int | None = None) -> RowStates:
        """Return views of the keys and values of tokens of a row, counted from its first token."""
        padding = self.cache.columns - self.lengths[row]
        return self.cache.row(row, padding + start, padding + (self.lengths[row] if stop is None else stop))

    @torch.inference_mode()
    def add(self, states: RowStates, last_D: torch.Tensor) -> None:
        """Add a row at the end; if the memory is not enough, nothing changes."""
        last_BD = torch.cat([self.last_BD, last_D[None]])
        self.cache.add(states)
        self.lengths.append(states[0].shape[1])
        self.last_BD = last_BD

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Remove a row; the last row takes its number."""
        self.cache.remove(row)
        self.lengths[row] = self.lengths[-1]
        self.lengths.pop()
        self.last_BD[row] = self.last_BD[-1]
        self.last_BD = self.last_BD[:-1]
        self.cache.keep(max(self.lengths, default=0))


class Decoder:
    """Passes of a model.

    Args:
        model: an `MM1ForConditionalGeneration`.
        num_tokens: ids that the tokenizer has; logits of the rows beyond, which belong to no token, are dropped.
    """

    def __init__(self, model: Any, num_tokens: int) -> None:
        self.model = model
        self.num_tokens = num_tokens
        self._padding = 1 if model.config.image_token_id == 0 else 0  # any id except the image token's, which needs features

    @torch.inference_mode()
    def extend(
        self,
        tokens: Sequence[Sequence[int]],
        features_TD: torch.Tensor | None = None,
        state: DecodingState | None = None,
        *,
        keep_hidden: bool = False,
    ) -> DecodingState:
        """Process more tokens of each sequence.

        Args:
            tokens: token ids of each sequence, of any lengths.
            features_TD: features of the image tokens in them, row by row.
            state: state of the previous tokens; this call changes it, or, if it fails, leaves it as it was.
            keep_hidden: whether to keep the outputs of all positions of this pass, not only of the last token.
        """
        counts = [len(ids) for ids in tokens]
        longest = max(counts)
        # Padding comes after the tokens, which then need no mask within this pass: no token sees a later one.
        ids_BS = torch.tensor([[*ids, *[self._padding] * (longest - len(ids))] for ids in tokens])
        lengths = [0] * len(tokens) if state is None else state.lengths
        cache = RowCache() if state is None else state.cache
        columns = 0 if state is None else cache.columns
        positions_BS = torch.tensor(lengths)[:, None] + torch.arange(longest)
        try:
            hidden_BSD = self.model.model(
                input_ids=ids_BS.to(self.model.device),
                attention_mask=self._mask(lengths, columns, longest),
                position_ids=positions_BS.to(self.model.device),
                image_features=None if features_TD is None else features_TD[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
        except BaseException:
            cache.rewind(columns)
            raise
        if min(counts) == longest:
            last_BD = hidden_BSD[:, -1]
        else:
            last_BD = hidden_BSD[torch.arange(len(tokens)), torch.tensor(counts) - 1]
            idle = [row for row, count in enumerate(counts) if not count]
            if idle and state is not None:  # a row without new tokens keeps its output
                last_BD[idle] = state.last_BD[idle]
            cache = self._aligned(cache, columns, lengths, counts)
        lengths = [length + count for length, count in zip(lengths, counts, strict=True)]
        cache.keep(max(lengths))
        return DecodingState(cache, lengths, last_BD, hidden_BSD if keep_hidden else None)

    def _mask(self, lengths: Sequence[int], columns: int, new: int) -> torch.Tensor | None:
        """Return the mask (B, K), or None if the earlier columns have no padding."""
        if all(length == columns for length in lengths):
            return None
        padding_B1 = columns - torch.tensor(lengths)[:, None]
        return (torch.arange(columns + new) >= padding_B1).long().to(self.model.device)

    def _aligned(self, cache: RowCache, columns: int, lengths: Sequence[int], counts: Sequence[int]) -> RowCache:
        """Move the padding of the last pass to the beginning of its rows."""
        return RowCache.of_rows(
            [
                cache.row(row, columns - length, columns + count)
                for row, (length, count) in enumerate(zip(lengths, counts, strict=True))
            ]
        )

    @torch.inference_mode()
    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Compute the logits (N, V) of the tokens that follow these outputs, in float32."""
        logits_NV: torch.Tensor = self.model.lm_head(hidden_ND)[..., : self.num_tokens].float()
        return logits_NV
