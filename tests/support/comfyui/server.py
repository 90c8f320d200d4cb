"""A ComfyUI server in a folder of its own, and a client of its API."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def own_packages():
    """Return the variable that lets ComfyUI import from COMFYUI_PACKAGES before anything else.

    Those are folders of ``pip install --target``, for a ComfyUI that needs another page or other
    templates than those installed.
    """
    folders = list(filter(None, os.environ.get("COMFYUI_PACKAGES", "").split(os.pathsep)))
    absent = [folder for folder in folders if not Path(folder).is_dir()]
    if absent:
        raise FileNotFoundError(f"COMFYUI_PACKAGES: there is no {', '.join(absent)}.")
    # ComfyUI starts in a folder of its own.
    paths = [*(str(Path(folder).resolve()) for folder in folders), os.environ.get("PYTHONPATH")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))} if folders else {}


class Server:
    """Starts ComfyUI; the pack is a link in its custom_nodes.

    Args:
        comfyui: Its folder.
        base: The folder of what it reads and writes.
        log_apart: Let a process of its own write the log, which a full disk leaves alone.
        environment: Variables.
    """

    def __init__(self, comfyui, base, log_apart=False, **environment):
        self.base = base
        for name in ("custom_nodes", "input", "output", "models", "temp", "user"):
            (base / name).mkdir(exist_ok=True)
        link = base / "custom_nodes" / "character-curator"
        if not link.is_symlink():  # one that was killed may have been here
            link.symlink_to(ROOT)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = base / "server.log"
        command = [
            sys.executable, "main.py", "--cpu", "--port", str(self.port),
            "--base-directory", str(base), "--database-url", "sqlite:///:memory:",
            "--disable-api-nodes",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            writer = None
            if log_apart:
                writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
            self.process = subprocess.Popen(
                command, cwd=comfyui, stdout=writer.stdin if writer else log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **own_packages(), **environment},
            )  # fmt: skip
            if writer:
                writer.stdin.close()  # the server's end is left, and ends with it
        self._wait_until_it_answers()

    def _wait_until_it_answers(self):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended:\n{self.text()[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        self.stop()
        raise RuntimeError(f"ComfyUI does not answer:\n{self.text()[-4000:]}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self):
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def let_files_grow_to(self, size):
        """Let the kernel fill its disk: no file of it grows beyond so many bytes; None is any."""
        import resource

        most = resource.RLIM_INFINITY if size is None else size
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    def text(self):
        return self.log.read_text(errors="replace")

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def post(self, path, data=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(data or {}).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise Refused(json.loads(error.read() or b"null")) from error

    def queue(self, graph):
        """Queue a graph and return its id."""
        return self.post("/prompt", {"prompt": graph, "client_id": "tests"})["prompt_id"]

    def wait(self, number, seconds=300):
        """Wait until a graph is done."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            history = self.get(f"/history/{number}")
            if number in history:
                return Run(history[number])
            time.sleep(0.1)
        raise TimeoutError(f"{number} is not done:\n{self.text()[-3000:]}")

    def run(self, graph, seconds=300):
        """Queue a graph, wait for its end, and insist that it went well."""
        done = self.wait(self.queue(graph), seconds)
        assert done.status == "success", f"{done.error}\n{self.text()[-3000:]}"
        return done

    def refusal(self, graph):
        """Return why a graph is refused, when it is queued or, by older versions, when it runs."""
        try:
            run = self.wait(self.queue(graph))
        except Refused as error:
            return str(error)
        assert run.status == "error"
        return run.error


class Refused(Exception):
    """The server did not take a graph."""


class Run:
    """What history tells of a run."""

    def __init__(self, entry):
        self.outputs = entry["outputs"]
        self.status = entry["status"]["status_str"]
        messages = dict(entry["status"]["messages"])
        self.cached = set(messages.get("execution_cached", {}).get("nodes", []))
        self.error = messages.get("execution_error", {}).get("exception_message")
        self.interrupted = "execution_interrupted" in messages


def files(folder: Path, pattern="*.png"):
    return sorted(path.name for path in folder.glob(pattern))
