"""The real agent in a made-up service: `python -m tests.support.staged CGROUP run --config FILE`.

CGROUP takes the place of /proc/self/cgroup, since a test is no service of systemd. All else is as in `limpet`.
"""

from __future__ import annotations

import sys
from functools import partial
from unittest.mock import patch

from agent.cli.main import main
from agent.system import systemd

if __name__ == "__main__":
    cgroup = sys.argv.pop(1)
    with patch.object(systemd, "stop", partial(systemd.stop, cgroup=cgroup)):
        sys.exit(main())
