"""What a person asks the page to draw, and why it is refused where it cannot be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import pydantic

from hecompile.errors import HecompileError
from hecompile.wording import in_words

__all__ = [
    "GUIDANCE",
    "LONGEST_BODY",
    "LONGEST_PROMPT",
    "POLICIES",
    "SEEDS",
    "STEPS",
    "PolicyName",
    "RefusedError",
    "Wish",
    "read_drawing",
    "read_wish",
]

PolicyName = Literal["strict", "min-distortion"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
LONGEST_PROMPT = 200  # characters
LONGEST_BODY = 4096  # bytes of a request to the page
STEPS = (1, 25)
GUIDANCE = (1.0, 10.0)
SEEDS = (0, 2**32 - 1)


class RefusedError(HecompileError):
    """What was asked for cannot be drawn, for a reason that the message says. `status` is the HTTP status that fits."""

    def __init__(self, message: str, status: int = 422) -> None:
        self.status = status
        super().__init__(message)


class _Fields(pydantic.BaseModel):
    """The JSON object that the page sends."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[str, pydantic.Field(max_length=LONGEST_PROMPT)]
    policy: PolicyName
    steps: Annotated[int, pydantic.Field(ge=STEPS[0], le=STEPS[1])]
    guidance: Annotated[float, pydantic.Field(ge=GUIDANCE[0], le=GUIDANCE[1], allow_inf_nan=False)]
    seed: Annotated[int, pydantic.Field(ge=SEEDS[0], le=SEEDS[1])] | None = None


class _Drawing(pydantic.BaseModel):
    """The JSON object by which the page asks more about a drawing."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    drawing: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{32}$")]


@dataclass(frozen=True, repr=False)
class Wish:
    """One picture that is to be drawn. `seed` is None where the noise comes from bits that nobody knows."""

    prompt: str
    policy: PolicyName
    steps: int
    guidance: float
    seed: int | None


EXPECTED = {
    "prompt": f"the caption is a text of 1 to {LONGEST_PROMPT} characters",
    "policy": f"the policy is {in_words(POLICIES, 'or')}",
    "steps": f"steps is a whole number from {STEPS[0]} to {STEPS[1]}",
    "guidance": f"guidance is a number from {GUIDANCE[0]:g} to {GUIDANCE[1]:g}",
    "seed": f"the seed is a whole number from {SEEDS[0]} to {SEEDS[1]}",
}


def read_drawing(body: bytes) -> str:
    """The number of a drawing that a request's body holds as JSON. Raises `RefusedError`."""
    try:
        return _Drawing.model_validate_json(body).drawing
    except pydantic.ValidationError:
        raise RefusedError("the request names no drawing", 400) from None


def read_wish(body: bytes) -> Wish:
    """The wish that a request's body holds as JSON. The prompt is never part of an error.

    Raises:
        RefusedError: names everything that is wrong.
    """
    try:
        fields = _Fields.model_validate_json(body)
    except pydantic.ValidationError as error:
        places = [entry["loc"][0] if entry["loc"] else "" for entry in error.errors(include_input=False, include_url=False)]
        if "" in places:
            raise RefusedError("the request is no JSON object", 400) from None
        reasons = [EXPECTED.get(str(place), f"the field {str(place)[:40]!r} is not known") for place in dict.fromkeys(places)]
        raise RefusedError("; ".join(reasons)) from None
    prompt = " ".join(fields.prompt.split())
    if not prompt or not prompt.isprintable():
        raise RefusedError("type a caption first" if not prompt else "the caption has characters that cannot be shown")
    if fields.policy == "strict" and fields.seed is None:
        raise RefusedError(f"under strict {EXPECTED['seed']}")
    if fields.policy != "strict" and fields.seed is not None:
        raise RefusedError(
            f"under {fields.policy} a seed cannot be chosen: a few entries in the clear would give it away, and the noise with it"
        )
    return Wish(prompt, fields.policy, fields.steps, fields.guidance, fields.seed)
