"""Lets a vision-language model on a CLIP wire write captions, with ComfyUI's modules.

``python wire_captions.py COMFYUI`` prints a JSON object: what was written, by us and by the stock
node, and how wires are refused that write nothing or see nothing; ``absent`` where this ComfyUI
lets no text encoder write.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from typing import Any

from tests.support.comfyui.pack import NAME, import_pack, start_comfyui

TOKENS = 6
TINY = "tiny"


def main(comfyui: str) -> None:
    start_comfyui(comfyui)
    import torch

    torch.set_num_threads(1)
    import_pack()
    with torch.inference_mode():
        try:
            from comfy_extras.nodes_textgen import TextGenerate as stock

            seeing = qwen3_vl()
        except ImportError:
            sys.stdout.write("FOUND " + json.dumps({"absent": True}) + "\n")
            return
        found = examine(seeing, stock)
    sys.stdout.write("FOUND " + json.dumps(found) + "\n")


def examine(seeing: Any, stock: Any) -> dict[str, Any]:
    """Return what is written of two images, and how other wires are refused."""
    import comfy.model_management
    import numpy as np
    import torch

    wires = importlib.import_module(f"{NAME}.nodes.comfy.wire_captioner")
    settings = importlib.import_module(f"{NAME}.core.captions.settings").CaptionSettings(
        max_tokens=8
    )
    captioner = wires.WireCaptioner(seeing, settings)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 96, 3), np.uint8), np.full((64, 64, 3), 250, np.uint8)]
    answers = [json.loads(one) for one in captioner.find(images)]
    theirs = []
    for image in images:
        tensor = torch.from_numpy(image[None, ..., ::-1].astype(np.float32) / 255)
        made = stock.execute(seeing, captioner.prompt, 8, {"sampling_mode": "off"}, image=tensor)
        theirs.append(made.args[0])
    found = {"answers": answers, "ours": [one["text"] for one in answers], "stock": theirs}
    found["clip_l"] = refused(lambda: wires.WireCaptioner(clip_l(), settings))
    comfy.model_management.interrupt_current_processing()
    found["cancelled"] = cancelled(captioner, images)
    seeing.tokenizer.tokenize_with_weights = lambda text, return_word_ids=False, **_: {
        "tiny": [[(1, 1.0)]]
    }
    found["blind"] = refused(lambda: captioner.find(images))
    type(seeing.cond_stage_model.tiny.transformer).__name__ = "Qwen25_7BVLI"
    found["headless"] = refused(lambda: wires.WireCaptioner(seeing, settings))
    return found


def cancelled(captioner: Any, images: Any) -> str:
    """Return the name of what ends a run of many images that the user cancels."""
    import comfy.model_management
    import comfy.utils

    making = importlib.import_module(f"{NAME}.core.captions.making")

    def throw(*_: Any) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()

    comfy.utils.set_progress_bar_global_hook(throw)
    waiting = [(n, str(n), image) for n, image in enumerate(images)]
    try:
        making._answers(captioner, waiting)
    except BaseException as error:  # what it derives from is a version's matter
        return type(error).__name__
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    return ""


def refused(make: Any) -> str:
    """Return why something is refused."""
    try:
        make()
    except ValueError as error:
        return str(error)
    return ""


def qwen3_vl() -> Any:
    """Return ComfyUI's Qwen3-VL, made tiny, on a CLIP wire."""
    from comfy.text_encoders import qwen3vl

    from tests.support.wires.wire_models import _clip

    smaller = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
               "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    base = qwen3vl.Qwen3VL_4BConfig
    qwen3vl.QWEN3VL_CONFIGS[TINY] = lambda **given: dataclasses.replace(base(), **smaller, **given)
    qwen3vl.QWEN3VL_VISION[TINY] = {
        "hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 2,
        "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    return _clip(qwen3vl.te(model_type=TINY), qwen3vl.tokenizer(TINY))


def clip_l() -> Any:
    """Return a CLIP text model on its wire, which writes nothing."""
    from tests.support.wires.wire_models import sd15

    return sd15().clip


if __name__ == "__main__":
    main(sys.argv[1])
