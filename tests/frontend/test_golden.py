"""What tracing and canonicalizing make of one small network per rewriting, as text and in numbers."""

from __future__ import annotations

import pytest

from hecompile.errors import CompileError
from hecompile.frontend.sources import load_source
from hecompile.ir.printing import print_graph
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace
from tests.frontend.agreement import worst_difference
from tests.frontend.small import NETWORKS, REFUSED, Branches
from tests.golden_files import check


@pytest.mark.parametrize("name", NETWORKS)
def test_one_rewriting(name: str) -> None:
    network = NETWORKS[name]()
    traced = Trace().run(load_source(network, network.inputs))
    check(f"trace/{name}", print_graph(traced))
    canonical = Canonicalize().run(traced)
    check(f"canonicalize/{name}", print_graph(canonical))
    again = Canonicalize().run(canonical)
    assert [node.target for node in again.nodes if node.op != "get_attr"] == [
        node.target for node in canonical.nodes if node.op != "get_attr"
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_one_rewriting_keeps_the_numbers(name: str) -> None:
    network = NETWORKS[name]()
    assert worst_difference(load_source(network, network.inputs)) <= 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    stage, build = REFUSED[name]
    network = build()
    with pytest.raises(CompileError) as caught:
        Canonicalize().run(Trace().run(load_source(network, network.inputs)))
    check(f"{stage}/{name}", f"{caught.value}\n")


def test_control_flow_on_values_is_refused_where_it_is() -> None:
    network = Branches()
    with pytest.raises(CompileError, match=r"^small.py:\d+: error: torch cannot trace Branches") as caught:
        Trace().run(load_source(network, network.inputs))
    assert "control flow must not depend on values" in str(caught.value)
