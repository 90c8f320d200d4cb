"""Makes the images of the help pages, the graphs' thumbnails and the README's: from real runs.

``python -m tests.support.comfyui.make_images [help] [thumbnails] [readme] [GRAPH ...]`` starts a
ComfyUI and a browser, runs the shipped graphs (the miniature in place of models that must be
downloaded), and takes what the page shows. Look at the images before committing them.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[3]

PREFIX = "CharacterCurator_"
CANVAS = "#222222"
THUMBNAILS = {
    "quick_start": ("taken",),
    "curate_with_a_checkpoint": ("taken", "left"),
    "only_what_is_needed": ("taken",),
    "curate_a_folder": ("load", "taken"),
    "train_from_a_dataset": ("plot", "evaluate"),
    "use_the_lora": ("saved",),
    "two_subjects": ("taken",),
    "augmentation": ("disturb", "taken"),
    "game_assets": ("assets",),
}
"""Of each graph the nodes whose images its thumbnail shows, above each other."""
IN_PLACE = {
    "pack": "miniature", "model": "miniature", "pretrained": "", "width": 128, "height": 128,
    "minimum_confidence": 0.5, "minimum": 0.3, "cfg": 2.5, "steps": 16,
    "minimum_identity": -1.0, "takes": 1, "seeds": "966983-966984",
    "quotas": "cluster=1..", "total": 8,
}  # fmt: skip
"""Widgets that go with the miniature, in place of those that go with real models."""


def main(what):
    """Make the images that are asked for; all of them by default."""
    from playwright.sync_api import sync_playwright

    from quickstart import find_comfyui
    from tests.support.comfyui.canvas_page import FLAGS, CanvasPage
    from tests.support.comfyui.server import Server
    from tests.support.comfyui.shipped_graphs import GRAPHS

    names = [name for name in GRAPHS if name in what] or list(GRAPHS)
    what = set(what) - set(names) or {"help", "thumbnails", "readme"}
    path = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as base, sync_playwright() as driver:
        server = Server(find_comfyui(), Path(base))
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            from tests.support.comfyui.portraits import draw_folder

            draw_folder(server.base / "input" / "photos", count=24)
            canvas = CanvasPage(browser, server, width=3000, height=1500)
            imaged: set[str] = set()
            for name in names:
                outputs = run(canvas, server, name)
                if "thumbnails" in what and name in THUMBNAILS:
                    thumbnail(server, name, outputs)
                if "help" in what:
                    help_images(canvas, imaged)
                if "readme" in what and name == "quick_start":
                    target = ROOT / "docs" / "images" / "comfyui.jpg"
                    save(graph_image(canvas), target, width=1800)
            if "help" in what:
                spare_nodes(canvas, server, imaged)
        finally:
            browser.close()
            server.stop()


def run(canvas, server, name):
    """Open a graph, let the miniature take the place of other models, and press Run.

    Returns:
        History's outputs by the number of the node.
    """
    graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in graph["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            node["type"], node["widgets_values"], node["inputs"] = PREFIX + "LoadMiniature", [], []
    canvas.open(graph)
    if name not in ("quick_start", "train_from_a_dataset", "augmentation", "game_assets"):
        canvas.page.evaluate(
            "changes => window.app.graph.nodes.forEach(n => (n.widgets ?? []).forEach(w => {"
            " if (w.name in changes && w.name !== 'text') w.value = changes[w.name]; }))",
            IN_PLACE,
        )
    done = server.wait(canvas.queue(), 1500)
    assert done.status == "success", done.error
    canvas.page.wait_for_timeout(3000)
    return done.outputs


def spare_nodes(canvas, server, imaged):
    """Write the images of the nodes that no shipped graph has."""
    from tests.support.comfyui.canvas_layout import Column, Node
    from tests.support.comfyui.canvas_layout import canvas as lay_out
    from tests.support.tiny_captioners import tiny_tagger

    tiny_tagger(server.base / "models" / "taggers" / "wd-vit-tagger-v3")
    captioner = {"images": ("load", 0), "model": "wd-vit-tagger-v3", "existing": "append"}
    nodes = (
        Node("load", PREFIX + "LoadImageSet", {"folder": "photos"}, room=300),
        Node(
            "crop",
            PREFIX + "CropImages",
            {"images": ("load", 0), "pack": "miniature", "minimum_confidence": 0.5},
            room=300,
        ),
        Node("caption", PREFIX + "CaptionImages", captioner),
        Node("edit", PREFIX + "EditCaptions", {"images": ("caption", 0), "prune": 1.0}),
        Node("read", PREFIX + "ImageSetToImages", {"images": ("crop", 0), "which": "all"}),
        Node("write", PREFIX + "ImagesToImageSet", {"images": ("read", 0)}, tall=20),
        Node("sheet", PREFIX + "ContactSheet", {"images": ("write", 0)}, room=300),
        Node("export", PREFIX + "DatasetExport", {"images": ("write", 0), "captions": "trigger"}),
        Node("verify", PREFIX + "Verify", {"dataset": ("export", 0)}),
    )
    columns = [Column(node.key, "", (node,)) for node in nodes]
    canvas.open(lay_out(columns, lambda kind: server.get(f"/object_info/{kind}")[kind]))
    assert server.wait(canvas.queue(), 600).status == "success"
    help_images(canvas, imaged)


def thumbnail(server, name, outputs):
    """Write the thumbnail of a graph from what its nodes have shown.

    Each image is as wide as the thumbnail, and cut below its share of the height; what a low one
    leaves is for those that follow.
    """
    from tests.support.comfyui.canvas_layout import api_graph
    from tests.support.comfyui.shipped_graphs import GRAPHS

    _, numbers = api_graph(GRAPHS[name])
    rows = []
    for key in THUMBNAILS[name]:
        shown = outputs[numbers[key]]["images"]
        images = [read(server, entry) for entry in shown[:4]]
        rows.append(images[0] if len(images) == 1 else square(images))
    made = Image.new("RGB", (512, 512), CANVAS)
    top = 0
    for number, row in enumerate(rows):
        whole = ImageOps.contain(row, (512, 100_000))
        height = min(whole.height, (512 - top) // (len(rows) - number))
        made.paste(whole.crop((0, 0, 512, height)), (0, top))
        top += height
    save(made, ROOT / "workflows" / f"{name}.jpg", width=512)


def read(server, entry):
    """Read an image that history names."""
    folder = server.base / entry["type"] / entry["subfolder"]
    return Image.open(folder / entry["filename"]).convert("RGB")


def square(images):
    """Put four images of one size into a square."""
    width, height = images[0].size
    made = Image.new("RGB", (2 * width, 2 * height), CANVAS)
    for number, image in enumerate(images):
        made.paste(image, (width * (number % 2), height * (number // 2)))
    return made


def help_images(canvas, imaged):
    """Write an image of each of the pack's nodes that the page shows, beside the help pages.

    Args:
        canvas: The page, showing a graph that has run.
        pictured: The types that have an image from an earlier graph, and are left out here: later
            graphs run with widgets changed for the miniature. The types of this one are added.
    """
    nodes = canvas.page.evaluate(
        "window.app.graph.nodes.map(n => [n.type, ...n.pos, n.size[0], n.size[1]])"
    )
    for kind, *box in nodes:
        page = ROOT / "web" / "docs" / f"{kind}.md"
        if page.is_file() and kind not in imaged:
            imaged.add(kind)
            target = page.parent / "images" / f"{kind.removeprefix(PREFIX)}.jpg"
            save(canvas.region(*box, margin=8, above=52), target, width=560)


def graph_image(canvas):
    """Return an image of the whole graph."""
    frames = canvas.page.evaluate("window.app.graph.groups.map(g => [...g.pos, ...g.size])")
    left, top = min(f[0] for f in frames), min(f[1] for f in frames)
    right, bottom = max(f[0] + f[2] for f in frames), max(f[1] + f[3] for f in frames)
    return canvas.region(left, top, right - left, bottom - top, margin=10, above=10)


def save(data, target, width):
    """Write an image as JPEG, at most ``width`` pixels wide."""
    image = data if isinstance(data, Image.Image) else Image.open(io.BytesIO(data))
    image = image.convert("RGB")
    if image.width > width:
        size = (width, round(image.height * width / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, "JPEG", quality=84, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
