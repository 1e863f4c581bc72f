"""The real agent on a host that a test made up: `python -m tests.support.staged HOST CGROUP run --config FILE`.

HOST is a folder with `proc` and `sys` (`tests.support.hosts`), whose devices a test can take away, and CGROUP
stands in for /proc/self/cgroup, since a test is no service of systemd. All else is as in `limpet`.
"""

from __future__ import annotations

import sys
from functools import partial
from unittest.mock import patch

from agent import process, restart
from agent.cli.main import main
from agent.collectors import HostPaths

if __name__ == "__main__":
    host, cgroup = sys.argv[1:3]
    del sys.argv[1:3]
    paths = partial(HostPaths, f"{host}/proc", f"{host}/sys")
    series_end = partial(restart.series_end, cgroup=cgroup)
    with patch.object(process, "HostPaths", paths), patch.object(restart, "series_end", series_end):
        sys.exit(main())
