"""What a node's run has found damaged on the disk, said in its own summary."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from comfy_api.latest import io

Execute = Callable[..., io.NodeOutput]


def says_damage(summary: int | None = None) -> Callable[[Execute], Execute]:
    """Return a decorator of ``execute`` that adds what was found damaged to what the node says.

    Without damage the outputs are as they are. Every node has it that reads what is kept on the
    disk: images, measurements, datasets, notes.

    Args:
        summary: The place of the output that is a text for people; with ``None`` only the node
            itself shows it.
    """

    def decorate(execute: Execute) -> Execute:
        @wraps(execute)
        def run(*given: Any, **named: Any) -> io.NodeOutput:
            from ...core.damages import collected_damage
            from ...core.damages import summary as summary_of

            with collected_damage() as found:
                output = execute(*given, **named)
            if not found:
                return output
            return _told(output, "\n".join(map(str, summary_of(found))), summary)

        return run

    return decorate


def _told(output: io.NodeOutput, text: str, place: int | None) -> io.NodeOutput:
    """Return an output with a text behind its summary, and on the node."""
    shown = output.ui if isinstance(output.ui, dict) else output.ui.as_dict() if output.ui else {}
    lines = (*shown.get("text", ()), text)
    values = list(output.args)
    # What a node expands to is linked to in its outputs' places.
    if place is not None and isinstance(values[place], str):
        values[place] = "\n".join(filter(None, (values[place], text)))
        if shown.get("text") == (output.args[place],):
            lines = (values[place],)
    return io.NodeOutput(
        *values,
        ui={**shown, "text": lines},
        expand=output.expand,
        block_execution=output.block_execution,
    )
