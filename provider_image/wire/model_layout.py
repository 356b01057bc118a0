"""Which tensors a model consists of, and which a train result must therefore contain.

Model: `policy/…`, `extra/…`, `optimizer/…`, `control/…` (float32) and
`normalizer/<what>/{mean,var,count}` (float64). Result: the same float32 tensors as updates
(trained minus received), and `moments/<what>/…`, the statistics of this round's samples alone, in
place of `normalizer/<what>/…`. `FORMAT.md` says what each tensor means. On the provider's side read
`provider_image/round_runner.py` next; on the requestor's, `requestor/federation`.
"""

from __future__ import annotations

from collections.abc import Mapping

from provider_image.wire.errors import WireError
from provider_image.wire.tensors import TensorSpec

POLICY_PREFIX = "policy/"
OPTIMIZER_PREFIX = "optimizer/"
CONTROL_PREFIX = "control/"
UPDATED_PREFIXES = (POLICY_PREFIX, "extra/", OPTIMIZER_PREFIX, CONTROL_PREFIX)
NORMALIZER_PREFIX = "normalizer/"
MOMENTS_PREFIX = "moments/"
SERVER_PREFIX = "server/"
"""What the requestor's own training keeps in the model; no result has any of it."""


def result_specs(model_specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """What a train result must contain, from the specifications of the model that was sent.

    Raises WireError if `model_specs` has a tensor that belongs in no model.
    """
    specs: dict[str, TensorSpec] = {}
    for name, spec in model_specs.items():
        if name.startswith(UPDATED_PREFIXES):
            specs[name] = spec
        elif name.startswith(SERVER_PREFIX):
            continue
        elif name.startswith(NORMALIZER_PREFIX):
            specs[MOMENTS_PREFIX + name.removeprefix(NORMALIZER_PREFIX)] = spec
        else:
            raise WireError(f"model: tensor {name} belongs in no model")
    return specs
