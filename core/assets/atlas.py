"""A texture atlas: many images in few textures, and a JSON that says where each is.

The JSON is TexturePacker's *hash* format, which Phaser, PixiJS, and importers for Unity and Godot
read: https://www.codeandweb.com/texturepacker/documentation. Where images lie is found by rectpack
(maximal rectangles, Jylänki 2010): pure Python, complete, without dependencies of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..asset_sections import AtlasRules
from ..errors import CuratorError

APP, FORMAT_VERSION = "character-curator", "1.0"

Size = tuple[int, int]
Box = tuple[int, int, int, int]


class AtlasError(CuratorError):
    """Images do not fit into an atlas."""


@dataclass(frozen=True)
class Frame:
    """Where an image lies in a page.

    Attributes:
        name: Of the image.
        page: Number of the page, from 0 on.
        x: Left edge in the page.
        y: Upper edge in the page.
        box: What of the image is there, without its transparent edges: left, top, right, bottom.
        size: Width and height of the whole image.
    """

    name: str
    page: int
    x: int
    y: int
    box: Box
    size: Size


@dataclass(frozen=True)
class Atlas:
    """Where all images lie.

    Attributes:
        pages: Width and height of each page in pixels: powers of two.
        frames: Where each image lies, in the order of their names.
    """

    pages: tuple[Size, ...]
    frames: tuple[Frame, ...]

    def names(self, stem: str = "atlas") -> list[tuple[str, str]]:
        """Return the names of the texture and the JSON of each page."""
        ends = [""] if len(self.pages) == 1 else [f"-{i}" for i in range(len(self.pages))]
        return [(f"{stem}{end}.png", f"{stem}{end}.json") for end in ends]


def packed(images: Mapping[str, tuple[Size, Box]], rules: AtlasRules) -> Atlas:
    """Find a place for every image, in as few and small pages as will do.

    Args:
        images: By name, the size of each and what of it is not transparent.
        rules: Sizes and distances.

    Raises:
        AtlasError: An image is larger than a page.
    """
    names = sorted(images)
    around = 2 * rules.extrude + rules.padding
    sizes = []
    for name in names:
        left, top, right, bottom = images[name][1]
        sizes.append((right - left + around, bottom - top + around))
        if max(sizes[-1]) > rules.atlas_size - rules.padding:
            raise AtlasError(
                f"{name} has {right - left} x {bottom - top} pixels, and a page of the atlas "
                f"{rules.atlas_size} x {rules.atlas_size}, with {around} around each image. Set a "
                "larger atlas_size, or a smaller size of the assets."
            )
    frames: dict[int, Frame] = {}
    pages: list[Size] = []
    for side, places in _pages(sizes, list(range(len(names))), rules):
        for index, (x, y) in places.items():
            size, box = images[names[index]]
            corner = rules.padding + rules.extrude
            frames[index] = Frame(names[index], len(pages), x + corner, y + corner, box, size)
        pages.append(side)
    return Atlas(tuple(pages), tuple(frames[i] for i in range(len(names))))


_Places = dict[int, tuple[int, int]]


def _pages(
    sizes: Sequence[Size], members: list[int], rules: AtlasRules
) -> Iterator[tuple[Size, _Places]]:
    """Yield each page's size and the places of its images, by their numbers."""
    for side in _sides(sizes, members, rules):
        found = _placed(sizes, members, side, rules.padding, 1)
        if found and len(found[0]) == len(members):
            yield side, found[0]
            return
    whole = (rules.atlas_size, rules.atlas_size)
    for places in _placed(sizes, members, whole, rules.padding, len(members)):
        yield from _smallest(sizes, places, rules)


def _smallest(
    sizes: Sequence[Size], places: _Places, rules: AtlasRules
) -> Iterator[tuple[Size, _Places]]:
    """Yield a page of several in the smallest size that holds what is on it."""
    for side in _sides(sizes, list(places), rules):
        found = _placed(sizes, list(places), side, rules.padding, 1)
        if found and len(found[0]) == len(places):
            yield side, found[0]
            return
    yield (rules.atlas_size, rules.atlas_size), places


def _sides(sizes: Sequence[Size], members: Sequence[int], rules: AtlasRules) -> Iterator[Size]:
    """Yield the sizes of pages that could hold some images, the smallest first."""
    area = sum(sizes[i][0] * sizes[i][1] for i in members)
    widest, highest = (max(sizes[i][axis] for i in members) for axis in (0, 1))
    powers = [1 << n for n in range(3, rules.atlas_size.bit_length())]
    found = [
        (w, h)
        for w in powers
        for h in powers
        if w - rules.padding >= widest
        and h - rules.padding >= highest
        and (w - rules.padding) * (h - rules.padding) >= area
    ]
    # Of equal areas the squarer, then the wider.
    yield from sorted(found, key=lambda side: (side[0] * side[1], max(side), -side[0]))


def _placed(
    sizes: Sequence[Size], members: Sequence[int], page: Size, padding: int, count: int
) -> list[_Places]:
    """Place images into pages of one size; those that do not fit are in none."""
    import rectpack

    packer = rectpack.newPacker(
        mode=rectpack.PackingMode.Offline, pack_algo=rectpack.MaxRectsBssf,
        sort_algo=rectpack.SORT_LSIDE, rotation=False,
    )  # fmt: skip
    packer.add_bin(page[0] - padding, page[1] - padding, count=count)
    for index in members:
        packer.add_rect(*sizes[index], rid=index)
    packer.pack()
    places: dict[int, _Places] = {}
    for number, x, y, _, _, index in packer.rect_list():
        places.setdefault(number, {})[index] = (x, y)
    return [places[number] for number in sorted(places)]


def page_image(atlas: Atlas, page: int, folder: Path, rules: AtlasRules) -> Any:
    """Draw a page of an atlas.

    Args:
        atlas: Where the images lie.
        page: Which page.
        folder: Where the images are, under their names.
        rules: As they were packed with.
    """
    from PIL import Image

    width, height = atlas.pages[page]
    canvas = np.zeros((height, width, 4), np.uint8)
    out = rules.extrude
    for frame in atlas.frames:
        if frame.page == page:
            with Image.open(folder / frame.name, formats=("PNG",)) as image:
                part = np.asarray(image.convert("RGBA").crop(frame.box))
            part = np.pad(part, ((out, out), (out, out), (0, 0)), "edge")
            top, left = frame.y - out, frame.x - out
            canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return Image.fromarray(canvas)


def page_json(atlas: Atlas, page: int, stem: str = "atlas") -> str:
    """Return what a page's JSON says, in TexturePacker's hash format."""
    names = atlas.names(stem)
    width, height = atlas.pages[page]
    frames = {}
    for frame in atlas.frames:
        if frame.page == page:
            left, top, right, bottom = frame.box
            w, h = right - left, bottom - top
            frames[frame.name] = {
                "frame": {"x": frame.x, "y": frame.y, "w": w, "h": h},
                "rotated": False,
                "trimmed": (w, h) != frame.size,
                "spriteSourceSize": {"x": left, "y": top, "w": w, "h": h},
                "sourceSize": {"w": frame.size[0], "h": frame.size[1]},
            }
    meta = {
        "app": APP,
        "version": FORMAT_VERSION,
        "image": names[page][0],
        "format": "RGBA8888",
        "size": {"w": width, "h": height},
        "scale": "1",
    }
    if len(names) > 1:  # as PixiJS finds the other pages
        meta["related_multi_packs"] = [json_ for i, (_, json_) in enumerate(names) if i != page]
    return json.dumps({"frames": frames, "meta": meta}, indent=1) + "\n"
