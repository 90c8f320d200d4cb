"""A disk that is full: the kernel lets no file of this process grow, and says so alike."""

from __future__ import annotations

from contextlib import contextmanager

import pytest


@contextmanager
def disk_that_fills():
    """Yield a function after whose call files hold 1 kB at most, until the context is left."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
