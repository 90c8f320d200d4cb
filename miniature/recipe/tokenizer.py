"""A CLIP tokenizer for a small world: every word of the vocabulary is one token."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

POSITIONS = 77
"""Tokens in a prompt, start and end included: as in every CLIP of Stable Diffusion."""
START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def byte_alphabet() -> list[str]:
    """Return the 256 printable characters that stand for bytes, in CLIP's own order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(code) for code in (*printable, *range(256, 256 + 256 - len(printable)))]


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Learn byte-pair merges until every word is a single token.

    The pairs are merged in all words at once, the most frequent first, which is what a tokenizer
    does when it encodes; so no merge for one word can spoil another.

    Args:
        words: Lower-case words of letters.

    Returns:
        The merges in order of rank.
    """
    spelled = [(*word[:-1], word[-1] + _WORD_END) for word in sorted(set(words))]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for pieces in spelled for pair in pairwise(pieces))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(pieces, best) for pieces in spelled]


def _merged(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    position = 0
    while position < len(pieces):
        if pieces[position : position + 2] == pair:
            merged.append(pair[0] + pair[1])
            position += 2
        else:
            merged.append(pieces[position])
            position += 1
    return tuple(merged)


def write_tokenizer(folder: Path, words: Iterable[str]) -> Path:
    """Write the files of a ``CLIPTokenizer`` into a folder.

    Args:
        folder: Where ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` go.
        words: Words that become one token each; hyphenated ones become their parts, because
            CLIP splits at hyphens. All other text falls back to pieces and bytes.

    Returns:
        The folder.
    """
    parts = {part for word in words for part in re.findall(r"[a-z]+", word.lower())}
    merges = learn_merges(parts)
    alphabet = byte_alphabet()
    tokens = [*alphabet, *(letter + _WORD_END for letter in alphabet)]
    tokens += [left + right for left, right in merges]
    # Two different merges can spell the same piece: it is one token all the same.
    tokens = [*dict.fromkeys(tokens), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": POSITIONS,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer as any CLIP tokenizer is loaded."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)
