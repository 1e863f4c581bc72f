"""The API is as `/api/openapi.json` says: schemathesis asks for what is valid by that and for what is not, with all its checks.

What schemathesis knows besides is in `tests/support/api_cases.py`, and why in docs/decisions/0089-held-to-its-description.md.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.support import queried
from tests.support.run import output
from tests.support.serving import Serving, fill

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 10
"""Of each operation, always the same. What schemathesis tries at the bounds of each parameter comes on top."""


def test_what_is_valid_is_answered_and_what_is_not_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "data", queried.by_series())
    settings = {"SCHEMATHESIS_HOOKS": "tests.support.api_cases", "PYTHONPATH": str(ROOT)}
    with Serving(tmp_path / "served", tmp_path / "data") as server:
        found = output(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/api/openapi.json"),
            *("--max-examples", EXAMPLES, "--seed", 1, "--continue-on-failure", "--no-color"),
            cwd=tmp_path,
            env=os.environ | settings,
        )
        asked = {(one["method"], one["path"]) for one in server.accesses() if one["status"] == 200}
        described = server.ask("/api/openapi.json").json["paths"]
    operations = {
        (method.upper(), path)
        for path, those in described.items()
        for method in ("get", "post")
        if method in those
    }
    assert f"{len(operations)} selected / {len(operations)} total" in found
    summary = re.search(r"(\d+) generated, (\d+) passed", found)
    assert summary is not None, found
    assert int(summary[1]) == int(summary[2]) > EXAMPLES * 20
    assert {one for one in operations if "{" not in one[1]} <= asked
