"""What a report says in sentences: what the server gets, how safe it is, and how far results can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from hecompile.artifact import Input, Manifest
from hecompile.ir.signature import text_of
from hecompile.report.tables import RegionRow

__all__ = [
    "documents", "headline", "input_text", "lead", "margin_text", "proof_text", "reveals_text", "security_text", "shape_text",
]  # fmt: skip

PROBABLE = "decrypts wrongly with probability below 2^-40 in a run"  # docs/cryptography.md, section 5
SAMPLER = "he-diffusion"  # the policy whose artifacts have no network
DOCUMENTS = {  # what explains the proofs of a backend
    "bfv": ("docs/cryptography.md, sections 3 and 5", "docs/security-parameters.md"),
    "ckks": ("docs/ckks.md", "docs/threat-model.md, what changes under ckks"),
    "sampler_step": ("docs/he-diffusion.md", "docs/cryptography.md, section 3"),
    "concrete": ("docs/concrete.md", "docs/security-parameters.md"),
}


def shape_text(shape: Sequence[int | str]) -> str:
    """`B x 4 x 64 x 64`, B being the batch."""
    return " x ".join(map(str, shape)) or "one number"


def headline(manifest: Manifest, layers: int) -> str:
    """The one sentence on top of an artifact's report."""
    what = "a sampler's step" if manifest.policy == SAMPLER else f"{_layers(layers)} of {manifest.name}"
    if not manifest.encrypted:
        return f"A simulation of {manifest.name}: nothing is encrypted"
    if manifest.reveals:
        return f"A server computes {what} on ciphertexts, and parts of the values are revealed to it"
    return f"A server computes {what}, and sees ciphertexts only"


def lead(manifest: Manifest, rounds: int) -> str:
    """What follows the headline: who can read what, and who does what in one step."""
    secret = ", ".join(text_of(spec.keyword) for spec in manifest.inputs if not spec.public) or "its inputs"
    step = f"A step takes {rounds:,} requests in a row; everything else runs at the client, between them."
    step = step if rounds != 1 else "A step takes one request; everything else runs at the client."
    if not manifest.encrypted:
        return f"An encrypted artifact would hide {secret} from the server. {step}"
    partly = ", but for the parts that are revealed" if manifest.reveals else ""
    return f"Only the client can read {secret} and everything computed from them{partly}. {step}"


def reveals_text(manifest: Manifest) -> str:
    """What is revealed, in one line: the values themselves are listed where there is room."""
    count = len(manifest.reveals)
    return f"Parts of {count} values are" if count != 1 else "A part of one value is"


def _layers(count: int) -> str:
    return "one layer" if count == 1 else f"{count:,} layers"


def input_text(spec: Input, manifest: Manifest, told: bool) -> str:
    """What the server gets of one input. `told`: whether any request tells public values."""
    once = ", once in a run," if spec.per_run else ""
    if spec.public:
        sent = "requests contain it, or what follows from it" if told else "the server may know it, but no request contains it"
        return f"public: {sent}"
    if not manifest.encrypted:
        return f"sent as it is{once} since this is a simulation"
    partly = any(reveal.split(":")[0] == spec.name for reveal in manifest.reveals)
    shown = "; the declared part of it is revealed" if partly else ""
    return f"ciphertexts{once} with fresh randomness in every request{shown}"


def margin_text(row: RegionRow) -> str:
    """How far a request's results are from being decrypted wrongly."""
    kinds = _proof_kinds(row)
    if not kinds:
        return f"declared: {row.proof}" if row.proof else "approximate, within the error that was predicted" if row.backend else ""
    spare = max(row.budget_bits - row.noise_bits, 0.0)
    bits = f"{spare:.1f} bits to spare" if spare >= 0.05 else "less than 0.1 bits to spare"
    texts = []
    if "worst-case" in kinds:
        texts.append(f"worst case proved, {bits}")
    if "probabilistic" in kinds:
        texts.append(PROBABLE)
    return "; ".join(texts)


def proof_text(rows: Sequence[RegionRow]) -> list[str]:
    """What is proved of the results of all requests, a sentence each."""
    kinds = {kind for row in rows for kind in row.proof.split(", ")}
    texts = []
    if "worst-case" in kinds:
        texts.append(
            "Worst case proved: whatever is encrypted and whatever randomness is drawn, the noise in every ciphertext stays below "
            "the limit up to which decryption is exact. Bits to spare are log2 of that limit over the largest noise."
        )
    if "probabilistic" in kinds:
        texts.append(
            "Proved but for a probability: the noise depends on random numbers that the client draws. With probability below 2^-40 "
            "any result of a run of up to 2^35.5 coefficients is wrong; 50 steps of Stable Diffusion 1.5 have 2^34.5."
        )
    if any(row.layers and not row.proof for row in rows):
        texts.append(
            "Without a proof: these results are approximate by design, and their error was predicted when the model was compiled."
        )
    if any("p_error" in row.proof for row in rows):
        texts.append("Declared: the circuits' parameters keep the probability of a wrong result below the number p_error.")
    if texts:
        texts.append(
            "Proofs are checked when an artifact is compiled. Of an artifact that somebody else compiled, these are its own words; "
            "a client checks its parameters against its own table when it loads it."
        )
    return texts


def security_text(manifest: Manifest, rows: Sequence[RegionRow]) -> str:
    """How hard it is to read what the server gets, and whether results are right, in one sentence."""
    if not manifest.encrypted:
        return "No security at all: a simulation sends its values as they are."
    known = [row.classical_bits for row in rows if row.classical_bits]
    asked = min([manifest.security_bits, *map(int, known)])
    power = f"{min(known):.0f}" if len(known) == len(rows) > 0 else f"{asked}"
    text = f"At least {asked} bits of security: the best known attack on what the server gets takes some 2^{power} steps"
    if rows and all(_proof_kinds(row) for row in rows):
        text += ", and results are proved to decrypt correctly"
    return f"{text}{', but for what is revealed' if manifest.reveals else ''}."


def _proof_kinds(row: RegionRow) -> list[str]:
    """The proofs of a request that bound its noise."""
    return [kind for kind in row.proof.split(", ") if kind in ("worst-case", "probabilistic")]


def documents(rows: Sequence[RegionRow]) -> list[str]:
    """Where the proofs of these requests are written down."""
    names = dict.fromkeys(row.backend for row in rows if row.backend)
    known = [document for name in names for document in DOCUMENTS.get(name, DOCUMENTS.get(name.split("_")[0], ()))]
    return list(dict.fromkeys([*known, "docs/threat-model.md"]))
