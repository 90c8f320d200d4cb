"""Vision-language models of transformers, asked for what varies and not for who it is.

Whatever transformers loads as an image-text-to-text model works: models with a chat template
(Qwen-VL, LLaVA, SmolVLM, Gemma, ...) are asked in a conversation, Florence-2 is given its task, and
models that take an image alone (BLIP, GIT) are given that. Decoding is greedy, so that the same
image has the same caption.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..counts import worded
from ..errors import MissingDependencyError
from ..hashing import json_hash
from ..json_text import parse
from ..plain_files import plain_text
from .captioners import CaptionerError, files_fingerprint
from .settings import AUTO, CaptionSettings

if TYPE_CHECKING:
    from PIL import Image

    from ..analysis.decoding import Pixels

_WHAT = (
    "Say what varies from image to image: clothing and what is held, pose, expression, framing, "
    "view, place and background, light, and the style of the image. Do not say who the person is: "
    "leave out face, eyes, hair, skin, body, age, origin and name. Call them 'the person'. "
    "Answer with the caption alone."
)
PROMPTS: Mapping[str, str] = {
    "prose": "Describe this image for training an image generator, in one to three plain "
    f"sentences. {_WHAT}",
    "tags": "Describe this image for training an image generator, as a list of short phrases "
    f"divided by commas, the most important first. {_WHAT}",
}
"""What models are asked that follow instructions, by the style of captions."""

FLORENCE_TASK = "<MORE_DETAILED_CAPTION>"
"""What Florence-2 is asked: it follows tasks, not instructions."""

_TASKS = {"florence2": FLORENCE_TASK, "paligemma": "caption en"}
"""What a model is asked that follows no instructions, by its type."""
_SIDE = 1024
"""Longest side that images are shown in, in pixels: larger ones cost memory and add little."""
_WEIGHTS = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|$)", re.S)
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffd]")
"""Signs that no text file of a caption has."""
_LEAD = re.compile(
    r"^(?:caption:\s*)?(?:(?:the|this|an?)\s+(?:image|photo(?:graph)?|picture)\s+"
    r"(?:shows|depicts|features|is of|captures)\s+)?",
    re.I,
)
CUT = "its end was cut, at the most tokens that a caption may have"


class VisionLanguageModel:
    """A vision-language model; see :class:`.captioners.Captioner`.

    Args:
        folder: As ``save_pretrained`` of transformers writes it, with its processor.
        settings: What it is asked, and how it computes.
        name: What people call it.

    Attributes:
        before_loading: Called before its weights are loaded, to make room for them.
    """

    before_loading: Callable[[], None] | None = None

    def __init__(self, folder: Path, settings: CaptionSettings, *, name: str = "") -> None:
        self.folder = folder
        self.name = name or folder.name
        self.settings = settings

    @property
    def batch(self) -> int:
        """How many images it takes at once."""
        return self.settings.batch

    @property
    def stops(self) -> tuple[type[BaseException], ...]:
        """Errors that end the work."""
        return (CaptionerError,)

    @cached_property
    def fingerprint(self) -> str:
        """What decides its captions: weights, prompt, numbers and length."""
        files = [path for path in self.folder.iterdir() if path.suffix in _WEIGHTS]
        return json_hash(
            ["captions/1", files_fingerprint(files), self.prompt, self.settings.max_tokens,
             self._precision, _SIDE]
        )  # fmt: skip

    @cached_property
    def kind(self) -> str:
        """The type of the model, as transformers calls it."""
        try:
            values = parse(plain_text(self.folder / "config.json"))
            return str(values["model_type"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unloadable(f"config.json: {error}") from error

    @cached_property
    def prompt(self) -> str:
        """What it is asked; empty for a model that is given the image alone."""
        if own := self.settings.prompt.strip():
            is_task = self.kind == "florence2" and re.fullmatch(r"[A-Z_]+", own)
            return f"<{own}>" if is_task else own
        if self.kind in _TASKS:
            return _TASKS[self.kind]
        return PROMPTS[self.settings.style] if self._has_conversation else ""

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoProcessor

        try:
            return AutoProcessor.from_pretrained(self.folder, **self._options)
        except Exception as error:  # transformers raises many kinds
            raise self._unloadable(error) from error

    @cached_property
    def _has_conversation(self) -> bool:
        several = (self._processor, getattr(self._processor, "tokenizer", None))
        return any(getattr(one, "chat_template", None) for one in several)

    @property
    def _options(self) -> dict[str, Any]:
        trusted = self.settings.trust_remote_code
        return {"trust_remote_code": trusted, "local_files_only": True}

    @cached_property
    def _device(self) -> str:
        import torch

        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    @cached_property
    def _precision(self) -> str:
        import torch

        if self.settings.precision != AUTO:
            return self.settings.precision
        if self._device == "cuda":
            return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return "float16" if self._device == "mps" else "float32"

    @cached_property
    def _model(self) -> Any:
        import torch
        import transformers

        loader = getattr(transformers, "AutoModelForImageTextToText", None)
        if loader is None:
            raise MissingDependencyError(
                "transformers", "Captions by vision-language models",
                "pip install --upgrade transformers",
            )  # fmt: skip
        if self.before_loading is not None:
            self.before_loading()
        # transformers has renamed torch_dtype to dtype.
        renamed = hasattr(transformers.PretrainedConfig(), "dtype")
        numbers = {"dtype" if renamed else "torch_dtype": getattr(torch, self._precision)}
        try:
            model, about = loader.from_pretrained(
                self.folder, output_loading_info=True, **self._options, **numbers
            )
        except Exception as error:  # transformers raises many kinds
            raise self._unloadable(error) from error
        if missing := sorted(about["missing_keys"]):
            # They would be random, and so would the captions.
            raise self._unloadable(
                f"{len(missing):,} of its weights {worded(len(missing), 'is', 'are')} not in its "
                f"files ({missing[0]}, …), so they are of another layout than transformers' own"
            )
        return model.to(self._device).eval()

    def find(self, images: Sequence[Pixels]) -> list[bytes]:
        """Ask about each image; return the answers, as JSON."""
        import torch

        model, processor = self._model, self._processor
        seen = [shown(image) for image in images]
        inputs = self._inputs(processor, seen)
        given = inputs.get("input_ids")
        most = self.settings.max_tokens
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=most, do_sample=False)
        if given is not None and not model.config.is_encoder_decoder:
            width = given.shape[1]
            # Most models repeat what they were given, some don't.
            if output.shape[1] >= width and torch.equal(output[:, :width], given):
                output = output[:, width:]
        ends = _ends(model)
        texts = processor.batch_decode(output, skip_special_tokens=True)
        return [
            json.dumps({"text": text, "cut": _is_cut(row, ends, most)}).encode()
            for text, row in zip(texts, output.tolist(), strict=True)
        ]

    def caption(self, found: bytes) -> str:
        """Return an answer as a caption: one line, without "The image shows"."""
        return as_caption(found)

    def remark(self, found: bytes) -> str:
        """Say where an answer did not come to its end."""
        return CUT if parse(found)["cut"] else ""

    def _inputs(self, processor: Any, images: Sequence[Image.Image]) -> dict[str, Any]:
        options: dict[str, Any] = {"return_tensors": "pt"}
        if self._has_conversation:
            content = [{"type": "image"}, {"type": "text", "text": self.prompt}]
            text = processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            options |= {"text": [text] * len(images), "images": [[one] for one in images]}
        else:
            options["images"] = list(images)
            if self.prompt:
                options["text"] = [self.prompt] * len(images)
        if "text" in options and len(images) > 1:
            options["padding"] = True
            tokenizer = getattr(processor, "tokenizer", None)
            if tokenizer is not None and not self._model.config.is_encoder_decoder:
                tokenizer.padding_side = "left"  # what is written goes on behind the prompt
        made = processor(**options).to(self._device)
        numbers = next(self._model.parameters()).dtype
        return {
            key: value.to(numbers) if value.is_floating_point() else value
            for key, value in made.items()
            if hasattr(value, "is_floating_point")
        }

    def _unloadable(self, reason: object) -> CaptionerError:
        code = "" if self.settings.trust_remote_code else (
            " Models with code of their own need trust_remote_code: read that code first."
        )  # fmt: skip
        florence = (
            " Of Florence-2, florence-community's files are in transformers' layout, Microsoft's "
            "are not." if "florence" in str(self.folder).lower() else ""
        )  # fmt: skip
        return CaptionerError(
            f"The model in {self.folder} cannot be loaded: {str(reason).strip().rstrip('.')}. "
            "Check that it is an image-text-to-text model that this version of transformers "
            f"knows, and that every file is there.{florence}{code}"
        )


def as_caption(found: bytes) -> str:
    """Make a caption of an answer: in one line, without thoughts and "The image shows".

    Args:
        found: JSON with ``text``, and ``cut`` if the text did not come to its end; what is then
            behind its last full stop is left out.
    """
    answer = parse(found)
    text = _NO_TEXT.sub(" ", _THOUGHT.sub("", answer["text"]))
    text = " ".join(text.split()).strip(" \"'`*")
    text = _LEAD.sub("", text).strip()
    end = text.rfind(". ")
    return text[: end + 1] if answer["cut"] and end > 0 else text


def shown(image: Pixels, side: int = _SIDE) -> Image.Image:
    """Return pixels as an image in RGB, no larger than a model is shown.

    Args:
        image: BGR, 8 bits.
        side: The longest side in pixels.
    """
    from PIL import Image

    made = Image.fromarray(image[..., ::-1].copy())
    made.thumbnail((side, side), Image.Resampling.LANCZOS)
    return made


def _ends(model: Any) -> set[int]:
    found = model.generation_config.eos_token_id
    several = found if isinstance(found, list) else [found]
    return {one for one in several if isinstance(one, int)}


def _is_cut(row: Sequence[int], ends: set[int], most: int) -> bool:
    """Whether a text has reached the most tokens and not its end; a first token may be an end."""
    return len(row) >= most and not ends & set(row[1:])
