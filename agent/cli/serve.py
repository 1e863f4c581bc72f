"""`limpet serve`: answers queries over HTTP from what the buffer holds, until SIGTERM or Ctrl-C.

Read-only; the agent may run, be stopped or be dead. Started by root, it runs as the owner of data_dir.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from agent.cli import arguments as common
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.config import Config


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Answers queries over HTTP from what the buffer holds: Prometheus's API, this host's state, and a page for browsers. "
        "Without serve.listen in the configuration it listens on 127.0.0.1:9147. See docs/serve.md."
    )
    common.buffer(parser)
    common.option(parser, "--listen ADDRESS", "an address such as 127.0.0.1:9147 or unix:/run/x.sock")


def run(args: Namespace) -> int:
    """Serve; return the exit status. Raises LimpetError."""
    from agent.config import Config
    from buffer.owner import become

    place = common.place(args)
    config = place.config or Config(data_dir=place.data_dir)
    if args.listen is not None:
        config = _listening(config, args.listen)
    try:
        from agent.serve import process
    except ImportError as error:
        do = "Install it: pip install 'limpet[serve]'; the Debian package and the image have it."
        raise LimpetError("limpet serve", f"{error.name} is not installed", do) from None
    from agent.system import log

    become(config.data_dir)
    log.configure(config.log.level, config.log.format)
    return process.run(config, log.get())


def _listening(config: Config, text: str) -> Config:
    """Return the configuration with another address. Raises LimpetError."""
    import msgspec

    from agent.config.listen import parse
    from agent.config.serve import OPEN_TO_OTHERS

    try:
        address = parse(text)
    except ValueError:
        do = "Give one such as 127.0.0.1:9147 or unix:/run/limpet-serve/limpet.sock."
        raise LimpetError("--listen", f"{text!r} is no address with a port", do) from None
    serve = msgspec.structs.replace(config.serve, listen=address)
    if not address.is_private and serve.web_config_file is None:
        raise LimpetError("--listen", OPEN_TO_OTHERS.what, OPEN_TO_OTHERS.do)
    return msgspec.structs.replace(config, serve=serve)
