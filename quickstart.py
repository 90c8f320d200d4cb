"""Install Character Curator into .venv beside this file, then run the demo or the tests.

python quickstart.py            the demo: a curated data set, made by the embedded models
python quickstart.py --tests    the test suite

Needs Python 3.10 or newer and a package index that pip can reach. Uses the standard library only.
Running it again is safe, and quick: what is installed is not installed again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.sha256"
NEEDED_GIB = 8
"""Room for the virtual environment: PyTorch's Linux build with its CUDA libraries is the bulk."""


class SetupError(Exception):
    """Something in the way of the installation, in words for the user."""


def main(arguments: list[str] | None = None) -> int:
    """Install when needed and run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tests", action="store_true", help="run the tests instead of the demo")
    parser.add_argument(
        "rest", nargs="*", help="passed on to the demo, or to pytest (put -- before options)"
    )
    options = parser.parse_args(arguments)
    try:
        install("dev" if options.tests else "")
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    command = [str(PYTHON), "-m"]
    command += ["pytest"] if options.tests else ["character_curator", "demo"]
    try:
        return subprocess.run([*command, *options.rest], cwd=ROOT, check=False).returncode
    except KeyboardInterrupt:
        return 130


def install(extra: str) -> None:
    """Bring .venv to the state that pyproject.toml asks for.

    Args:
        extra: An optional group of dependencies ('dev'), or an empty string.

    Raises:
        SetupError: Python is too old, the disk is full, or a package could not be had.
    """
    if sys.version_info < (3, 10):
        raise SetupError(
            f"This is Python {sys.version.split()[0]}; Character Curator needs 3.10 or newer. "
            "Install one and run it with that: python3.12 quickstart.py"
        )
    wanted = fingerprint()
    done = STAMP.read_text().split() if STAMP.exists() and PYTHON.exists() else []
    if done[:1] == [wanted] and (not extra or extra in done[1:]):
        return
    if not works(PYTHON):
        make_environment()
    print(f"Installing the packages into {VENV} (some minutes the first time) ...", flush=True)
    started = time.monotonic()
    target = f".[{extra}]" if extra else "."
    pip(["install", "--disable-pip-version-check", "--editable", target])
    extras = sorted({extra, *(done[1:] if done[:1] == [wanted] else [])} - {""})
    STAMP.write_text(" ".join([wanted, *extras]))
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def fingerprint() -> str:
    """Return a hash of what decides the contents of .venv."""
    parts = [(ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def works(python: Path) -> bool:
    """Tell whether ``python`` is an interpreter that has pip."""
    if not python.exists():
        return False
    tried = subprocess.run(
        [str(python), "-m", "pip", "--version"], capture_output=True, check=False
    )
    return tried.returncode == 0


def make_environment() -> None:
    """Make .venv anew."""
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < NEEDED_GIB:
        raise SetupError(
            f"{free:.1f} GiB are free on the disk of {ROOT}, and the installation needs about "
            f"{NEEDED_GIB}. Free some space, or move this folder to a larger disk; then run the "
            "same command again."
        )
    print(f"Making a virtual environment in {VENV} ...", flush=True)
    try:
        venv.EnvBuilder(with_pip=True, clear=True).create(VENV)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"The virtual environment could not be made in {VENV}: {error}\n"
            "If the folder cannot be written, move this project to one that can. On Debian and "
            "Ubuntu the package python3-venv may be missing: sudo apt install python3-venv"
        ) from error


def pip(arguments: list[str]) -> None:
    """Run pip in .venv, showing one line a package; explain a failure.

    Raises:
        SetupError: pip failed.
    """
    process = subprocess.Popen(
        [str(PYTHON), "-m", "pip", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line.rstrip())
        if line.startswith(("Collecting", "Installing", "Building")):
            print(
                "  " + line.strip()[: max(20, shutil.get_terminal_size().columns - 4)], flush=True
            )
    if process.wait():
        raise SetupError(explain(lines))


def explain(lines: list[str]) -> str:
    """Turn the last words of a failed pip into a message with a next step."""
    tail = "\n".join("  " + line for line in lines[-12:])
    text = "\n".join(lines).lower()
    if "no space left" in text:
        advice = f"The disk is full: free about {NEEDED_GIB} GiB and run the same command again."
    elif any(
        sign in text
        for sign in ("connection", "timed out", "temporary failure", "resolve", "ssl", "proxy")
    ):
        advice = (
            "The package index could not be reached. Check the network (behind a proxy set "
            "HTTPS_PROXY; with an index of your own set PIP_INDEX_URL) and run the same command "
            "again; what was downloaded is kept."
        )
    else:
        advice = "Run the same command again; if it fails the same way, report the lines above."
    return f"The installation failed:\n{tail}\n{advice}"


if __name__ == "__main__":
    sys.exit(main())
