"""Keys and values of the beginnings of prompts, kept for later prompts that begin with the same tokens and images.

Prompts are cut into blocks of tokens. The name of a block is a digest of its tokens, of the images in it, and of the name of
the block before it, so equal names mean equal beginnings (the method of vLLM's prefix cache). The blocks that were used least
recently are dropped first, the ends of prompts before their beginnings.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

import torch

from mm1.generation.cache import RowStates
from mm1.generation.encode import Encoded
from mm1.generation.images import key_of

BLOCK_TOKENS = 16


def block_names(encoded: Encoded, image_token_id: int, image_tokens: int) -> list[bytes]:
    """Return the names of the complete blocks of a prompt without its last token, which must be processed."""
    image_keys = [key_of(image).encode() for image in encoded.images]
    names: list[bytes] = []
    name, seen = b"", 0
    for start in range(0, len(encoded.tokens) - BLOCK_TOKENS, BLOCK_TOKENS):
        block = encoded.tokens[start : start + BLOCK_TOKENS]
        digest = hashlib.blake2b(name, digest_size=16)
        digest.update(array("q", block).tobytes())
        count = block.count(image_token_id)
        # Images that have tokens in this block; the tokens before it place them.
        for image in image_keys[seen // image_tokens : -(-(seen + count) // image_tokens)]:
            digest.update(hashlib.blake2b(image, digest_size=16).digest())
        seen += count
        name = digest.digest()
        names.append(name)
    return names


class PrefixCache:
    """Blocks of processed prompts.

    Args:
        max_bytes: size limit; 0 = no cache.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._blocks: OrderedDict[bytes, RowStates] = OrderedDict()

    def match(self, names: Sequence[bytes]) -> int:
        """Count the blocks at the beginning of a prompt that are in the cache."""
        return next((number for number, name in enumerate(names) if name not in self._blocks), len(names))

    @torch.inference_mode()
    def states(self, names: Sequence[bytes]) -> RowStates:
        """Return the keys and values of these blocks, which are in the cache, one after the other."""
        blocks = [self._blocks[name] for name in names]
        self._touch(names)
        return [torch.cat(parts, dim=1) for parts in zip(*blocks, strict=True)]

    @torch.inference_mode()
    def store(self, names: Sequence[bytes], first: int, states: RowStates) -> None:
        """Keep blocks of a prompt.

        Args:
            names: names of the prompt's blocks from its beginning.
            first: number of the first block to keep.
            states: keys and values of the prompt from its beginning, of all these blocks.
        """
        for number in range(first, len(names) if self.max_bytes else 0):
            if names[number] not in self._blocks:
                # Clones, because a view would keep the whole prompt in memory.
                span = slice(number * BLOCK_TOKENS, (number + 1) * BLOCK_TOKENS)
                self._blocks[names[number]] = [tensor[:, span].clone() for tensor in states]
                self.num_bytes += _size(self._blocks[names[number]])
        self._touch([name for name in names if name in self._blocks])
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= _size(self._blocks.popitem(last=False)[1])

    def clear(self) -> bool:
        """Drop everything; return whether there was anything."""
        held = bool(self._blocks)
        self._blocks.clear()
        self.num_bytes = 0
        return held

    def _touch(self, names: Sequence[bytes]) -> None:
        for name in reversed(names):
            self._blocks.move_to_end(name)


def _size(states: RowStates) -> int:
    return sum(tensor.nbytes for tensor in states)
