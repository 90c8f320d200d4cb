"""Captions by a vision-language model on a CLIP wire, where this ComfyUI lets one write text.

Text encoders of today's image models are language models, and some of them see: Gemma, Qwen3-VL,
Qwen3.5. ComfyUI's own node *Generate Text* calls what is called here.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import CuratorError
from .identity import weights_identity

if TYPE_CHECKING:
    from ...core.analysis.decoding import Pixels
    from ...core.captions.settings import CaptionSettings

_SIDE = 1024
_CHATML = "<|im_start|>"
_TEMPLATE = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
"""Qwen's, without what image models' own templates ask for besides."""
_WITHOUT_HEAD = ("Qwen25_7BVLI",)
"""Models that ComfyUI loads without the layer that makes words: what they write is nonsense."""


class NoTextError(CuratorError):
    """The model on a CLIP wire cannot describe images."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The CLIP on the wire cannot describe images: {reason}. Load a text encoder that is a "
            "vision-language model (Qwen3-VL, Gemma 3 with vision, Qwen3.5), or leave the wire "
            "away and name a model."
        )


class WireCaptioner:
    """A vision-language model of ComfyUI; see ``core.captions.captioners.Captioner``.

    Args:
        clip: The CLIP wire.
        settings: What it is asked, and how long it may write.

    Raises:
        NoTextError: It does not write, or does not see.
    """

    def __init__(self, clip: Any, settings: CaptionSettings) -> None:
        from ...core.captions.vision_language import PROMPTS

        self._clip = clip
        self._settings = settings
        self.prompt = settings.prompt.strip() or PROMPTS[settings.style]
        self.name = _check(clip)
        self.batch = 1

    @property
    def stops(self) -> tuple[type[BaseException], ...]:
        """Errors that end the work: the user's Cancel, and a model that does not see."""
        import comfy.model_management

        return (NoTextError, comfy.model_management.InterruptProcessingException)

    @property
    def fingerprint(self) -> str:
        """What decides its captions: weights, prompt and length."""
        from ...core.hashing import json_hash

        weights = weights_identity(self._clip.patcher)
        return json_hash(["wire/1", weights, self.prompt, self._settings.max_tokens, _SIDE])

    def find(self, images: Sequence[Pixels]) -> list[bytes]:
        """Ask about each image; return the answers, as JSON."""
        return [self._answer(image) for image in images]

    def caption(self, found: bytes) -> str:
        """Make a caption of an answer."""
        from ...core.captions.vision_language import as_caption

        return as_caption(found)

    def remark(self, found: bytes) -> str:
        """Say where an answer did not come to its end."""
        from ...core.captions.vision_language import CUT
        from ...core.json_text import parse

        return CUT if parse(found)["cut"] else ""

    def _answer(self, image: Pixels) -> bytes:
        from ...core.captions.vision_language import shown
        from ..ui.images import to_batch

        tensor = to_batch([shown(image, _SIDE)])
        tokens = self._clip.tokenize(self.prompt, **_seeing(self._clip, tensor))
        if not _sees(tokens):
            raise NoTextError("its tokenizer takes no image")
        most = self._settings.max_tokens
        ids = self._clip.generate(tokens, do_sample=False, max_length=most)
        text = self._clip.decode(ids)
        # What is generated ends with, or before, the token that says so.
        return json.dumps({"text": text, "cut": len(_flat(ids)) >= most}).encode()


def _check(clip: Any) -> str:
    """Return the name of a CLIP's model; raise unless it writes."""
    inner = getattr(clip, "cond_stage_model", None)
    part = getattr(inner, str(getattr(inner, "clip", "")), inner)
    model = getattr(part, "transformer", None)
    if not (hasattr(clip, "generate") and hasattr(clip, "decode")):
        raise NoTextError("this version of ComfyUI lets no text encoder write")
    name = type(model).__name__ if model is not None else type(inner).__name__
    if not hasattr(model, "generate"):
        raise NoTextError(f"{name} writes no text")
    if any(kind.__name__ in _WITHOUT_HEAD for kind in type(model).__mro__):
        raise NoTextError(f"ComfyUI loads {name} without the layer that makes words of its output")
    return name


def _seeing(clip: Any, image: Any) -> dict[str, Any]:
    """Return what the tokenizer takes of an image, and of how it is asked."""
    taken = inspect.signature(clip.tokenizer.tokenize_with_weights).parameters
    options: dict[str, Any] = {"min_length": 1}
    if "images" in taken:
        options["images"] = [image[..., :3]]
    else:
        options["image"] = image
    if "thinking" in taken:
        options["thinking"] = False
    if "skip_template" in taken:
        options["skip_template"] = False
    own = str(getattr(clip.tokenizer, "llama_template_images", ""))
    if "llama_template" in taken and own.startswith(_CHATML) and "system" in own:
        options["llama_template"] = _TEMPLATE
    return options


def _sees(tokens: Any) -> bool:
    """Whether there is an image among tokens."""
    if isinstance(tokens, dict):
        return any(_sees(value) for value in tokens.values())
    if isinstance(tokens, list):
        return any(_sees(value) for value in tokens)
    first = tokens[0] if isinstance(tokens, tuple) and tokens else None
    return isinstance(first, dict) and first.get("type") == "image"


def _flat(ids: Any) -> list[Any]:
    found = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    return found[0] if found and isinstance(found[0], list) else found
