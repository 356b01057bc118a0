"""The orders: what a worker is asked to do, as one JSON file of at most 256 KiB each.

An order and the files it names are all a worker knows. `encode_order` writes the canonical
form, whose SHA-256 (`order_digest`) binds a result to its order. Read `results.py` next.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, TypeAlias, get_args

import msgspec
from msgspec import Meta

from provider_image.wire.errors import WireError
from provider_image.wire.specs import CompressionSpec, EnvironmentSpec, LearnerSpec, StateRules

FORMAT_VERSION = 3
MAX_ORDER_BYTES = 256 * 1024
MAX_FILE_BYTES = 1 << 31
MAX_SEED = 2**31 - 1
MAX_LINKS = 64
"""So many links a hash chain has at most; where there are more updates, a link is several."""

MAX_PROBED_UPDATES = 1024
"""So many updates one probe measures at most."""

FileName: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\Z")]
Sha256: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Seed: TypeAlias = Annotated[int, Meta(ge=0, lt=MAX_SEED)]
RunId: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,200}\Z")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=10**12)]
FormatVersion: TypeAlias = Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)]


class FileRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file beside the order: its name (no folder), SHA-256 as lower-case hex, and size."""

    name: FileName
    sha256: Sha256
    bytes: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]


def client_has_state(rules: StateRules, compression: CompressionSpec | None) -> bool:
    """True where a client carries something of its own from round to round."""
    return rules.client_has_state or (compression is not None and compression.feedback)


class _Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the orders: immutable, unknown fields are errors."""


def _check_settled(learner: LearnerSpec) -> None:
    if learner.learner == "auto":
        raise ValueError(
            "learner.learner is auto, which may only stand where a model is made; give what the "
            "model's metadata names, native or sb3"
        )


class InitialiseOrder(_Order, frozen=True, kw_only=True, tag="initialise"):
    """Make a fresh model from `seed` and write it as a model bundle to `output`."""

    format: FormatVersion = FORMAT_VERSION
    run_id: RunId
    seed: Seed
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules = StateRules()
    output: FileName


class LinkRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The links of a hash chain that an order does: those after link `first`, up to link `last`.

    `state` is what stood after link `first`, `state_link` that link and `state_previous` the one
    before it, by which the state is checked; a range from 0 begins with the model and has none of
    the three. `state_output` is where to leave what stands after link `last`.
    """

    first: Annotated[int, Meta(ge=0, lt=MAX_LINKS)] = 0
    last: Annotated[int, Meta(ge=1, le=MAX_LINKS)]
    state: FileRef | None = None
    state_link: Sha256 | None = None
    state_previous: Sha256 | None = None
    state_output: FileName | None = None

    def __post_init__(self) -> None:
        if self.first >= self.last:
            raise ValueError(f"links.first {self.first} is not before links.last {self.last}")
        for name in ("state", "state_link", "state_previous"):
            if (self.first == 0) != (getattr(self, name) is None):
                raise ValueError(f"links.{name} must be given exactly when links.first is not 0")


class GradientSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client of the algorithm `pg` estimates: the policy gradient, from whole episodes.

    `is_difference` asks for what the gradient has changed by since the parameters that the model
    has as `server/previous/...` (PAGE), instead of the gradient itself.
    """

    episodes: Annotated[int, Meta(ge=1, le=1024)]
    is_difference: bool = False


class TrainOrder(_Order, frozen=True, kw_only=True, tag="train"):
    """Train the given model for exactly `local_steps` environment steps and write the update.

    `links` asks for a part of the work only, to settle a dispute; the result is then that of the
    part, its update what was trained until `links.last`, and no client state is written.

    `gradient` is what algorithm `pg` is asked for, and no other; the update is then an estimate,
    and `local_steps` the most steps that its episodes may have.

    `steps_done` and `steps_total` count the steps of one client over the whole run; they drive
    the schedules. `compression` says how the update is written (None: as it is). `client_state`
    is what this client kept from its last round, if a rule or the compression's feedback says so;
    `client_state_output` is where to leave it for the next.
    """

    format: FormatVersion = FORMAT_VERSION
    run_id: RunId
    round: Count
    client: Count
    seed: Seed
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules = StateRules()
    compression: CompressionSpec | None = None
    local_steps: Annotated[int, Meta(ge=1, le=10**9)]
    steps_done: Count
    steps_total: Annotated[int, Meta(ge=1, le=10**12)]
    model: FileRef
    client_state: FileRef | None = None
    output: FileName
    client_state_output: FileName | None = None
    links: LinkRange | None = None
    gradient: GradientSpec | None = None

    def __post_init__(self) -> None:
        _check_settled(self.learner)
        left = None if self.links is None else self.links.state_output
        if left is not None and left in (self.output, self.client_state_output):
            raise ValueError(f"links.state_output and another output are the same file {left}")
        if (self.gradient is not None) != (self.learner.algorithm == "pg"):
            raise ValueError("gradient must be given exactly when learner.algorithm is pg")
        if self.steps_done + self.local_steps > self.steps_total:
            raise ValueError(
                f"steps_done {self.steps_done} + local_steps {self.local_steps} is more than "
                f"steps_total {self.steps_total}"
            )
        has_state = client_has_state(self.rules, self.compression)
        if has_state != (self.client_state_output is not None):
            raise ValueError(
                "client_state_output must be given exactly when rules.optimizer or rules.replay "
                "is 'kept', rules.drift is 'scaffold', or compression has feedback"
            )
        if self.client_state is not None and not has_state:
            raise ValueError("client_state is given, but no rule says 'kept'")
        if self.output == self.client_state_output:
            raise ValueError(f"output and client_state_output are the same file {self.output}")


class InnerSteps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Episodes that the server plays itself between its steps (SCSG; Fan et al. 2021).

    At most `most` times: play `episodes`, correct the direction by what the gradient has changed
    by, take a step; and leave early once the mean importance ratio is `ratio_bound` off 1.
    """

    most: Annotated[int, Meta(ge=1, le=10_000)]
    episodes: Annotated[int, Meta(ge=1, le=1024)]
    ratio_bound: Annotated[float, Meta(gt=0)] = 0.005


class RefineOrder(_Order, frozen=True, kw_only=True, tag="refine"):
    """The server's own training in a round of algorithm `pg`: steps of Adam along a direction.

    `direction` is a bundle of the policy's tensors: the merged estimates, in the direction of
    ascent. `progress` is how much of the run is done, for the learning rate. Without `inner` one
    step is taken along it. `output` receives the whole model. Only ever given to a worker on the
    requestor's own machine.
    """

    format: FormatVersion = FORMAT_VERSION
    run_id: RunId
    round: Count
    seed: Seed
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules = StateRules()
    model: FileRef
    direction: FileRef
    progress: Annotated[float, Meta(ge=0, le=1)] = 0.0
    inner: InnerSteps | None = None
    output: FileName

    def __post_init__(self) -> None:
        _check_settled(self.learner)
        if self.learner.algorithm != "pg":
            raise ValueError(f"algorithm {self.learner.algorithm} is not refined, pg is")


class EvaluateOrder(_Order, frozen=True, kw_only=True, tag="evaluate"):
    """Run one episode per seed, each from `env.reset(seed=…)`, with the given model."""

    format: FormatVersion = FORMAT_VERSION
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules = StateRules()
    model: FileRef
    seeds: Annotated[tuple[Seed, ...], Meta(min_length=1, max_length=10_000)]
    deterministic: bool = True
    output: FileName

    def __post_init__(self) -> None:
        _check_settled(self.learner)


class ProbeOrder(_Order, frozen=True, kw_only=True, tag="probe"):
    """Measure how far each of N updates moves the policy, on observations that no update chose.

    The observations are the first `samples` that the given model meets in environments that were
    reset with the given seeds and are stepped side by side, with the noise of training and the
    normaliser as received: step by step, in each step by seed. `updates` is a bundle with the one
    tensor `updates`, float32[N, P]: the policy's arrays in the order of their sorted names. Only
    ever given to a worker on the requestor's own machine.
    """

    format: FormatVersion = FORMAT_VERSION
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules = StateRules()
    model: FileRef
    updates: FileRef
    seeds: Annotated[tuple[Seed, ...], Meta(min_length=1, max_length=64)]
    samples: Annotated[int, Meta(ge=1, le=65_536)]
    output: FileName

    def __post_init__(self) -> None:
        _check_settled(self.learner)


class ExportOrder(_Order, frozen=True, kw_only=True, tag="export"):
    """Write the model as an SB3 zip, and its normaliser as SB3's VecNormalize pickle.

    Only ever given to a worker on the requestor's own machine: both outputs are formats that
    can execute code when read.
    """

    format: FormatVersion = FORMAT_VERSION
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules = StateRules()
    seed: Seed
    model: FileRef
    output: FileName
    normalizer_output: FileName | None = None

    def __post_init__(self) -> None:
        _check_settled(self.learner)
        if self.output == self.normalizer_output:
            raise ValueError(f"output and normalizer_output are the same file {self.output}")


class ImportOrder(_Order, frozen=True, kw_only=True, tag="import"):
    """Read the weights of an SB3 zip, and only those, into a model bundle: export's counterpart.

    Only ever given to a worker on the requestor's own machine.
    """

    format: FormatVersion = FORMAT_VERSION
    run_id: RunId
    environment: EnvironmentSpec
    learner: LearnerSpec
    archive: FileRef
    output: FileName


Order: TypeAlias = (
    InitialiseOrder
    | TrainOrder
    | RefineOrder
    | EvaluateOrder
    | ProbeOrder
    | ExportOrder
    | ImportOrder
)

_DECODER: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)


class _Preamble(msgspec.Struct, frozen=True):
    type: str
    format: int


_PREAMBLE_DECODER = msgspec.json.Decoder(_Preamble)
_ORDER_TYPES = tuple(str(order.__struct_config__.tag) for order in get_args(Order))


def encode_order(order: Order) -> bytes:
    """The canonical JSON of an order: UTF-8, keys sorted, no white space, all fields present.

    Raises WireError if the order breaks a limit, so that no such order leaves the house.
    """
    try:
        data = msgspec.json.encode(order, order="sorted")
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"order cannot be written as JSON: {error}") from error
    decode_order(data)
    return data


def decode_order(data: bytes) -> Order:
    """Read an order of at most 256 KiB; WireError if anything about it breaks FORMAT.md."""
    if len(data) > MAX_ORDER_BYTES:
        raise WireError(f"order: {len(data)} bytes, the limit is {MAX_ORDER_BYTES}")
    try:
        preamble = _PREAMBLE_DECODER.decode(data)
        if preamble.type not in _ORDER_TYPES:
            raise WireError(f"order: type {preamble.type[:40]!r}, known are {_ORDER_TYPES}")
        if preamble.format != FORMAT_VERSION:
            raise WireError(
                f"order: format {preamble.format}, this worker reads format {FORMAT_VERSION}; "
                "use an image of the same DeRL version as the requestor"
            )
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"order: {error}") from error


def order_digest(order: Order) -> str:
    """SHA-256 of the canonical form, lower-case hex."""
    return hashlib.sha256(encode_order(order)).hexdigest()


def base_digest(order: TrainOrder) -> str:
    """The digest of the whole work that an order with `links` asks a part of; its own without."""
    return order_digest(msgspec.structs.replace(order, links=None))
