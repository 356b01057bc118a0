"""The names by which a config calls rules, pre-aggregators and server optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from requestor.federation.merging.centre_rules import CenteredClipping, FedPgFilter, GeometricMedian
from requestor.federation.merging.coordinate_rules import (
    CoordinateMedian,
    TrimmedMean,
    WeightedMean,
)
from requestor.federation.merging.judged import Evolutionary, PerformanceWeighted, TransferBest
from requestor.federation.merging.merger import Merger
from requestor.federation.merging.pre_aggregators import (
    AdaptiveRobustClipping,
    Bucketing,
    ClippedMean,
    NearestNeighbourMixing,
    NormClipping,
)
from requestor.federation.merging.selection_rules import (
    Bulyan,
    Krum,
    MinimumDiameterAverage,
    MultiKrum,
)
from requestor.federation.merging.server_optimizers import (
    Adagrad,
    Adam,
    Momentum,
    Nesterov,
    Sgd,
    Yogi,
)

RULES: Mapping[str, type[Any]] = {
    "mean": WeightedMean,
    "coordinate_median": CoordinateMedian,
    "trimmed_mean": TrimmedMean,
    "krum": Krum,
    "multi_krum": MultiKrum,
    "bulyan": Bulyan,
    "geometric_median": GeometricMedian,
    "minimum_diameter": MinimumDiameterAverage,
    "centered_clipping": CenteredClipping,
    "norm_clipping": ClippedMean,
    "fedpg_br": FedPgFilter,
}

JUDGED: Mapping[str, type[Any]] = {
    "performance": PerformanceWeighted,
    "transfer_best": TransferBest,
    "evolutionary": Evolutionary,
}

PRE_AGGREGATORS: Mapping[str, type[Any]] = {
    "nearest_neighbour_mixing": NearestNeighbourMixing,
    "bucketing": Bucketing,
    "norm_clipping": NormClipping,
    "arc": AdaptiveRobustClipping,
}

OPTIMIZERS: Mapping[str, type[Any]] = {
    "sgd": Sgd,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "adam": Adam,
    "yogi": Yogi,
}

DEFAULT_ROBUST = Merger(TrimmedMean())
"""What merges where some providers may lie, and the config does not say how.

Why this one: `requestor/studies/STUDY.md`.
"""


def parameters_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of what can be set of a rule, a pre-aggregator or an optimizer."""
    return tuple(field.name for field in fields(kind))


def names_of(merger: Merger) -> str:
    """Return the names of a merger's steps in order, as a person would list them."""
    catalogues = (PRE_AGGREGATORS, RULES, JUDGED)
    known = {kind: name for names in catalogues for name, kind in names.items()}
    steps = (*merger.before, merger.judged or merger.rule)
    return " + ".join(known[type(step)] for step in steps)
