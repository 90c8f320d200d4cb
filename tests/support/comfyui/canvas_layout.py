"""Lays a graph out for people: a column a step, a note above its nodes, a frame around both.

Sizes hold in both of the page's renderings: a node is as high as the one needs that needs more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, uuid5

from tests.support.comfyui.pack import part

GAP = 30
"""Between a column's nodes, in pixels of the canvas."""
BETWEEN = 60
"""Between columns: room for the wires."""
TITLE = 30
"""A node's title bar, which lies above its position."""
SLOT = 20
"""Height of a slot, in both renderings."""
DRAWN = {"base": 14, "value": 24, "line": 24, "text": 54}
"""Heights on the drawn canvas: of what every node has, a number or choice, a line, and a text."""
HTML = {"base": 38, "value": 28, "line": 36, "text": 68}
"""The same in the newer rendering, where nodes are HTML."""
FOOTER = 36
"""The newer rendering's bar below a subgraph, or a node with advanced widgets."""


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
class Subgraph:
    """Nodes behind one: what people set of them is on it, the rest is a click away.

    Attributes:
        key: What other nodes' wires call it.
        title: Its name.
        columns: What is in it.
        takes: Its inputs by name: the nodes' inputs that each goes to, as ``(key, input)``.
        gives: Its outputs by name: ``(key, output)``.
        shows: Widgets on it, by name: ``(key, widget)``.
        inputs: The wires to it, by the names in ``takes``.
        room: As a node's.
        tall: As a node's.
        category: Where a blueprint stands in the library of nodes.
        description: What a blueprint is said to do.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    takes: dict = field(default_factory=dict)
    gives: dict = field(default_factory=dict)
    shows: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    room: int = 0
    tall: int = 0
    category: str = ""
    description: str = ""

    @property
    def type(self):
        """Its class: the number that the page knows it by."""
        return self._number("")

    def _number(self, part):
        return str(uuid5(NAMESPACE_URL, f"character-curator/{self.title}/{part}"))

    def nodes(self):
        """Return what is in it, by key."""
        return {node.key: node for column in self.columns for node in column.nodes}

    def described(self, describe):
        """Return what ``/object_info`` would say of it."""
        nodes, info = self.nodes(), {"required": {}, "optional": {}}
        for name, [(key, slot), *_] in self.takes.items():
            info["required"][name] = _entry(describe(nodes[key].type), slot)
        for name, (key, widget) in self.shows.items():
            kind, options = _entry(describe(nodes[key].type), widget)
            value = nodes[key].inputs.get(widget, options.get("default"))
            info["required"][name] = [kind, {**options, "default": value}]
        outputs = [describe(nodes[key].type)["output"][slot] for key, slot in self.gives.values()]
        return {"input": info, "output": outputs, "output_name": list(self.gives)}

    def definition(self, describe, first):
        """Return it in the form of the canvas, its nodes numbered from ``first``."""
        made = canvas(self.columns, describe, first)
        numbers = api_graph(self.columns, first)[1]
        placed = {node["id"]: node for node in made["nodes"]}
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        links = [dict(zip(names, link, strict=True)) for link in made["links"]]
        for node in made["nodes"]:
            if node["type"] != "MarkdownNote":
                _list_widgets(node, describe(node["type"]), links)
        described = self.described(describe)

        def link(**ends):
            links.append({"id": len(links) + 1, **ends})
            return len(links)

        inputs, outputs = [], []
        targets = {**self.takes, **{name: [end] for name, end in self.shows.items()}}
        for name, ends in targets.items():
            kind = _kind(described["input"]["required"][name])
            into = []
            for key, entry in ends:
                node = placed[int(numbers[key])]
                slot = _slot(node, entry)
                into.append(
                    link(
                        origin_id=-10, origin_slot=len(inputs), target_id=node["id"],
                        target_slot=slot, type=kind,
                    )
                )  # fmt: skip
                node["inputs"][slot]["link"] = into[-1]
            number = self._number(f"in/{name}")
            inputs.append({"id": number, "name": name, "type": kind, "linkIds": into})
        for kind, (name, (key, slot)) in zip(described["output"], self.gives.items(), strict=True):
            output = placed[int(numbers[key])]["outputs"][slot]
            number = link(
                origin_id=int(numbers[key]), origin_slot=slot, target_id=-20,
                target_slot=len(outputs), type=str(kind),
            )  # fmt: skip
            output["links"] = [*(output["links"] or []), number]
            given = self._number(f"out/{name}")
            outputs.append({"id": given, "name": name, "type": str(kind), "linkIds": [number]})
        right = max(frame["bounding"][0] + frame["bounding"][2] for frame in made["groups"])
        return {
            "id": self.type, "version": 1, "revision": 0, "config": {}, "name": self.title,
            "state": {
                "lastGroupId": len(made["groups"]), "lastNodeId": made["last_node_id"],
                "lastLinkId": len(links), "lastRerouteId": 0,
            },
            "inputNode": _end(-10, -280, inputs),
            "outputNode": _end(-20, right + 100, outputs),
            "inputs": inputs, "outputs": outputs, "widgets": [], "nodes": made["nodes"],
            "groups": made["groups"], "links": links, "extra": {},
            **({"category": self.category} if self.category else {}),
            **({"description": self.description} if self.description else {}),
        }  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A step of the graph: a frame with a title, a note, and nodes below each other.

    ``below`` is room in the frame for a last node that grows when it shows an image.
    """

    title: str
    note: str
    nodes: tuple[Node | Subgraph, ...]
    width: int = 380
    note_height: int = 170
    color: str = "#3f789e"
    below: int = 0


def api_graph(columns, first=1):
    """Return the columns' nodes as an API graph, numbered from ``first``, sources first."""
    nodes = {node.key: node for column in columns for node in column.nodes}
    numbers = {}

    def number(key):
        if key not in numbers:
            for value in nodes[key].inputs.values():
                if isinstance(value, tuple):
                    number(value[0])
            numbers[key] = str(len(numbers) + first)
        return numbers[key]

    for key in nodes:
        number(key)
    return {
        numbers[key]: {
            "class_type": nodes[key].type,
            "inputs": {
                name: [numbers[value[0]], value[1]] if isinstance(value, tuple) else value
                for name, value in nodes[key].inputs.items()
                if value is not None
            },
        }
        for key in sorted(numbers, key=lambda key: int(numbers[key]))
    }, numbers


def canvas(columns, describe, first=1):
    """Return the columns in the form of the canvas.

    Args:
        columns: Of :class:`Column`, from left to right.
        describe: ``/object_info``'s entry of a class.
        first: The number of the first node; the page takes no number twice, subgraphs included.
    """

    inside = [n for column in columns for n in column.nodes if isinstance(n, Subgraph)]
    known = {node.type: node.described(describe) for node in inside}

    def definition(kind):
        info = known.get(kind) or describe(kind)
        return info["input"], [str(output) for output in info["output"]], info["output_name"]

    graph, numbers = api_graph(columns, first)
    made = part("comfy.stock_graph").canvas_graph(graph, definition)
    made["last_node_id"] = first - 1 + len(graph)
    placed = {node["id"]: node for node in made["nodes"]}
    left = 0
    for column in columns:
        top = column.note_height + TITLE + GAP if column.note else 0
        for spec in column.nodes:
            node = placed[int(numbers[spec.key])]
            node["pos"] = [left, top]
            info = known.get(spec.type) or describe(spec.type)
            if isinstance(spec, Subgraph):
                _as_subgraph(node, spec, info)
            height, most = _heights(node, spec, info)
            node["size"] = [column.width, height]
            if spec.title:
                node["title"] = spec.title
            top += most + TITLE + GAP
        if column.note:
            made["last_node_id"] += 1
            made["nodes"].append(_note(column, made["last_node_id"], left))
        made["groups"].append(
            {
                "id": len(made["groups"]) + 1,
                "title": column.title,
                "bounding": [left - 20, -TITLE - 60, column.width + 40, top + 70 + column.below],
                "color": column.color,
                "font_size": 24,
                "flags": {},
            }
        )
        left += column.width + BETWEEN
    definitions, last = [], made["last_node_id"]
    for node in inside:
        definitions.append(node.definition(describe, last + 1))
        last = definitions[-1]["state"]["lastNodeId"]
    if inside:
        made |= {"last_node_id": last, "definitions": {"subgraphs": definitions}}
    return made


def blueprint(subgraph, describe):
    """Return a subgraph as ComfyUI's library of them has it: a graph of that one node."""
    made = canvas([Column("", "", (subgraph,), width=400)], describe)
    return {**made, "groups": [], "revision": 0}


def _note(column, number, left):
    # In the letters of headings: those of plain text are too small where a graph is all in view.
    text = "\n\n".join(f"## {part}" for part in column.note.split("\n\n"))
    return {
        "id": number, "type": "MarkdownNote", "pos": [left, 0],
        "size": [column.width, column.note_height], "flags": {}, "order": 0, "mode": 0,
        "inputs": [], "outputs": [], "properties": {}, "widgets_values": [text],
        "color": "#432", "bgcolor": "#653",
    }  # fmt: skip


def _heights(node, spec, info):
    """Return a node's height, and what it has where that is less than it needs.

    Its slots, its widgets, and the room for images. Advanced widgets are folded in one rendering:
    there a higher node's text fields would be stretched, and in the other one it grows by itself.
    """
    entries = [
        entry
        for group in ("required", "optional")
        for entry in info["input"].get(group, {}).values()
        if _is_widget(entry)
    ]
    slots = max(sum("widget" not in slot for slot in node["inputs"]), len(node["outputs"]))
    # What the page adds after a seed is in no definition.
    added = max(0, len(node["widgets_values"]) - len(entries)) * DRAWN["value"]
    drawn = _widgets_height(DRAWN, entries, spec.tall) + added
    folded = [entry for entry in entries if not _options(entry).get("advanced")]
    html = _widgets_height(HTML, folded, spec.tall) + added
    if isinstance(spec, Subgraph) or len(folded) < len(entries):
        html += FOOTER
    most = max(drawn, html)
    height = html if len(folded) < len(entries) else most
    return slots * SLOT + height + spec.room, slots * SLOT + most + spec.room


def _widgets_height(heights, entries, tall):
    kinds = [_look(entry) for entry in entries]
    return heights["base"] + sum(heights[kind] for kind in kinds) + tall * kinds.count("text")


def _look(entry):
    if _kind(entry) != "STRING":
        return "value"
    return "text" if _options(entry).get("multiline") else "line"


def _as_subgraph(node, spec, info):
    """Turn a node into the page's form of a subgraph: its widgets are inputs, too."""
    node["properties"] = {}
    node["widgets_values"] = []
    for name in spec.shows:
        kind = _kind(info["input"]["required"][name])
        node["inputs"].append({"name": name, "type": kind, "widget": {"name": name}, "link": None})


def _list_widgets(node, info, links):
    """List a node's widgets among its inputs, behind the others, as the page numbers them.

    Older pages find the widget that a subgraph shows by this number.
    """
    there = {slot["name"]: slot for slot in node["inputs"]}
    entries = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    widgets = [
        there.get(name)
        or {"name": name, "type": _kind(entry), "widget": {"name": name}, "link": None}
        for name, entry in entries.items()
        if _is_widget(entry)
    ]
    node["inputs"] = [slot for slot in node["inputs"] if "widget" not in slot] + widgets
    numbers = {slot["link"]: number for number, slot in enumerate(node["inputs"])}
    for link in links:
        if link["target_id"] == node["id"]:
            link["target_slot"] = numbers[link["id"]]


def _slot(node, name):
    """Return the number of a node's input."""
    return [slot["name"] for slot in node["inputs"]].index(name)


def _end(number, left, slots):
    """Return a subgraph's inner end of its inputs or outputs."""
    for place, slot in enumerate(slots):
        slot["pos"] = [left + 100, 20 + 20 * place]
    return {"id": number, "bounding": [left, 0, 140, 40 + 20 * len(slots)]}


def _entry(info, name):
    """Return a node's definition of an input, with options."""
    for group in ("required", "optional"):
        if name in info["input"].get(group, {}):
            entry = info["input"][group][name]
            return [entry[0], entry[1] if len(entry) > 1 else {}]
    raise KeyError(name)


def _options(entry):
    return entry[1] if len(entry) > 1 else {}


def _kind(entry):
    return "COMBO" if isinstance(entry[0], list) else str(entry[0])


def _is_widget(entry):
    widgets = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    return _kind(entry) in widgets and not _options(entry).get("forceInput")
