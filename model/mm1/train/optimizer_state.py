"""The optimizer state of a process as pieces of parameters, independent of how the engine partitions it.

The state is saved by *pieces* of parameters under their names in transformers, so that any number of processes, ZeRO stage and
expert-parallel size can load it::

    engine -> slots: [holder, start, pieces] ; holder = a tensor that the optimizer knows (parameter, or flat float32 partition)
    holder[start : start + n] = pieces of flattened parameters, one after the other

Observed with DeepSpeed 0.19: stages 1 and 2 split the concatenated parameters of a group into equal partitions and record on
each parameter where its part is (with bfloat16, stage 1 has a separate optimizer that does the same). Stage 3 splits each
parameter by itself, with padding at its end. At stages 1 and 2, Muon's momentum is kept for every whole parameter that a
partition touches. Experts that processes share are stacks of some experts with separate gate and up projections, while
transformers stacks all experts with gate and up joined.

Names of dimensions: X experts, x experts of this process, F inner width of an expert, D width of the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from mm1.checkpoint.pieces import MASTER, WEIGHT, StatePiece, StateReader
from mm1.errors import CheckpointError
from mm1.train.adafactor import Adafactor, Part
from mm1.train.gather_weights import LOCAL_EXPERTS, ROUTER

MOMENTUM = "momentum_buffer"
"""Muon's only state."""


@dataclass(frozen=True)
class Piece:
    """A contiguous range of a flattened parameter."""

    name: str
    """The parameter's name in a saved model."""
    offset: int
    """First element."""
    numel: int


@dataclass(frozen=True)
class Slot:
    """A contiguous range of a tensor that the optimizer updates."""

    holder: torch.Tensor
    start: int
    """First element in the flattened holder."""
    pieces: tuple[Piece, ...]
    """Contents of the range, in order."""


def pieces_of(name: str, shape: torch.Size, start: int, numel: int, expert_rank: int) -> tuple[Piece, ...]:
    """Map a range of a process's own parameter to pieces of the saved parameters.

    Args:
        name: the parameter's name in the trained model.
        shape: its shape in the trained model.
        start: first element of the range.
        numel: elements of the range.
        expert_rank: rank of the process among those that share the experts.
    """
    if router := ROUTER.match(name):
        return (Piece(f"{router['layer']}.gate.weight", start, numel),)
    if (experts := LOCAL_EXPERTS.match(name)) is None:
        return (Piece(name, start, numel),)
    layer, matrix = experts["layer"], experts["matrix"]
    if matrix == "w2":
        return (Piece(f"{layer}.experts.down_proj", expert_rank * shape.numel() + start, numel),)
    # w1 (x, F, D) is the first half, w3 the second, of each expert's block in gate_up_proj (X, 2F, D).
    block = shape[1] * shape[2]
    pieces, position, end = [], start, start + numel
    while position < end:
        expert, inside = divmod(position, block)
        length = min(block - inside, end - position)
        half = 0 if matrix == "w1" else block
        offset = 2 * block * (expert_rank * shape[0] + expert) + half + inside
        pieces.append(Piece(f"{layer}.experts.gate_up_proj", offset, length))
        position += length
    return tuple(pieces)


class Slots:
    """The slots of an engine.

    Args:
        model: the trained model, as the engine has changed it.
        inner: the optimizer.
        wrapper: DeepSpeed's optimizer around it; the same object at stage 0.
        stage: ZeRO stage.
        expert_rank: rank of this process among those that share the experts.
    """

    def __init__(self, model: nn.Module, inner: torch.optim.Optimizer, wrapper: Any, stage: int, expert_rank: int) -> None:
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.inner, self.wrapper, self.expert_rank = inner, wrapper, expert_rank
        self.members: list[tuple[torch.Tensor, list[nn.Parameter]]] = []
        """Tensors that the optimizer updates, each with all parameters that it has elements of on some process."""
        # The groups of a ZeRO optimizer hold partitions; at stage 0 they hold the parameters themselves.
        self.all = list({0: self._whole, 1: self._partitioned, 2: self._partitioned, 3: self._sharded}[stage]())
        """Slots of the master weights, and of states with the same shape."""
        self.momenta = list(self._muon_momenta()) if stage in (1, 2) else []
        """Slots of Muon's buffers with momenta of whole parameters; their holders are the partitions."""

    def _pieces(self, parameter: Any, start: int, numel: int) -> tuple[Piece, ...]:
        shape = getattr(parameter, "ds_shape", parameter.shape)
        return pieces_of(self.names[id(parameter)], torch.Size(shape), start, numel, self.expert_rank)

    def _whole(self) -> Iterator[Slot]:
        for group in self.inner.param_groups:
            for parameter in group["params"]:
                self.members.append((parameter, [parameter]))
                yield Slot(parameter, 0, self._pieces(parameter, 0, parameter.numel()))

    def _partitioned(self) -> Iterator[Slot]:
        groups = getattr(self.wrapper, "bit16_groups", None) or self.wrapper.bf16_groups
        for number, parameters in enumerate(groups):
            holder = self.inner.param_groups[number]["params"][0]
            self.members.append((holder, parameters))
            for parameter in parameters:
                if (mapping := parameter._hp_mapping) is not None:
                    master, own = mapping.hp_fragment_address, mapping.lp_fragment_address
                    yield Slot(holder, master.start, self._pieces(parameter, own.start, own.numel))

    def _sharded(self) -> Iterator[Slot]:
        for number, parameters in enumerate(self.wrapper.fp16_groups):
            self.members.append((self.wrapper.fp32_partitioned_groups_flat[number], parameters))
            for parameter in parameters:
                number, start, length = self.wrapper.grad_position[self.wrapper.get_param_id(parameter)]
                first = dist.get_rank(parameter.ds_process_group) * length
                numel = min(length, parameter.ds_numel - first)  # the rest is padding
                if numel > 0:
                    holder = self.wrapper.fp32_partitioned_groups_flat[number]
                    yield Slot(holder, start, self._pieces(parameter, first, numel))

    def layout(self) -> dict[int, list[Part]]:
        """Return the parts of every tensor that the optimizer updates, by its ``id``; experts must not be shared."""
        own = {(id(slot.holder), piece.name): (piece, slot.start) for slot in self.all for piece in slot.pieces}
        layout: dict[int, list[Part]] = {}
        for holder, parameters in self.members:
            layout[id(holder)] = []
            for parameter in parameters:
                name, shape = self.names[id(parameter)], tuple(getattr(parameter, "ds_shape", parameter.shape))
                piece, start = own.get((id(holder), name), (Piece(name, 0, 0), 0))
                layout[id(holder)].append(Part(name, shape, piece.offset, piece.numel, start))
        return layout

    def _muon_momenta(self) -> Iterator[Slot]:
        for number, group in enumerate(self.inner.param_groups):
            if not group.get("use_muon"):
                continue
            start = 0
            for parameter in self.wrapper.params_in_partition[number]:
                yield Slot(group["params"][0], start, self._pieces(parameter, 0, parameter.numel()))
                start += parameter.numel()


@dataclass(frozen=True)
class OptimizerState:
    """A rank's part of the optimizer state."""

    pieces: list[StatePiece]
    numbers: dict[str, dict[str, float]]
    """Numbers in each parameter's state, such as its step count."""
    scalars: list[str]
    """Names of the numbers that the optimizer keeps as tensors."""

    def only(self, names: set[str]) -> OptimizerState:
        """Return the part of some parameters."""
        pieces = [piece for piece in self.pieces if piece.name in names]
        return OptimizerState(pieces, {name: self.numbers[name] for name in sorted(names)}, self.scalars)


def read_state(slots: Slots, *, keep_masters: bool) -> OptimizerState:
    """Read the state of an optimizer as pieces.

    Args:
        slots: of the engine.
        keep_masters: whether to include the master weights.
    """
    pieces: list[StatePiece] = []
    numbers: dict[str, dict[str, float]] = {}
    scalars: set[str] = set()
    special = {id(slot.holder) for slot in slots.momenta}
    for slot in slots.all:
        own: dict[str, float] = {}
        if keep_masters:
            pieces += _cut(slot, MASTER, slot.holder)
        for key, value in slots.inner.state.get(slot.holder, {}).items():
            if not isinstance(value, torch.Tensor) or value.ndim == 0:
                own[key] = float(value)
                scalars |= {key} if isinstance(value, torch.Tensor) else set()
            elif key == MOMENTUM and id(slot.holder) in special:
                continue
            else:
                pieces += _cut(slot, key, value)
        for piece in slot.pieces:
            numbers.setdefault(piece.name, {}).update(own)
    for slot in slots.momenta:
        if (momentum := slots.inner.state.get(slot.holder, {}).get(MOMENTUM)) is not None:
            pieces += _cut(slot, MOMENTUM, momentum)
    if isinstance(slots.inner, Adafactor):
        pieces += _read_factors(slots.inner, numbers)
    return OptimizerState(pieces, numbers, sorted(scalars))


def _read_factors(optimizer: Adafactor, numbers: dict[str, dict[str, float]]) -> Iterator[StatePiece]:
    """Read the rows and columns that all processes have from the process with a parameter's first element."""
    for part in optimizer.parts:
        if part.numel and part.name in optimizer.steps:
            numbers[part.name] = {"step": float(optimizer.steps[part.name])}
            if part.offset == 0:
                for key, factor in optimizer.factors.get(part.name, {}).items():
                    yield StatePiece(part.name, key, 0, factor.flatten(), tuple(factor.shape))


def _load_factors(optimizer: Adafactor, saved: StateReader, device: torch.device) -> None:
    for part in optimizer.parts:
        if (step := saved.numbers.get(part.name, {}).get("step")) is not None:
            optimizer.steps[part.name] = int(step)
        for key in saved.keys(part.name):
            if (shape := saved.shape(part.name, key)) is not None:
                factor = optimizer.factors.setdefault(part.name, {})[key] = torch.empty(shape, device=device)
                saved.read_into(factor.view(-1), part.name, key, 0)


def _cut(slot: Slot, key: str, values: torch.Tensor) -> Iterator[StatePiece]:
    flat, start = values.detach().reshape(-1), slot.start
    for piece in slot.pieces:
        yield StatePiece(piece.name, key, piece.offset, flat[start : start + piece.numel])
        start += piece.numel


@torch.no_grad()
def load_state(slots: Slots, saved: StateReader, masters: Mapping[str, torch.Tensor] | None = None) -> None:
    """Load a saved state into an optimizer that has not made a step yet.

    Args:
        slots: of the engine.
        saved: the state, of any world size.
        masters: float32 weights by name, if the engine keeps master weights; used where the state has none.

    Raises:
        CheckpointError: the state lacks a parameter.
    """
    state = slots.inner.state
    special = {id(slot.holder) for slot in slots.momenta}
    for slot in slots.all:
        held = state[slot.holder]
        for piece in slot.pieces:
            if piece.name not in saved.names:
                raise CheckpointError(
                    f"{piece.name} was not trained when the state was saved: resume with the same train.frozen and optim.name"
                )
            numbers = {} if isinstance(slots.inner, Adafactor) else saved.numbers.get(piece.name, {})
            for key, number in numbers.items():
                held[key] = torch.tensor(number, device=slot.holder.device) if key in saved.scalars else int(number)
        keys = {key for piece in slot.pieces for key in saved.keys(piece.name)} - {WEIGHT}  # loaded before the engine is built
        if masters is not None and MASTER not in keys:
            _copy(slot, masters)
        for key in sorted(keys):
            if key == MASTER:
                _fill(slot, key, slot.holder.data, saved)
            elif saved.shape(slot.pieces[0].name, key) is None and not (key == MOMENTUM and id(slot.holder) in special):
                _fill(slot, key, held.setdefault(key, torch.zeros_like(slot.holder, dtype=torch.float32)), saved)
    if isinstance(slots.inner, Adafactor):
        _load_factors(slots.inner, saved, slots.all[0].holder.device if slots.all else torch.device("cpu"))
    for slot in slots.momenta:
        # The buffer holds whole parameters, so its length is not that of the partition.
        same_buffer = [other for other in slots.momenta if other.holder is slot.holder]
        length = max(other.start + sum(piece.numel for piece in other.pieces) for other in same_buffer)
        buffer = state[slot.holder].setdefault(MOMENTUM, torch.zeros(length, device=slot.holder.device))
        _fill(slot, MOMENTUM, buffer, saved)


def _copy(slot: Slot, masters: Mapping[str, torch.Tensor]) -> None:
    flat, start = slot.holder.detach().view(-1), slot.start
    for piece in slot.pieces:
        flat[start : start + piece.numel].copy_(masters[piece.name].view(-1)[piece.offset : piece.offset + piece.numel])
        start += piece.numel


def _fill(slot: Slot, key: str, values: torch.Tensor, saved: StateReader) -> None:
    flat, start = values.detach().view(-1), slot.start
    for piece in slot.pieces:
        saved.read_into(flat[start : start + piece.numel], piece.name, key, piece.offset)
        start += piece.numel
