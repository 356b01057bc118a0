"""What a result must contain follows from the model."""

from __future__ import annotations

import pytest

from provider_image.wire import TensorSpec, WireError, result_specs


def test_updates_keep_their_names_and_statistics_become_moments() -> None:
    weight, mean, count = (
        TensorSpec("float32", (4, 2)),
        TensorSpec("float64", (4,)),
        TensorSpec("float64", ()),
    )
    assert result_specs(
        {
            "policy/w": weight,
            "extra/log_ent_coef": weight,
            "optimizer/policy/0/exp_avg": weight,
            "normalizer/observation/mean": mean,
            "normalizer/return/count": count,
            "server/adam/mean/w": weight,
        }
    ) == {
        "policy/w": weight,
        "extra/log_ent_coef": weight,
        "optimizer/policy/0/exp_avg": weight,
        "moments/observation/mean": mean,
        "moments/return/count": count,
    }


def test_a_tensor_that_belongs_in_no_model_is_refused() -> None:
    with pytest.raises(WireError, match="tensor replay/observations belongs in no model"):
        result_specs({"replay/observations": TensorSpec("float32", (1,))})
