"""Who asks: proven by a password, a token or a client certificate, or refused.

Promises:

- The answer to what is wrong is the same for each kind of it: nobody learns whether a user exists. A password for an unknown user is
  hashed too, at the highest cost of any user. Comparisons take the same time wherever two texts differ.
- What was proven once is remembered as a keyed hash, and costs no bcrypt again as long as it is in the files, so that a page with
  twenty requests costs one. All else waits where `Slowing` says so, and then costs nothing.
- One password is hashed at a time, in a thread of its own. At most WAITING wait for that.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from math import ceil
from typing import NamedTuple

from agent.config.web import Role, Token
from agent.serve.credentials import Known
from agent.serve.message import Refusal, Request
from agent.serve.slowing import Slowing

REMEMBERED = 256
WAITING = 16
LONGEST_PASSWORD = 72
"""Bytes that bcrypt looks at."""
LONGEST_HEADER = 4096
CHALLENGES = (("WWW-Authenticate", 'Basic realm="limpet", charset="UTF-8"'),)
_DUMMY = b"$2b$10$" + b"." * 21 + b"u" + b"x" * 31
"""The hash of no password, for users that do not exist."""

Check = Callable[[bytes, bytes], bool]
"""Returns whether a password is that of a bcrypt hash."""


class Who(NamedTuple):
    """Who asks, as far as that is proven: a name, and what he may do."""

    name: str
    role: Role


ANYBODY = Who("", "read")
"""Who asks where nobody has to log in."""


class Unproven(Refusal):
    """The login is missing or wrong. The client does not learn which; `note` is for the log."""

    def __init__(self, note: str) -> None:
        super().__init__(401, "unauthorized", "a login is needed", CHALLENGES)
        self.note = note


class Guard:
    """Finds out who asks. `roles` are those of users and certificates, by name; without one it is `read`."""

    def __init__(
        self,
        known: Callable[[], Known],
        roles: Mapping[str, Role],
        slowing: Slowing,
        check: Check,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._known, self._roles, self._slowing, self._check, self._now = known, roles, slowing, check, now
        self._key = os.urandom(32)
        self._proven: OrderedDict[bytes, None] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "password")
        self._waiting = 0

    @property
    def is_open(self) -> bool:
        """Whether nobody has to log in."""
        return self._known().is_open

    async def who(self, request: Request) -> Who:
        """Return who asks. Raises Refusal, of which `Unproven` is one."""
        known = self._known()
        if known.is_open:
            return ANYBODY
        certificate = request.peer.certificate
        if certificate is not None and (known.certificates == "login" or not (known.users or known.tokens)):
            return Who(certificate, self._roles.get(certificate, "read"))
        kind, _, value = request.headers.get("authorization", "")[:LONGEST_HEADER].strip().partition(" ")
        if kind.lower() == "basic":
            return await self._user(known, value.strip(), request.peer.address)
        if kind.lower() == "bearer":
            return self._token(known, value.strip(), request.peer.address)
        raise Unproven("no login" if not kind else "a login of another kind than Basic and Bearer")

    async def _user(self, known: Known, value: str, address: str) -> Who:
        try:
            name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            name = colon = password = ""
        hashed = known.users.get(name)
        proof = hmac.digest(
            self._key, b"\0".join((name.encode(), hashed or b"", password.encode())), "sha256"
        )
        if hashed is None or not self._remembers(proof):
            self._begin(address)
            is_right = await self._hashed(known, password.encode(), hashed)
            if not is_right or hashed is None or not colon:
                raise Unproven("a wrong password" if hashed else "an unknown user")
            self._succeeded(proof, address)
        return Who(name, self._roles.get(name, "read"))

    async def _hashed(self, known: Known, password: bytes, hashed: bytes | None) -> bool:
        """Return whether a password is right; without a hash it takes as long, and is wrong."""
        if self._waiting >= WAITING:
            raise Refusal(429, "too_many_requests", "too many logins at once", (("Retry-After", "5"),))
        dummy = max(known.users.values(), key=lambda one: one[4:6], default=_DUMMY)[:7] + _DUMMY[7:]
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            is_right = await loop.run_in_executor(
                self._thread, self._check, password[:LONGEST_PASSWORD], hashed or dummy
            )
        finally:
            self._waiting -= 1
        return is_right and hashed is not None and len(password) <= LONGEST_PASSWORD

    def _token(self, known: Known, value: str, address: str) -> Who:
        digest = hashlib.sha256(value.encode()).hexdigest()
        found: Token | None = None
        for one in known.tokens:  # all of them, so that it takes the same time
            if hmac.compare_digest(one.sha256.reveal(), digest):
                found = one
        proof = hmac.digest(self._key, digest.encode(), "sha256")
        if found is None or not self._remembers(proof):
            self._begin(address)
            if found is None:
                raise Unproven("an unknown token")
        if found.expires is not None and self._now() >= found.expires:
            raise Unproven(f"the token {found.name}, which has expired")
        self._succeeded(proof, address)
        return Who(found.name, found.role)

    def _begin(self, address: str) -> None:
        """Use a try of an address. Raises Refusal where it has none left."""
        wait = self._slowing.begin(address)
        if wait > 0:
            after = (("Retry-After", str(ceil(wait))),)
            raise Refusal(429, "too_many_requests", "too many wrong logins; try again later", after)

    def _remembers(self, proof: bytes) -> bool:
        return proof in self._proven

    def _succeeded(self, proof: bytes, address: str) -> None:
        if proof not in self._proven:
            self._slowing.succeeded(address)
        self._proven[proof] = None
        self._proven.move_to_end(proof)
        if len(self._proven) > REMEMBERED:
            self._proven.popitem(last=False)

    def close(self) -> None:
        """End its thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
