"""Shipped graphs as the canvas queues them, with numbers that a test has time for.

Where a graph names models that must be downloaded (buffalo_l, ViT-B-32), the miniature's take
their place; a stock loader gets a checkpoint of random weights in Stable Diffusion 1.5's layout.
"""

from __future__ import annotations

PREFIX = "CharacterCurator_"
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
REDUCED = {
    PREFIX + "CharacterPlan": {"seeds": "966983-966984", "takes": 1},
    PREFIX + "SeedBatchGenerate": {"steps": 4},
    PREFIX + "FaceValidate": {
        "pack": "miniature", "minimum_confidence": 0.0, "minimum_share": 0.0, "minimum_side": 0.0,
        "minimum_identity": -1.0,
    },
    PREFIX + "QualityScore": {"minimum": 0.0},
    PREFIX + "ClipCluster": {"model": "miniature", "pretrained": "", "clusters": 2},
    PREFIX + "BalancedSelect": {"total": 4, "quotas": "cluster=1.."},
    PREFIX + "TrainLoRA": {"steps": 4, "sample_every": 0, "sample_steps": 2},
    PREFIX + "EvaluateLoRA": {
        "steps": 2, "prompts": "portrait of {who}, red dress", "seeds": "1", "leakage": False,
    },
    "EmptyLatentImage": {"batch_size": 1},
    "KSampler": {"steps": 2},
}  # fmt: skip
RANDOM = {
    PREFIX + "CharacterPlan": {
        "seeds": "7", "takes": 1, "scenarios": "red hoodie", "originals": "",
    },
    PREFIX + "SeedBatchGenerate": {"steps": 1, "width": 64, "height": 64},
    "EmptyLatentImage": {"width": 64, "height": 64, "batch_size": 1},
    "KSampler": {"steps": 1},
}  # fmt: skip
"""Further reductions for a checkpoint of the real size."""


def api_form(workflow, server):
    """Return a canvas graph as the canvas queues it: nodes of a subgraph stand in its place."""
    definitions = workflow.get("definitions", {}).get("subgraphs", ())
    inside = {definition["id"]: definition for definition in definitions}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    graph = {}
    sources = _placed(workflow["nodes"], links, "", {}, inside, server, graph)
    for node in graph.values():
        for name, value in node["inputs"].items():
            if isinstance(value, tuple):
                node["inputs"][name] = list(_source(value, sources))
    return graph


def _source(end, sources):
    """Follow a wire out of the subgraphs that it leaves, or the one that it comes into."""
    while end in sources:
        end = sources[end]
    return end


def _placed(nodes, links, before, given, inside, server, graph):
    """Add nodes to an API graph; return where the outputs of subgraphs really come from.

    Args:
        nodes: Of the canvas.
        links: Where each link comes from: the node's number, and its output.
        before: What stands before numbers in a subgraph.
        given: Where a subgraph's inputs come from, by their number.
        inside: The definitions of subgraphs.
        server: Knows the nodes.
        graph: What is added to.
    """
    sources = {}

    def end(link):
        number, slot = links[link]
        return given.get(slot) if number == -10 else (f"{before}{number}", slot)

    for node in nodes:
        if node["type"] in ("Note", "MarkdownNote"):
            continue
        number = f"{before}{node['id']}"
        if node["type"] in inside:
            made = inside[node["type"]]
            within = {
                link["id"]: (link["origin_id"], link["origin_slot"]) for link in made["links"]
            }
            names = [slot["name"] for slot in made["inputs"]]
            wired = {names.index(s["name"]): end(s["link"]) for s in node["inputs"] if s["link"]}
            sources |= _placed(
                made["nodes"], within, f"{number}:", wired, inside, server, graph
            )  # fmt: skip
            for slot, output in enumerate(made["outputs"]):
                origin, place = within[output["linkIds"][0]]
                sources[number, slot] = (f"{number}:{origin}", place)
            continue
        definition = server.get(f"/object_info/{node['type']}")[node["type"]]
        values = iter(node["widgets_values"])
        inputs = {}
        for group in ("required", "optional"):
            for name, entry in definition["input"].get(group, {}).items():
                if isinstance(entry[0], list) or entry[0] in WIDGETS:
                    inputs[name] = next(values)
                    if entry[1].get("control_after_generate") or name in ("seed", "noise_seed"):
                        next(values)  # what the canvas does with a seed after a run
        assert list(values) == []
        wires = {slot["name"]: end(slot["link"]) for slot in node["inputs"] if slot["link"]}
        inputs |= {name: wire for name, wire in wires.items() if wire is not None}
        graph[number] = {"class_type": node["type"], "inputs": inputs}
    return sources


def reduced(graph, further=None):
    """Return an API graph with small numbers."""
    changes = {**REDUCED, **(further or {})}
    changes = {kind: {**REDUCED.get(kind, {}), **values} for kind, values in changes.items()}
    return {
        number: {**node, "inputs": {**node["inputs"], **changes.get(node["class_type"], {})}}
        for number, node in graph.items()
    }


def of_type(graph, kind):
    """Return the numbers of the nodes of one class."""
    return [number for number, node in graph.items() if node["class_type"] == kind]
