"""Write docs/api.md: every public name of the package, from its source's own docstrings.

Run: python docs/make_api.py

Nothing of the package is imported: what is public is read from ``core/__init__.pyi``, the rest from
the modules that it names, so that the page is the same wherever it is made.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
HEAD = """\
# The Python API

Every public name of `character_curator`. Made by `python docs/make_api.py` from the docstrings; \
change those.

```python
import character_curator  # loads nothing heavy: each name below loads when it is first used
```
"""
WIDTH = 88
SECTIONS = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):\n", re.M)
Function = (ast.FunctionDef, ast.AsyncFunctionDef)
PLAIN = {
    "Whole": "int",
    "Number": "float",
    "Fraction": "float",
    "Flag": "bool",
    "Seed": "int",
    "_Decay": "float",
    "_Layers": "str | tuple[str, ...]",
}
"""What the types of models' fields come to."""


def page() -> str:
    """Return the page's text."""
    names = sorted(public_names(), key=lambda item: item[0].lower())
    contents = ", ".join(f"[`{name}`](#{name.lower()})" for name, _ in names)
    parts = [HEAD, contents + "\n"]
    for name, module in names:
        node = definition(module, name)
        described = of_class(node) if isinstance(node, ast.ClassDef) else of_function(node, "")
        place = module.relative_to(ROOT).as_posix()
        parts += [f"## {name}\n", f"From [{place}](../{place}).\n", *described]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(parts))
    shared = dict(defaults())
    return re.sub(r"(?<= = )[A-Z_]+\b", lambda match: shared.get(match[0], match[0]), text)


def defaults() -> Iterator[tuple[str, str]]:
    """Yield each default that stages share, and its value as it is written."""
    for node in ast.parse((ROOT / "core/defaults.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            yield ast.unparse(node.targets[0]), ast.unparse(node.value)


def public_names() -> Iterator[tuple[str, Path]]:
    """Yield each public name and the module that defines it."""
    for node in ast.parse((ROOT / "core/__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.name, (ROOT / "core" / Path(*node.module.split("."))).with_suffix(".py")


def definition(module: Path, name: str) -> ast.ClassDef | ast.FunctionDef:
    """Find a class or function in the body of a module."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, *Function)) and node.name == name:
            return with_inherited_fields(node, module)
    raise SystemExit(f"{module} does not define {name}: let core/__init__.pyi name what does.")


def with_inherited_fields(node: ast.stmt, module: Path) -> ast.stmt:
    """Return a definition with the fields that a model has from another one of its module."""
    for base in map(ast.unparse, getattr(node, "bases", ())):
        for other in ast.parse(module.read_text(encoding="utf-8")).body:
            if isinstance(other, ast.ClassDef) and other.name == base:
                node.body += [item for item in other.body if isinstance(item, ast.AnnAssign)]
    return node


def of_function(node: ast.FunctionDef, owner: str) -> list[str]:
    """Return signature and text of a function or method."""
    title = f"{owner}.{node.name}" if owner else node.name
    heading = [f"### {title}\n"] if owner else []
    decorators = set(map(ast.unparse, node.decorator_list))
    if decorators & {"property", "cached_property"}:
        returns = "" if node.returns is None else f": {ast.unparse(node.returns)}"
        return [*heading, code(f"{title}{returns}"), text_of(node)]
    skip = 1 if owner and "staticmethod" not in decorators else 0
    return [*heading, code(signature(title, node, skip)), text_of(node)]


def of_class(node: ast.ClassDef) -> list[str]:
    """Return signature, text, fields and public methods of a class."""
    methods = [item for item in node.body if isinstance(item, Function)]
    made = next((item for item in methods if item.name == "__init__"), None)
    enumeration = "Enum" in map(ast.unparse, node.bases)
    fields = list(fields_of(node, enumeration))
    if made is not None:
        head = signature(node.name, made, 1, "")
    elif fields and not enumeration:
        head = wrapped(node.name, [field for field, _ in fields], "")
    else:
        head = f"class {node.name}({', '.join(map(ast.unparse, node.bases))})"
    parts = [code(head), text_of(node)]
    if any(text for _, text in fields):
        told = [f"- `{field.split(':')[0]}`: {inline(text)}" for field, text in fields if text]
        parts += ["**Attributes**\n", *told, ""]
    elif enumeration:
        parts += ["**Members**\n", *(f"- `{field}`" for field, _ in fields), ""]
    if made is not None and ast.get_docstring(made):
        parts.append(text_of(made))
    for method in methods:
        if not method.name.startswith("_") and ast.get_docstring(method):
            parts += of_function(method, node.name)
    return parts


def fields_of(node: ast.ClassDef, enumeration: bool) -> Iterator[tuple[str, str]]:
    """Yield each field of a class as it is declared, and the docstring below it."""
    for item, after in zip(node.body, [*node.body[1:], None], strict=True):
        told = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            told = str(after.value.value)
        if isinstance(item, ast.Assign if enumeration else ast.AnnAssign):
            if isinstance(item.value, ast.Call) and ast.unparse(item.value.func) == "Field":
                yield of_model(item)
                continue
            text = re.sub(r"= field\(default=(.*)\)$", r"= \1", ast.unparse(item))
            yield re.sub(r"= field\(default_factory=(.*)\)$", r"= \1()", text), told


def of_model(item: ast.AnnAssign) -> tuple[str, str]:
    """Return a pydantic model's field as an argument, and its sentence."""
    said = {word.arg: word.value for word in item.value.keywords}
    names = "|".join(sorted(PLAIN, key=len, reverse=True))
    annotation = ast.unparse(item.annotation)
    kind = re.sub(rf"(?<!\w)({names})\b", lambda match: PLAIN[match[0]], annotation)
    default = f" = {ast.unparse(said['default'])}" if "default" in said else ""
    return f"{ast.unparse(item.target)}: {kind}{default}", ast.literal_eval(said["description"])


def signature(name: str, node: ast.FunctionDef, skip: int, arrow: str = " -> ") -> str:
    """Return a function's head as it is written, without ``self``."""
    inner = node.args
    plain = [*inner.posonlyargs, *inner.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(inner.defaults))
    defaults += inner.defaults
    shown = [parameter(*pair) for pair in zip(plain, defaults, strict=True)][skip:]
    if inner.vararg:
        shown.append("*" + parameter(inner.vararg, None))
    elif inner.kwonlyargs:
        shown.append("*")
    shown += [parameter(*pair) for pair in zip(inner.kwonlyargs, inner.kw_defaults, strict=True)]
    if inner.kwarg:
        shown.append("**" + parameter(inner.kwarg, None))
    end = f"{arrow}{ast.unparse(node.returns)}" if arrow and node.returns else ""
    return wrapped(name, shown, end)


def parameter(argument: ast.arg, default: ast.expr | None) -> str:
    """Return a parameter as it is written."""
    kind = "" if argument.annotation is None else f": {ast.unparse(argument.annotation)}"
    if default is None:
        return argument.arg + kind
    return f"{argument.arg}{kind}{' = ' if kind else '='}{ast.unparse(default)}"


def wrapped(name: str, parts: list[str], end: str) -> str:
    """Put parameters on one line, or on a line each."""
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"


def code(text: str) -> str:
    """Return a block of Python."""
    return f"```python\n{text}\n```\n"


def text_of(node: ast.ClassDef | ast.FunctionDef) -> str:
    """Turn a Google docstring into Markdown."""
    docstring = ast.get_docstring(node) or ""
    first, *rest = SECTIONS.split(docstring)
    parts = [prose(first)]
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        inside, after = indented(body)
        parts.append(f"**{name}**\n")
        if name == "Example":
            parts.append(code(inside))
        elif name in ("Returns", "Yields"):
            parts.append(prose(inside))
        else:
            items = re.split(r"\n(?=\S)", inside)
            parts += [listed(*item.split(":", 1)) for item in items]
            parts.append("")
        parts.append(prose(after))
    return "\n".join(parts).strip() + "\n"


def indented(body: str) -> tuple[str, str]:
    """Split a section into its own lines, unindented, and what follows it."""
    lines = body.split("\n")
    count = next(
        (i for i, line in enumerate(lines) if line and not line.startswith("    ")), len(lines)
    )
    own = "\n".join(line[4:] for line in lines[:count]).strip("\n")
    return own, "\n".join(lines[count:])


def listed(name: str, text: str) -> str:
    """Return an item of a list: a name and what it is."""
    return f"- `{name.strip()}`: {inline(text)}"


def prose(text: str) -> str:
    """Return paragraphs, each on one line; a literal block stays as it is."""
    parts = []
    for paragraph in re.split(r"\n{2,}", text.strip()):
        if paragraph.startswith("    "):
            parts.append("```\n" + re.sub(r"^    ", "", paragraph, flags=re.M) + "\n```")
        else:
            parts.append(inline(paragraph))
    return "\n\n".join(parts) + "\n"


def inline(text: str) -> str:
    """Turn reST roles and literals into Markdown, on one line."""
    text = re.sub(r":(?:attr|class|data|func|meth|mod):`\.*(?:\w+\.)*(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return " ".join(text.replace("::", ":").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
