"""What models of well-known shapes would cost, by the cost model and its usual machine: no weights, nothing encrypted.

`shapes` are a call of every shape, all linear layers at the server and with the best plan of `HELD_MIB` at the client for the goal
`client-cpu`; `goals` the best plans of Stable Diffusion 1.5 by goal; `bills` who pays what for its pictures. Seconds are of CPUs,
HTTP counted in.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import arguments, finish, machine
from hecompile.ir.graph import ModelGraph
from hecompile.machine import GOALS, http_seconds
from hecompile.models.published import SHAPES
from hecompile.options import CompileOptions
from hecompile.planner.bill import FEW_STEPS, Picture, bills_of
from hecompile.planner.plan import Prediction, predict_graph
from hecompile.predict import machine_of, optimised, partitioned, run_of

HELD_MIB, CACHE_MIB = 64.0, 1400.0  # int8 weights at the client, and answers that it keeps for a run
STEPS = 25
BILLED = "sd15-shaped"


def row(prediction: Prediction) -> dict[str, Any]:
    """A call: seconds of a later one of a run, bytes of the first and of a later one."""
    later, first = prediction.later, prediction.total
    client_s, server_s = http_seconds(later, prediction.machine)
    return {
        "client_s": later.client_s + client_s,
        "server_s": later.server_s + server_s,
        "alone_s": prediction.plaintext_s,
        "offload_ratio": prediction.totals(later)["offload_ratio"],
        "bytes_first": first.sent_bytes,
        "bytes_later": later.sent_bytes,
        "rounds": first.rounds,
        "key_bytes": first.key_bytes,
        "server_peak_mib": prediction.peak_mib,
    }


def planned(graph: ModelGraph, goal: str) -> tuple[Prediction, ModelGraph]:
    """The best plan within what the client holds."""
    prices, run = machine_of(None, 0.0, 1000.0, goal), run_of(CACHE_MIB, STEPS)
    options = CompileOptions(partition="optimised", client_weights_mib=HELD_MIB, goal=goal)
    best = optimised(graph, prices, options, run)
    return predict_graph(best, prices, 1, run, worst_case=False), best


def bills(graph: ModelGraph) -> dict[str, list[dict[str, object]]]:
    """Of pictures with guidance and of few steps without, by plan."""
    run, pictures = run_of(CACHE_MIB, STEPS), [Picture(STEPS, True), Picture(FEW_STEPS, False)]
    plans = {"every layer at the server": graph, "the best plan for client-cpu": planned(graph, "client-cpu")[1]}
    goals = dict(zip(plans, ("latency", "client-cpu"), strict=True))
    return {
        name: [bill.document() for bill in bills_of(plan, machine_of(None, 0.0, 1000.0, goals[name]), run, pictures)]
        for name, plan in plans.items()
    }


def measure(smoke: bool) -> dict[str, Any]:
    """All figures."""
    usual, rows, more = machine_of(None, 0.0, 1000.0), [], dict[str, Any]()
    for name in ["dit-shaped"] if smoke else SHAPES:
        graph, run = partitioned(name), run_of(CACHE_MIB, STEPS)
        everything = predict_graph(graph, usual, 1, run, worst_case=False)
        best = planned(graph, "client-cpu")[0]
        rows.append({"shape": name, "model": SHAPES[name].model, "all": row(everything), "best": row(best)})
        if name == BILLED:
            more = {"goals": {goal: row(planned(graph, goal)[0]) for goal in GOALS}, "bills": bills(graph)}
    return {"shapes": rows, **more, "held_mib": HELD_MIB, "cache_mib": CACHE_MIB, "steps": STEPS}


def main() -> None:
    """Predict and print."""
    options = arguments(__doc__)
    finish({"benchmark": "plans", "smoke": options.smoke, **measure(options.smoke), "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
