"""A Ray runtime: one of this machine's own, or a cluster that is there.

Ray is told to send no statistics of its use, to start no page, and to leave logging and signals as
they are.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import CuratorError, MissingDependencyError

log = logging.getLogger(__name__)

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Names the cluster where nothing else does; Ray sets it in the jobs that it starts."""
OWN = "local"
"""The address that stands for a runtime of this machine's own."""
_OBJECTS = 512 * 2**20
"""Bytes of memory, at most, for what travels: paths and requests, rows, and crops between two
batches; what is more goes to the disk."""


_PATIENCE = 10.0
"""Seconds that a cluster has to answer."""


_joined: list[str] = []
"""The address by which this process was connected last, if it was by us."""


class ClusterError(CuratorError):
    """A Ray cluster cannot be reached, or started, or used."""


class Cluster:
    """A connection to Ray, made when it is opened; closed, it ends what it has started.

    Args:
        address: Of a cluster, as ``ray.init`` takes it (``auto``, ``host:6379``). Unless given,
            what ``RAY_ADDRESS`` says; without that, a runtime of this machine's own.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get(ADDRESS_VARIABLE) or OWN
        self._folder = ""
        self._ours = False

    def __str__(self) -> str:
        return "Ray on this machine" if self.is_own else f"the Ray cluster {self._address}"

    @property
    def is_own(self) -> bool:
        """Whether it is a runtime of this machine's own."""
        return self._address == OWN

    def open(self, cpus: float) -> Any:
        """Connect, unless this process is connected already; return the module ``ray``.

        Args:
            cpus: How many processors a runtime of our own has to give.

        Raises:
            MissingDependencyError: Ray is not installed.
            ClusterError: There is no cluster at the address, or none can be started.
        """
        ray = _imported()
        if ray.is_initialized():  # by us before, or by the program that we are a part of
            present = ray.get_runtime_context().gcs_address
            if not self.is_own and self._address not in ("auto", present, *_joined):
                error = ConnectionError(f"this process is connected to {present} already")
                raise ClusterError(self._unreachable(error))
            return ray
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if self.is_own:
            self._folder = tempfile.mkdtemp(prefix="ray-")
            options |= {
                "include_dashboard": False,
                "num_cpus": cpus,
                "object_store_memory": _OBJECTS,
                "_temp_dir": self._folder,
            }
        try:
            _knock(self._address)  # Ray itself would try for minutes
            with _unnoticed():
                ray.init(self._address, **options)
        except Exception as error:  # Ray raises many kinds, of its own and of others
            self._remove_folder()
            raise ClusterError(self._unreachable(error)) from error
        self._ours = True
        _joined[:] = [self._address]
        log.info("%s: %s", self, _named(ray.cluster_resources()))
        return ray

    def close(self) -> None:
        """End the connection, and the runtime where it is of our own."""
        if not self._ours:
            return
        import ray

        self._ours = False
        with _unnoticed():
            ray.shutdown()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def _unreachable(self, error: Exception) -> str:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if self.is_own:
            return (
                f"Ray does not start on this machine: {said}. Use another engine (--engine local), "
                "or see docs/cluster.md."
            )
        return (
            f"There is no way to the Ray cluster {self._address}: {said.rstrip('.')}. Is it "
            "running (ray status), with the same versions of Python and Ray as here? "
            "docs/cluster.md says how one is started."
        )


def free_and_total(ray: Any) -> str:
    """Say what a cluster has, and what of it is free."""
    return f"it has {_named(ray.cluster_resources())}, free are {_named(ray.available_resources())}"


def _named(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{resources.get(name, 0):g} {name}" for name in ("CPU", "GPU"))


def _knock(address: str) -> None:
    """See whether anybody listens at an address of the form ``host:port``.

    Raises:
        OSError: Nobody does.
    """
    host, colon, port = address.rpartition(":")
    if colon and host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()


def _imported() -> Any:
    try:
        with _environment(RAY_DEDUP_LOGS_SKIP_REGEX="."):  # else it prints to where results go
            import ray
    except ImportError as error:
        raise MissingDependencyError(
            "ray", "The engine 'ray'", 'pip install "character-curator[ray]"'
        ) from error
    return ray


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Keep Ray from reporting its use, talking to the terminal, and taking over a signal."""
    rays = logging.getLogger("ray")
    level = rays.level
    rays.setLevel(logging.ERROR)
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        with _environment(RAY_USAGE_STATS_ENABLED="0"):
            yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
        rays.setLevel(level)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables that Ray, and what it starts, read meanwhile; what a user has set stays."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
