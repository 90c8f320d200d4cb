"""Families of models: what a LoRA file calls the model that it is for.

A header's architecture and the version of the base model decide how galleries and interfaces sort
LoRA files. Families that kohya's sd-scripts train are named as there (``library/sai_model_spec.py``
and the ``MODEL_VERSION_*`` of its ``library``); of the others the version is what ai-toolkit writes
(``get_base_model_version``), or else musubi-tuner (``dataset/architectures.py``), and the
architecture is spelled as kohya spells those: lower case, with hyphens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A family of models, or one that is trained further and has the same layout.

    Attributes:
        name: What options and presets call it.
        title: What people call it.
        architecture: Its kind in the words of ModelSpec.
        version: The base model's version, in kohya's words.
        sign: Pattern in the name of a checkpoint by which it is told from the first family of its
            architecture; that one has none.
    """

    name: str
    title: str
    architecture: str
    version: str
    sign: str = ""


_XL = "stable-diffusion-xl-v1-base"

FAMILIES: tuple[Family, ...] = (
    Family("sd1", "Stable Diffusion 1", "stable-diffusion-v1", "sd_v1"),
    Family("sd2", "Stable Diffusion 2", "stable-diffusion-v2-512", "sd_v2"),
    Family("sd2-v", "Stable Diffusion 2, v", "stable-diffusion-v2-768-v", "sd_v2_v"),
    Family("sdxl", "SDXL", _XL, "sdxl_base_v1-0"),
    # Interfaces take for SDXL what begins with "sdxl_", and for SD 1 what does not.
    Family("noobai", "NoobAI", _XL, "sdxl_noobai", r"noob[ _-]?(ai|xl)"),
    Family("illustrious", "Illustrious", _XL, "sdxl_illustrious", r"illustrious|ilxl"),
    Family("pony", "Pony", _XL, "sdxl_pony", r"pony"),
    Family("sd3", "SD3", "stable-diffusion-3-medium", "sd3_medium"),
    Family("sd3.5-medium", "SD3.5 Medium", "stable-diffusion-3-5-medium", "sd3.5_medium"),
    Family("sd3.5-large", "SD3.5 Large", "stable-diffusion-3-5-large", "sd3.5_large"),
    Family("flux1", "Flux.1", "flux-1-dev", "flux1"),
    Family("flux1-kontext", "Flux.1 Kontext", "flux-1-kontext-dev", "flux1_kontext"),
    Family("flux1-schnell", "Flux.1 Schnell", "flux-1-schnell", "flux1_schnell"),
    Family("flux2", "Flux.2", "flux-2-dev", "flux2"),
    Family("flux2-klein-4b", "Flux.2 Klein 4B", "flux-2-klein-4b", "flux2_klein_4b"),
    Family("flux2-klein-9b", "Flux.2 Klein 9B", "flux-2-klein-9b", "flux2_klein_9b"),
    Family("chroma", "Chroma", "chroma", "chroma"),
    Family("chroma-radiance", "Chroma Radiance", "chroma-radiance", "chroma_radiance"),
    Family("qwen-image", "Qwen-Image", "qwen-image", "qwen_image"),
    Family("qwen-image-edit", "Qwen-Image-Edit", "qwen-image-edit", "qwen_image_edit"),
    Family("z-image", "Z-Image", "z-image", "zimage"),
    Family("z-image-turbo", "Z-Image Turbo", "z-image-turbo", "zimage_turbo"),
    Family("lumina2", "Lumina 2", "lumina-2", "lumina2"),
    Family("hidream", "HiDream", "hidream-i1", "hidream_i1"),
    Family("hunyuan-image", "HunyuanImage 2.1", "hunyuan-image-2.1", "hunyuan-image-2.1"),
    Family("wan2.1", "Wan 2.1", "wan2.1", "wan_2.1"),
    Family("wan2.2", "Wan 2.2", "wan2.2-14b", "wan_2.2_14b"),
    Family("wan2.2-5b", "Wan 2.2 5B", "wan2.2-5b", "wan_2.2_5b"),
    Family("krea2", "Krea 2", "krea-2", "krea2"),
    Family("krea2-turbo", "Krea 2 Turbo", "krea-2-turbo", "krea2_turbo"),
    Family("anima", "Anima", "anima", "anima"),
    Family("cosmos-predict2", "Cosmos-Predict2", "cosmos-predict2", "cosmos_predict2"),
    Family("ideogram4", "Ideogram 4", "ideogram-4", "ideogram4"),
    Family("ernie", "Ernie", "ernie-image", "ernie_image"),
    Family("auraflow", "AuraFlow", "auraflow", "auraflow"),
    Family("pixart-alpha", "PixArt Alpha", "pixart-alpha", "pixart_alpha"),
    Family("pixart-sigma", "PixArt Sigma", "pixart-sigma", "pixart_sigma"),
    Family("kandinsky5", "Kandinsky 5", "kandinsky-5", "kandinsky5"),
    Family("omnigen2", "OmniGen2", "omnigen2", "omnigen2"),
    Family("longcat", "LongCat", "longcat-image", "longcat_image"),
    Family("ovis", "Ovis", "ovis-image", "ovis_image"),
    Family("joyimage", "JoyImage", "joyimage", "joyimage"),
    Family("mage", "Mage", "mage-flow", "mageflow"),
    Family("lens", "Lens", "lens", "lens"),
    Family("boogu", "Boogu", "boogu-image", "boogu_image"),
)
"""Every family that has a name of its own; ``sign`` tells the ones of one layout apart."""

_SAME_LAYOUT: Mapping[str, tuple[tuple[str, str], ...]] = {
    "flux1": (("kontext", "flux1-kontext"),),
    "qwen-image": (("edit", "qwen-image-edit"),),
    "z-image": (("turbo", "z-image-turbo"),),
    "krea2": (("turbo", "krea2-turbo"),),
    "wan2.1": ((r"wan[ _.-]?2[ _.-]?2", "wan2.2"),),
}
"""Families with an architecture of their own whose weights alone do not tell them from another."""


@dataclass(frozen=True)
class Guess:
    """Which family a model is of, and how that is known.

    Attributes:
        family: The family; None of a model that no table names.
        source: How it is known, in words.
    """

    family: Family | None
    source: str


def named(name: str) -> Family | None:
    """Return the family of a name, if there is one."""
    return next((family for family in FAMILIES if family.name == name), None)


def recognised(architecture: str, says: Mapping[str, str] | None = None) -> Guess:
    """Tell a model's family.

    Args:
        architecture: As :attr:`.Denoiser.architecture`: what the weights' layout says.
        says: What the model is called, by where: ``{"its file's name": "ponyDiffusionV6XL"}``.
    """
    found = [family for family in FAMILIES if family.architecture == architecture]
    if not found:
        return Guess(None, "its layout is of no family that has a name here")
    plain = next(family for family in found if not family.sign)
    others = [(family.sign, family) for family in found if family.sign]
    others += [
        (sign, family)
        for sign, name in _SAME_LAYOUT.get(plain.name, ())
        if (family := named(name)) is not None
    ]
    for sign, family in others:
        for where, text in (says or {}).items():
            if re.search(sign, text, re.IGNORECASE):
                return Guess(family, f"read from {where}, '{text}'")
    return Guess(plain, "read from the layout of its weights")
