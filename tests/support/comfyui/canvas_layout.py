"""Lays a graph out for people: a column a step, a note above its nodes, a frame around both."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.comfyui.pack import part

GAP = 30
"""Between a column's nodes, in pixels of the canvas."""
BETWEEN = 70
"""Between columns: room for the wires."""
TITLE = 30
"""A node's title bar, which lies above its position."""
SLOT, WIDGET, TEXT = 20, 24, 92
"""Heights of a slot, of a widget, and of a text field of several lines."""


@dataclass(frozen=True)
class Node:
    """A node of a column.

    Attributes:
        key: What other nodes' wires call it.
        type: Its class.
        inputs: Widgets' values, and wires as ``(key, output)``; what is left out has its default.
        room: Height in pixels for images below the widgets.
        tall: Height added to each text field of several lines.
        title: Shown instead of the node's display name.
    """

    key: str
    type: str
    inputs: dict = field(default_factory=dict)
    room: int = 0
    tall: int = 0
    title: str = ""


@dataclass(frozen=True)
class Column:
    """A step of the graph: a frame with a title, a note, and nodes below each other."""

    title: str
    note: str
    nodes: tuple[Node, ...]
    width: int = 380
    note_height: int = 170
    color: str = "#3f789e"


def api_graph(columns):
    """Return the columns' nodes as an API graph, numbered from 1, sources first."""
    nodes = {node.key: node for column in columns for node in column.nodes}
    numbers = {}

    def number(key):
        if key not in numbers:
            for value in nodes[key].inputs.values():
                if isinstance(value, tuple):
                    number(value[0])
            numbers[key] = str(len(numbers) + 1)
        return numbers[key]

    for key in nodes:
        number(key)
    return {
        numbers[key]: {
            "class_type": nodes[key].type,
            "inputs": {
                name: [numbers[value[0]], value[1]] if isinstance(value, tuple) else value
                for name, value in nodes[key].inputs.items()
            },
        }
        for key in sorted(numbers, key=lambda key: int(numbers[key]))
    }, numbers


def canvas(columns, describe):
    """Return the columns in the form of the canvas.

    Args:
        columns: Of :class:`Column`, from left to right.
        describe: ``/object_info``'s entry of a class.
    """

    def definition(kind):
        info = describe(kind)
        return info["input"], [str(output) for output in info["output"]], info["output_name"]

    graph, numbers = api_graph(columns)
    made = part("comfy.stock_graph").canvas_graph(graph, definition)
    placed = {node["id"]: node for node in made["nodes"]}
    left = 0
    for column in columns:
        top = column.note_height + TITLE + GAP if column.note else 0
        for spec in column.nodes:
            node = placed[int(numbers[spec.key])]
            node["pos"] = [left, top]
            node["size"] = [column.width, _height(node, spec, describe(spec.type))]
            if spec.title:
                node["title"] = spec.title
            top += node["size"][1] + TITLE + GAP
        if column.note:
            made["last_node_id"] += 1
            made["nodes"].append(_note(column, made["last_node_id"], left))
        made["groups"].append(
            {
                "id": len(made["groups"]) + 1,
                "title": column.title,
                "bounding": [left - 20, -TITLE - 60, column.width + 40, top + 60 + 10],
                "color": column.color,
                "font_size": 24,
                "flags": {},
            }
        )
        left += column.width + BETWEEN
    return made


def _note(column, number, left):
    return {
        "id": number, "type": "MarkdownNote", "pos": [left, 0],
        "size": [column.width, column.note_height], "flags": {}, "order": 0, "mode": 0,
        "inputs": [], "outputs": [], "properties": {}, "widgets_values": [column.note],
        "color": "#432", "bgcolor": "#653",
    }  # fmt: skip


def _height(node, spec, info):
    """Return a node's height: its slots, its widgets, and the room for images."""
    groups = [info["input"].get(group, {}) for group in ("required", "optional")]
    entries = [entry for group in groups for entry in group.values()]
    texts = sum(bool(len(entry) > 1 and entry[1].get("multiline")) for entry in entries)
    widgets = len(node["widgets_values"])
    slots = max(len(node["inputs"]), len(node["outputs"]))
    return slots * SLOT + (widgets - texts) * WIDGET + texts * (TEXT + spec.tall) + spec.room + 16
