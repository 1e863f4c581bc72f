"""The real agent by a clock that is behind: `python -m tests.support.shifted SECONDS run --config FILE`.

What it collects is as old as that, as if it had run so long ago. All else is as in `limpet`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

REAL: Callable[[], float] = time.time


def behind(seconds: float) -> Callable[[], float]:
    """A clock that is so far behind."""
    return lambda: REAL() - seconds


if __name__ == "__main__":
    time.time = behind(float(sys.argv.pop(1)))
    from agent.cli.main import main  # it takes the clock as it finds it

    sys.exit(main())
