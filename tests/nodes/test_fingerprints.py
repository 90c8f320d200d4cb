"""Fingerprints always answer, and know the files of the models that a node works with."""

import ast
import shutil
from pathlib import Path

from tests.support.comfyui.graphs import node, stock
from tests.support.comfyui.pack import core, part
from tests.support.comfyui.portraits import draw_folder
from tests.support.tiny_captioners import tiny_tagger

NODES = Path(__file__).resolve().parents[2] / "nodes"


def test_a_fingerprint_answers_the_same_of_what_cannot_be_read():
    @part("ui.disk_state").always_answers
    def fingerprint(cls, folder=None, **_):
        return Path(folder).stat().st_size

    for hostile in (None, [1], float("nan"), "a\0b", "a\ud800", "x" * 1000):
        first = fingerprint(None, folder=hostile)
        assert first == fingerprint(None, folder=hostile)
        assert first.startswith("cannot be read: ")
    assert fingerprint(None, folder=str(NODES), other=5) == NODES.stat().st_size


def test_every_fingerprint_always_answers():
    found = {}
    for path in NODES.rglob("*.py"):
        for one in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(one, ast.FunctionDef) and one.name == "fingerprint_inputs":
                found[path.stem] = [ast.unparse(d) for d in one.decorator_list]
                assert one.args.kwarg is not None, path
    assert len(found) > 10
    never = {name for name, said in found.items() if said != ["classmethod", "always_answers"]}
    assert never == {"verify"}  # which has nothing to read, and runs every time


def test_a_file_that_was_replaced_by_an_equal_one_is_another(tmp_path):
    states = part("ui.disk_state").states
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner" / "model.onnx"
    file.write_bytes(b"one")
    before = states(tmp_path)
    assert states(tmp_path) == before
    shutil.copy2(file, tmp_path / "copy")
    (tmp_path / "copy").replace(file)
    assert states(tmp_path) != before
    assert states(file) != states(tmp_path / "absent") == states(None)


def test_nodes_run_again_when_the_files_of_their_models_are_replaced(server):
    """Under the same name: ComfyUI would answer from its cache what the former models said."""
    models = server.base / "models"
    pack, clip = models / "insightface" / "models" / "mine", models / "myclip"
    shutil.copytree(core("miniature").FACE_PACK_PATH, pack)
    shutil.copytree(core("miniature").CLIP_PATH, clip)
    tiny_tagger(models / "captioners" / "tiny")
    draw_folder(server.base / "input" / "replaced", 2, seed=9)  # which no other test measures
    graph = {
        "1": node("LoadImageSet", folder="replaced"),
        "2": node(
            "FaceValidate", images=["1", 0], pack="mine", minimum_confidence=0.0,
            minimum_share=0.0, minimum_side=0.0, minimum_identity=-1.0,
        ),
        "3": node("ClipCluster", images=["1", 0], model="myclip", clusters=1),
        "4": node("CaptionImages", images=["1", 0], model="tiny", existing="replace"),
        **{
            f"9{number}": stock("PreviewAny", source=[number, output])
            for number, output in (("2", 1), ("3", 1), ("4", 2))
        },
    }  # fmt: skip
    server.run(graph)
    assert {"2", "3", "4"} <= server.run(graph).cached
    replaced = {"2": pack, "3": clip, "4": models / "captioners" / "tiny"}
    for number, folder in replaced.items():
        file = max(folder.iterdir(), key=lambda one: one.stat().st_size)
        shutil.copy2(file, folder / "copy")
        (folder / "copy").replace(file)
        assert {"2", "3", "4"} - server.run(graph).cached == {number}
