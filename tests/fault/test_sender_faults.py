"""Every fault that a network or a receiver can have, on a script, over real sockets, in each protocol.

After each of them, once it has ended, `Host.accounted` holds: every sample has arrived exactly once by its time and
value, in order, but those that the ledger names, which are in the quarantine. The faults, and their tests:

| fault                                               | test                                                              |
|-----------------------------------------------------|-------------------------------------------------------------------|
| status codes                                        | test_sender_answers: test_an_answer_that_takes_the_batch, test_what_is_retried_by_its_status, test_what_an_operator_can_correct_is_held, test_a_batch_that_is_too_large_is_halved, test_what_is_refused_costs_itself |
| `Retry-After`, both forms                           | test_sender_answers: test_retry_after_is_waited_for                |
| `Retry-After`, absurd values                        | test_sender_answers: test_a_retry_after_that_says_nothing_is_no_wait, test_a_retry_after_of_ages_has_a_ceiling |
| slow headers, slow body, hang                       | test_sender_faults: test_after_a_fault_everything_has_arrived      |
| takes nothing, an endless body                      | test_sender_connections: test_a_receiver_that_takes_nothing_is_given_up_in_time, test_an_endless_body_is_not_read_to_its_end |
| reset in the request                                | test_sender_faults: test_after_a_fault_everything_has_arrived      |
| reset after the request was read, before the answer | test_sender_faults: test_after_a_fault_everything_has_arrived      |
| half an answer                                      | test_sender_faults: test_after_a_fault_everything_has_arrived      |
| wrong content                                       | test_sender_faults: test_after_a_fault_everything_has_arrived      |
| redirects                                           | test_sender_answers: test_what_an_operator_can_correct_is_held, test_a_redirect_is_held_and_nothing_goes_to_where_it_points |
| keep-alive closed under us                          | test_sender_faults: test_after_a_fault_everything_has_arrived; test_sender_connections: test_a_connection_that_was_closed_while_idle_costs_no_failure |
| no receiver yet, or no more                         | test_sender_connections: test_a_receiver_that_is_not_there_yet, test_a_receiver_that_restarts |
| DNS failure                                         | test_sender_connections: test_a_name_that_cannot_be_resolved_is_waited_for |
| a proxy that refuses                                | test_sender_proxy: test_a_proxy_that_is_away_is_waited_for, test_whatever_a_proxy_says_to_connect_is_survived, test_a_wrong_password_of_the_proxy_holds |
| TLS: expired, wrong host, unknown CA                | test_sender_tls: test_a_certificate_that_is_no_good_is_held_until_it_is_renewed, test_an_unknown_authority_is_held_until_the_file_is_corrected |
| TLS: old version                                    | test_sender_tls: test_a_receiver_that_speaks_only_an_older_version_is_held |
| TLS: client certificate missing                     | test_sender_tls: test_a_missing_client_certificate_is_reported_until_it_is_there |
| a wrong password, a file that is no good            | test_sender_credentials: test_a_wrong_password_is_held_until_its_file_is_corrected, test_a_file_that_is_no_good_is_held |
| one bad series, too old, all of it                  | test_sender_culprits: test_one_series_of_a_hundred_costs_itself, test_what_is_too_old_is_aged_and_the_rest_arrives, test_when_everything_is_refused_a_handful_of_requests_find_out |
| a stop in the middle of any of it                   | test_sender_stop: test_a_stop_in_the_middle_of_a_fault_loses_nothing |
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.system.events import Event
from tests.support.front import Act, Exchange, Front
from tests.support.protocols import PROTOCOLS, V1
from tests.support.receiver import Receiver
from tests.support.sending import destination, host


class Fault(NamedTuple):
    """What happens to a request, and what is logged: `words` begin the error; none: it is no trouble."""

    act: Act
    words: tuple[str, ...] = ()
    stored: bool = False
    """Whether the receiver has stored the request although it looks as if it had not."""
    timeout: float = 5.0
    """The destination's remote_timeout, in seconds."""
    troubles: tuple[int, ...] = (2,)
    """How often it is logged, of two times: once where the first is taken for the end of a connection that was kept."""


CUT = ("no connection with 127.0.0.1: ", "no valid answer from 127.0.0.1: ")  # it depends on the moment which
NONSENSE = ("no valid answer from 127.0.0.1: ",)
LATE = ("timeout: ",)
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 9000\r\n\r\nnot now"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def in_the_request(x: Exchange) -> None:
    """Of a request that is cut here nothing but the beginning has been read."""
    assert x.connection.recv(64)


def cut_in_the_request(x: Exchange) -> None:
    in_the_request(x)
    x.reset()


def cut_before_the_answer(x: Exchange) -> None:
    x.read()
    x.reset()


def cut_after_storing(x: Exchange) -> None:
    x.pass_on()
    x.reset()


def closed_before_the_answer(x: Exchange) -> None:
    x.read()


def closed_after_storing(x: Exchange) -> None:
    x.pass_on()


def hangs(x: Exchange) -> None:
    x.wait()


def hangs_after_storing(x: Exchange) -> None:
    x.pass_on()
    x.wait()


def slow_head(x: Exchange) -> None:
    x.read()
    x.drip(b"HTTP/1.1 204 No Content\r\nX: ")


def slow_head_after_storing(x: Exchange) -> None:
    x.pass_on()
    x.drip(b"HTTP/1.1 204 No Content\r\nX: ")


def with_body(answer: bytes, length: int) -> bytes:
    """The head of an answer without a body, which now has one of this length: 2.0 needs its other headers."""
    _, _, headers = answer.partition(b"\r\n")
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % length + headers


def slow_thanks(x: Exchange) -> None:
    x.send(with_body(x.pass_on(), 1_000_000))
    x.drip(b"thanks ")


def half_a_body(x: Exchange) -> None:
    x.send(with_body(x.pass_on(), 90) + b"than")


def slow_no(x: Exchange) -> None:
    x.read()
    x.send(BUSY)
    x.drip(b"busy ")


def says(data: bytes, *, stored: bool = False) -> Act:
    """Answer every request with these bytes, and close."""

    def act(x: Exchange) -> None:
        if stored:
            x.pass_on()
        else:
            x.read()
        x.send(data)

    return act


def after_hints(x: Exchange) -> None:
    answer = x.pass_on()
    x.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer)


def answers_twice(x: Exchange) -> None:
    """The second answer is there before the next request, which is never passed on nor answered."""
    x.send(x.pass_on() + NO_CONTENT)
    x.wait()


def answers_with_surplus(x: Exchange) -> None:
    x.send(x.pass_on() + b"hello")
    x.wait()


def closes_unsaid(x: Exchange) -> None:
    x.send(x.pass_on())


def answers_unread(x: Exchange) -> None:
    in_the_request(x)
    x.send(BUSY)


FAULTS = {
    "reset in the request": Fault(cut_in_the_request, CUT, troubles=(1,)),
    "reset after the request was read": Fault(cut_before_the_answer, CUT, troubles=(1,)),
    "reset after it was stored": Fault(cut_after_storing, CUT, stored=True, troubles=(1,)),
    "closed in the request": Fault(in_the_request, CUT, troubles=(1,)),
    "closed after the request was read": Fault(closed_before_the_answer, NONSENSE, troubles=(1,)),
    "closed after it was stored": Fault(closed_after_storing, NONSENSE, stored=True, troubles=(1,)),
    "hang": Fault(hangs, LATE, timeout=0.5),
    "hang after it was stored": Fault(hangs_after_storing, LATE, stored=True, timeout=0.5),
    "slow headers": Fault(slow_head, LATE, timeout=0.5),
    "slow headers after it was stored": Fault(slow_head_after_storing, LATE, stored=True, timeout=0.5),
    "slow body": Fault(slow_thanks, timeout=0.5),
    "slow body of a refusal": Fault(slow_no, ("HTTP 503: not now",), timeout=0.5),
    "half a status line": Fault(says(b"HTTP/1.1 20"), NONSENSE),
    "half a status line after it was stored": Fault(says(b"HTTP/1.1 20", stored=True), NONSENSE, stored=True),
    "half a head": Fault(says(NO_CONTENT[:-2] + b"Date: ", stored=True), NONSENSE, stored=True),
    "half a body": Fault(half_a_body),
    "half a body of a refusal": Fault(says(BUSY), ("HTTP 503: not now",)),
    "an answer before the request was read": Fault(
        answers_unread, ("HTTP 503: not now", *CUT), troubles=(1, 2)
    ),
    "no HTTP": Fault(says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), NONSENSE),
    "TLS": Fault(says(b"\x15\x03\x01\x00\x02\x02\x46"), NONSENSE),
    "an endless head": Fault(says(NO_CONTENT[:-2] + b"X: " + b"x" * 200_000), NONSENSE),
    "no valid header": Fault(says(NO_CONTENT[:-2] + b"bad header\x00: 1\r\n\r\n"), NONSENSE),
    "a status of no kind": Fault(
        says(b"HTTP/1.1 999 What\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), ("HTTP 999",)
    ),
    "a page instead": Fault(
        says(b"HTTP/1.1 502 Bad\r\nConnection: close\r\nContent-Length: 15\r\n\r\n<html>Oh</html>"),
        ("HTTP 502: <html>",),
    ),
    "a page with a 2xx": Fault(
        says(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html; charset=utf-8\r\n"
            b"Content-Length: 15\r\n\r\n <html>Log in..."
        ),
        ("HTTP 200: a web page",),
    ),
    "hints before the answer": Fault(after_hints),
    "two answers to a request": Fault(answers_twice),
    "an answer and something more": Fault(answers_with_surplus),
    "a keep-alive that is closed": Fault(closes_unsaid),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_after_a_fault_everything_has_arrived(tmp_path: Path, fault: Fault, protocol: str) -> None:
    acts = [None, fault.act, fault.act]
    if protocol == V1:  # which checks whether it was the receiver
        at_once = fault.troubles != (2,)  # what goes out again at once is not checked
        acts = [None, None, fault.act, *([] if at_once else [None]), fault.act]
    with Receiver() as receiver, Front(receiver, acts) as front:
        to = destination(front.url, protobuf_message=protocol, remote_timeout=fault.timeout)
        with host(tmp_path, to) as one:
            one.collect(40)
            one.settled()
            assert not front.acts
            troubles = [
                str(entry["error"]) for entry in one.logs if entry["event"] in (Event.RETRY, Event.HELD)
            ]
            if fault.words:
                assert len(troubles) in fault.troubles
                assert all(error.startswith(fault.words) for error in troubles)
                assert one.logged(Event.RESUMED)
            else:
                assert not troubles
            # With 1.0 a fault may have met the check of an answer: then what was answered is sent again.
            one.accounted(receiver, repeated=fault.stored or protocol == V1)


def test_the_table_above_names_tests_that_are_there() -> None:
    modules = re.findall(r"(test_sender_\w+): ((?:test_\w+(?:, )?)+)", __doc__ or "")
    assert len(modules) > 15
    for module, names in modules:
        found = importlib.import_module(f"tests.fault.{module}")
        for name in names.split(", "):
            assert callable(getattr(found, name, None)), f"{module} has no {name}"
