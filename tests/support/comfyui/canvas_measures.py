"""Where things are on ComfyUI's page: nodes, their widgets and images, in both renderings."""

from __future__ import annotations

from dataclasses import dataclass

_MEASURE = """() => {
    const {ds, canvas, graph} = window.app.canvas;
    const edge = canvas.getBoundingClientRect();
    const box = element => {
        const r = element.getBoundingClientRect();
        return [(r.x - edge.x) / ds.scale - ds.offset[0], (r.y - edge.y) / ds.scale - ds.offset[1],
            r.width / ds.scale, r.height / ds.scale];
    };
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    return {
        groups: graph.groups.map(g => [g.title, ...g.pos, ...g.size]),
        nodes: graph.nodes.map(node => {
            const element = document.querySelector(`[data-node-id="${node.id}"]`);
            const parts = [];
            let images = (node.imgs ?? []).length;
            if (element) {
                const shown = [...element.querySelectorAll("img")].filter(i => i.naturalWidth > 1);
                images = shown.length;
                shown.forEach(i => parts.push(["image", ...box(i)]));
                element.querySelectorAll('.lg-node-widget, [data-testid="node-widget"]')
                    .forEach(w => parts.push([w.innerText.split("\\n")[0], ...box(w)]));
            } else for (const w of node.widgets ?? []) {
                if (w.hidden || w.y === undefined) continue;
                const high = w.computedHeight ?? w.computeSize?.(node.size[0])[1] ?? 20;
                parts.push([w.name, node.pos[0], node.pos[1] + w.y, node.size[0], high]);
            }
            return {
                id: String(node.id), type: node.type, name: node.title, html: Boolean(element),
                box: element ? box(element)
                    : [node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title],
                parts, images,
                results: (window.app.nodeOutputs[node.id]?.images ?? []).length,
            };
        }),
    };
}"""


@dataclass(frozen=True)
class Seen:
    """What the page shows of a node.

    Attributes:
        name: Its title.
        type: Its class.
        html: Whether it is drawn by the newer rendering.
        box: Its frame with the title bar, as ``(x, y, width, height)`` on the canvas.
        parts: Its widgets and images: a name, and a box.
        images: How many images it shows.
        results: How many images its result has.
    """

    name: str
    type: str
    html: bool
    box: tuple
    parts: tuple
    images: int
    results: int

    def outgrown(self, slack=4):
        """Return the widgets and images that stand out of the frame."""
        return [name for name, *part in self.parts if not inside(part, self.box, slack)]


def measure(canvas):
    """Return the nodes of the graph that the page shows, and the boxes of its frames."""
    canvas.page.wait_for_timeout(500)
    found = canvas.page.evaluate(_MEASURE)
    nodes = [
        Seen(
            one["name"], one["type"], one["html"], tuple(one["box"]),
            tuple(map(tuple, one["parts"])), one["images"], one["results"],
        )
        for one in found["nodes"]
    ]  # fmt: skip
    return nodes, [tuple(group[1:]) for group in found["groups"]]


def overlaps(nodes, slack=1):
    """Return the names of those whose frames lie on each other, in pairs."""
    return [
        (one.name, other.name)
        for number, one in enumerate(nodes)
        for other in nodes[:number]
        if overlap(one.box, other.box, slack)
    ]


def overlap(one, other, slack=0):
    """Whether two boxes ``(x, y, width, height)`` have more than an edge in common."""
    return all(
        one[at] + slack < other[at] + other[at + 2] and other[at] + slack < one[at] + one[at + 2]
        for at in (0, 1)
    )


def inside(box, frame, slack=0):
    """Whether a box lies in another."""
    return all(
        frame[at] - slack <= box[at] and box[at] + box[at + 2] <= frame[at] + frame[at + 2] + slack
        for at in (0, 1)
    )


def smallest_text(canvas):
    """Return the least height in pixels on the screen of the letters in notes."""
    return canvas.page.evaluate(
        """() => {
            const scale = window.app.canvas.ds.scale, sizes = [];
            const notes = ".comfy-markdown .tiptap, .comfy-markdown-content";
            for (const note of document.querySelectorAll(notes)) {
                const walker = document.createTreeWalker(note, NodeFilter.SHOW_TEXT);
                while (walker.nextNode()) {
                    const around = walker.currentNode.parentElement;
                    if (walker.currentNode.data.trim() && around.getClientRects().length)
                        sizes.push(parseFloat(getComputedStyle(around).fontSize) * scale);
                }
            }
            return sizes.length ? Math.min(...sizes) : 0;
        }"""
    )
