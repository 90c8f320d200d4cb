"""Install Character Curator into .venv beside this file, then run the demo or the tests.

python quickstart.py            the demo: a curated dataset, made by the embedded models
python quickstart.py --tests    the test suite, with a real ComfyUI where there is a checkout

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
COMFYUI_STAMP = VENV / "comfyui.sha256"
NEEDED_GIB = 8
"""Room for the virtual environment: PyTorch's Linux build with its CUDA libraries is the bulk."""


KEPT = ("torch", "torchvision")
"""What must stay as it is in .venv, whatever ComfyUI's requirements lead to."""
ADDED = ("requests",)
"""What ComfyUI imports and does not list."""


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
        if options.tests:
            install_comfyui_requirements()
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


def find_comfyui() -> Path | None:
    """Return a checkout of ComfyUI: COMFYUI_PATH, the one around this pack, or ~/ComfyUI."""
    told = os.environ.get("COMFYUI_PATH")
    places = [Path(told).expanduser()] if told else [ROOT.parent.parent, Path.home() / "ComfyUI"]
    for place in places:
        if (place / "main.py").is_file() and (place / "comfy").is_dir():
            return place
    return None


def install_comfyui_requirements() -> None:
    """Let the tests start ComfyUI, where there is a checkout; otherwise say how to have one.

    PyTorch is left as it is. What cannot be installed is said, and the tests run without it.
    """
    comfyui = find_comfyui()
    if comfyui is None:
        print("No ComfyUI here: the tests that start one are skipped, and say how to have it.")
        return
    text = (comfyui / "requirements.txt").read_text(encoding="utf-8")
    wanted = hashlib.sha256(f"{fingerprint()}\0{text}".encode()).hexdigest()
    if COMFYUI_STAMP.exists() and COMFYUI_STAMP.read_text() == wanted:
        return
    print(f"Installing the requirements of {comfyui} for the tests ...", flush=True)
    started = time.monotonic()
    requirements = VENV / "comfyui-requirements.txt"
    requirements.write_text("\n".join(requirements_to_install(text)), encoding="utf-8")
    constraints = VENV / "comfyui-constraints.txt"
    constraints.write_text("\n".join(installed(KEPT)), encoding="utf-8")
    try:
        pip(
            [
                *("install", "--disable-pip-version-check"),
                *("--requirement", str(requirements), "--constraint", str(constraints)),
            ]
        )
    except SetupError as error:
        print(f"{error}\nThe tests run without ComfyUI.", file=sys.stderr)
        return
    COMFYUI_STAMP.write_text(wanted)
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def requirements_to_install(text: str) -> list[str]:
    """Return the lines of ComfyUI's requirements.txt that its start needs."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [*filter(None, lines), *ADDED]


def installed(names: tuple[str, ...]) -> list[str]:
    """Return ``name==version`` of those packages that .venv holds."""
    code = (
        "import sys; from importlib.metadata import distributions as found\n"
        "for d in found(): d.name in sys.argv and print(f'{d.name}=={d.version}')"
    )
    told = subprocess.run([str(PYTHON), "-c", code, *names], capture_output=True, check=True)
    return told.stdout.decode().split()


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
