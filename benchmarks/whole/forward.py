"""Calls of the model in a process of its own: in float32, or as an artifact, in the clear or through a server.

`python -m benchmarks.whole.forward SOURCE OUTPUT --kind float32|clear|client` prints one JSON object a call and keeps the results
in OUTPUT (`.npz`). CPU seconds are those of this process, of all its threads, waiting left out; `--server PID` adds the server's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.whole.model import call
from hecompile.measure.server import peak_mib, process_seconds_of

Model = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]
METERED = ("encrypt_s", "decrypt_s", "local_s", "send_s", "wait_s", "bytes_up", "bytes_down", "requests")


def float32(folder: Path) -> Model:
    """The model alone."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()

    def run(latents: torch.Tensor, timestep: int, prompts: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = unet(latents, timestep, encoder_hidden_states=prompts).sample
        return result

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--kind", choices=("float32", "clear", "client"), required=True)
    parser.add_argument("--url")
    parser.add_argument("--server", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    import hecompile

    given, results, meter = call(options.smoke, options.batch), list[Any](), None
    run: Callable[[], AbstractContextManager[object]] = nullcontext
    if options.kind == "float32":
        model = float32(options.source)
        model(given.latents, given.timesteps[0], given.prompts)  # its first call makes what the others find
    else:
        policy = "simulation" if options.kind == "clear" else "strict"
        unet = hecompile.load(options.source, options.url, policy=policy)
        run, meter = unet.run, unet.meter

        def model(latents: torch.Tensor, timestep: int, prompts: torch.Tensor) -> torch.Tensor:
            noise: torch.Tensor = unet(latents, timestep, encoder_hidden_states=prompts).sample
            return noise

    loaded_mib = peak_mib_here()
    with run():
        for timestep in given.timesteps[: options.calls]:
            before = {name: getattr(meter, name, 0) for name in METERED}
            served = 0.0 if options.server is None else process_seconds_of(options.server)
            started, used = time.perf_counter(), time.process_time()
            result = model(given.latents, timestep, given.prompts)
            row = {"wall_s": time.perf_counter() - started, "client_cpu_s": time.process_time() - used}
            row |= {name: getattr(meter, name, 0) - before[name] for name in METERED} if meter else {}
            row |= {"loaded_mib": loaded_mib, "client_peak_mib": peak_mib_here()}
            if options.server is not None:
                row |= {"server_cpu_s": process_seconds_of(options.server) - served, "server_peak_mib": peak_mib(options.server)}
            results.append(result.numpy())
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
    np.savez(options.output, *results)


def peak_mib_here() -> float:
    """The most memory that this process has had so far."""
    import os

    return peak_mib(os.getpid())


if __name__ == "__main__":
    main()
