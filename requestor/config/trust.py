"""The section `trust`: what is done about providers that may lie."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from requestor.config.values import Bool, NonNegativeWhole, Number, Positive, PositiveWhole, Section


class ScreeningConfig(Section):
    """`trust.screening`: what an update must be like, beside the others of its round.

    What is off is rejected before the merge; it costs its provider standing. `norm_z`: the most
    robust standard deviations by which the logarithm of an update's length may be above the
    cohort's median; null: any. `divergence`: the most that an update may move the policy, in
    multiples of the cohort's median; null: not measured. `samples`: on so many observations it is
    measured, on this machine. `copies`: reject updates that are nothing, an echo, or a copy.
    `speed`: the most steps per second, in multiples of the fastest other provider's; null: any.
    """

    norm_z: Positive | None = 8.0
    divergence: Positive | None = 20.0
    samples: Annotated[PositiveWhole, Field(le=65_536)] = 128
    copies: Bool = True
    speed: Positive | None = 20.0


class AuditsConfig(Section):
    """`trust.audits`: secretly drawn items are done again and compared bit for bit.

    `first`: the chance that an item of an unknown node is drawn; it falls as its record grows,
    to `least`; 0 and 0 turn audits off. `by`: who does drawn work again: this machine, other
    providers with equal bits, or (auto) they only where this machine makes other bits than the
    sender's. `bought`: the most with which an item is drawn that a provider has to do again, since
    that is paid for like any other. Late copies of an item are compared besides. `when`: the merge
    waits for the verdict, or goes on meanwhile; `on_fraud` says what becomes of rounds that were
    merged with a fake before it was found out: they are marked, or done again. `refuse_bills`:
    nothing more is paid to who was convicted.
    """

    first: Annotated[Number, Field(ge=0, le=1)] = 1.0
    least: Annotated[Number, Field(ge=0, le=1)] = 0.03
    by: Literal["auto", "requestor", "providers"] = "auto"
    bought: Annotated[Number, Field(ge=0, le=1)] = 0.1
    when: Literal["before_merge", "background"] = "before_merge"
    on_fraud: Literal["mark", "redo"] = "mark"
    refuse_bills: Bool = True

    @model_validator(mode="after")
    def _is_falling(self) -> Self:
        if self.least > self.first:
            raise ValueError(
                f"least {self.least:g} is above first {self.first:g}: the rate falls as a "
                "provider's record grows; lower least, or raise first"
            )
        return self


class TrustConfig(Section):
    """`trust`: screening, audits, and for how many rounds what audits need is kept.

    `keep_rounds`: of so many last rounds the models are kept, so that `derl-request audit` can do
    their items again; null: of all. `keep_gib`: of fewer where they take more of the disk: a
    round is a model, and what its clients keep (`federation.replay: kept` is much).
    """

    screening: ScreeningConfig = ScreeningConfig()
    audits: AuditsConfig = AuditsConfig()
    keep_rounds: Annotated[NonNegativeWhole, Field(le=10**9)] | None = None
    keep_gib: Annotated[Positive, Field(le=1_000_000)] = 2.0

    @model_validator(mode="after")
    def _can_go_back(self) -> Self:
        if self.audits.on_fraud == "redo" and self.keep_rounds == 0:
            raise ValueError(
                "audits.on_fraud redo needs what rounds began with, and keep_rounds 0 keeps none; "
                "use keep_rounds: null, or on_fraud: mark"
            )
        return self
