"""Bearer tokens: who shows none is told so before anything of a request is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hecompile.errors import CompileError, ProtocolError
from hecompile.runtime.service import Service
from hecompile.runtime.serving.client_identity import Tokens, check_proxies, client_id_of, is_local, read_tokens, spellings
from hecompile.runtime.transports import Access, HttpTransport
from hecompile.runtime.wire import pack_request
from tests.faults.strangers import DIGEST, Echo, ask, good_request, head, serving

pytestmark = pytest.mark.promise("tokens")

GOOD, OTHER = "a" * 40, "b" * 40


def service() -> Service:
    return Service("echo", DIGEST, True, {"echo": Echo()})


@pytest.mark.parametrize("path", ["/metrics", f"/v1/artifacts/{DIGEST}"])
def test_what_a_server_tells_needs_a_token(path: str) -> None:
    with serving(service(), tokens=Tokens([GOOD])) as address:
        for header, status in (("X: y", 401), (f"Authorization: Bearer {GOOD}", 200), (f"Authorization: Bearer {OTHER}", 401)):
            assert ask(address, f"GET {path} HTTP/1.1\r\nHost: here\r\n{header}\r\n\r\n".encode())[0] == status


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_for_everybody(path: str) -> None:
    with serving(service(), tokens=Tokens([GOOD])) as address:
        assert ask(address, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())[0] == 200


@pytest.mark.parametrize(
    "header",
    [
        "X: y",
        "Authorization: Bearer",
        f"Authorization: Basic {GOOD}",
        f"Authorization: Bearer {GOOD}x",
        f"Authorization: Bearer {GOOD[:-1]}",
        f"Authorization: Bearer {GOOD} {GOOD}",
        f"Authorization: {GOOD}",
        "Authorization: Bearer \xe4\xf6\xfc",
    ],
)
def test_other_tokens_open_nothing(header: str) -> None:
    with serving(service(), tokens=Tokens([GOOD, OTHER])) as address:
        status, came = ask(address, good_request("echo", b"good", header))
        assert (status, b"www-authenticate: bearer" in came.lower()) == (401, True)
        assert ask(address, good_request("echo", b"good", f"Authorization: Bearer {OTHER}"))[0] == 200


def test_nothing_of_a_request_is_read_without_a_token() -> None:
    with serving(service(), tokens=Tokens([GOOD])) as address:
        status, came = ask(address, head("echo", 10**9))
        assert (status, b"connection: close" in came.lower()) == (401, True)


def test_a_client_with_its_token_is_answered_and_without_it_told() -> None:
    with serving(service(), tokens=Tokens([GOOD])) as address:
        url, reply = f"http://127.0.0.1:{address[1]}", bytearray(4)
        with HttpTransport(url, access=Access(token=GOOD)) as http:
            http.send(DIGEST, "echo", pack_request(1, [b"good"]), reply)
        assert reply == b"good"
        with HttpTransport(url) as http, pytest.raises(ProtocolError, match="needs a token") as caught:
            http.send(DIGEST, "echo", pack_request(1, [b"good"]), reply)
        assert caught.value.status == 401


def test_tokens_are_not_kept_as_they_are() -> None:
    assert GOOD not in repr(vars(Tokens([GOOD])))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 tokens"),
        ("# none\n\n", "0 tokens"),
        ("short", "line 1: malformed token"),
        (f"{GOOD}\nwith a space in it\n", "line 2: malformed token"),
        (f"{GOOD}\n{GOOD}\n", "twice"),
        ("ä" * 20, "ASCII"),
    ],
)
def test_files_without_good_tokens_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(CompileError, match=reason):
        read_tokens(file)
    with pytest.raises(CompileError, match="cannot be read"):
        read_tokens(tmp_path / "absent")


def test_a_file_has_a_token_a_line(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# the clinic\n{GOOD}\n\n  {OTHER}  \n")
    tokens = read_tokens(file)
    assert (len(tokens), tokens.client_id(f"bearer {OTHER}"), tokens.client_id(None)) == (2, "token 2", None)


def test_addresses_are_told_apart_by_what_one_person_has() -> None:
    assert client_id_of(("192.0.2.1", 5)) == "192.0.2.1"
    assert client_id_of(("2001:db8:1:2:3::4", 5)) == client_id_of(("2001:db8:1:2::9", 5)) != client_id_of(("2001:db8:1:3::9", 5))
    assert client_id_of(("fe80::1%eth0", 5)) == "fe80::/64"
    assert (client_id_of(None), client_id_of(("::1", 5)), client_id_of(("a name", 5))) == ("", "::1", "a name")


def test_a_proxy_is_an_address() -> None:
    assert check_proxies(["127.0.0.1", "::1"]) == ["127.0.0.1", "::1"]
    with pytest.raises(CompileError, match="not an IP address of a proxy"):
        check_proxies(["localhost"])


def test_one_address_is_one_owner_however_a_socket_shows_it() -> None:
    """A socket of both families shows 192.0.2.1 as ::ffff:192.0.2.1, whose network of 64 bits is everybody's."""
    assert client_id_of(("::ffff:192.0.2.1", 5)) == client_id_of(("192.0.2.1", 5))
    assert is_local(client_id_of(("::ffff:127.0.0.1", 5)))
    assert client_id_of(("192.0.2.1:40000", 0)) == "192.0.2.1"  # by X-Forwarded-For, where uvicorn is old
    assert client_id_of(("[2001:db8::1]:40000", 0)) == "2001:db8::/64"
    assert spellings(["192.0.2.1", "2001:db8::1"]) == ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"]


def test_a_file_that_is_no_list_of_tokens_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(bytes(2 << 20))
    with pytest.raises(CompileError, match="a file of tokens may have"):
        read_tokens(file)
