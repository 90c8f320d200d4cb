"""Color profiles: pixels as sRGB, which every trainer and every analysis takes them for."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

WHITE = (255, 255, 255)
"""What is seen through transparent pixels unless another color is asked for."""

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}
_ALIKE = 3
"""Grey values by which a profile may differ from sRGB and still be it: published sRGB profiles are
rounded differently."""


def to_srgb(image: Any) -> Any:
    """Return a PIL image with its pixels in sRGB, in mode L, LA, RGB or RGBA, without a profile.

    A profile that is damaged, or of another color space than the pixels, is ignored, as browsers
    do. Relative colorimetric with black point compensation, as browsers and photo editors convert.

    Args:
        image: A loaded PIL image of any mode of 8 bits a channel.
    """
    from PIL import Image

    profile = image.info.get("icc_profile")
    alpha = None
    if image.mode in ("RGBA", "LA"):
        alpha = image.getchannel("A")
    base = image.convert(image.mode[:-1]) if alpha is not None else image
    transform = transform_of(profile, base.mode) if profile else None
    if transform is not None:
        base = _applied(transform, base)
    elif base.mode not in ("L", "RGB"):
        base = base.convert("RGB")
    if alpha is not None:
        base = Image.merge(base.mode + "A", (*base.split(), alpha))
    if base is image and profile:
        base = image.copy()
    base.info.pop("icc_profile", None)
    return base


def is_srgb(profile: bytes | None, mode: str) -> bool:
    """Whether pixels of a mode (RGB, L, ...) with this profile are sRGB as they are."""
    space = {"RGBA": "RGB", "LA": "L", "P": "RGB", "PA": "RGB", "1": "L"}.get(mode, mode)
    return not profile or transform_of(profile, space) is None


def on_background(image: Any, background: tuple[int, int, int] = WHITE) -> Any:
    """Return a PIL image of mode LA or RGBA as it is seen on a color; others as they are.

    Hidden colors of transparent pixels are gone; an image that is opaque keeps its pixels.
    """
    from PIL import Image

    if image.mode not in ("LA", "RGBA"):
        return image
    if image.getchannel("A").getextrema()[0] == 255:
        return image.convert(image.mode[:-1])
    ground = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


@lru_cache(maxsize=64)
def transform_of(profile: bytes, mode: str) -> Any | None:
    """Return the transform from a profile to sRGB; ``None`` where nothing is to be changed.

    Args:
        profile: ICC profile.
        mode: Mode of the pixels: RGB, L, CMYK or LAB.
    """
    from PIL import Image, ImageCms

    if mode not in _SPACES:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "RGB" and _changes_little(transform):
            return None
        if mode == "L" and _changes_little(transform, Image.linear_gradient("L")):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform


def _changes_little(transform: Any, sample: Any = None) -> bool:
    import numpy as np
    from PIL import Image

    if sample is None:
        steps = np.linspace(0, 255, 18).round().astype(np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18 * 18, 18, 3)
        sample = Image.fromarray(cube)
    found = np.asarray(_applied(transform, sample)).astype(int)
    return bool(np.abs(found - np.asarray(sample.convert("RGB"))).max() <= _ALIKE)


def _applied(transform: Any, image: Any) -> Any:
    from PIL import ImageCms

    return ImageCms.applyTransform(image, transform)
