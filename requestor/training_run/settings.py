"""What defines a run, and how it ended: plain data between the command line and the loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from provider_image.wire import CompressionSpec, EnvironmentSpec, LearnerSpec, StateRules
from requestor.errors import DerlError
from requestor.evaluation.judge import Evaluation
from requestor.federation.cohort_screening import Limits
from requestor.federation.gate import NotWorseGate, OpenGate
from requestor.federation.merging.merger import Merger
from requestor.federation.rounds import FederationSettings
from requestor.marketplace.ports import Terms
from requestor.training_run.auditing.options import AuditOptions
from requestor.training_run.checkpoints import BestModel
from requestor.training_run.dispatching.dispatcher import DispatchOptions


@dataclass(frozen=True)
class EvaluationSettings:
    """How models are judged."""

    episodes: int
    final_episodes: int
    every_rounds: int
    target_return: float | None
    deterministic: bool
    gate: NotWorseGate | OpenGate


@dataclass(frozen=True)
class ScreeningSettings:
    """How a round's updates are looked at beside each other.

    `probe_samples`: on so many observations it is measured how far updates move the policy; 0:
    this is not measured.
    """

    limits: Limits
    probe_samples: int


@dataclass(frozen=True)
class RunSettings:
    """Everything that defines a run, free of files and network."""

    name: str
    federation: FederationSettings
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules
    merger: Merger
    evaluation: EvaluationSettings
    dispatch: DispatchOptions
    order_timeout_seconds: float
    terms: Terms
    compression: CompressionSpec | None = None
    audits: AuditOptions = field(default_factory=AuditOptions)
    screening: ScreeningSettings | None = None


@dataclass(frozen=True)
class RunSummary:
    """How a run ended."""

    outcome: str
    rounds: int
    total_steps: int
    final: Evaluation | None
    best: BestModel
    error: DerlError | None
