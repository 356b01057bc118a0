"""`federation.drift`: what holds clients near each other while they learn."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator

from requestor.config.values import Positive, Section

DEFAULT_PROXIMAL = 0.01


class DriftConfig(Section):
    """`federation.drift`: `none`, `fedprox`, `{fedprox: 0.01}` or `scaffold`; or written out.

    fedprox adds `proximal` * (y - w) to every gradient of a client, w being the round's model and y
    its own (Li et al. 2020); papers try 0.001 to 1. scaffold corrects gradients by how a client's
    differ from all clients' (Karimireddy et al. 2020): the model and the client's state carry as
    many numbers more as the policy has, both ways. Derived for plain gradient descent; under Adam
    it is a heuristic.
    """

    name: Literal["fedprox", "scaffold"]
    proximal: Positive | None = None


def _drift(value: Any) -> Any:
    """Accept a name, `none` too, and `{fedprox: <proximal>}`; write out fedprox's default."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        return value
    if set(value) == {"fedprox"}:
        value = {"name": "fedprox", "proximal": value["fedprox"]}
    if value == {"name": "none"}:
        return None
    if value.get("name") == "fedprox":
        return {"proximal": DEFAULT_PROXIMAL} | value
    return value


Drift: TypeAlias = Annotated[DriftConfig | None, BeforeValidator(_drift)]
