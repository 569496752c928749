"""What is special to `bfv` in requests and halves: words below q, and a document whose numbers fit each other."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from hecompile.backends.region_client import RegionClient
from hecompile.backends.region_server import RegionServer
from hecompile.backends.registry import backend
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.ir.halves import ServerHalf
from hecompile.ir.regions import CallRegion
from tests.programs import call_regions


def halves(region: CallRegion) -> tuple[RegionClient, RegionServer]:
    assert region.lowered is not None
    return backend("bfv").load_client(region.lowered.client), backend("bfv").load_server(region.lowered.server)


def test_words_that_are_not_below_q_are_refused(tiny: Compiled) -> None:
    region = next(iter(call_regions(tiny).values()))
    client, server = halves(region)
    with pytest.raises(ProtocolError, match="not below q"):
        server.evaluate(b"\0" + b"\xff" * (client.request_bytes(1) - 1), 1)


@pytest.mark.parametrize("damage", ["dimension", "q", "limit", "packings", "missing", "dtype"])
def test_halves_that_make_no_sense_are_refused(tiny: Compiled, damage: str) -> None:
    region = next(iter(call_regions(tiny).values()))
    assert region.lowered is not None
    half = region.lowered.server
    program: dict[str, Any] = copy.deepcopy(dict(half.program))
    tensors = dict(half.tensors)
    layer = program["layers"][0]
    if damage == "dimension":
        layer["parameters"]["dimension"] = 100
    elif damage == "q":
        layer["q"] += 2
    elif damage == "limit":
        layer["parameters"]["limit"] = 1 << 20
    elif damage == "packings":
        layer["packings"][0]["p_out"] = 10_000
    elif damage == "missing":
        del tensors["0.weights"]
    else:
        tensors["0.weights"] = tensors["0.weights"].astype(np.int16)
    with pytest.raises(ProtocolError):
        backend("bfv").load_server(ServerHalf(program, tensors))
