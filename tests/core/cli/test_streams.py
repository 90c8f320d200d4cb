"""Standard streams that are closed or full: the work is done, and its exit code is said."""

from __future__ import annotations

import subprocess
import sys

import pytest

_MAIN = "from character_curator.cli import main; sys.exit(main())"


def _run(redirected: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = f'"$0" -c "$1" "${{@:2}}" {redirected}'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, f"import sys; {code}", *arguments],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    "redirected", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"]
)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["miniature", "where", "--json"], 0), (["versions", "nowhere"], 2), (["versions"], 2)],
)
def test_closed_and_full_streams_leave_the_exit_code_of_the_work(redirected, arguments, code):
    done = _run(redirected, _MAIN, *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code == 0 and ">&- 2" not in redirected and redirected != ">&-":
        assert '"' in done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="files' numbers are Linux's")
def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
    code = (
        "from character_curator.cli.process import mend_streams; import os; mend_streams(); "
        f"file = open({str(tmp_path / 'table')!r}, 'w'); os.write(2, b'of a library'); "
        "sys.exit(file.fileno() < 3)"
    )
    assert _run("<&- >&- 2>&-", code).returncode == 0
    assert (tmp_path / "table").read_bytes() == b""


def test_messages_that_are_lost_end_nothing():
    code = (
        "from character_curator.cli.process import mend_streams; mend_streams(); "
        "print('lost', file=sys.stderr); sys.stderr.flush(); print('said')"
    )
    done = _run("2>/dev/full", code)
    assert (done.returncode, done.stdout) == (0, "said\n")
