"""What may change the last bits of a pixel, and how to bring it about again."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "numpy")


def current(device: str) -> dict[str, Any]:
    """Describe this process: versions, device and threads.

    Args:
        device: The kind of device, such as "cpu" or "cuda".
    """
    import torch

    return {
        "device": {"kind": device, "name": _device_name(device)},
        "threads": torch.get_num_threads(),
        "versions": dict(_versions()),
    }


def differences(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Say in which facts two descriptions differ, a line each: ``torch: 2.8.0 -> 2.9.1``."""
    before, after = _flat(recorded), _flat(present)
    return [
        f"{name}: {before.get(name, 'unknown')} -> {after.get(name, 'unknown')}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


@contextmanager
def exact(threads: int | None = None) -> Iterator[None]:
    """Choose kernels that give the same bits each time; restore the process's choices after.

    Args:
        threads: How many threads torch uses meanwhile; results on a CPU depend on it.
    """
    import torch

    cudnn = torch.backends.cudnn
    before = (cudnn.benchmark, cudnn.deterministic, torch.get_num_threads())
    try:
        cudnn.benchmark, cudnn.deterministic = False, True
        if threads is not None and threads != before[2]:
            torch.set_num_threads(threads)
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before[:2]
        if torch.get_num_threads() != before[2]:
            torch.set_num_threads(before[2])


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for name in _LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


@lru_cache(maxsize=8)
def _device_name(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    if device == "cpu":
        # Which vector instructions the kernels were chosen for matters as well.
        return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})"
    return platform.machine()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _flat(described: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in described.items():
        if name == "versions" and isinstance(value, Mapping):
            result |= _flat(value)
        elif isinstance(value, Mapping):
            result |= _flat(value, f"{prefix}{name} ")
        else:
            result[f"{prefix}{name}"] = value
    return result
