"""`limpet run` and `limpet check-config`: the commands that begin with a configuration file."""

from __future__ import annotations

import sys
from functools import partial

from agent.cli import output
from agent.config import ConfigErrors, load_file


def run(file: str) -> int:
    """Run the agent until a signal comes; return its exit status. Raises ConfigErrors and LimpetError."""
    loaded = load_file(file)
    from agent import process

    return process.run(loaded, partial(load_file, file, again=True))


def check(file: str, *, as_json: bool) -> int:
    """Tell whether a configuration is fine, or everything that is wrong; nothing is created."""
    problems: ConfigErrors | None = None
    warnings: tuple[str, ...] = ()
    try:
        warnings = load_file(file).warnings
    except ConfigErrors as error:
        problems = error
    if as_json:
        listed = [problem._asdict() for problem in problems.problems] if problems else []
        output.write_json({"file": file, "ok": not problems, "problems": listed, "warnings": list(warnings)})
    elif problems:
        print(problems, file=sys.stderr)
    else:
        output.write("".join(f"{line}\n" for line in (f"{file}: fine", *warnings)))
    return problems.exit_code if problems else 0
