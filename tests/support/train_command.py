"""The command ``train`` in this process, and options that make it short."""

from __future__ import annotations

import json

from character_curator import cli


def command(capsys, *arguments):
    """Run ``train``; return the exit code and what ``--json`` prints."""
    code = cli.main(["train", *map(str, arguments), "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


def short(tiny, output):
    """Return options of a training of two steps."""
    return [
        "--base", tiny, "--output", output, "--rank", 2, "--steps", 2, "--batch", 2, "--lr", 0.01,
        "--resolution", 64, "--bucket-step", 16, "--validation-timesteps", 1, "--no-samples",
    ]  # fmt: skip
