"""How much of a caption a text encoder reads, counted by its own tokenizer."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CuratorError, MissingDependencyError
from ..generation.model_files import located
from ..generation.models import pipeline_class

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CLIP = "clip"
"""The text encoder of SD 1 and 2 and of SDXL."""
CLIP_TOKENS = 77
"""What CLIP reads, begin and end included (arXiv 2103.00020, section 2.4)."""
LONG_TOKENS = 512
"""What trainings with T5 or a language model as text encoder encode of a caption."""
SHORTER = {"StableDiffusion3Pipeline": 256}
"""The families that encode less of it, by their pipeline's class."""

_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49152 - 256 - 2
_SPECIAL = ("<start_of_text>", "<end_of_text>")
_PRE_TOKENS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class TokenizerError(CuratorError):
    """The tokenizer of a model cannot be had."""


@dataclass(frozen=True)
class TextEncoder:
    """What reads captions.

    Attributes:
        name: What people call it.
        limit: How many tokens of a caption it reads, begin and end not counted.
        count: Returns how many tokens a text is.
    """

    name: str
    limit: int
    count: Callable[[str], int] = field(repr=False, compare=False)

    def cut(self, text: str) -> tuple[str, str] | None:
        """Return what is read of a caption and what is not; ``None`` if all is read.

        A word of which only a part is read counts as not read.
        """
        if self.count(text) <= self.limit:
            return None
        words = text.split(" ")
        low, high = 0, len(words)  # the most words that are read
        while low < high:
            middle = (low + high + 1) // 2
            if self.count(" ".join(words[:middle])) <= self.limit:
                low = middle
            else:
                high = middle - 1
        return " ".join(words[:low]), " ".join(words[low:])


def text_encoder(model: str = CLIP) -> TextEncoder:
    """Return what reads the captions in a training with a model.

    Args:
        model: ``clip``; or a base model: ``miniature``, a folder of a diffusers pipeline, a
            ``.safetensors`` file, or an id of the Hugging Face hub. Of several text encoders the
            one that reads most counts.

    Raises:
        TokenizerError: The model has no tokenizer that can be read.
        ModelNotFoundError: There is no such model.
        MissingDependencyError: A library is missing.
    """
    if model == CLIP:
        tokens = _clip()
        return TextEncoder(
            "CLIP", CLIP_TOKENS - 2, lambda text: len(tokens.encode(text, add_special_tokens=False))
        )
    folder = located(model).folder
    found = [_of_folder(place, folder, model) for place in sorted(folder.glob("tokenizer*"))]
    if not found:
        raise TokenizerError(
            f"The model {model} has no tokenizer in {folder}. Name a whole model, or 'clip'."
        )
    return max(found, key=lambda one: one.limit)


@cache
def _clip() -> Tokenizer:
    """Return CLIP's tokenizer, from the vocabulary that open_clip brings, without loading torch."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    home = find_spec("open_clip")
    if home is None or home.origin is None:
        raise MissingDependencyError(
            "open-clip-torch", "Counting CLIP's tokens", "pip install open-clip-torch"
        )
    with gzip.open(Path(home.origin).with_name(_VOCABULARY), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : _MERGES + 1]
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += [first + second for first, second in merges] + list(_SPECIAL)
    tokens = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=merges,
            end_of_word_suffix="</w>",
            continuing_subword_prefix="",
            fuse_unk=False,
        )
    )
    tokens.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])  # type: ignore[assignment]
    tokens.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(_PRE_TOKENS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokens


def _of_folder(place: Path, folder: Path, model: str) -> TextEncoder:
    from transformers import AutoTokenizer

    try:
        tokens: Any = AutoTokenizer.from_pretrained(place, local_files_only=True)
    except Exception as error:  # transformers raises many kinds for a damaged folder
        raise TokenizerError(f"The tokenizer in {place} cannot be read: {error}.") from error
    kind = type(tokens).__name__.removesuffix("Fast").removesuffix("Tokenizer")
    most = CLIP_TOKENS
    if kind != "CLIP":
        most = SHORTER.get(pipeline_class(folder), LONG_TOKENS)
    special = tokens.num_special_tokens_to_add()
    limit = min(most, tokens.model_max_length) - special

    def count(text: str) -> int:
        return len(tokens(text, add_special_tokens=False, verbose=False)["input_ids"])

    return TextEncoder(f"{kind} of {model}", limit, count)
