"""What no line of the product does, whoever asks: start programs, unpickle, run others' code."""

from __future__ import annotations

import ast
from pathlib import Path

import character_curator

ROOT = Path(character_curator.__file__).parents[1]
TREES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("core", "nodes")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def calls():
    """Yield file, name and keywords of each call."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                yield path, ast.unparse(node.func), words


def imported():
    """Yield file and name of each module that is imported anywhere."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield path, node.module


def test_no_program_is_started():
    started = {"os.system", "os.popen", "os.execv", "os.spawnv", "os.startfile", "eval", "exec"}
    assert [(str(path), name) for path, name, _ in calls() if name in started] == []
    modules = {"subprocess", "pty", "multiprocessing.popen_fork"}
    assert [(str(path), name) for path, name in imported() if name in modules] == []


def test_pickles_are_read_as_tensors_alone():
    loads = {"pickle.load", "pickle.loads", "joblib.load", "dill.load"}
    unpickling = {path for path, name, _ in calls() if name in loads}
    # What this program's own processes say to each other; what lies on a disk is no such thing.
    assert {path.parent.relative_to(ROOT).as_posix() for path in unpickling} <= {"core/engines"}
    files = {"open", "io.open", "Path.open", "pickle.load", "plain_bytes"}
    assert [name for path, name, _ in calls() if path in unpickling and name in files] == []
    torch_loads = [words for _, name, words in calls() if name == "torch.load"]
    assert torch_loads
    assert all(words.get("weights_only") == "True" for words in torch_loads)
    numpy_loads = [words for _, name, words in calls() if name in ("np.load", "numpy.load")]
    assert numpy_loads
    assert all(words.get("allow_pickle") == "False" for words in numpy_loads)


def test_code_of_models_is_run_only_where_an_option_says_so():
    said = [words["trust_remote_code"] for *_, words in calls() if "trust_remote_code" in words]
    assert "True" not in said
    text = "\n".join(path.read_text(encoding="utf-8") for path in TREES)
    assert "trust_remote_code=True" not in text
    assert '"trust_remote_code": True' not in text
    from character_curator.captions import settings

    fields = [
        model.model_fields["trust_remote_code"]
        for model in vars(settings).values()
        if "trust_remote_code" in getattr(model, "model_fields", {})
    ]
    assert fields
    assert all(field.default is False for field in fields)


def test_every_error_is_of_a_class_of_its_own():
    """A caller tells by the class what is wrong; the root of all says nothing."""
    root = "CuratorError"
    made = [str(path) for path, name, _ in calls() if name.split(".")[-1] == root]
    raised = [
        str(path)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and node.exc and ast.unparse(node.exc).split(".")[-1] == root
    ]
    assert made + raised == []


def test_no_route_is_added_to_the_server():
    for path, name, _ in calls():
        assert not name.endswith((".routes.get", ".routes.post", "add_routes", ".add_route")), path
    assert [str(path) for path, name in imported() if name.split(".")[0] == "aiohttp"] == []


def test_json_and_toml_are_read_with_care_everywhere():
    """What is nested too deeply, or has a number of thousands of digits, is no ``ValueError``."""
    bare = {"json.load", "json.loads", "tomllib.load", "tomllib.loads", "tomli.loads"}
    found = {(path.relative_to(ROOT).as_posix(), name) for path, name, _ in calls() if name in bare}
    assert found == {("core/json_text.py", "json.loads"), ("core/toml_lines.py", "tomllib.loads")}


def test_parquet_is_read_with_care_everywhere():
    """Of a damaged file Polars panics, which is no ``Exception``."""
    bare = ("read_parquet", "scan_parquet", "read_parquet_metadata")
    found = {
        path.relative_to(ROOT).as_posix() for path, name, _ in calls() if name in
        {f"{module}.{one}" for module in ("pl", "polars") for one in bare}
    }  # fmt: skip
    assert found == {"core/parquet.py"}


def test_numbers_that_are_read_may_be_infinite_everywhere():
    """``int`` of an infinite number and ``float`` of a huge one are no ``ValueError``."""
    of_texts = {
        "core/captions/taggers.py", "core/cli/evaluation.py", "core/lora/header.py",
        "core/selection/quotas.py", "core/engines/cores.py", "core/engines/local.py",
    }  # fmt: skip
    wide = {"ArithmeticError", "OverflowError", "Exception", "BaseException"}
    found = set()
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Try):
                continue
            kinds = [handler.type for handler in node.handlers]
            caught = {
                ast.unparse(one)
                for kind in kinds
                for one in (kind.elts if isinstance(kind, ast.Tuple) else [kind])
                if one is not None
            }
            numbers = [
                call for part in node.body for call in ast.walk(part)
                if isinstance(call, ast.Call) and ast.unparse(call.func) in ("int", "float")
            ]  # fmt: skip
            if numbers and "ValueError" in caught and not caught & wide and None not in kinds:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == of_texts


def test_jpegs_are_encoded_in_memory_everywhere():
    """Into a file Pillow writes a JPEG in one piece, and half of one on a full disk."""
    found = {
        ast.unparse(node.args[0])
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".save")
        and "JPEG" in ast.unparse(node)
    }  # fmt: skip
    assert found == {"buffer"}


def test_nodes_write_files_beside_their_names_everywhere():
    """A kill or a full disk would leave half of one that is written under its own name."""
    found = {
        (path.relative_to(ROOT).as_posix(), ast.unparse(node))
        for path, tree in TREES.items()
        if path.relative_to(ROOT).parts[0] == "nodes"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            (node.func.attr == "save" and ast.unparse(node.args[0]) not in {"buffer", "temporary"})
            or (node.func.attr.startswith("write_") and ast.unparse(node.func.value) == "path")
        )
    }
    assert found == set()


def test_nodes_raise_no_error_of_pythons_own():
    """What a user can cause is a named error, which says what to do."""
    own = {
        "ValueError", "TypeError", "KeyError", "IndexError", "RuntimeError", "OSError",
        "FileNotFoundError", "OverflowError", "RecursionError", "Exception", "LookupError",
    }  # fmt: skip
    found = [
        (path.relative_to(ROOT).as_posix(), node.lineno)
        for path, tree in TREES.items()
        if path.relative_to(ROOT).parts[0] == "nodes"
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and ast.unparse(node.exc.func) in own
    ]
    bases = [
        node.name
        for path, tree in TREES.items()
        if path.relative_to(ROOT).parts[0] == "nodes"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and own & {ast.unparse(base) for base in node.bases}
    ]
    assert (found, bases) == ([], [])
