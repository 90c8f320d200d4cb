"""Addresses: what tells them from paths, and what of them may be shown and written down."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ..errors import CuratorError
from ..naming import expanded

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.I)
_USER = re.compile(r"([a-z][a-z0-9+.-]+://)[^/?#\s'\"@]*@", re.I)
_QUERY = re.compile(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>]*", re.I)
_OF_OTHERS = frozenset(
    {"blockcache", "cached", "dask", "dir", "filecache", "generic", "jlab", "jupyter", "libarchive",
     "reference", "simplecache", "tar", "zip"}
)  # fmt: skip
"""What fsspec has that lays one store over another, or runs somebody else's program."""

_WITH_USERS = frozenset({"sftp", "ssh", "ftp", "smb"})
"""Where a user's name in front of the host says whose folder it is, and is no key."""


class AddressError(CuratorError):
    """An address cannot be used as it is written."""


class SecretInAddressError(AddressError):
    """An address holds a password or a key, which would be seen wherever it is shown."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"The address {shown(address)} holds a user's name or a password. Take it out: keys "
            "come from the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN) or from fsspec's own configuration."
        )


def is_address(text: object) -> bool:
    """Whether a text is an address and no path: it begins with a scheme, as ``s3://``."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def addresses(text: object) -> list[str]:
    """Return the addresses that one with braces stands for: ``s3://bucket/part-{000..009}.tar``.

    Raises:
        AddressError: It stands for too many.
    """
    try:
        return expanded(str(text))
    except ValueError as error:
        raise AddressError(f"{shown(str(error))}. Name fewer, or their folder.") from error


def scheme_of(address: str) -> str:
    """Return an address's scheme in small letters: ``s3``."""
    found = _SCHEME.match(address)
    return found[1].lower() if found else ""


def checked(address: str) -> str:
    """Return an address without the slash at its end, where it can be used.

    Raises:
        SecretInAddressError: It holds a password.
        AddressError: It lays one store over another, or names nothing.
    """
    scheme = scheme_of(address)
    user = _USER.match(address)
    if user and (scheme not in _WITH_USERS or ":" in user[0][len(user[1]) :]):
        raise SecretInAddressError(address)
    if scheme in _OF_OTHERS or "::" in address:
        raise AddressError(
            f"{shown(address)} lays one store over another. Name what lies below: the folder, or "
            "the zip or tar file itself, which is unpacked here."
        )
    plain = address.rstrip("/")
    if plain.endswith(":") or "\0" in address:
        raise AddressError(f"{shown(address)} names nothing. Write what follows {scheme}://.")
    return plain


def shown(text: str) -> str:
    """Return an address, or a text with addresses in it, without what may be secret.

    Users and passwords are taken away, and of addresses of the web all behind the question mark,
    where signatures and tokens are.
    """
    return _QUERY.sub(r"\1?…", _USER.sub(r"\1", text))


def last_name(address: str) -> str:
    """Return what the folder or file of an address is called."""
    path = _SCHEME.sub("", address.split("?", 1)[0] if _is_of_the_web(address) else address)
    return PurePosixPath(path.rstrip("/")).name or "store"


def suffix_of(address: str) -> str:
    """Return the end of that name in small letters, as ``.zip``."""
    return PurePosixPath(last_name(address)).suffix.lower()


def _is_of_the_web(address: str) -> bool:
    return scheme_of(address) in ("http", "https")
