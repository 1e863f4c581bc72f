"""The real agent by a clock that is behind: `python -m tests.support.shifted SECONDS run --config FILE`.

What it collects is as old as that, as if it had run so long ago. All else is as in `limpet`. Instead of the seconds there may
be a file that has them: a test that writes it sets the clock.

With HOST_ROOT in the environment the kernel says nothing of the clock, and what else is known of it is below that folder.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

REAL: Callable[[], float] = time.time


def behind(seconds: float) -> Callable[[], float]:
    """A clock that is so far behind."""
    return lambda: REAL() - seconds


def set_by(file: Path) -> Callable[[], float]:
    """A clock that is as far behind as this file says at the moment."""
    return lambda: REAL() - float(file.read_text())


if __name__ == "__main__":
    by = sys.argv.pop(1)
    time.time = set_by(Path(by)) if Path(by).is_file() else behind(float(by))
    from agent.cli.main import main  # it takes the clock as it finds it

    if "HOST_ROOT" in os.environ:
        from agent import process
        from agent.system.timesync import HostClock

        vars(process)["HostClock"] = partial(HostClock, root=os.environ["HOST_ROOT"], kernel=lambda: None)
    sys.exit(main())
