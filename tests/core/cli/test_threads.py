"""Threads of the command line's process sleep while they wait; another's process is left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SAY = "print('policy', os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"


def _policy(code: str, **environment: str) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys; {code}; {_SAY}"],
        env=clean | environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].split()[1:]


_OWN = "sys.argv[1:] = ['miniature', 'where']; from character_curator.cli import main; main()"


@pytest.mark.parametrize(
    ("code", "environment", "policy"),
    [
        pytest.param(_OWN, {}, "PASSIVE", id="the command line's process"),
        pytest.param(_OWN, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", id="the user's own choice"),
        pytest.param(
            "from character_curator.cli import main; main(['miniature', 'where'])", {}, "None",
            id="a program that calls the command line",
        ),
        pytest.param("import character_curator", {}, "None", id="a program that imports us"),
    ],
)  # fmt: skip
def test_only_the_own_process_is_told_how_to_wait(code, environment, policy):
    assert _policy(code, **environment) == [policy, "False"]


def test_it_says_when_it_comes_too_late():
    code = (
        "import torch; from character_curator.cli.threads import sleep_while_waiting; "
        "assert not sleep_while_waiting()"
    )
    assert _policy(code) == ["None", "True"]
