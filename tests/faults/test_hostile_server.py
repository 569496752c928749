"""Whatever a server answers, a request ends in time, in `ProtocolError`, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.faults.hostile import ATTACKS, UNREAD, hostile_server
from tests.faults.hostile_client import TIMEOUT_S

SLACK_S = 10.0  # for a busy machine
MOST_MIB = 200.0
FINE = {"send brackets-as-a-reply"}  # of the right length: what the bytes mean, the region's decryption judges


@dataclass(frozen=True)
class Met:
    """What a client met."""

    grown_mib: float
    outcomes: dict[str, dict[str, object]]
    requests: list[bytes]


@pytest.fixture(scope="module")
def met() -> Met:
    with hostile_server() as hostile:
        command = [sys.executable, "-m", "tests.faults.hostile_client", hostile.url]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr[-2000:]
        report = json.loads(result.stdout)
        return Met(report["grown_mib"], report["outcomes"], list(hostile.requests))


@pytest.mark.promise("replies", "total-time", "refusals")
@pytest.mark.parametrize("ask", ["send", "greet", "keys"])
@pytest.mark.parametrize("attack", [*ATTACKS, *UNREAD])
def test_an_attack_ends_in_a_protocol_error_in_time(met: Met, ask: str, attack: str) -> None:
    if attack in UNREAD and ask != "send":
        ask = "send"
    outcome = met.outcomes[f"{ask} {attack}"]
    if f"{ask} {attack}" in FINE:
        assert outcome["kind"] == "none"
    else:
        assert "ProtocolError" in str(outcome["kind"]).split(), outcome
        assert str(outcome["text"]).isprintable()
        assert 0 < len(str(outcome["text"])) < 600
    assert float(str(outcome["seconds"])) < TIMEOUT_S + SLACK_S


@pytest.mark.promise("replies")
def test_all_of_it_takes_little_memory(met: Met) -> None:
    assert met.grown_mib < MOST_MIB


def test_malformed_answers_are_not_asked_for_again(met: Met) -> None:
    """Only a closed connection and statuses that mean "later" are tried again."""
    asked = [request.split(b"/")[3].split()[0].decode() for request in met.requests]
    again = {name for name in ATTACKS if asked.count(name) > 3}
    closed = {"closed-at-once", "closed-in-the-head", "closed-in-the-body", "tls-alert"}
    assert closed <= again <= closed | {"dripping-busy-refusal", "retry-after-rubbish"}


@pytest.mark.promise("refusals")
def test_cookies_do_not_come_back(met: Met) -> None:
    assert len(met.requests) > len(ATTACKS)
    assert not any(b"cookie" in request.lower() for request in met.requests)


@pytest.mark.promise("refusals")
def test_redirects_are_named(met: Met) -> None:
    for code in (301, 302, 307, 308):
        assert f"{code}: redirects are not followed" in str(met.outcomes[f"send redirect-{code}"]["text"])
