"""Which module of a package imports which, read from the source without running any of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """One import of a module by a module of the same package; the package itself is called ''."""

    source: str
    target: str
    line: int

    @property
    def rooms(self) -> tuple[str, str]:
        """The first part of both names: a folder, or a module that lies beside the folders."""
        return self.source.split(".")[0], self.target.split(".")[0]

    def __str__(self) -> str:
        return f"{self.source or '__init__'}:{self.line} imports {self.target or '__init__'}"


def imports_within(root: Path) -> list[Import]:
    """Return every relative import of a package, wherever it stands.

    At the top, in a function, under TYPE_CHECKING, and in the ``.pyi`` that names what a package
    loads when it is used. Not among them is what leaves the package, and that a module is imported
    after the ``__init__`` of the folders above it.
    """
    files = [*root.rglob("*.py"), *root.rglob("*.pyi")]
    modules = {_name(path, root) for path in files}
    found = []
    for path in files:
        source = _name(path, root)
        parts = source.split(".") if source else []
        package = parts if path.stem == "__init__" else parts[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(package) + 1:
                above = package[: len(package) + 1 - node.level]
                base = [*above, *(node.module.split(".") if node.module else [])]
                for alias in node.names:
                    inner = ".".join([*base, alias.name])
                    target = inner if inner in modules else ".".join(base)
                    assert target in modules, f"{path}:{node.lineno} imports nothing: {target}"
                    found.append(Import(source, target, node.lineno))
    return found


def circle(imports: list[Import]) -> list[str]:
    """Return the modules of a circle of imports, the first again at the end; none: []."""
    follows: dict[str, list[str]] = {}
    for source, target, _ in imports:
        follows.setdefault(source, []).append(target)
    done: set[str] = set()
    for start in sorted(follows):
        path, todo = [start], [_next(follows, start)]
        while path:
            step = next(todo[-1], None)
            if step is None:
                done.add(path.pop())
                todo.pop()
            elif step in path:
                return [*path[path.index(step) :], step]
            elif step not in done:
                path.append(step)
                todo.append(_next(follows, step))
    return []


def not_downwards(imports: list[Import], order: Mapping[str, str]) -> list[Import]:
    """Return the imports that lead from a room to one that is not below it.

    Args:
        imports: Of a package.
        order: Its rooms from the lowest to the highest; the values say what they are for.
    """
    floor = {room: number for number, room in enumerate(order)}
    unknown = {room for found in imports for room in found.rooms} - floor.keys()
    assert not unknown, f"Rooms without a place in the order: {sorted(unknown)}"
    return [
        found
        for found in imports
        if found.rooms[0] != found.rooms[1] and floor[found.rooms[0]] < floor[found.rooms[1]]
    ]


def _next(follows: Mapping[str, list[str]], module: str) -> Iterator[str]:
    return iter(follows.get(module, []))


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
