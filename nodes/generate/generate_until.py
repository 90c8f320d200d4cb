"""GenerateUntil: the nodes from SeedBatchGenerate on, once more, until their selection is full."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ...core.errors import CuratorError
from ..ui.damages import says_damage
from ..ui.given import checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import ImageSet, Selection, Waves, category, node_id, searched_as

log = logging.getLogger(__name__)


class WholePlanError(CuratorError):
    """The images are not made in waves."""

    def __init__(self) -> None:
        super().__init__(
            "SeedBatchGenerate makes the whole plan at once: its 'wave' is 0. Set it to the images "
            "of a wave, such as 8, or take GenerateUntil out."
        )


class ApartError(CuratorError):
    """The selection is not of the images that are made in waves."""

    def __init__(self) -> None:
        super().__init__(
            "'selection' does not come from the images of the SeedBatchGenerate that 'waves' comes "
            "from. Connect BalancedSelect behind that node, and its selection here."
        )


class GenerateUntil(io.ComfyNode):
    """Has images made in waves, each where the selection is short."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.project_sections import WavesSection

        return io.Schema(
            node_id=node_id("GenerateUntil"),
            display_name="GenerateUntil",
            **searched_as(
                "loop", "generate more", "until enough", "waves", "top up", "adaptive",
            ),
            category=category("1 Generate"),
            description=(
                "Makes only the images that are needed: looks at what BalancedSelect has found, "
                "asks SeedBatchGenerate for the next wave where that is short or gains most, and "
                "has it and every node between them run again, until nothing is lacking and "
                "another wave would not pay. Connect what uses the images behind this node."
            ),
            inputs=[
                Selection.Input(
                    "selection", tooltip="From BalancedSelect, whose total and quotas are the aim.",
                ),
                Waves.Input("waves", tooltip="From SeedBatchGenerate, with its 'wave' set."),
                widget(WavesSection, "gain", step=0.001),
            ],
            outputs=[
                ImageSet.Output(
                    display_name="images",
                    tooltip="Every image of every wave; those left out with the reason.",
                ),
                Selection.Output(
                    display_name="selection", tooltip="The proof, for DatasetExport.",
                ),
                io.String.Output(
                    display_name="summary", tooltip="Why it ended, and how well each quota was met."
                ),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
            enable_expand=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, selection: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("polars", "scipy")) or True

    @classmethod
    @checks_inputs
    @says_damage(2)
    def execute(cls, selection: Any, waves: Any, gain: float) -> io.NodeOutput:
        """End, or ask for the next wave and have it made and measured."""
        from ...core.growth.ledger import holds, write_ledger
        from ...core.growth.next_wave import outlook
        from ...core.selection import NoCandidatesError

        if waves is None:
            raise WholePlanError
        graph, own = cls.hidden.dynprompt, cls.hidden.unique_id
        between = _between(graph, waves.node, own)
        asked = waves.asked()
        # A set that was asked for more in the meantime is completed first, as it would have been.
        if waves.made.issuperset(one.request for one in asked):
            goal = waves.goal(selection.total, selection.stated, gain)
            found = selection if selection.candidates else None
            ahead = outlook(waves.plan, goal, selection.images, found, asked)
            log.info("%s", ahead.standing.sentence(goal.total))
            if ahead.ended is not None:
                if found is None:
                    raise NoCandidatesError(selection.images)
                notes = [ahead.sentence(), *_left_behind(graph, [*between, own])]
                images = replace(selection.images, notes=(*selection.images.notes, *notes))
                said = "\n".join([*notes, *selection.sentences()])
                if waves.ledger.is_file() and not holds(waves.ledger, asked, waves.settings):
                    write_ledger(waves.ledger, asked, waves.settings)  # it was damaged
                return io.NodeOutput(images, replace(selection, images=images), said)
            write_ledger(waves.ledger, [*asked, *ahead.following], waves.settings)
        return _again(graph, [*between, own])


def _between(graph: Any, start: str, end: str) -> list[str]:
    """Return the nodes that lead from one to another, the first included, in a fixed order.

    Raises:
        ApartError: None does.
    """
    leads: dict[str, bool] = {start: True}
    found = [start]
    chosen = graph.get_node(end)["inputs"].get("selection")[0]
    # A list in the place of a recursion: a graph may have thousands of nodes in a row.
    left = [(chosen, iter(_sources(graph, chosen)))]
    while left:
        node, sources = left[-1]
        source = next((one for one in sources if one not in leads), None)
        if source is not None:
            leads[source] = False
            left.append((source, iter(_sources(graph, source))))
            continue
        left.pop()
        if node != start and any(leads.get(one) for one in _sources(graph, node)):
            leads[node] = True
            found.append(node)
    if not leads.get(chosen):
        raise ApartError
    return found


def _sources(graph: Any, node: str) -> Iterable[str]:
    from ..comfy.identity import is_link

    inputs = graph.get_node(node)["inputs"]
    return [value[0] for _, value in sorted(inputs.items()) if is_link(value)]


def _again(graph: Any, nodes: list[str]) -> io.NodeOutput:
    """Return the same nodes once more, as what stands for the last of them."""
    from ..comfy.identity import is_link

    builder = GraphBuilder()
    copies = {node: builder.node(graph.get_node(node)["class_type"]) for node in nodes}
    for node, copy in copies.items():
        for name, value in graph.get_node(node)["inputs"].items():
            if is_link(value) and value[0] in copies:
                value = copies[value[0]].out(value[1])
            copy.inputs[name] = value
        # What runs is shown on the node that the user sees.
        copy.set_override_display_id(graph.get_display_node_id(node))
    last = copies[nodes[-1]]
    return io.NodeOutput(*(last.out(i) for i in range(3)), expand=builder.finalize())


def _left_behind(graph: Any, nodes: list[str]) -> list[str]:
    """Say which other nodes of the user's graph take what only the first wave has given."""
    from ..comfy.identity import is_link

    prompt = graph.get_original_prompt()
    *again, own = [graph.get_display_node_id(node) for node in nodes]
    names = [
        f"{node['class_type'].removeprefix(node_id(''))} ({number})"
        for number, node in sorted(prompt.items())
        if number not in (*again, own)
        and any(is_link(value) and value[0] in again for value in node["inputs"].values())
    ]
    if not names:
        return []
    return [
        f"Connected in front of GenerateUntil, and not run again with each wave: "
        f"{', '.join(names)}. Connect to GenerateUntil's outputs what shall see every image."
    ]
