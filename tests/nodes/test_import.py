"""Importing the pack costs ComfyUI next to nothing."""

from benchmarks import import_time

HEAVY = {
    "cv2", "datasets", "diffusers", "insightface", "onnx", "onnxruntime", "open_clip", "peft",
    "polars", "pydantic", "scipy", "sklearn", "tomlkit",
}  # fmt: skip


def test_the_pack_imports_no_library_that_comfyui_has_not_imported(comfyui):
    _, nodes, modules = import_time.once(comfyui)
    assert nodes >= 13
    assert not HEAVY & set(modules)
