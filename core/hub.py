"""Names of models on the Hugging Face hub, and what to do when it does not give one."""

from __future__ import annotations

import os
import re

_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def is_hub_name(name: str) -> bool:
    """Whether a name is of the form of an id of the Hugging Face hub, ``owner/name``."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` keeps the hub's client from asking."""
    return os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", "")


def not_given(name: str, error: Exception) -> str:
    """Say that a model is neither in the cache nor given by the hub, and what to do about it.

    Args:
        name: Its id, ``owner/name``.
        error: What the hub's client raised; it is a different class in each version.
    """
    advice = (
        "HF_HUB_OFFLINE is set: unset it once to download the model"
        if is_offline()
        else "Check its name, the network, and whether its page asks you to accept a licence "
        "(then log in with 'hf auth login')"
    )
    return (
        f"The model '{name}' is not in the local cache and the hub did not give it "
        f"({type(error).__name__}). {advice}; or download it elsewhere and give its folder."
    )
