"""Gives nodes what a workflow file can carry, by ComfyUI's own validation and executor.

``python -m tests.support.comfyui.every_node COMFYUI FOLDER [NODE ...] [--sample]`` prints a JSON
line of each value that is answered by anything but a result or a named error, in time; then
``TRIED`` and the number of values. A value is tried as the file's own (written), as what another
node gives (wired), and as what the fingerprint and the check before a queue are asked (asked).
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import logging
import math
import shutil
import signal
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

from tests.support.comfyui.graphs import NAMES, PREFIX, node, plan, stock
from tests.support.comfyui.hostile import as_read, values_of
from tests.support.comfyui.pack import NAME, import_pack, start_comfyui

SECONDS = 60
"""What an answer may take, a whole training of one step included."""
TESTED, END = "20", "90"
REFUSALS = {
    "required_input_missing", "invalid_input_type", "value_smaller_than_min",
    "value_bigger_than_max", "value_not_in_list", "custom_validation_failed", "bad_linked_input",
    "return_type_mismatch",
}  # fmt: skip
"""What ComfyUI says itself of a value that it does not queue."""
_GIVEN = []


class TooLongError(BaseException):
    """An answer takes too long; nothing that catches exceptions shall catch this one."""


class Anything(str):
    """A wire's type that every input takes."""

    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


class Gives:
    """A node that gives any value."""

    RETURN_TYPES = (Anything("*"),)
    FUNCTION = "give"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 0})}}

    def give(self, number):
        return (_GIVEN[number],)


class Ends:
    """A node that a graph ends in."""

    RETURN_TYPES = ()
    FUNCTION = "end"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (Anything("*"),)}}

    def end(self, value):
        return ()


class Bench:
    """Runs graphs as a server does, without one."""

    def __init__(self, comfyui, base):
        start_comfyui(comfyui)
        sys.argv += ["--base-directory", str(base), "--disable-api-nodes"]
        for name in ("input", "output", "temp", "user", "models/loras", "models/captioners"):
            (base / name).mkdir(parents=True, exist_ok=True)
        import torch
        import utils.install_util  # noqa: F401  # as main.py: later comfy/utils.py has its name

        torch.set_num_threads(1)
        import execution

        import nodes

        self.base, self._execution, self._types = base, execution, nodes.NODE_CLASS_MAPPINGS
        extension = asyncio.run(import_pack().comfy_entrypoint())
        for one in asyncio.run(extension.get_node_list()):
            self._types[one.GET_SCHEMA().node_id] = one
        self._types |= {"Gives": Gives, "Ends": Ends}
        self.pack = sys.modules[NAME]
        self.known = sys.modules[f"{NAME}.core.errors"].CuratorError
        self._begin()

    def _begin(self):
        server = SimpleNamespace(
            client_id=None, last_node_id=None, send_sync=lambda *_: None, sockets={}
        )
        made = self._execution.PromptExecutor
        named = {"cache_type": self._execution.CacheType.CLASSIC}
        if "cache_args" in inspect.signature(made).parameters:  # of newer ComfyUIs
            named["cache_args"] = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
        self._executor = made(server, **named)

    def type_of(self, name):
        return self._types[PREFIX + name]

    def inputs(self, name):
        """Return the inputs of a node as its schema has them."""
        return self.type_of(name).define_schema().inputs

    def run(self, graph):
        """Return what is wrong with the answer to a graph: nothing where it is one."""
        graph = {number: {**one, "inputs": dict(one["inputs"])} for number, one in graph.items()}
        checked = asyncio.run(self._execution.validate_prompt("tests", graph, None))
        if not checked[0]:
            kinds = {e["type"] for one in checked[3].values() for e in one["errors"]}
            if kinds and kinds <= REFUSALS:
                return ""
            return f"not queued: {json.dumps(checked[3])[:1500]}"
        self._executor.execute(graph, "tests", {}, checked[2])
        asked = graph[TESTED].get("is_changed")
        if isinstance(asked, float) and math.isnan(asked):
            return "its fingerprint fails"
        failed = dict(self._executor.status_messages).get("execution_error")
        return self._judged(failed) if failed else ""

    def _judged(self, failed):
        message = failed["exception_message"]
        try:
            message.encode()
        except UnicodeEncodeError:
            return f"no terminal takes {message[:200]!r}"
        module, _, name = failed["exception_type"].rpartition(".")
        kind = getattr(sys.modules.get(module), name, None)
        if kind is None or not issubclass(kind, self.known):
            where = [line.strip().split("\n")[0] for line in failed["traceback"]]
            return f"{failed['exception_type']}: {message[:300]} ({' < '.join(where[:-5:-1])})"
        return "" if len(message) < 5000 else f"{name} says {len(message)} letters"

    def ask(self, name, given):
        """Return what is wrong with what fingerprint and check answer to raw values."""
        one = self.type_of(name)
        for method in ("fingerprint_inputs", "validate_inputs"):
            own = next((vars(c)[method] for c in one.__mro__ if method in vars(c)), None)
            takes = own.__func__.__code__ if own else None
            if takes is None or own.__func__.__module__.startswith("comfy_api"):
                continue
            signature = inspect.signature(getattr(one, method))
            every = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
            told = {k: v for k, v in given.items() if every or k in signature.parameters}
            try:
                first, again = (getattr(one, method)(**told) for _ in range(2))
            except Exception as error:
                return f"{method}: {type(error).__name__}: {str(error)[:200]!r}"
            if method == "fingerprint_inputs" and name != "Verify" and first != again:
                return f"{method} answers {first!r}, then {again!r}"
            if "cannot be read" in str(first) and None in told.values():
                return f"{method} reads nothing where a value comes over a wire"
            if len(str(first)) > 100_000:
                return f"{method} answers {len(str(first))} letters"
        return ""


def prepared(bench):
    """Make what the graphs stand on: images with captions, a dataset, a LoRA, a tagger."""
    from PIL import Image

    from tests.support.comfyui.portraits import draw_folder
    from tests.support.comfyui.random_lora import random_lora
    from tests.support.tiny_captioners import tiny_tagger

    draw_folder(bench.base / "input" / "faces", 4)
    Image.new("RGB", (64, 64), "red").save(bench.base / "input" / "red.png")
    random_lora(SimpleNamespace(base=bench.base), 64)
    tiny_tagger(bench.base / "models" / "captioners" / "tiny")
    wrong = bench.run(graph_of(bench, "DatasetExport"))
    if wrong:
        raise RuntimeError(f"The dataset is not made: {wrong}")


_IMAGES = {
    "1": node("LoadMiniature"),
    "2": plan(seeds="1", scenarios="red hoodie\nwhite dress"),
    "3": node("LoadImageSet", folder="faces"),
    "4": node(
        "FaceValidate", images=["3", 0], pack="miniature", minimum_confidence=0.0,
        minimum_share=0.0, minimum_side=0.0, minimum_identity=-1.0,
    ),
    "5": node("QualityScore", images=["4", 0], minimum=0.0),
    "6": node("ClipCluster", images=["5", 0], model="miniature", clusters=2),
    "7": node("BalancedSelect", images=["6", 0], total=3, quotas="", duplicates=1.0),
    "8": node("LoadDataset", folder="dataset", minimum_quality=0.0),
    "9": stock("LoadImage", image="red.png"),
    "10": node(
        "SeedBatchGenerate", model=["1", 0], clip=["1", 1], vae=["1", 2], plan=["2", 0],
        folder="raw", steps=1, cfg=2.0, sampler_name="euler", scheduler="normal", width=64,
        height=64, batch_size=1, limit=1, wave=1,
    ),
    "11": node(
        "FaceValidate", images=["10", 0], pack="miniature", minimum_confidence=0.0,
        minimum_share=0.0, minimum_side=0.0, minimum_identity=-1.0,
    ),
    "12": node("QualityScore", images=["11", 0], minimum=0.0),
    "13": node("BalancedSelect", images=["12", 0], total=1, quotas="", duplicates=1.0),
}  # fmt: skip
_WIRES = {
    "CURATOR_PLAN": ["2", 0], "CURATOR_IMAGE_SET": ["7", 0], "CURATOR_SELECTION": ["7", 1],
    "CURATOR_DATASET": ["8", 0], "MODEL": ["1", 0], "CLIP": ["1", 1], "VAE": ["1", 2],
    "IMAGE": ["9", 0],
}  # fmt: skip
_OWN = {
    "SeedBatchGenerate": {
        "folder": "raw", "steps": 1, "width": 64, "height": 64, "limit": 1, "cfg": 2.0,
        "clip": ["1", 1],
    },
    "LoadImageSet": {"folder": "faces"},
    "FaceValidate": {"images": ["3", 0], "pack": "miniature"},
    "CropImages": {"images": ["3", 0], "pack": "miniature", "folder": "crops"},
    "CompareSubjects": {"first": ["3", 0], "second": ["10", 0]},
    "JoinImageSets": {"first": ["3", 0], "second": ["10", 0]},
    "QualityScore": {"images": ["4", 0]},
    "ClipCluster": {"images": ["5", 0], "model": "miniature", "clusters": 2},
    "BalancedSelect": {"images": ["6", 0], "total": 3, "quotas": ""},
    "GenerateUntil": {"selection": ["13", 1], "waves": ["10", 2]},
    "CaptionImages": {"model": "tiny", "existing": "replace"},
    "DatasetExport": {"selection": ["7", 1], "folder": "dataset"},
    "ExportAssets": {"images": ["7", 0], "folder": "assets", "background": "keep"},
    "LoadDataset": {"folder": "dataset"},
    "TrainLoRA": {
        "name": "mini", "dataset": ["8", 0], "preset": "as set here", "rank": 1, "epochs": 1,
        "steps": 1, "batch_size": 1, "resolution": 64, "sample_every": 0, "sample_steps": 1,
        "validation_share": 0.0,
    },
    "EvaluateLoRA": {
        "lora_name": "random_64_1.safetensors", "folder": "evaluation", "pack": "miniature",
        "clip_model": "miniature", "prompts": "portrait of {who}", "seeds": "1", "steps": 1,
        "width": 64, "height": 64, "leakage": False,
    },
    "Verify": {"regenerate": 0, "samples": 1, "folder": "verification"},
}  # fmt: skip
"""What a node is given beside the defaults of its widgets, so that its answer takes little."""


_LONG = ("TrainLoRA", "EvaluateLoRA")
"""Nodes whose every answer takes half a second."""


def graph_of(bench, name, /, **changes):
    """Return a graph that ends in a node, with what leads to it and nothing else."""
    inputs = {}
    for one in bench.inputs(name):
        kind, default = one.get_io_type(), getattr(one, "default", None)
        if kind in _WIRES and not one.optional:
            inputs[one.id] = _WIRES[kind]
        elif default is not None and not one.optional:
            inputs[one.id] = default
        elif kind == "COMBO" and not one.optional:
            inputs[one.id] = one.options[0]
    inputs |= {**_OWN.get(name, {}), **changes}
    graph = {**_IMAGES, TESTED: node(name, **inputs), "91": stock("Gives", number=0)}
    ends = bench.type_of(name).GET_SCHEMA().is_output_node
    if not ends:
        graph[END] = stock("Ends", value=[TESTED, 0])
    needed, new = set(), {TESTED if ends else END}
    while new:
        needed |= new
        links = [v[0] for n in new for v in graph[n]["inputs"].values() if isinstance(v, list)]
        new = set(links) - needed
    return {number: graph[number] for number in graph if number in needed}


def cases(bench, name, sample):
    """Yield each way, input and value that a node is given."""
    for number, one in enumerate(bench.inputs(name), zlib.crc32(name.encode())):
        kind = one.get_io_type()
        for called, value in values_of(kind, number if sample else None).items():
            ways = ("asked", "written", "wired")
            if sample:
                ways = ways[:1] if name in _LONG and number % 4 else ("asked", ways[1 + number % 2])
            for way in ways:
                if way != "wired" or not isinstance(value, dict):
                    yield way, one.id, called, value
    if not sample:
        yield "asked", "folder", "a link", ["1", 0]


def answer(bench, name, way, place, value):
    """Return what is wrong with a node's answer to a value; nothing where nothing is."""
    if way == "asked":
        raw = value["__value__"] if isinstance(value, dict) and "__value__" in value else value
        return bench.ask(name, {place: raw})
    if way == "written":
        return bench.run(graph_of(bench, name, **{place: as_read(value)}))
    _GIVEN.append(value)
    graph = graph_of(bench, name, **{place: ["91", 0]})
    graph["91"] = stock("Gives", number=len(_GIVEN) - 1)
    return bench.run(graph)


def planted(bench, name):
    """Let a node raise an error of Python's own; return what is said of that."""

    def fail(cls, **_):
        raise ValueError("planted")

    bench.type_of(name).execute = classmethod(fail)
    bench._begin()
    return bench.run(graph_of(bench, name))


def _too_long(*_):
    raise TooLongError


def main(arguments=None):
    """Try every value of the nodes that are named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("comfyui")
    parser.add_argument("folder", type=Path)
    parser.add_argument("nodes", nargs="*")
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--planted", metavar="NODE", help="at last let this one fail, to see it")
    parser.add_argument("--times", action="store_true", help="say what each value takes")
    chosen = parser.parse_args(arguments)
    base = chosen.folder.resolve()
    bench = Bench(chosen.comfyui, base)
    logging.disable(logging.CRITICAL)
    prepared(bench)
    tried = 0
    signal.signal(signal.SIGALRM, _too_long)
    for name in chosen.nodes or NAMES:
        if wrong := bench.run(graph_of(bench, name)):
            say(name, "written", "", "its defaults", wrong)
        for way, place, called, value in cases(bench, name, chosen.sample):
            tried += 1
            begun = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                wrong = answer(bench, name, way, place, value)
            except TooLongError:
                wrong = f"no answer in {SECONDS} s"
                bench._begin()
            except Exception as error:
                wrong = f"{way} fails: {type(error).__name__}: {str(error)[:300]!r}"
                bench._begin()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if wrong or chosen.times:
                say(name, way, place, called, wrong, time.monotonic() - begun)
            shutil.rmtree(base / "temp", ignore_errors=True)
    if chosen.planted:
        say(chosen.planted, "written", "", "a planted fault", planted(bench, chosen.planted))
    sys.stdout.write(f"TRIED {tried}\n")


def say(name, way, place, called, wrong, seconds=0.0):
    line = [name, way, place, called, wrong, round(seconds, 2)]
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
