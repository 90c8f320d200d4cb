"""Control images on the wires: what an edit model is told of them, by the stock nodes themselves.

Every family takes reference latents under one key, as the stock node ReferenceLatent sets it. Of
some families the text encoder sees the images too; for these ComfyUI has a node that does both, and
that node is what people sample with. So it is what encodes here.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...core.errors import CuratorError

AUTO = "auto"
REFERENCE_LATENT = "ReferenceLatent"
_KEY = "ref_latents"
"""What ComfyUI's models call reference latents."""

_NODES: Mapping[str, tuple[str, str]] = {
    REFERENCE_LATENT: ("nodes_edit_model", "separate"),
    "TextEncodeQwenImageEdit": ("nodes_qwen", "image"),
    "TextEncodeQwenImageEditPlus": ("nodes_qwen", "image1"),
    "TextEncodeJoyImageEdit": ("nodes_joyimage", "images"),
    "TextEncodeBooguEdit": ("nodes_boogu", "image_1"),
    "TextEncodeMageFlowEdit": ("nodes_mage", "image_1"),
}
"""Stock nodes that encode a caption with images: their module, and how they take the images."""

ENCODINGS = (AUTO, *_NODES)
"""How control images can be told."""

_OF_FAMILY = {
    "QwenImage": "TextEncodeQwenImageEdit",
    "JoyImage": "TextEncodeJoyImageEdit",
    "Boogu": "TextEncodeBooguEdit",
    "MageFlow": "TextEncodeMageFlowEdit",
}
"""By ComfyUI's class of the model; of all others, ReferenceLatent."""


class ReferencesError(CuratorError):
    """Control images are wired for a model that takes none, or not in this way."""


def check(model: Any) -> None:
    """Insist that a ``BaseModel`` makes something of reference latents.

    Raises:
        ReferencesError: It would ignore them.
    """
    network = model.diffusion_model
    methods = [getattr(type(network), name, None) for name in ("forward", "_forward")]
    known = any(
        _KEY in inspect.signature(method).parameters for method in methods if method is not None
    )
    # Krea 2 ignores them unless its file says by which method they are told.
    if not known or getattr(network, "default_ref_method", "") is None:
        raise ReferencesError(
            f"{type(model).__name__} takes no reference latents, so that control images would "
            "change nothing. Wire an edit model (Flux.1 Kontext, Flux.2, Qwen-Image-Edit, "
            "OmniGen2 ...), or take the control images away."
        )


def encoding_of(model: Any, count: int, wanted: str = AUTO) -> str:
    """Return the stock node that tells a ``BaseModel`` of so many control images.

    Args:
        model: What is trained.
        count: Control images of one training image.
        wanted: One of :data:`ENCODINGS`.

    Raises:
        ReferencesError: This ComfyUI does not have the node, or it takes one image alone.
    """
    own = _OF_FAMILY.get(type(model).__name__, REFERENCE_LATENT)
    if own == "TextEncodeQwenImageEdit" and count > 1:
        own = "TextEncodeQwenImageEditPlus"
    name = own if wanted == AUTO else wanted
    _node(name)
    if name == "TextEncodeQwenImageEdit" and count > 1:
        raise ReferencesError(
            f"{name} takes one control image for each image, not {count}: choose "
            "TextEncodeQwenImageEditPlus or auto."
        )
    return name


def encode(
    model: Any, clip: Any, vae: Any, caption: str, images: Sequence[Tensor], wanted: str = AUTO
) -> dict[str, Any]:
    """Return what a KSampler is told of a caption with control images, by name.

    Args:
        model: A ``BaseModel``.
        clip: A CLIP.
        vae: A VAE.
        caption: The caption.
        images: IMAGEs of one image each, ``(1, height, width, 3)``.
        wanted: One of :data:`ENCODINGS`.

    Raises:
        ReferencesError: As :func:`encoding_of`.
    """
    name = encoding_of(model, len(images), wanted)
    node, how = _node(name), _NODES[name][1]
    if how == "separate":
        found = clip.encode_from_tokens_scheduled(clip.tokenize(caption))
        for image in images:
            found = _first(node.execute(found, {"samples": vae.encode(image)}))
    elif how in ("image", "image1"):
        named = {f"image{n}": image for n, image in enumerate(images, start=1)}
        found = _first(
            node.execute(clip, caption, vae, **(named if how == "image1" else {"image": images[0]}))
        )
    else:
        prefix = "image" if how == "images" else "image_"
        several = {f"{prefix}{n}": image for n, image in enumerate(images, start=1)}
        further = {"negative_prompt": ""} if how == "image_1" else {}
        found = _first(node.execute(clip, caption, vae=vae, images=several, **further))
    cond, told = found[0]
    return {"cond": cond, **told}


def _node(name: str) -> Any:
    """Return the class of a stock node.

    Raises:
        ReferencesError: This ComfyUI does not have it.
    """
    try:
        return getattr(importlib.import_module(f"comfy_extras.{_NODES[name][0]}"), name)
    except (ImportError, AttributeError) as error:
        raise ReferencesError(
            f"This ComfyUI has no node {name}, by which control images would be told. Update "
            f"ComfyUI, or choose {REFERENCE_LATENT}."
        ) from error


def _first(output: Any) -> Any:
    """Return the first output of a stock node, a conditioning."""
    return output.result[0]
