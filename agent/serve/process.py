"""`limpet serve` as a process: one thread for connections, a few for queries, until SIGTERM or SIGINT.

Promises: it reads the buffer and takes no lock, so the agent may run, be stopped or be dead. It stops within five seconds.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

from agent import __version__
from agent.config import Config
from agent.serve.access import AccessLog
from agent.serve.app import App
from agent.serve.box import Box
from agent.serve.credentials import Credentials
from agent.serve.exchange import Bounds
from agent.serve.guard import Guard
from agent.serve.limits import Limits
from agent.serve.newest import NewestSamples
from agent.serve.server import Server
from agent.serve.slowing import Slowing
from agent.system.events import Event
from agent.system.systemd import Notify


def run(config: Config, log: Any, listening: Callable[[str], None] = lambda _: None) -> int:
    """Serve until a signal comes; return the exit status. Raises LimpetError where it cannot listen.

    `listening` is called with the address once it does.
    """
    return asyncio.run(_run(config, log, listening))


def limits(config: Config) -> Limits:
    """Return the limits of a configuration."""
    of = config.serve.limits
    return Limits(
        range=of.range,
        points=of.points,
        series=of.series,
        samples=of.samples,
        read=of.loaded_samples,
        answer=of.answer_size,
        seconds=of.duration,
        concurrent=of.concurrent,
    )


def _check(password: bytes, hashed: bytes) -> bool:
    """Return whether a password is that of a bcrypt hash."""
    import bcrypt

    return bcrypt.checkpw(password, hashed)


async def _run(config: Config, log: Any, listening: Callable[[str], None]) -> int:
    loop, serve = asyncio.get_running_loop(), config.serve
    stop: asyncio.Future[signal.Signals] = loop.create_future()

    def ended(number: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended, number)
    box = Box(
        config.data_dir,
        config.buffer.max_size,
        config.history.max_size,
        config.buffer.min_free_space.on,
        NewestSamples(config.data_dir),
    )
    credentials = Credentials(serve, log, time.monotonic)
    guard = Guard(credentials.now, serve.roles, Slowing(time.monotonic), _check)
    app = App(box, limits(config), guard, log)
    accesses = AccessLog(log, serve.access_log, serve.access_log_size, serve.access_log_files)
    server = Server(
        serve.listen,
        app.reply,
        accesses.note,
        Bounds(body=serve.limits.body_size),
        serve.limits.connections,
        lambda: credentials.now().context,
    )
    server.start()
    address = serve.listen if serve.listen.path else serve.listen._replace(port=server.port)
    notify = Notify()
    log.info(Event.SERVE_STARTED, version=__version__, address=str(address))
    notify.ready(f"listens on {address}")
    listening(str(address))
    received = await stop
    notify.stopping()
    app.close()
    await server.stop()
    accesses.close()
    log.info(Event.SERVE_STOPPED, signal=received.name)
    notify.close()
    return 0
