"""`RunConfig`: everything that describes one run.

Its parts are in `sections.py`, `trust.py` and `algorithms.py`, checks that span several of them in
`checks.py`, reading files in `loading.py`, conversion into orders in `orders.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from requestor.config.algorithms import AnyAlgorithm
from requestor.config.checks import contradictions
from requestor.config.sections import (
    EnvConfig,
    EvaluationConfig,
    FederationConfig,
    GolemConfig,
)
from requestor.config.trust import TrustConfig
from requestor.config.values import NonNegativeWhole, Section

MAX_SEED = 2**31 - 2


class RunConfig(Section):
    """One run. A missing name becomes `<algo>-<environment id>`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = ""
    seed: Annotated[NonNegativeWhole, Field(le=MAX_SEED)] = 0
    env: EnvConfig
    algo: AnyAlgorithm
    federation: FederationConfig = FederationConfig()
    golem: GolemConfig = GolemConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    trust: TrustConfig = TrustConfig()

    @model_validator(mode="before")
    @classmethod
    def _name_it(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("name"):
            return data
        algorithm, environment = _text(data.get("algo"), "name"), _text(data.get("env"), "id")
        if not algorithm or not environment:
            return data
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{algorithm.lower()}-{environment}")
        return {**data, "name": name[:100]}

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        found = contradictions(self.algo, self.env, self.federation, self.golem)
        if found:
            raise PydanticCustomError("across_sections", "sections contradict", {"found": found})
        return self


def _text(section: Any, key: str) -> str | None:
    value = section.get(key) if isinstance(section, dict) else getattr(section, key, None)
    return value if isinstance(value, str) else None
