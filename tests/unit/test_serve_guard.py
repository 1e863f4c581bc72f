"""Who asks is proven or refused; what a wrong login costs, and what it says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import bcrypt
import pytest

from agent.config.values import Secret
from agent.config.web import Token
from agent.serve.credentials import Known
from agent.serve.guard import ANYBODY, WAITING, Guard, Unproven, Who
from agent.serve.message import Peer, Refusal, Request
from agent.serve.slowing import EACH, Slowing

T = TypeVar("T")
TOKEN = "a" * 40


def hashed(password: str, rounds: int = 4) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds))


HASHES = {"anna": hashed("correct horse"), "scraper": hashed("sesame")}
TOKENS = (
    Token(name="grafana", sha256=Secret(hashlib.sha256(TOKEN.encode()).hexdigest())),
    Token(
        name="old",
        sha256=Secret(hashlib.sha256(b"old").hexdigest()),
        expires=datetime(2026, 1, 1, tzinfo=UTC),
    ),
)


class Rig:
    """A guard with users and tokens, and how many passwords were hashed."""

    def __init__(self, known: Known | None = None) -> None:
        self.known = known or Known(HASHES, TOKENS)
        self.hashed: list[bytes] = []
        self.time = 0.0
        slowing = Slowing(lambda: self.time)
        now = datetime(2026, 6, 1, tzinfo=UTC)
        self.guard = Guard(lambda: self.known, {"scraper": "metrics"}, slowing, self.check, lambda: now)

    def check(self, password: bytes, of: bytes) -> bool:
        self.hashed.append(of)
        return bcrypt.checkpw(password, of)

    async def ask(self, login: str = "", address: str = "192.0.2.1", certificate: str | None = None) -> Who:
        headers = {"authorization": login} if login else {}
        return await self.guard.who(Request("GET", "/", "", headers, b"", Peer(address, 1, certificate)))

    def wrong(self, login: str, **more: Any) -> Refusal:
        with pytest.raises(Refusal) as refused:
            run(self.ask(login, **more))
        return refused.value


def run(of: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(of)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_who_is_right_is_let_in_with_his_role() -> None:
    rig = Rig()
    assert run(rig.ask(basic("anna", "correct horse"))) == Who("anna", "read")
    assert run(rig.ask(basic("scraper", "sesame"))) == Who("scraper", "metrics")
    assert run(rig.ask(f"Bearer {TOKEN}")) == Who("grafana", "read")
    assert run(rig.ask(f"bearer  {TOKEN}")) == Who("grafana", "read")


@pytest.mark.parametrize(
    ("login", "note"),
    [
        ("", "no login"),
        ("Digest x", "a login of another kind"),
        ("Basic", "an unknown user"),
        ("Basic !!!", "an unknown user"),
        ("Basic " + base64.b64encode(b"anna").decode(), "a wrong password"),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), "an unknown user"),
        (basic("anna", ""), "a wrong password"),
        (basic("anna", "correct horse "), "a wrong password"),
        (basic("anna", "correct horse" + "x" * 100), "a wrong password"),
        (basic("Anna", "correct horse"), "an unknown user"),
        (basic("scraper", "correct horse"), "a wrong password"),
        (basic("", ""), "an unknown user"),
        ("Bearer", "an unknown token"),
        ("Bearer aaaa", "an unknown token"),
        ("Bearer " + hashlib.sha256(TOKEN.encode()).hexdigest(), "an unknown token"),
        ("Bearer old", "the token old, which has expired"),
        ("Bearer é", "an unknown token"),
        ("Basic " + "A" * 100_000, "a"),
    ],
)
def test_who_is_wrong_learns_nothing_of_why(login: str, note: str) -> None:
    refused = Rig().wrong(login)
    assert isinstance(refused, Unproven)
    assert (refused.status, refused.error) == (401, "a login is needed")
    assert refused.headers[0][0] == "WWW-Authenticate"
    assert refused.note.startswith(note)
    assert "correct" not in refused.note


def test_an_unknown_user_costs_what_a_known_one_does() -> None:
    rig = Rig(Known({"anna": hashed("a", 4), "dear": hashed("b", 6)}))
    rig.wrong(basic("nobody", "a"))
    rig.wrong(basic("anna", "b"))
    assert [one[4:6] for one in rig.hashed] == [b"06", b"04"]
    assert rig.hashed[0] not in rig.known.users.values()


def test_ten_thousand_wrong_passwords_cost_ten_hashes() -> None:
    async def all_of_them() -> list[int]:
        found = []
        for i in range(10_000):
            try:
                await rig.ask(basic("anna", f"wrong {i}"))
            except Refusal as refused:
                found.append(refused.status)
        return found

    rig = Rig()
    statuses = run(all_of_them())
    assert len(rig.hashed) == EACH
    assert (statuses.count(401), statuses.count(429)) == (EACH, 10_000 - EACH)
    refused = rig.wrong(basic("anna", "correct horse"))
    assert refused.status == 429
    assert int(dict(refused.headers)["Retry-After"]) >= 1
    assert run(rig.ask(basic("anna", "correct horse"), "192.0.2.2")).name == "anna"


def test_who_was_in_stays_in_while_his_address_is_slowed() -> None:
    async def all_of_it() -> None:
        await rig.ask(basic("anna", "correct horse"))
        await rig.ask(f"Bearer {TOKEN}")
        for i in range(100):
            with pytest.raises(Refusal):
                await rig.ask(basic("anna", f"wrong {i}"))
        cost = len(rig.hashed)
        for _ in range(100):
            assert (await rig.ask(basic("anna", "correct horse"))).name == "anna"
            assert (await rig.ask(f"Bearer {TOKEN}")).name == "grafana"
        assert len(rig.hashed) == cost

    rig = Rig()
    run(all_of_it())


def test_what_is_revoked_counts_no_more_however_often_it_was_proven() -> None:
    async def all_of_it() -> None:
        for login in (basic("anna", "correct horse"), f"Bearer {TOKEN}"):
            await rig.ask(login)
        rig.known = Known({"anna": hashed("another")}, TOKENS[1:])
        for login in (basic("anna", "correct horse"), f"Bearer {TOKEN}"):
            with pytest.raises(Unproven):
                await rig.ask(login)
        rig.known = Known({"bert": hashed("x")})
        with pytest.raises(Unproven):
            await rig.ask(basic("anna", "another"))

    rig = Rig()
    run(all_of_it())


def test_one_password_is_hashed_at_a_time_and_few_wait() -> None:
    async def at_once() -> list[int]:
        answers = await asyncio.gather(
            *(rig.ask(basic("anna", str(i)), f"198.51.100.{i}") for i in range(60)), return_exceptions=True
        )
        return [one.status for one in answers if isinstance(one, Refusal)]

    rig = Rig()
    statuses = run(at_once())
    assert (statuses.count(401), statuses.count(429)) == (WAITING, 60 - WAITING)
    assert len(rig.hashed) == WAITING


@pytest.mark.parametrize(
    ("known", "certificate", "login", "who"),
    [
        (Known(certificates="required"), "box", "", Who("box", "read")),
        (Known(certificates="required"), "scraper", "", Who("scraper", "metrics")),
        (Known(certificates="login"), None, "", None),
        (Known(HASHES, certificates="login"), "box", "", Who("box", "read")),
        (Known(HASHES, certificates="login"), None, basic("anna", "correct horse"), Who("anna", "read")),
        # Where both are wanted, as in Prometheus, a certificate alone is not enough.
        (Known(HASHES, certificates="required"), "box", "", None),
        (Known(HASHES, certificates="required"), "box", basic("anna", "correct horse"), Who("anna", "read")),
        (Known(), None, "", ANYBODY),
        (Known(), None, "Basic nonsense", ANYBODY),
    ],
)
def test_certificates(known: Known, certificate: str | None, login: str, who: Who | None) -> None:
    rig = Rig(known)
    if who is None:
        assert isinstance(rig.wrong(login, certificate=certificate), Unproven)
    else:
        assert run(rig.ask(login, certificate=certificate)) == who
