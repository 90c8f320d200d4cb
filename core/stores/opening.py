"""The file system behind an address, and what goes wrong with it in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import CuratorError, MissingDependencyError
from .addresses import AddressError, scheme_of, shown

ATTEMPTS = 4
"""How often what may be a passing fault is tried, beside what the library itself repeats."""
PAUSE = 0.4
"""Seconds before the second attempt; before each later one twice as long."""

_LIBRARIES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub",
    "http": "aiohttp", "https": "aiohttp", "abfs": "adlfs", "az": "adlfs", "abfss": "adlfs",
    "adl": "adlfs", "sftp": "paramiko", "ssh": "paramiko", "webdav": "webdav4", "oci": "ocifs",
    "oss": "ossfs", "smb": "smbprotocol",
}  # fmt: skip
"""What opens a scheme, as the package index calls it."""

_DENIED = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "RefreshError",
     "DefaultCredentialsError", "GatedRepoError", "LocalTokenNotFoundError"}
)  # fmt: skip
_MISSING = frozenset({"RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError"})
_DENIED_CODES = frozenset(
    {"401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch",
     "ExpiredToken", "InvalidToken", "AllAccessDisabled"}
)  # fmt: skip
_MISSING_CODES = frozenset({"404", "410", "NoSuchBucket", "NoSuchKey", "NotFound"})

T = TypeVar("T")


class StoreError(CuratorError):
    """A store does not give, or does not take, what was asked of it."""


class StoreDeniedError(StoreError):
    """A store knows who asks, or does not, and refuses."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{shown(address)} is not open to you: {reason}. Keys are read from the environment "
            "or the store's own configuration (for s3:// AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE or ~/.aws; for gs:// "
            "GOOGLE_APPLICATION_CREDENTIALS; for hf:// HF_TOKEN). Check that they may read and "
            "list it."
        )


class StoreMissingError(StoreError):
    """There is nothing at an address."""

    def __init__(self, address: str, reason: str = "") -> None:
        said = f" ({reason})" if reason else ""
        super().__init__(
            f"There is nothing at {shown(address)}{said}. Check the name of the bucket and the "
            "folder; of another provider's store name it with AWS_ENDPOINT_URL."
        )


class StoreConnectionError(StoreError):
    """A store does not answer, or breaks off, however often it is asked."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{shown(address)} could not be reached or read to the end: {reason}. Check the "
            "connection (and AWS_ENDPOINT_URL where the store is not Amazon's), and run the same "
            "command again: what has arrived is kept."
        )


def filesystem(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the address's path in it.

    Keys and endpoints are what fsspec and the store's library find in the environment.

    Raises:
        AddressError: No library knows the scheme.
        MissingDependencyError: The library of the scheme is not installed.
    """
    scheme = scheme_of(address)
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError("fsspec", shown(address), "pip install fsspec") from error
    try:
        with _told(address):
            found: tuple[Any, str] = fsspec.core.url_to_fs(address)
    except ImportError as error:
        library = _LIBRARIES.get(scheme, f"for {scheme}")
        raise MissingDependencyError(library, shown(address), f"pip install {library}") from error
    except ValueError as error:
        raise AddressError(
            f"{shown(address)} cannot be opened: {shown(str(error))}. Write s3://, gs://, hf:// or "
            "https:// in front, or a folder's path."
        ) from error
    return found


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Let errors be named, other than those that say that a library is not there."""
    try:
        yield
    except (ImportError, ValueError, CuratorError):
        raise
    except Exception as error:
        raise named(error, address) from error


@contextmanager
def store_errors(address: str) -> Iterator[None]:
    """Let whatever a store's library raises be an error that says what to do.

    Raises:
        StoreError: In the place of a library's error.
    """
    try:
        yield
    except CuratorError:
        raise
    except Exception as error:
        raise named(error, address) from error


def named(error: Exception, address: str) -> StoreError:
    """Return the error of this program for one of a store's library."""
    cause = error.__cause__
    if isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp"):
        return named(cause, address)  # whatever it is, fsspec says that nothing is there
    reason = shown(" ".join(str(error).split())) or type(error).__name__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    code = _code(error)
    if code in _DENIED_CODES or kinds & _DENIED or isinstance(error, PermissionError):
        return StoreDeniedError(address, reason)
    if code in _MISSING_CODES or kinds & _MISSING or isinstance(error, FileNotFoundError):
        return StoreMissingError(address, "" if reason.strip("'") in address else reason)
    return StoreConnectionError(address, reason)


def _code(error: Exception) -> str:
    """Return what a store calls an error: its code, or the status of HTTP."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    return str(status or getattr(error, "code", "") or "")


def patiently(call: Callable[[], T], address: str, attempts: int = ATTEMPTS) -> T:
    """Call a function again where its fault may be passing.

    Args:
        call: Asks something of a store.
        address: For the message.
        attempts: How often.

    Raises:
        StoreDeniedError, StoreMissingError: At once: asking again changes nothing.
        StoreConnectionError: When the last attempt has failed as well.
    """
    for left in reversed(range(attempts)):
        try:
            with store_errors(address):
                return call()
        except StoreConnectionError:
            if not left:
                raise
            time.sleep(PAUSE * 2 ** (attempts - 1 - left))
    raise AssertionError("unreachable")
