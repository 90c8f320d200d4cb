"""Runs the tests of the nodes and of the page on several ComfyUIs, and keeps which were tried.

    python -m tests.support.comfyui.versions ~/ComfyUI ~/ComfyUI-0.3.64

Each checkout is tried with the frontend that its requirements.txt asks for, the newest checkout
also with the newest frontend that the package index has. Those packages go into folders beside what
is installed. A run writes its row into the file (``pytest --versions FILE`` does), and the README's
table is made from it. Exits with 1 when a test failed.

The other packages that ComfyUI asks for are those of .venv in every run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from datetime import date
from importlib.metadata import distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RECORD = ROOT / "docs" / "versions.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- versions: begin -->", "<!-- versions: end -->"
FRONTEND = "comfyui-frontend-package"
SUITES = ("tests/nodes", "tests/browser")


def comfyui_version(checkout):
    """Return the version that a checkout of ComfyUI states."""
    text = (Path(checkout) / "comfyui_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "([^"]+)"', text)[1]


def required_packages(checkout):
    """Return those of a checkout's requirements that are ComfyUI's own: page, templates, docs."""
    text = (Path(checkout) / "requirements.txt").read_text(encoding="utf-8")
    return re.findall(r"^comfyui[\w-]*==\S+", text, re.MULTILINE)


def tried_frontend():
    """Return the version of the frontend that a server of these tests serves."""
    folders = filter(None, os.environ.get("COMFYUI_PACKAGES", "").split(os.pathsep))
    found = distributions(path=[*folders, *sys.path])
    return next(d.version for d in found if d.name.replace("_", "-") == FRONTEND)


def write_row(path, checkout, counts):
    """Put what a run of the tests gave into the record, in place of an earlier run's.

    Args:
        path: The record.
        checkout: ComfyUI's folder.
        counts: How many tests passed, failed, and were skipped.
    """
    row = {
        "comfyui": comfyui_version(checkout),
        "frontend": tried_frontend(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "date": date.today().isoformat(),
        **counts,
    }
    path = Path(path)
    rows = json.loads(path.read_text(encoding="utf-8") or "[]") if path.exists() else []
    rows = [old for old in rows if _which(old) != _which(row)]
    rows = sorted([*rows, row], key=_order)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def table(rows):
    """Return the README's table of a record."""
    lines = [
        "| ComfyUI | frontend | PyTorch | Python | tests passed | skipped | tried on |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = ("comfyui", "frontend", "torch", "python", "passed", "skipped", "date")
    lines += ["| " + " | ".join(str(row[key]) for key in keys) + " |" for row in rows]
    return "\n".join(lines)


def with_table(text, rows):
    """Return the README's text with the table of a record between its marks."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.split(END)[1]}"


def install_packages(requirements):
    """Return the folders of what is asked for and not installed; a folder a version.

    Args:
        requirements: Lines for pip, all of them ``name==version``.
    """
    there = {f"{found.name.replace('_', '-')}=={found.version}" for found in distributions()}
    return [_folder_of(line) for line in requirements if line not in there]


def _folder_of(requirement):
    folder = ROOT / ".venv" / "comfyui-packages" / requirement
    if not folder.is_dir():
        print(f"Installing {requirement} ...", flush=True)
        partial = folder.with_name(f".{folder.name}.partial")
        _pip("install", "--upgrade", "--target", str(partial), requirement)
        partial.rename(folder)
    return folder


def newest_frontend():
    """Return the requirement of the newest frontend that the package index has."""
    return f"{FRONTEND}=={re.search(r'[(]([0-9.]+)[)]', _pip('index', 'versions', FRONTEND))[1]}"


def cells(checkouts, newest=True):
    """Return what to try: triples of a checkout, its frontend's version and folders of packages.

    Args:
        checkouts: ComfyUI's folders.
        newest: Whether the newest checkout is tried with the newest frontend too.
    """
    ordered = sorted(checkouts, key=lambda folder: _parts(comfyui_version(folder)))
    wanted = [(folder, required_packages(folder)) for folder in ordered]
    if newest and wanted:
        folder, required = wanted[-1]
        others = [line for line in required if not line.startswith(FRONTEND)]
        wanted.append((folder, [newest_frontend(), *others]))
    found = []
    for folder, lines in wanted:
        frontend = next(line for line in lines if line.startswith(FRONTEND)).partition("==")[2]
        if (folder, frontend) not in [cell[:2] for cell in found]:
            found.append((folder, frontend, install_packages(lines)))
    return found


def main(arguments=None):
    """Run the tests on each version and write what came of it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkouts", nargs="+", type=Path, help="ComfyUI's folders")
    parser.add_argument("--record", type=Path, default=RECORD, help="the file of what was tried")
    parser.add_argument(
        "--required-frontend", action="store_true", help="leave out the newest frontend"
    )
    parser.add_argument(
        "--skip-installed",
        action="store_true",
        help="leave out what the installed packages serve: the test command runs it",
    )
    parser.add_argument("--slow", action="store_true", help="the longer suites too")
    options = parser.parse_args(arguments)
    checkouts = [folder.expanduser().resolve() for folder in options.checkouts]
    failed = []
    for checkout, frontend, packages in cells(checkouts, not options.required_frontend):
        if options.skip_installed and not packages:
            continue
        name = f"ComfyUI {comfyui_version(checkout)} with frontend {frontend}"
        print(f"\n{name}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "--versions", str(options.record)]
        command += ["--slow"] * options.slow
        environment = {
            **os.environ,
            "COMFYUI_PATH": str(checkout),
            "COMFYUI_PACKAGES": os.pathsep.join(map(str, packages)),
        }
        if subprocess.run([*command, *SUITES], cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
    rows = json.loads(options.record.read_text(encoding="utf-8") or "[]")
    if options.record == RECORD:
        README.write_text(with_table(README.read_text(encoding="utf-8"), rows), encoding="utf-8")
    print(table(rows))
    for name in failed:
        print(f"Failed: {name}")
    return int(bool(failed))


def _pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _parts(text):
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _which(row):
    return row["comfyui"], row["frontend"]


def _order(row):
    return _parts(row["comfyui"]), _parts(row["frontend"])


if __name__ == "__main__":
    raise SystemExit(main())
