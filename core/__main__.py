"""Run the command line as ``python -m character_curator``."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
