"""What a bundle says about itself: the JSON that travels beside its tensors.

Everything here is claimed by whoever wrote the file and is for display and for matching a result
to its order; nothing in it decides. Read `tensors.py` next: the file format itself.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from provider_image.wire.errors import WireError
from provider_image.wire.orders import (
    FORMAT_VERSION,
    MAX_LINKS,
    Count,
    FormatVersion,
    RunId,
    Sha256,
)
from provider_image.wire.specs import Algorithm, LearnerName, LearnerSpec
from provider_image.wire.tensors import Bundle

_Text = Annotated[str, Meta(max_length=2000)]
_Seconds = Annotated[float, Meta(ge=0)]
_ShortText = Annotated[str, Meta(max_length=200)]

KeptVersion: TypeAlias = Annotated[int, Meta(ge=2, le=FORMAT_VERSION)]
"""Of what a run keeps: models and clients' states are the same in format 2, so old runs go on."""


class _Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of bundle metadata: immutable, unknown fields are errors."""


class ModelMetadata(_Metadata, frozen=True, kw_only=True, tag="model"):
    """Beside a model: what it was made for; the spaces are their `repr`, cut at 2000 letters.

    `learner` is what shall execute the orders of its run, `learner_reason` one line on why.
    """

    format: KeptVersion = FORMAT_VERSION
    algorithm: Algorithm
    learner: LearnerName = "sb3"
    learner_reason: _Text = ""
    environment_id: _ShortText
    observation_space: _Text
    action_space: _Text


class TrainResult(_Metadata, frozen=True, kw_only=True, tag="train_result"):
    """Beside a client update. `metrics` has SB3's logger names; non-finite values are left out.

    `links` is the hash chain of the work, or the part of it that was ordered: see FORMAT.md.
    """

    format: FormatVersion = FORMAT_VERSION
    order_sha256: Sha256
    steps: Count
    episodes: Count
    metrics: Annotated[dict[_ShortText, float], Meta(max_length=200)] = {}
    wall_seconds: _Seconds
    cpu_seconds: _Seconds
    packages: Annotated[dict[_ShortText, _ShortText], Meta(max_length=100)] = {}
    links: Annotated[tuple[Sha256, ...], Meta(max_length=MAX_LINKS)] = ()


class RefineResult(_Metadata, frozen=True, kw_only=True, tag="refine_result"):
    """Beside a refined model: how many steps of Adam were taken, and what was played for them."""

    format: FormatVersion = FORMAT_VERSION
    order_sha256: Sha256
    inner_steps: Count
    episodes: Count
    steps: Count


class ProbeResult(_Metadata, frozen=True, kw_only=True, tag="probe_result"):
    """Beside the tensor `divergences` float64[N], one per update, not negative.

    `measure`: `kl` is the mean Kullback-Leibler divergence, in nats, of the moved policy from the
    given one (on-policy learners); `actions` the share of observations with another greedy action
    (DQN), or the mean distance of an action's components, without noise, in half widths of the
    action space (SAC, TD3, DDPG). 1e9 stands for every larger value, and for an update after which
    the policy gives values that are not finite.
    """

    format: FormatVersion = FORMAT_VERSION
    order_sha256: Sha256
    measure: Literal["kl", "actions"]
    samples: Count


class ProbedUpdates(_Metadata, frozen=True, kw_only=True, tag="updates"):
    """Beside the tensor `updates` float32[N, P] that a probe order names."""

    format: FormatVersion = FORMAT_VERSION


class Direction(_Metadata, frozen=True, kw_only=True, tag="direction"):
    """Beside the policy's tensors that a refine order names as its direction."""

    format: FormatVersion = FORMAT_VERSION


class EvaluateResult(_Metadata, frozen=True, kw_only=True, tag="evaluate_result"):
    """Beside the tensors `returns` float64[E] and `lengths` int64[E], in the seeds' order."""

    format: FormatVersion = FORMAT_VERSION
    order_sha256: Sha256
    episodes: Count


class ClientStateMetadata(_Metadata, frozen=True, kw_only=True, tag="client_state"):
    """Beside what a client keeps from one round to the next; the requestor knows its layout."""

    format: KeptVersion = FORMAT_VERSION
    run_id: RunId
    client: Count
    round: Count
    algorithm: Algorithm


class LinkState(_Metadata, frozen=True, kw_only=True, tag="link_state"):
    """Beside what stands after link `link` of the chain of the work `base_sha256`."""

    format: FormatVersion = FORMAT_VERSION
    base_sha256: Sha256
    link: Annotated[int, Meta(ge=1, le=MAX_LINKS)]


Metadata: TypeAlias = (
    ModelMetadata
    | TrainResult
    | ProbeResult
    | ProbedUpdates
    | Direction
    | RefineResult
    | EvaluateResult
    | ClientStateMetadata
    | LinkState
)
MetadataT = TypeVar(
    "MetadataT",
    ModelMetadata,
    TrainResult,
    RefineResult,
    ProbeResult,
    ProbedUpdates,
    Direction,
    EvaluateResult,
    ClientStateMetadata,
    LinkState,
)


def settled(learner: LearnerSpec, model: ModelMetadata) -> LearnerSpec:
    """The specification with which a model is trained and played: `auto` is what it names."""
    if learner.learner != "auto":
        return learner
    return msgspec.structs.replace(learner, learner=model.learner)


def decode_metadata(bundle: Bundle, metadata_type: type[MetadataT]) -> MetadataT:
    """The bundle's JSON as the given struct; WireError if it is not one."""
    try:
        return msgspec.json.decode(bundle.metadata, type=metadata_type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{bundle.source}: metadata: {error}") from error
