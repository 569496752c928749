"""The one judge of everything that a client loads: what may travel in clear, who may compute, and whether the pieces fit.

Whoever compiled the artifact may be the server. So nothing is believed that the artifact says of itself: what is public is derived
here, from the inputs that this client calls public, through the graphs that it runs itself; regions are of backends that the policy
allows and the caller knows; every file is judged by its reader (`hecompile.untrusted`, `judge_graph`, each backend's `load_client`)
before anything runs. Whatever fails is a `ProtocolError`, and nothing was sent.
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
from hecompile.ir.signature import PUBLIC, Keyword, declared, judge_keywords
from hecompile.policies import Policy, policy
from hecompile.runtime.graph_costs import MOST_FOLDED, MOST_SLOW
from hecompile.runtime.judge_graph import JudgedGraph
from hecompile.runtime.results import judge_count

__all__ = ["Judge", "Terms"]

MOST_PUBLIC = 8  # numbers a picture of an input that is public by its name alone: a timestep has one, SDXL's time_ids six
MOST_KEY_BYTES = 8 << 30  # of a session
_ANSWER = "an answer of the server"


@dataclass(frozen=True)
class Terms:
    """What a client insists on, whatever an artifact says.

    `public` are names of inputs that the server may see besides `timestep` and `time_ids`, `backends` those from elsewhere that the
    caller knows. `sampler`: whether a sampler's step is loaded, by the scheduler that makes its public input itself.
    """

    policy: str = "strict"
    security_bits: int = 128
    public: frozenset[str] = frozenset()
    backends: frozenset[str] = frozenset()
    sampler: bool = False

    @property
    def promise(self) -> Policy:
        return policy(self.policy)


class Judge:
    """Judges one artifact, step by step in the order of its plan: `region` before `client`, and `finish` at the end.

    Raises:
        ProtocolError: from every method, naming the file and the reason.
    """

    def __init__(self, folder: Path, manifest: Manifest, terms: Terms) -> None:
        self._folder, self._manifest, self._terms = folder, manifest, terms
        self._judge_manifest()
        self._public = frozenset(spec.name for spec in manifest.inputs if self._is_public(spec))
        # the plan inputs, and answers, that each value was made of: it is public if all of them are
        self._origins = {spec.name: frozenset([spec.name]) for spec in manifest.inputs}
        self._key_bytes = dict[str, int]()
        self._slow = self._folded = 0  # of all client regions, see `JudgedGraph`
        self._shown = dict[str, None]()  # what requests show in clear of secrets, as their backends say
        self._clear = set[str]()  # public inputs that requests tell

    def _judge_manifest(self) -> None:
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
        self._judge_origin(manifest.backend, "")
        try:
            if backend(manifest.backend).guarantee.encrypts != manifest.encrypted:
                raise self._error(f"the manifest is wrong about whether backend '{manifest.backend}' encrypts")
        except CompileError as error:
            raise self._error(str(error)) from error
        judge_count(manifest.signature.results, len(manifest.plan.outputs))
        names = [spec.name for spec in manifest.inputs]
        judge_keywords([spec.keyword for spec in manifest.inputs])
        if tuple(names) != manifest.plan.inputs or len({spec.keyword for spec in manifest.inputs}) != len(names):
            raise self._error(f"the plan's inputs {manifest.plan.inputs} are not those of the manifest, {tuple(names)}")
        regions = [step.region for step in manifest.plan.steps]
        if len(set(regions)) != len(regions):
            raise self._error("a region stands in the plan twice")

    def _is_public(self, spec: Input) -> bool:
        """By the name under which the *caller* passes it; the artifact's own mark is not read."""
        if self._terms.sampler:
            return spec.keyword == ("step",)
        by_name = declared(spec.keyword, frozenset(PUBLIC)) and _numbers(spec) <= MOST_PUBLIC
        return by_name or declared(spec.keyword, self._terms.public)

    def graph(self, step: Step, graph: JudgedGraph) -> None:
        """A client region: what it reads and makes is what the plan says, in shape too."""
        self._judge_names(step, tuple(graph.inputs), tuple(graph.outputs))
        for name, shape in (*graph.inputs.items(), *graph.outputs.items()):
            expected = self._manifest.plan.value(name).at(self._manifest.max_batch)
            if expected != shape:
                raise self._error(f"'{name}' has shape {shape}, the plan says {expected}", f"{step.region}.onnx")
        self._slow, self._folded = self._slow + graph.slow, self._folded + graph.folded
        if self._slow > MOST_SLOW or self._folded > MOST_FOLDED:
            raise self._error(
                f"{self._slow} entries of operators whose time would depend on them, and {self._folded} bytes made of constants: "
                "more than regions may have", f"{step.region}.onnx",
            )  # fmt: skip
        for name, sources in graph.sources.items():
            self._origins[name] = frozenset().union(*(self._origins[source] for source in sources))

    def region(self, step: Step, half: ClientHalf) -> Backend:
        """A region that is called: its backend, if it may compute and is told nothing that is secret."""
        terms, file = self._terms, f"{step.region}.json"
        self._judge_origin(name_of(half), file)
        chosen = backend_of(half)
        if not terms.promise.allows_backend(chosen):
            raise self._error(f"region '{step.region}' runs under '{chosen.name}', which does not encrypt", file)
        if isinstance(chosen, SamplerStep) != terms.sampler:
            reason = "not a sampler's artifact" if terms.sampler else "a sampler's step is no part of a model"
            raise self._error(f"region '{step.region}' of backend '{chosen.name}': {reason} (hecompile compile-sampler)", file)
        if not terms.promise.needs_encryption:
            return chosen
        for name in chosen.clear_inputs(half):
            secret = self._origins.get(name, frozenset([_ANSWER])) - self._public
            if secret:
                raise self._error(
                    f"region '{step.region}' would tell the server '{name}', made of {', '.join(sorted(secret))}: public to this "
                    f"client are {', '.join(sorted(self._public)) or 'no inputs'}", file,
                )  # fmt: skip
            self._clear |= self._origins[name]
        if reasons := chosen.check_security(half, terms.security_bits):
            raise self._error(reasons[0], file)
        self._shown.update(dict.fromkeys(chosen.describe(half).reveals))
        return chosen

    def _judge_origin(self, name: str, file: str) -> None:
        """Refuses a backend from elsewhere that the caller did not name, before any of its code runs."""
        if not is_own(name) and name in backend_names() and name not in self._terms.backends:
            raise self._error(f"backend '{name}' is not hecompile's own: name it to load() if you know it", file)

    def client(self, step: Step, client: RegionClient) -> None:
        """The region's runnable half; from here on its answers are values."""
        self._judge_names(step, client.inputs, client.outputs)
        if client.max_batch != self._manifest.max_batch:
            raise self._error(f"a batch of {client.max_batch}, the manifest says {self._manifest.max_batch}", f"{step.region}.json")
        self._key_bytes |= client.key_sizes()
        if sum(self._key_bytes.values()) > MOST_KEY_BYTES:
            raise self._error(f"evaluation keys of more than {MOST_KEY_BYTES} bytes", f"{step.region}.json")
        self._origins |= dict.fromkeys(step.outputs, frozenset([_ANSWER]))

    def finish(self) -> tuple[Keyword, ...]:
        """The inputs that requests tell the server in clear, all public; what else they show is what the manifest declares."""
        manifest, found = self._manifest, tuple(self._shown)
        if self._terms.promise.needs_encryption:
            told = dict.fromkeys((*manifest.reveals, *found))
            if told and not self._terms.promise.may_reveal:
                raise ProtocolError(f"'{manifest.name}' reveals {', '.join(told)}: not under policy '{self._terms.policy}'")
            if told and all(spec.name != "sample" for spec in manifest.inputs):
                raise self._error("what reveals has an input called sample, whose noise is judged")
            if set(found) != set(manifest.reveals):
                said = ", ".join(manifest.reveals) or "nothing"
                raise ProtocolError(f"'{manifest.name}' reveals {', '.join(found) or 'nothing'}, its manifest says {said}")
        return tuple(spec.keyword for spec in manifest.inputs if spec.name in self._clear)

    def _judge_names(self, step: Step, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        for plan, found in ((step.inputs, inputs), (step.outputs, outputs)):
            if found != plan:
                raise self._error(f"region '{step.region}': the plan says {plan}, its file {found}")

    def _error(self, reason: str, file: str = "") -> ProtocolError:
        return ProtocolError(f"{self._folder / 'client' / file if file else self._folder}: {reason}")


def _numbers(spec: Input) -> int:
    """Entries of an input for one picture."""
    return math.prod(size for size in spec.shape if isinstance(size, int))
