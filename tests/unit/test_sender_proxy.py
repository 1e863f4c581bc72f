"""Which destinations are reached through a proxy: the cases that Go's httpproxy documents."""

from __future__ import annotations

from base64 import b64encode

import pytest

from agent.config import Secret
from agent.http.endpoint import Endpoint
from agent.http.proxy import Proxy, is_excepted, route
from buffer.errors import LimpetError

FAR = "https://prometheus.example.com/api/v1/write"
PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    ("url", "exceptions", "excepted"),
    [
        ("https://a.example.com/", "", False),
        ("https://a.example.com/", "*", True),
        ("https://a.example.com/", "other.org, *", True),
        ("https://a.example.com/", "example.com", True),
        ("https://example.com/", "example.com", True),
        ("https://EXAMPLE.com/", "Example.COM", True),
        ("https://badexample.com/", "example.com", False),
        ("https://example.com.evil.org/", "example.com", False),
        ("https://a.example.com/", ".example.com", True),
        ("https://example.com/", ".example.com", False),
        ("https://a.example.com/", "*.example.com", True),
        ("https://example.com/", "*.example.com", False),
        ("https://a.example.com/", "a.*.com", False),
        ("https://example.com/", "example.com:443", True),
        ("https://example.com/", "example.com:80", False),
        ("http://example.com/", "example.com:80", True),
        ("https://example.com:9090/", "example.com:9090", True),
        ("https://example.com:9090/", "example.com", True),
        ("https://example.com/", " x.org ,, example.com ", True),
        ("https://example.com/", ":443", False),
        ("https://10.1.2.3/", "10.0.0.0/8", True),
        ("https://11.1.2.3/", "10.0.0.0/8", False),
        ("https://10.1.2.3/", "10.9.9.9/8", True),
        ("https://10.1.2.3/", "10.0.0.0/99", False),
        ("https://10.1.2.3/", "10.1.2.3", True),
        ("https://10.1.2.3/", "10.1.2.3:443", True),
        ("https://10.1.2.3/", "10.1.2.3:80", False),
        ("https://110.1.2.3/", "10.1.2.3", False),
        ("https://example.com/", "10.0.0.0/8", False),  # no name is looked up
        ("https://[2001:db8::1]/", "2001:db8::/32", True),
        ("https://[2001:db8::1]/", "2001:DB8:0::1", True),
        ("https://[2001:db8::1]/", "[2001:db8::1]:443", True),
        ("https://[2001:db8::1]/", "[2001:db8::1]:80", False),
        ("https://[2001:db8::1]/", "10.0.0.0/8", False),
        ("https://localhost/", "", True),
        ("https://127.3.2.1/", "", True),
        ("https://[::1]:9090/", "", True),
    ],
)
def test_exceptions(url: str, exceptions: str, excepted: bool) -> None:
    assert is_excepted(url, exceptions) is excepted


def by_url(url: str, proxy: str = PROXY, no_proxy: str | None = None) -> Proxy | None:
    return route(Endpoint(url, "there", proxy_url=Secret(proxy), no_proxy=no_proxy), {})


def test_a_proxy_url_is_for_every_destination_but_the_exceptions() -> None:
    assert by_url(FAR) == Proxy("proxy.example.com", 3128)
    assert by_url("http://127.0.0.1:9090/") == Proxy("proxy.example.com", 3128)
    assert by_url("http://127.0.0.1:9090/", no_proxy="x.org") is None
    assert by_url(FAR, no_proxy="example.com") is None
    assert by_url(FAR, "http://proxy") == Proxy("proxy", 80)


def test_the_user_of_a_proxy_is_decoded_and_not_shown() -> None:
    found = by_url(FAR, "http://us%40er:hunter%3A2@p:1/")
    assert found is not None
    assert found.authorization == b"Basic " + b64encode(b"us@er:hunter:2")
    assert repr(found) == str(found) == "p:1"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (FAR, {}, None),
        (FAR, {"HTTPS_PROXY": PROXY}, "proxy.example.com:3128"),
        (FAR, {"https_proxy": PROXY}, "proxy.example.com:3128"),
        (FAR, {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "a:1"),
        (FAR, {"HTTPS_PROXY": "a:1"}, "a:1"),
        (FAR, {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}, None),
        ("http://a.example.com/", {"HTTP_PROXY": PROXY}, "proxy.example.com:3128"),
        ("http://a.example.com/", {"HTTPS_PROXY": PROXY}, None),
        (FAR, {"HTTPS_PROXY": PROXY, "NO_PROXY": "example.com"}, None),
        (FAR, {"HTTPS_PROXY": PROXY, "no_proxy": "example.com"}, None),
        ("https://localhost/", {"HTTPS_PROXY": PROXY}, None),
    ],
)
def test_the_environment(url: str, environment: dict[str, str], expected: str | None) -> None:
    to = Endpoint(url, "there", proxy_from_environment=True)
    found = route(to, environment)
    assert (found and repr(found)) == expected
    assert route(Endpoint(url, "there"), environment) is None


@pytest.mark.parametrize("value", ["https://p:1", "socks5://p:1", "http://u:hunter2@p:x/"])
def test_a_variable_that_cannot_be_used_is_reported_without_its_value(value: str) -> None:
    to = Endpoint(FAR, "there", proxy_from_environment=True)
    with pytest.raises(LimpetError) as caught:
        route(to, {"HTTPS_PROXY": value})
    assert "there.proxy_from_environment: HTTPS_PROXY is not the URL of an HTTP proxy" in str(caught.value)
    assert "hunter2" not in str(caught.value)
