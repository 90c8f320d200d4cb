"""A reader of texture atlases, after the public description of TexturePacker's JSON (hash).

Of it: ``frame`` is where the image lies in the texture; of a ``rotated`` one, turned clockwise by
90 degrees there, width and height are those before it was turned. ``sourceSize`` is the size before
transparent edges were trimmed, ``spriteSourceSize`` where in it the trimmed image was.
https://www.codeandweb.com/texturepacker/documentation/texture-settings
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image


def read_atlas(path: Path) -> dict[str, Image.Image]:
    """Return every image of an atlas in its original size, of all pages that belong together."""
    found, seen, left = {}, set(), [path]
    while left:
        one = left.pop()
        if one.name in seen:
            continue
        seen.add(one.name)
        data = json.loads(one.read_text(encoding="utf-8"))
        meta = data["meta"]
        texture = Image.open(one.parent / meta["image"])
        assert texture.size == (meta["size"]["w"], meta["size"]["h"])
        assert texture.mode == "RGBA", meta["format"]
        for name, entry in data["frames"].items():
            assert name not in found
            found[name] = _image(texture, entry)
        left += [one.parent / other for other in meta.get("related_multi_packs", ())]
    return found


def _image(texture, entry):
    x, y, w, h = (entry["frame"][key] for key in "xywh")
    if entry["rotated"]:
        part = texture.crop((x, y, x + h, y + w)).transpose(Image.Transpose.ROTATE_90)
    else:
        part = texture.crop((x, y, x + w, y + h))
    inside = entry["spriteSourceSize"]
    assert part.size == (inside["w"], inside["h"])
    source = entry["sourceSize"]
    assert entry["trimmed"] == (part.size != (source["w"], source["h"]))
    whole = Image.new("RGBA", (source["w"], source["h"]))
    whole.paste(part, (inside["x"], inside["y"]))
    return whole
