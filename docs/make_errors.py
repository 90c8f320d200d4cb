"""Write docs/errors.md: every error that a user can cause, from the code that raises it.

Run: python docs/make_errors.py

Nothing of the package is imported. What an error is comes from its docstring; what it says, from
its constructor or from where it is raised, with a name in braces for what differs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
HEAD = """\
# Errors that you can cause

Each says what is wrong, where, and what to do next; here are all of them, by the part of the \
program that says them. Made by `python docs/make_errors.py` from the code; change that.

On the command line an error is a line on stderr and the exit code 2, however quiet the command \
(`--json` prints `{"error": NAME, "message": ...}` instead). In Python each is an exception of \
that name, derived from `character_curator.errors.CuratorError`. In ComfyUI it is the message of \
the node. What is no such error and still shows a traceback is a fault of this program: please \
report it.

`{braces}` stand for what differs. An error that several places raise says one of the lines.
"""
ROOTS = ("CuratorError",)
_LONGEST = 600
_COLUMNS = ("| Error | What it is | What it says |", "|---|---|---|")
_ELSE = "which images, files or values, and what to do"


@dataclass
class Error:
    """An error.

    Attributes:
        name: Of its class.
        file: Where it is defined.
        what: The first paragraph of its docstring.
        bases: What it derives from.
        says: What it may say, in the order of the files.
    """

    name: str
    file: Path
    what: str
    bases: list[str]
    says: list[str] = field(default_factory=list)


@cache
def page() -> str:
    """Return the page's text."""
    errors = sorted(found(), key=lambda one: (_room(one.file) == "", one.file, one.name))
    parts = [HEAD]
    room = None
    for error in errors:
        if _room(error.file) != room:
            room = _room(error.file)
            parts += [f"\n## {_title(room)}\n", *_COLUMNS]
        says = "<br>".join(_cell(text) for text in dict.fromkeys(error.says)) or _ELSE
        place = error.file.relative_to(ROOT).as_posix()
        parts.append(f"| [`{error.name}`](../{place}) | {_cell(error.what)} | {says} |")
    return "\n".join(parts) + "\n"


@cache
def _trees() -> dict[Path, ast.Module]:
    """Return every module of the program."""
    return {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for folder in ("core", "nodes")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


@cache
def found() -> list[Error]:
    """Return every error of the program that a user can cause."""
    trees = _trees()
    classes: dict[str, Error] = {}
    own: dict[str, list[str]] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                bases = [ast.unparse(base) for base in node.bases]
                what = (ast.get_docstring(node) or "").split("\n\n")[0]
                key = f"{path.relative_to(ROOT)}:{node.name}"
                classes[key] = Error(node.name, path, " ".join(what.split()), bases)
                own[key] = list(_of_constructor(node))
    known = set(ROOTS)
    while more := {c.name for c in classes.values() if known & {*c.bases}} - known:
        known |= more
    named: dict[str, list[Error]] = {}
    for key, error in classes.items():
        error.says = list(own[key])
        named.setdefault(error.name, []).append(error)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                for error in _named(named.get(name, ()), path):
                    if not own[_key(error)] and (text := _text(node.args[0])):
                        error.says.append(text)
    of_nodes = {c.name for c in classes.values() if "nodes" in c.file.relative_to(ROOT).parts[:1]}
    return [
        error for error in classes.values()
        if error.name in known or (error.name in of_nodes and error.says)
    ]  # fmt: skip


def _key(error: Error) -> str:
    return f"{error.file.relative_to(ROOT)}:{error.name}"


def _named(same: Sequence[Error], path: Path) -> Sequence[Error]:
    """Return the class of one name that a file means: of several, the one in it or beside it."""
    near = [error for error in same if error.file == path]
    near = near or [error for error in same if error.file.parent == path.parent]
    return (near or same)[:1]


def _of_constructor(node: ast.ClassDef) -> Iterator[str]:
    """Yield what a class's own constructor says."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            known: dict[str, ast.expr] = {}
            for inner in ast.walk(item):
                if isinstance(inner, ast.Assign):
                    known[ast.unparse(inner.targets[0])] = inner.value
            for inner in ast.walk(item):
                is_super = (
                    isinstance(inner, ast.Call)
                    and ast.unparse(inner.func) == "super().__init__"
                    and inner.args
                )
                if is_super:
                    told = inner.args[0]
                    if text := _text(known.get(ast.unparse(told), told)):
                        yield text


def _text(node: ast.expr) -> str:
    """Return a message as it is written; empty where that is not said here."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if counted := _counted(node):
        return counted
    if isinstance(node, ast.JoinedStr):
        parts = []
        for value in node.values:
            if isinstance(value, ast.Constant):
                parts.append(str(value.value))
            elif counted := _counted(value.value):
                parts.append(counted)
            else:
                name = _placeholder(value.value)
                parts.append(_constants().get(name.lstrip("_")) or "{" + name + "}")
        return "".join(parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + (_text(node.right) or "{...}")
    if isinstance(node, ast.IfExp):
        return _text(node.body) or _text(node.orelse)
    return ""


def _counted(node: ast.expr) -> str:
    """Return what a call of ``how_many`` or ``worded`` says of several; empty for another."""
    name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
    if name not in ("how_many", "worded"):
        return ""
    number, *forms = node.args
    words = _text(forms[-1]) if len(forms) > 1 else _counts().plural(_text(forms[0]))
    return words if name == "worded" else f"{{{_placeholder(number)}}} {words}"


@cache
def _counts() -> ModuleType:
    """Return the module that counts, without the package that it is of."""
    spec = spec_from_file_location("counts", ROOT / "core" / "counts.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _constants() -> dict[str, str]:
    """Return the plain constants of all modules, in capitals, by their names."""
    known: dict[str, set[str]] = {}
    for tree in _trees().values():
        for node in tree.body:
            value = getattr(node, "value", None)
            if isinstance(node, ast.Assign) and isinstance(value, ast.Constant):
                name, told = ast.unparse(node.targets[0]).lstrip("_"), value.value
                if name.isupper() and isinstance(told, str | int | float):
                    text = told if isinstance(told, str) else f"{told:,}"
                    known.setdefault(name, set()).add(text)
    return {name: values.pop() for name, values in known.items() if len(values) == 1}


def _placeholder(node: ast.expr) -> str:
    """Return a short name for what differs."""
    while isinstance(node, ast.Call) and node.args:
        node = node.args[-1] if isinstance(node.func, ast.Attribute) else node.args[0]
    if isinstance(node, ast.BoolOp):
        node = node.values[-1]
    if isinstance(node, ast.Attribute) and node.attr.startswith("__"):
        return _placeholder(node.value)
    name = getattr(node, "id", getattr(node, "attr", "..."))
    return str(name).lstrip("_")


def _room(path: Path) -> str:
    """Return the folder that a file is of, ``core`` and ``nodes`` themselves included."""
    parts = path.relative_to(ROOT).parts[:-1]
    return "nodes" if parts[0] == "nodes" else "/".join(parts[1:2])


def _title(room: str) -> str:
    """Return a heading: what a folder says that it is for."""
    if room == "nodes":
        return "In ComfyUI"
    if not room:
        return "Everywhere"
    text = ast.get_docstring(ast.parse((ROOT / "core" / room / "__init__.py").read_text("utf-8")))
    first = (text or room).split("\n")[0]
    return re.sub(r"``([^`]+)``", r"`\1`", first).rstrip(".")


def _cell(text: str) -> str:
    """Return a text as a cell of a table, on one line."""
    text = " ".join(re.sub(r"``([^`]+)``", r"`\1`", text).split())
    text = re.sub(r":\w+:`\.*([^`]+)`", r"`\1`", text)
    text = text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + " ..."
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
