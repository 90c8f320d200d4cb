"""Go through the deployment checklist of what the demo has made: python .ci/ready.py [DEMO].

The demo's dataset and LoRA are verified as a user verifies theirs, every image made again. All
lines have to hold but one: a person's approval, which no machine gives.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LORA = Path("lora", "gentle-freckled-character.safetensors")
OF_A_PERSON = "approval"


def main(demo: Path) -> int:
    """Verify the demo in a folder; return 0 if only the approval of a person is missing."""
    command = [sys.executable, "-m", "character_curator", "verify", str(demo / "dataset")]
    command += ["--lora", str(demo / LORA), "--regenerate", "all", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = json.loads(done.stdout).get("lines", [])
    missing = [line for line in lines if line["status"] != "holds" and line["key"] != OF_A_PERSON]
    for line in missing:
        print(f"{line['title']}: {line['status']}. {line['found']}", file=sys.stderr)
        for fault in line["faults"]:
            print(f"  {fault['where']}: {fault['what']}. {fault['advice']}", file=sys.stderr)
    if not lines or missing:
        why = f"{len(missing)} of {len(lines)} lines do not hold" if lines else done.stdout
        print(f"The demo is not ready: {why}", file=sys.stderr)
        return 1
    print(f"The demo is ready but for a person's approval: {len(lines) - 1} lines hold.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
