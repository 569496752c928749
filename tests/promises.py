"""What hecompile promises, and which tests hold it to that. `docs/threat-model.md` has tables of this.

A test names the promises that it checks: `@pytest.mark.promise("same-sizes")`, or `pytestmark` for a whole file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PROMISES", "held", "table"]

ROOT = Path(__file__).parent.parent

PROMISES: dict[str, dict[str, str]] = {
    "strict": {
        "ciphertexts-only": "the server receives ciphertexts and public values, nothing else",
        "same-sizes": "traffic has the same sizes and order whatever the secret, also for zero, huge and NaN latents",
        "unrelated": "equal plaintexts give unrelated traffic; a fresh key per request, so old answers cannot be replayed",
        "record": "what reaches a server, field by field, is recorded, and changes with a decision only",
        "no-key-at-the-server": "the server's files, types and process hold no secret key",
        "evaluation-keys": "evaluation keys reach no log and no artifact; sessions have unguessable names, limits and an end",
        "own-terms": "a client refuses an artifact that is weaker than its own policy and parameter table",
        "128-bits": "128 bits of security for every ring, by a table stricter than the Homomorphic Encryption Standard's",
        "own-encryption": "our encryption is judged by SEAL, draws what it claims, and draws nothing twice",
        "exact": "answers decrypt to the exact integers: proved per layer, measured here",
        "concrete-words": "`concrete`: only words travel, and workers that fail or dawdle are replaced",
        "concrete-stacks": "`concrete_stacks`: width and noise are proved for the whole stack, and checked when it is loaded",
        "concrete-lookups": "`concrete_lookups`: one key per session; results equal their reference up to `--p-error`",
    },
    "artifact": {
        "clear-inputs": "what is told unencrypted is made of inputs that this client calls public, whatever the artifact says",
        "sampler-step": "a sampler's step, which tells its coefficients, is no region of a model",
        "argument-order": "another order of arguments makes no secret public",
        "own-backends": "an artifact cannot make a client use a backend that its caller did not name",
        "specifications": "Concrete gets a specification made of judged numbers, never the artifact's text",
        "graphs": "client regions read no files, have no control flow, and cannot fail by what a secret is",
        "denormals": "denormal numbers take no longer than others",
        "labels": "a label beyond its table is clipped, and reported after the run",
        "documents": "every number and name of a document is judged, every key stands once, and memory is bounded",
        "named-servers": "a saved folder may name a server, which is shown nothing of the environment; it cannot lower a policy",
        "digest": "what comes from a URL is used only if it is what the digest says, file by file",
        "files": "only regular files are read, up to a size, and no link is followed",
    },
    "server": {
        "replies": "a reply has the length that is known beforehand: bombs, endless or wrong ones end at the first byte too many",
        "total-time": "a request ends within its total time, however slowly a server answers",
        "refusals": "redirects, cookies, encodings and rubbish are refused with a reason that can be printed",
        "retries": "a busy or restarted server loses no run: the same bytes are sent again, as late as it asks",
        "greeting": "if the server has another artifact or version, loading a model says so",
        "access": "passwords and tokens are in no message, and travel on no plain connection to another machine",
    },
    "strangers": {
        "slow-senders": "slow bodies, silent connections and unread answers cost those who open them, and end; logs stay short",
        "no-work-for-the-gone": "nothing is computed for clients that are gone, or twice for a request that is sent twice",
        "session-room": "keys are judged when they come, their room is held before, and idle sessions make room for new ones",
        "hanging-up": "`concrete`: hanging up ends one's own evaluation only, and a spare worker answers the next",
        "concrete-keys": "`concrete_lookups`: keys are judged against the circuit's specification when they come",
        "behind-a-proxy": "behind the shipped nginx, limits by address go by what the proxy saw; `/metrics` is closed to strangers",
        "workers": "`--ray`: workers get payloads as bytes, after the wire check, and no other object that a client made",
        "loopback": "`--ray`: the cluster that it starts listens on loopback alone, and lets nobody join without its token",
        "tokens": "a server with tokens answers nobody else, and compares them in constant time",
    },
    "client": {
        "forks": "processes that were forked share no plaintext, no key and no connection",
        "threads": "threads that share a model take turns, or are refused at once",
        "descriptors": "nothing that is open grows with use",
        "own-folders": "only a folder that is an artifact in every file is replaced or removed",
        "whole-files": "files are written whole or not at all: signals, full disks and links leave nothing half-written behind",
    },
    "ckks": {
        "bounded-errors": "encrypted results stay within the predicted error of the plain slot program",
        "told-at-the-end": "values far out of range are reported after a call's last message, without the value",
        "reading-library": "what comes from elsewhere is loaded by SEAL 4.4 only: a server of `ckks` regions never loads TenSEAL",
        "damaged-keys": "damaged keys, keys of another session, missing keys and weak rings are refused, naming region or layer",
    },
    "he-diffusion": {
        "sampler-bytes": "every byte is a public number, a declared entry at its declared bits, or ciphertext",
        "sampler-sizes": "sizes depend on the artifact alone; with dynamic masks also on the declared support's",
        "sampler-budget": "a run never reveals more entries than its budget; masks together reveal what the manifest says",
        "sampler-reveals": "reveals whole, at full precision, above the budget or undeclared are refused, naming the edge",
        "noise": "initial noise has 128 bits; integer seeds and torch's generators are refused",
    },
    "min-distortion": {
        "undeclared": "inputs, outputs and the prompt's own values are not revealed undeclared; nothing is revealed whole or exact",
        "budget": "the budget holds over the union of all reveals of a value",
        "declared": "requests reveal what the manifest declares, no more; other clients refuse the artifact",
        "runs": "runs start from noise of 128 bits",
    },
}


def held() -> dict[str, list[str]]:
    """The tests that name each promise: `file::test`, or the file alone where all of its tests do."""
    tests: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        place = path.relative_to(ROOT).as_posix()
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                for key in _named(*statement.decorator_list):
                    tests.setdefault(key, []).append(f"{place}::{statement.name}")
            elif isinstance(statement, ast.Assign) and any(
                getattr(target, "id", "") == "pytestmark" for target in statement.targets
            ):
                for key in _named(statement.value):
                    tests.setdefault(key, []).append(place)
    return tests


def _named(*expressions: ast.expr) -> Iterator[str]:
    """The arguments of `pytest.mark.promise` within expressions."""
    for expression in expressions:
        for node in ast.walk(expression):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "promise":
                yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def table(section: str, tests: dict[str, list[str]]) -> str:
    """One section as a table: each promise, and its tests by file."""
    rows = ["| promise | checked by |", "|---|---|"]
    for key, promise in PROMISES[section].items():
        files: dict[str, list[str]] = {}
        for test in tests.get(key, []):
            place, _, name = test.partition("::")
            files.setdefault(place, []).extend([name.removeprefix("test_")] if name else [])
        cells = [f"`{place}`" + ": ".join(["", *([", ".join(names)] if names else [])]) for place, names in files.items()]
        rows.append(f"| {promise} | {'; '.join(cells)} |")
    return "\n".join(rows) + "\n"
