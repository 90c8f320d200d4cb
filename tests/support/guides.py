"""The pieces of code in a guide, by their language."""

from __future__ import annotations

import re


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a Markdown text that are in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def shell_lines(text: str) -> list[str]:
    """Return the lines of a text's blocks of shell."""
    return [line for block in blocks(text, "sh") for line in block.splitlines()]
