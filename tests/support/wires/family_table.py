"""Measures every family's tiny model, and prints a table of what holds.

``python -m tests.support.wires.family_table [FILE]`` prints the table, or writes it into a file
of Markdown. ``--json`` prints what was found for the tests. ``--comfyui FOLDER`` takes another
ComfyUI than the one in COMFYUI_PATH.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quickstart import find_comfyui
from tests.support.comfyui.pack import import_pack, start_comfyui
from tests.support.wires.families import FAMILIES
from tests.support.wires.family_models import AbsentError, build

_HEAD = """\
# Families of models that TrainLoRA trains

Measured with ComfyUI {version} on tiny random models of its own classes; of SD 1.5, SDXL and
Flux.1 the text encoders are real ones scaled down, of the others random ones that give what theirs
give. Made by `python -m tests.support.wires.family_table docs/families.md`; a test holds every
row to it.

- **trains**: three steps with two captions of unequal lengths have finite losses.
- **layers**: linear layers with adapters under the preset `full`, of all that there are, and how
  many of these get no gradient, always for one of two reasons: the last block's text is not used
  any more, or there is no reference image.
- **gradient**: its relative difference from a difference quotient along it.
- **file**: how far predictions with the file in the stock loader are from the trained ones; no key
  stays unloaded.
- **target**: how far the model's own formula takes the target from the clean latents.
- **images**: SeedBatchGenerate's batch of prompts of unequal lengths has the wanted size, and its
  images are what they are alone; TrainLoRA's samples and EvaluateLoRA's images have the wanted
  size, too, however many pixels a latent cell is.
- **stock**: the largest difference of a pixel, in grey values of 255, between its image and that
  of EmptyLatentImage, CLIPTextEncode, KSampler and VAEDecode.
- **diffusers**: whether diffusers {diffusers} reads the file: every layer arrives in its own model
  of the same layout, as strong as it was trained.
- **base model**: what the file's header calls it.
- **preset**: the preset that `auto` takes for a model of the real size.
- **told**: whether the model is told, and predicts, in training what it is in a KSampler's run,
  name by name and value by value.
- **control images**: the stock node that people tell it of reference images with, where it takes
  them; with that node too it is told the same, the images change what it predicts, and adapters
  that only references reach learn.

"""
_COLUMNS = (
    "family", "trains", "layers", "gradient", "file", "target", "images", "stock", "told",
    "control images", "diffusers", "base model", "preset", "note",
)  # fmt: skip


def measure(names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return what holds of each family; ComfyUI must have been started."""
    import torch

    found = {}
    for name in names or FAMILIES:
        with torch.inference_mode():
            try:
                found[name] = _measured(name)
            except AbsentError as absent:
                found[name] = {"absent": str(absent)}
    return found


def _measured(name: str) -> dict[str, Any]:
    from tests.support.wires import edit_checks, size_checks
    from tests.support.wires import family_checks as checks
    from tests.support.wires.family_readers import readers

    wires, side = build(name), getattr(FAMILIES[name], "side", 64)
    with tempfile.TemporaryDirectory() as folder:
        return {
            **checks.trains(wires, side),
            "gradient": checks.gradient_error(wires, side),
            **checks.file_error(wires, side, Path(folder)),
            "batch": checks.batch_error(wires, side),
            "target": checks.target_error(wires, side),
            "told": checks.conditioning_faults(wires, side),
            "edits": edit_checks.edit_faults(wires, side, getattr(FAMILIES[name], "edits", "")),
            "images": checks.image_faults(wires, side),
            "sizes": size_checks.size_faults(wires, side),
            "stock": checks.stock_error(wires, side),
            "named_as_ever": checks.named_as_ever(wires),
            "left_behind": checks.left_behind(wires),
            **readers(name, wires),
            "header": checks.header(wires),
        }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table as Markdown, and below it what this version does not know."""
    rows = [_row(name, facts) for name, facts in found.items() if "absent" not in facts]
    lines = [f"| {' | '.join(row)} |" for row in (_COLUMNS, ["---"] * len(_COLUMNS), *rows)]
    absent = [f"- {name}: {facts['absent']}" for name, facts in found.items() if "absent" in facts]
    if absent:
        lines += ["", f"{len(absent)} families are not in this version:", "", *absent]
    return "\n".join(lines) + "\n"


def _row(name: str, facts: Mapping[str, Any]) -> list[str]:
    idle = len(facts["no_gradient"])
    still = f", {idle} without gradient" if idle else ""
    file = f"{facts['file']:.0e}" + (" unloaded keys" if facts["unloaded"] else "")
    return [
        name,
        "yes" if all(map(math.isfinite, facts["losses"])) else "no",
        f"{facts['adapted']} of {facts['linear']}{still}",
        f"{abs(facts['gradient']):.0e}",
        file,
        f"{facts['target']:.0e}",
        "; ".join([*facts["images"], *facts["sizes"]]) or "right",
        "another size" if facts["stock"] is None else f"{facts['stock']:.0f}",
        "; ".join(facts["told"]) or "the same",
        "; ".join(facts["edits"]) or getattr(FAMILIES[name], "edits", ""),
        facts["diffusers"],
        f"`{facts['header']['version']}`",
        f"`{facts['header']['family']}`" if facts["header"]["from_preset"] else "none",
        getattr(FAMILIES[name], "note", ""),
    ]


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--comfyui", default=str(find_comfyui()))
    parser.add_argument("--family", action="append", default=[])
    chosen = parser.parse_args()
    start_comfyui(chosen.comfyui)
    import torch

    torch.set_num_threads(1)
    import_pack()
    found = measure(chosen.family)
    if chosen.json:
        sys.stdout.write("FOUND " + json.dumps(found) + "\n")
        return
    from comfyui_version import __version__
    from diffusers import __version__ as diffusers

    text = _HEAD.format(version=__version__, diffusers=diffusers) + table(found)
    if chosen.file:
        chosen.file.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
