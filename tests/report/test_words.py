"""What a report says in words: margins, security, costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hecompile.artifact import read_manifest
from hecompile.compiler import Compiled
from hecompile.report.costs import Costs, cost_lines
from hecompile.report.modules import grouped
from hecompile.report.tables import RegionRow
from hecompile.report.words import headline, input_text, margin_text, security_text

ROW = RegionRow("call_01", "server_encrypted", 1, 1, "bfv", 1, "N2048 q46 t25")


@pytest.mark.parametrize(
    ("proof", "noise_bits", "budget_bits", "expected"),
    [
        ("worst-case", 18.9, 22.0, "worst case proved, 3.1 bits to spare"),
        ("worst-case", 22.0, 22.0, "worst case proved, less than 0.1 bits to spare"),
        ("probabilistic", 22.0, 22.0, "decrypts wrongly with probability below 2^-40 in a run"),
        (
            "probabilistic, worst-case", 21.0, 22.0,
            "worst case proved, 1.0 bits to spare; decrypts wrongly with probability below 2^-40 in a run",
        ),
        ("p_error 2^-40, 2^-29 a request", 0.0, 0.0, "declared: p_error 2^-40, 2^-29 a request"),
        ("", 0.0, 0.0, "approximate, within the error that was predicted"),
    ],
)  # fmt: skip
def test_margins_are_sentences(proof: str, noise_bits: float, budget_bits: float, expected: str) -> None:
    assert margin_text(replace(ROW, proof=proof, noise_bits=noise_bits, budget_bits=budget_bits)) == expected


def test_the_weakest_layer_is_named_where_all_are_estimated(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    manifest = read_manifest(tiny.artifact)
    rows = [replace(ROW, proof="worst-case", classical_bits=bits) for bits in (140.2, 131.4)]
    assert "takes some 2^131 steps, and results are proved to decrypt correctly." in security_text(manifest, rows)
    approximate = [*rows, replace(ROW, proof="", classical_bits=0.0)]
    assert security_text(manifest, approximate).endswith("takes some 2^128 steps.")
    shown = replace(manifest, reveals=("x: 2 of 4 channels",))
    assert security_text(shown, rows).endswith(", but for what is revealed.")


def test_a_simulation_is_never_called_safe(tiny_clear: Compiled) -> None:
    assert tiny_clear.artifact is not None
    manifest = read_manifest(tiny_clear.artifact)
    assert headline(manifest, 3) == f"A simulation of {manifest.name}: nothing is encrypted"
    assert security_text(manifest, [ROW]).startswith("No security at all")
    assert all("ciphertext" not in input_text(spec, manifest, False) for spec in manifest.inputs)


def test_a_bill_says_what_was_measured_and_what_was_not() -> None:
    costs = Costs("one step", True, 2.0, 3.0, 4_000_000, 1_000_000, 10, 6.0, alone_s=0.5)
    lines = {line.what: (line.amount, line.remark) for line in cost_lines(costs)}
    assert lines["Client, CPU"] == ("2.0 s", "4.0 times what the model alone takes it: 500.0 ms, predicted")
    assert lines["Server, CPU"] == ("3.0 s", "measured")
    assert lines["Network"] == ("5.0 MB", "4.0 MB up, 1.0 MB down, 10 requests")
    assert lines["Start to end"] == ("6.0 s", "measured, on this machine's loopback")
    assert lines["On a slower line"] == ("+ 600.0 ms", "computed, for 100 Mbit/s and 20 ms a round trip")
    predicted = {line.what: line.remark for line in cost_lines(replace(costs, measured=False, network_s=0.5, later=costs))}
    assert predicted["Start to end"] == "predicted, 500.0 ms of it the network's"
    assert predicted["A later step"] == "predicted: client 2.0 s, server 3.0 s, network 5.0 MB"


def test_a_place_in_a_list_is_named_with_its_list() -> None:
    assert grouped(["a.resnets.0", "b.resnets.0", "c.norm"]) == "2 x resnets.0, c.norm"
