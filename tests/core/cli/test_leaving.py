"""Asked to stop at any moment, the program ends with 130 and without a traceback."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such signals can be sent there")

_BEGINNING = """
import atexit, os, signal, sys
from character_curator.__main__ import main
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, usual)
signals = [getattr(signal, name) for name in {signals}]
def met():
    for number in signals:
        os.kill(os.getpid(), number)
def at(name, do):
    seen = []
    def hook(event, arguments):
        if event == "import" and arguments[0] == name and not seen:
            seen.append(name)
            do()
    sys.addaudithook(hook)
class Last:
    def __del__(self, met=met):
        met()
sys.argv[1:] = ["miniature", "where"]
"""
_MOMENTS = {
    "import": ("at('character_curator.cli.output', met)", 130),
    "work": ("at('character_curator.cli.console', met)", 130),
    "end": ("at('character_curator.cli', lambda: atexit.register(met))", 130),
    # The work is done then, and nobody hears any more.
    "very end": ("sys.last = Last()", 0),
}


def _ended(signals, moment):
    code = _BEGINNING.format(signals=list(signals)) + f"{moment}\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "signals",
    [["SIGINT"], ["SIGTERM", "SIGHUP"], ["SIGINT", "SIGTERM", "SIGHUP"]],
    ids=["once", "twice", "thrice"],
)
@pytest.mark.parametrize("moment", _MOMENTS)
def test_a_stop_at_any_moment_has_one_exit_code(moment, signals):
    code, expected = _MOMENTS[moment]
    ended = _ended(signals, code)
    assert (ended.returncode, "Traceback" in ended.stderr) == (expected, False), ended.stderr


def test_what_is_ignored_stays_ignored():
    ended = _ended(
        ["SIGHUP"], f"signal.signal(signal.SIGHUP, signal.SIG_IGN); {_MOMENTS['work'][0]}"
    )
    assert ended.returncode == 0, ended.stderr


def test_an_error_in_the_wake_of_a_stop_is_said_in_a_line():
    ended = _ended(
        ["SIGINT"],
        "import character_curator.cli as cli\n"
        "def swallowed():\n"
        "    try:\n"
        "        met()\n"
        "    except KeyboardInterrupt:\n"
        "        raise SystemError('an import failed') from None\n"
        "cli.main = swallowed",
    )
    assert (ended.returncode, ended.stderr) == (130, "Stopped (SystemError: an import failed).\n")
