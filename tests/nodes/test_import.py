"""Importing the pack costs ComfyUI next to nothing."""

import importlib.util
from pathlib import Path

HEAVY = {
    "cv2", "datasets", "diffusers", "insightface", "onnx", "onnxruntime", "open_clip", "peft",
    "polars", "pydantic", "scipy", "sklearn", "tomlkit",
}  # fmt: skip


def test_the_pack_imports_no_library_that_comfyui_has_not_imported(comfyui):
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "import_time.py"
    spec = importlib.util.spec_from_file_location("import_time", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    _, nodes, modules = benchmark.once(comfyui)
    assert nodes >= 13
    assert not HEAVY & set(modules)
