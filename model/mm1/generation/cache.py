"""A key-value cache whose rows come and go without copying the others.

transformers' `DynamicCache` copies all keys and values for each token, and again when a row joins or leaves. Here a layer has a
buffer with room for more tokens and more rows. All rows end at the same column, so that one more token of each is one column:

    column     0 . . . start . . . . . . . end . . . capacity
    row 0      . . . . . p p p t t t t t t |              p: padding, masked; t: tokens, `lengths[row]` of them
    row 1      . . . . . t t t t t t t t t |
    row 2      . . . . . p p p p p p t t t |

Sliding-window layers are kept whole as well; the model's mask limits what they see.

Names of dimensions: B rows, H key-value heads, K tokens in the cache, N tokens of one row, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

RowStates = list[torch.Tensor]
"""Keys (H, N, E) and values of one row in all layers: keys of layer 0, values of layer 0, keys of layer 1, …"""


class _Buffer:
    """Keys or values of one layer."""

    def __init__(self, data_BHKE: torch.Tensor) -> None:
        self.data = data_BHKE
        self.rows, self.start, self.end = data_BHKE.shape[0], 0, data_BHKE.shape[2]

    @property
    def view(self) -> torch.Tensor:
        return self.data[: self.rows, :, self.start : self.end]

    def append(self, new_BHKE: torch.Tensor) -> None:
        end = self.end + new_BHKE.shape[2]
        if end > self.data.shape[2]:
            self._reserve(self.rows, self.end - self.start, new_BHKE.shape[2])
            end = self.end + new_BHKE.shape[2]
        self.data[: self.rows, :, self.end : end] = new_BHKE
        self.end = end

    def reserve_row(self, length: int) -> None:
        if self.rows == self.data.shape[0] or length > self.end:
            # Room for some longer rows to the left, too, or each slightly longer prompt would copy everything.
            left = 0 if length <= self.end - self.start else length - (self.end - self.start) + length // 8
            self._reserve(max(self.rows + 1, self.rows * 5 // 4), self.end - self.start, 1, left)

    def add(self, row_HNE: torch.Tensor) -> None:
        length = row_HNE.shape[1]
        self.start = min(self.start, self.end - length)
        self.data[self.rows, :, self.end - length : self.end] = row_HNE
        self.rows += 1

    def remove(self, row: int) -> None:
        self.rows -= 1
        if row < self.rows:
            self.data[row, :, self.start : self.end] = self.data[self.rows, :, self.start : self.end]

    def _reserve(self, rows: int, columns: int, new: int, left: int = 0) -> None:
        old, (_, heads, _, width) = self.view, self.data.shape
        capacity = left + columns + new + max(32, columns // 8)
        # Zeros, because a masked NaN is still NaN.
        self.data = self.data.new_zeros(rows, heads, capacity, width)
        self.start, self.end = left, left + columns
        self.data[: self.rows, :, self.start : self.end] = old


class _Layer(DynamicLayer):
    """One layer: transformers calls `update`, and reads `keys` and `values`."""

    def __init__(self, keys: _Buffer | None = None, values: _Buffer | None = None) -> None:
        super().__init__()
        self.buffers: tuple[_Buffer, ...] = () if keys is None or values is None else (keys, values)
        if self.buffers:
            self.is_initialized = True
            self.expose()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens; return those of all tokens."""
        if not self.buffers:
            self.is_initialized = True
            self.buffers = _Buffer(key_states), _Buffer(value_states)
        else:
            for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
                buffer.append(states)
        return self.expose()

    def expose(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Set `keys` and `values` to the columns in use."""
        keys, values = self.buffers
        self.keys, self.values = keys.view, values.view
        return self.keys, self.values


class RowCache(DynamicCache):
    """The cache of a batch; `lengths` of its rows are kept by its user.

    Args:
        layers: filled layers; by default the model adds them.
    """

    def __init__(self, layers: Sequence[_Layer] = ()) -> None:
        super().__init__()
        self.layers = list(layers)
        self.layer_class_to_replicate = _Layer

    @classmethod
    def of_rows(cls, rows: Sequence[RowStates]) -> RowCache:
        """Create the cache of some rows of any lengths."""
        buffers = [_Buffer(_aligned(states)) for states in zip(*rows, strict=True)]
        return cls([_Layer(*pair) for pair in zip(buffers[::2], buffers[1::2], strict=True)])

    @property
    def columns(self) -> int:
        """K, the number of columns in use."""
        return int(self.get_seq_length())

    def row(self, row: int, start: int, stop: int) -> RowStates:
        """Return views of columns of a row, counted from the first column in use."""
        return [buffer.view[row, :, start:stop] for buffer in self._buffers()]

    def select(self, rows: torch.Tensor, columns: int) -> RowCache:
        """Return a new cache of the last columns of these rows."""
        first = self.columns - columns
        layers = [[_Buffer(buffer.view[:, :, first:][rows]) for buffer in layer.buffers] for layer in self.layers]
        return RowCache([_Layer(*buffers) for buffers in layers])

    def add(self, states: RowStates) -> None:
        """Add a row at the end; if the memory is not enough, nothing changes."""
        for buffer in self._buffers():
            buffer.reserve_row(states[0].shape[1])
        for buffer, row_HNE in zip(self._buffers(), states, strict=True):
            buffer.add(row_HNE)
        self._expose()

    def remove(self, row: int) -> None:
        """Remove a row; the last row takes its number."""
        self._change(lambda buffer: buffer.remove(row))

    def keep(self, columns: int) -> None:
        """Drop columns at the beginning, in which all rows have padding."""

        def trim(buffer: _Buffer) -> None:
            buffer.start = max(buffer.start, buffer.end - columns)

        self._change(trim)

    def rewind(self, columns: int) -> None:
        """Drop columns at the end, so that this many remain: after a pass that failed in some layer."""

        def cut(buffer: _Buffer) -> None:
            buffer.end = min(buffer.end, buffer.start + columns)

        self._change(cut)

    def _buffers(self) -> list[_Buffer]:
        return [buffer for layer in self.layers for buffer in layer.buffers]

    def _change(self, change: Callable[[_Buffer], None]) -> None:
        for buffer in self._buffers():
            change(buffer)
        self._expose()

    def _expose(self) -> None:
        for layer in self.layers:
            layer.expose()


def _aligned(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack rows (H, N, E) of any lengths to (B, H, K, E); shorter ones have padding at their beginning."""
    longest = max(row.shape[1] for row in rows)
    heads, _, width = rows[0].shape
    data_BHKE = rows[0].new_zeros(len(rows), heads, longest, width)
    for target_HKE, row_HNE in zip(data_BHKE, rows, strict=True):
        target_HKE[:, longest - row_HNE.shape[1] :] = row_HNE
    return data_BHKE
