"""Checks everything that a client loads: what the server may see, which backends may compute, and whether the files fit together.

The server's owner may have compiled the artifact, so the client believes nothing that the artifact says about itself. It derives
what is public from the inputs that the caller calls public, through the graphs that the client runs itself. Only backends that the
policy allows and the caller knows may compute. Every file is checked by its reader (`hecompile.untrusted`, `check_onnx`, each
backend's `load_client`) before anything runs. Whatever fails is a `ProtocolError`, raised before anything is sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hecompile.artifact import Input, Manifest
from hecompile.backends.base import Backend, SamplerStep
from hecompile.backends.region_client import RegionClient
from hecompile.backends.registry import backend, backend_names, backend_of, is_own, name_of
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir.halves import ClientHalf
from hecompile.ir.plan import Step
from hecompile.ir.signature import PUBLIC, Keyword, check_keywords, declared
from hecompile.policies import Policy, policy
from hecompile.runtime.check_onnx import CheckedGraph
from hecompile.runtime.graph_costs import MOST_FOLDED, MOST_SLOW
from hecompile.runtime.results import check_count

__all__ = ["ArtifactChecks", "Terms"]

MOST_PUBLIC = (
    8  # numbers per picture that an input may have to be public by its name alone: a timestep has one, SDXL's time_ids six
)
MOST_KEY_BYTES = 8 << 30  # evaluation keys of one session
_ANSWER = "a reply of the server"


@dataclass(frozen=True)
class Terms:
    """What a client insists on, whatever an artifact says.

    `public` are names of inputs that the server may see besides `timestep` and `time_ids`. `backends` are names of backends of
    other packages that the caller knows. `sampler` is whether the step of a sampler is loaded, whose public input the scheduler
    makes itself.
    """

    policy: str = "strict"
    security_bits: int = 128
    public: frozenset[str] = frozenset()
    backends: frozenset[str] = frozenset()
    sampler: bool = False

    @property
    def promise(self) -> Policy:
        """The policy, which says what is promised."""
        return policy(self.policy)


class ArtifactChecks:
    """Checks one artifact in the order of its plan: `graph` or `region` and then `client` for each step, and `finish` at the end.

    Raises:
        ProtocolError: from every method, naming the file and the reason.
    """

    def __init__(self, folder: Path, manifest: Manifest, terms: Terms) -> None:
        self._folder, self._manifest, self._terms = folder, manifest, terms
        self._check_manifest()
        self._public = frozenset(spec.name for spec in manifest.inputs if self._is_public(spec))
        # the plan's inputs and the server's replies that each value was computed from: it is public if all of them are
        self._origins = {spec.name: frozenset([spec.name]) for spec in manifest.inputs}
        self._key_bytes = dict[str, int]()
        self._slow = self._folded = 0  # sums over all client regions, see `CheckedGraph`
        self._revealed = dict[str, None]()  # what requests reveal of secret values, as their backends describe it
        self._clear = set[str]()  # public inputs that requests contain in the clear

    def _check_manifest(self) -> None:
        """Raise `ProtocolError` for a manifest that is weaker than the terms, or contradicts itself."""
        manifest, terms, own = self._manifest, self._terms, self._terms.promise
        if own.needs_encryption and not manifest.encrypted:
            raise ProtocolError(
                f"'{manifest.name}' is a simulation, nothing in it is encrypted: this client insists on policy '{terms.policy}' "
                "(policy='simulation' accepts it)"
            )
        if own.needs_encryption and manifest.policy != terms.policy:
            raise ProtocolError(
                f"'{manifest.name}' was compiled under policy '{manifest.policy}', this client insists on '{terms.policy}'"
            )
        if manifest.encrypted and manifest.security_bits < terms.security_bits:
            raise self._error(f"{manifest.security_bits} bits of security, this client insists on {terms.security_bits}")
        self._check_origin(manifest.backend, "")
        try:
            if backend(manifest.backend).guarantee.encrypts != manifest.encrypted:
                raise self._error(f"the manifest is wrong about whether backend '{manifest.backend}' encrypts")
        except CompileError as error:
            raise self._error(str(error)) from error
        check_count(manifest.signature.results, len(manifest.plan.outputs))
        names = [spec.name for spec in manifest.inputs]
        check_keywords([spec.keyword for spec in manifest.inputs])
        if tuple(names) != manifest.plan.inputs or len({spec.keyword for spec in manifest.inputs}) != len(names):
            raise self._error(f"the plan's inputs {manifest.plan.inputs} are not those of the manifest, {tuple(names)}")
        regions = [step.region for step in manifest.plan.steps]
        if len(set(regions)) != len(regions):
            raise self._error("a region stands in the plan twice")

    def _is_public(self, spec: Input) -> bool:
        """Return whether an input is public by the name under which the caller passes it. The artifact's own mark is not read."""
        if self._terms.sampler:
            return spec.keyword == ("step",)
        by_name = declared(spec.keyword, frozenset(PUBLIC)) and _numbers(spec) <= MOST_PUBLIC
        return by_name or declared(spec.keyword, self._terms.public)

    def graph(self, step: Step, graph: CheckedGraph) -> None:
        """Check that a client region has the inputs, outputs and shapes that the plan states, and record what its outputs depend
        on."""
        self._check_names(step, tuple(graph.inputs), tuple(graph.outputs))
        for name, shape in (*graph.inputs.items(), *graph.outputs.items()):
            expected = self._manifest.plan.value(name).at(self._manifest.max_batch)
            if expected != shape:
                raise self._error(f"'{name}' has shape {shape}, the plan says {expected}", f"{step.region}.onnx")
        self._slow, self._folded = self._slow + graph.slow, self._folded + graph.folded
        if self._slow > MOST_SLOW or self._folded > MOST_FOLDED:
            raise self._error(
                f"{self._slow} entries whose computing time would reveal secret values, and {self._folded} bytes computed from "
                "constants: more than regions may have", f"{step.region}.onnx",
            )  # fmt: skip
        for name, sources in graph.sources.items():
            self._origins[name] = frozenset().union(*(self._origins[source] for source in sources))

    def region(self, step: Step, half: ClientHalf) -> Backend:
        """Check a region that the server computes, and return its backend. The backend must be allowed, and may see nothing that is
        secret."""
        terms, file = self._terms, f"{step.region}.json"
        self._check_origin(name_of(half), file)
        backend_here = backend_of(half)
        if not terms.promise.allows_backend(backend_here):
            raise self._error(f"region '{step.region}' runs under '{backend_here.name}', which does not encrypt", file)
        if isinstance(backend_here, SamplerStep) != terms.sampler:
            reason = "not a sampler's artifact" if terms.sampler else "a sampler's step is no part of a model"
            raise self._error(
                f"region '{step.region}' of backend '{backend_here.name}': {reason} (hecompile compile-sampler)", file
            )
        if not terms.promise.needs_encryption:
            return backend_here
        for name in backend_here.clear_inputs(half):
            secret = self._origins.get(name, frozenset([_ANSWER])) - self._public
            if secret:
                raise self._error(
                    f"region '{step.region}' would reveal '{name}' to the server, computed from {', '.join(sorted(secret))}: "
                    f"public to this client are {', '.join(sorted(self._public)) or 'no inputs'}", file,
                )  # fmt: skip
            self._clear |= self._origins[name]
        if reasons := backend_here.check_security(half, terms.security_bits):
            raise self._error(reasons[0], file)
        self._revealed.update(dict.fromkeys(backend_here.describe(half).reveals))
        return backend_here

    def _check_origin(self, name: str, file: str) -> None:
        """Refuse a backend of another package that the caller did not name, before any of its code runs."""
        if not is_own(name) and name in backend_names() and name not in self._terms.backends:
            reason = f"backend '{name}' comes from another package: allow it with load(..., backends=['{name}']) if you trust it"
            raise self._error(reason, file)

    def client(self, step: Step, client: RegionClient) -> None:
        """Check the part of a region that runs at the client. From here on the region's outputs count as replies of the server."""
        self._check_names(step, client.inputs, client.outputs)
        if client.max_batch != self._manifest.max_batch:
            reason = f"batches of up to {client.max_batch}, but the manifest says {self._manifest.max_batch}"
            raise self._error(reason, f"{step.region}.json")
        self._key_bytes |= client.key_sizes()
        if sum(self._key_bytes.values()) > MOST_KEY_BYTES:
            raise self._error(f"evaluation keys of more than {MOST_KEY_BYTES} bytes", f"{step.region}.json")
        self._origins |= dict.fromkeys(step.outputs, frozenset([_ANSWER]))

    def finish(self) -> tuple[Keyword, ...]:
        """Return the inputs that requests contain in the clear, all of them public. What else is revealed must be what the manifest
        declares."""
        manifest, revealed = self._manifest, tuple(self._revealed)
        if self._terms.promise.needs_encryption:
            either = dict.fromkeys((*manifest.reveals, *revealed))
            if either and not self._terms.promise.may_reveal:
                raise ProtocolError(f"'{manifest.name}' reveals {', '.join(either)}: not under policy '{self._terms.policy}'")
            if either and all(spec.name != "sample" for spec in manifest.inputs):
                raise self._error(
                    "an artifact that reveals values must have an input called sample, whose initial noise the client checks"
                )
            if set(revealed) != set(manifest.reveals):
                said = ", ".join(manifest.reveals) or "nothing"
                raise ProtocolError(f"'{manifest.name}' reveals {', '.join(revealed) or 'nothing'}, its manifest says {said}")
        return tuple(spec.keyword for spec in manifest.inputs if spec.name in self._clear)

    def _check_names(self, step: Step, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        """Raise `ProtocolError` unless a region's file names the same inputs and outputs as the plan."""
        for planned, names in ((step.inputs, inputs), (step.outputs, outputs)):
            if names != planned:
                raise self._error(f"region '{step.region}': the plan says {planned}, its file {names}")

    def _error(self, reason: str, file: str = "") -> ProtocolError:
        return ProtocolError(f"{self._folder / 'client' / file if file else self._folder}: {reason}")


def _numbers(spec: Input) -> int:
    """Return how many numbers an input has for one picture."""
    return math.prod(size for size in spec.shape if isinstance(size, int))
