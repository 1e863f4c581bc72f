"""The application: what each path is, who may ask for it, and what becomes of an error.

Promises:

- A path is looked up in a table (`ROUTES`, and the files of the page), and is never that of a file.
- Who asks is known before anything is done for him, and before he learns whether a path exists.
- Every answer has the headers of `SECURITY`. Nothing of another site can read an answer: there is no CORS, and where nobody has to
  log in, a request must name this host by an address or as localhost, so that no name of a stranger leads here.
- An error of ours is logged and answered with 500, without what is in it.
"""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from agent.query.tree import QueryError
from agent.serve import api, box, openapi
from agent.serve.box import Box
from agent.serve.exchange import Reply
from agent.serve.files import FILES, INDEX, STYLES
from agent.serve.guard import ANYBODY, Guard, Unproven, Who
from agent.serve.limits import Limits, Turn, Turns
from agent.serve.message import Answer, Parameters, Refusal, Request
from agent.serve.parameters import quoted, seconds
from agent.system.events import Event
from agent.text import human

SELF = "'self'"
SECURITY = (
    (
        "Content-Security-Policy",
        f"default-src 'self'; style-src {' '.join([SELF, *STYLES])}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)
READ, METRICS, NOBODY = "read", "metrics", ""
"""What a route takes: the role `read`, the role `metrics` or `read`, or none at all."""
PACKED_FROM = 1000
"""Bytes of an answer from which it is packed for those who take that."""
LONGEST_PATH = 1000
_LABEL = re.compile(r"/api/v1/label/([^/]{1,500})/values")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?")
FORMS = ("GET", "HEAD", "POST")

Work = Callable[[Box, Turn, Request], Answer]


class Route(NamedTuple):
    """What answers a path: `work` in a thread, in its turn, or `at_once` what takes no time."""

    role: str
    work: Work | None = None
    at_once: Callable[[], Answer] | None = None
    methods: tuple[str, ...] = ("GET", "HEAD")


def _asked(work: Callable[[str, Turn, Parameters], Answer]) -> Route:
    """Return the route of a function of Prometheus's API, whose parameters may come as a form too."""
    return Route(
        READ, lambda found, turn, request: work(found.data_dir, turn, request.parameters()), methods=FORMS
    )


def _says(text: str) -> Callable[[], Answer]:
    return lambda: Answer(200, f"{text}\n".encode(), "text/plain; charset=utf-8")


ROUTES = {
    "/-/healthy": Route(NOBODY, at_once=_says("Limpet is healthy.")),
    "/-/ready": Route(NOBODY, lambda found, turn, request: box.ready(found)),
    "/metrics": Route(
        METRICS, lambda found, turn, request: box.metrics(found, request.headers.get("accept", ""))
    ),
    "/api/openapi.json": Route(READ, at_once=openapi.answer),
    "/api/v1/query": _asked(api.query),
    "/api/v1/query_range": _asked(api.query_range),
    "/api/v1/format_query": _asked(api.format_query),
    "/api/v1/series": _asked(api.series),
    "/api/v1/labels": _asked(api.labels),
    "/api/v1/metadata": Route(READ, lambda found, turn, request: box.metadata(found, request.parameters())),
    "/api/v1/status/buildinfo": Route(READ, at_once=api.build_info),
    "/api/v1/buffer": Route(READ, lambda found, turn, request: box.buffer(found)),
    "/api/v1/collectors": Route(READ, lambda found, turn, request: box.collectors(found)),
    "/api/v1/forecast": Route(READ, lambda found, turn, request: box.forecasts(found, turn)),
}
"""The table of paths, without label values and the files of the page."""


class App:
    """Answers requests. `log` is for errors of ours."""

    def __init__(self, found: Box, limits: Limits, guard: Guard, log: Any) -> None:
        self._box, self._guard, self._log = found, guard, log
        self._turns = Turns(limits)

    async def reply(self, request: Request, id_: str) -> Reply:
        """Answer a request; raises nothing but CancelledError."""
        who, note = ANYBODY, ""
        try:
            route = _route(request.path)
            if self._guard.is_open:
                _named(request)
            elif route is None or route.role != NOBODY:
                who = await self._guard.who(request)
            answer = await self._answer(request, route, who)
        except Unproven as refusal:
            answer, note = refusal.answer(), refusal.note
        except Refusal as refusal:
            answer, note = refusal.answer(), refusal.error
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._log.error(Event.SERVE_FAILED, request=id_, path=request.path[:LONGEST_PATH], exc_info=error)
            note = f"{type(error).__name__}"
            answer = Refusal(500, "internal", f"an error of ours; the log has it as request {id_}").answer()
        headers = (*SECURITY, *answer.headers)
        if not any(name == "Cache-Control" for name, _ in answer.headers):
            headers = (*headers, ("Cache-Control", "no-store"))
        return Reply(answer._replace(headers=headers), who.name, note)

    async def _answer(self, request: Request, route: Route | None, who: Who) -> Answer:
        if not request.path.startswith("/") or len(request.path) > LONGEST_PATH:
            raise Refusal(404, "not_found", "there is nothing here")
        file = FILES.get(request.path[1:] or INDEX)
        packs = "gzip" in request.headers.get("accept-encoding", "")
        role = route.role if route else READ
        if role not in (NOBODY, who.role) and who.role != READ:
            raise Refusal(403, "forbidden", f"the role {who.role} has no right to this")
        if route is None and file is None:
            raise Refusal(404, "not_found", "there is nothing here")
        methods = route.methods if route else ("GET", "HEAD")
        if request.method not in methods:
            allow = (("Allow", ", ".join(methods)),)
            raise Refusal(405, "bad_data", f"the method is not one of {', '.join(methods)}", allow)
        if route is None:
            assert file is not None
            return file.answer(packed=packs, known=request.headers.get("if-none-match", ""))
        if route.at_once is not None:
            return route.at_once()
        work = route.work
        assert work is not None
        return await self._turns.do(
            lambda turn: self._work(work, turn, request, packs=packs), _timeout(request)
        )

    def _work(self, work: Work, turn: Turn, request: Request, *, packs: bool) -> Answer:
        """Do the work of a route, in a thread."""
        try:
            answer = work(self._box, turn, request)
        except QueryError as error:
            raise api.refused(error, turn) from None
        except FileNotFoundError:
            raise Refusal(503, "unavailable", f"there is no buffer in {self._box.data_dir}") from None
        except OSError as error:
            raise Refusal(503, "unavailable", f"the buffer cannot be read: {human.reason(error)}") from None
        headers = (*answer.headers, ("Vary", "Accept-Encoding"))
        if packs and len(answer.body) >= PACKED_FROM and not answer.is_packed:
            body = gzip.compress(answer.body, 5, mtime=0)
            return answer._replace(body=body, headers=(*headers, ("Content-Encoding", "gzip")))
        return answer._replace(headers=headers)

    def close(self) -> None:
        """Stop what runs."""
        self._turns.close()
        self._guard.close()


def _named(request: Request) -> None:
    """Refuse a request that calls this host by a name that a stranger could have given it."""
    host = request.headers.get("host", "")
    found = _HOST.fullmatch(host)
    name = found[1].strip("[]") if found else ""
    if name != "localhost":
        try:
            ipaddress.ip_address(name)
        except ValueError:
            what = f"call this host by its address or as localhost, not as {quoted(host)}"
            raise Refusal(421, "bad_data", what) from None


def _route(path: str) -> Route | None:
    """Return what answers a path, None where nothing but a file of the page may."""
    found = _LABEL.fullmatch(path)
    if found is None:
        return ROUTES.get(path)
    name = unquote(found[1])
    return _asked(lambda data_dir, turn, parameters: api.label_values(data_dir, turn, parameters, name))


def _timeout(request: Request) -> float:
    """Return how many seconds the client waits, as far as it says so. Raises Refusal."""
    return seconds(request.parameters(), "timeout")
