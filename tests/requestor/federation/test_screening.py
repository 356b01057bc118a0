"""Every kind of wrong update is rejected with a message that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_image.wire import Tensors, TensorSpec
from requestor.federation.merging.merger import Merger
from requestor.federation.rounds import ClientUpdate, FederationSettings, close_round, plan_round
from requestor.federation.screening import Assignment, UpdateRejected, screen_update

STEPS = 64
ENVS = 4
MODEL_SPECS = {
    "policy/net.weight": TensorSpec("float32", (2, 3)),
    "extra/log_ent_coef": TensorSpec("float32", (1,)),
    "optimizer/policy/0/step": TensorSpec("float32", ()),
    "normalizer/observation/mean": TensorSpec("float64", (3,)),
    "normalizer/observation/var": TensorSpec("float64", (3,)),
    "normalizer/observation/count": TensorSpec("float64", ()),
    "normalizer/return/mean": TensorSpec("float64", ()),
    "normalizer/return/var": TensorSpec("float64", ()),
    "normalizer/return/count": TensorSpec("float64", ()),
}
ASSIGNMENT = Assignment(MODEL_SPECS, STEPS, ENVS)

Change = Callable[[Tensors], object]


def sound_update() -> Tensors:
    """An update that an honest provider could send."""
    return {
        "policy/net.weight": np.full((2, 3), 0.25, np.float32),
        "extra/log_ent_coef": np.array([-0.5], np.float32),
        "optimizer/policy/0/step": np.array(7, np.float32),
        "moments/observation/mean": np.array([1.0, -2.0, 0.0]),
        "moments/observation/var": np.array([0.0, 1.0, 2.0]),
        "moments/observation/count": np.array(68.0),  # 64 steps and the first reset of each of 4
        "moments/return/mean": np.array(1.0),
        "moments/return/var": np.array(0.5),
        "moments/return/count": np.array(64.0),
    }


def test_an_honest_update_passes() -> None:
    screen_update(sound_update(), STEPS, ASSIGNMENT)


def test_a_model_without_normaliser_needs_no_moments() -> None:
    specs = {name: spec for name, spec in MODEL_SPECS.items() if "normalizer" not in name}
    update = {name: t for name, t in sound_update().items() if "moments" not in name}
    screen_update(update, STEPS, Assignment(specs, STEPS, ENVS))


WRONG: list[tuple[str, Change, str]] = [
    ("missing", lambda t: t.pop("policy/net.weight"), "missing: policy/net.weight"),
    ("missing moments", lambda t: t.pop("moments/return/var"), "missing: moments/return/var"),
    (
        "surplus",
        lambda t: t.update({"policy/more": np.zeros(1, np.float32)}),
        "not expected: policy/more",
    ),
    (
        "normaliser instead of moments",
        lambda t: t.update({"normalizer/return/mean": t.pop("moments/return/mean")}),
        "missing: moments/return/mean; not expected: normalizer/return/mean",
    ),
    (
        "dtype",
        lambda t: t.update({"policy/net.weight": np.zeros((2, 3))}),
        "policy/net.weight is float64",
    ),
    (
        "shape",
        lambda t: t.update({"policy/net.weight": np.zeros((3, 2), np.float32)}),
        r"policy/net.weight is float32\[3, 2\], expected float32\[2, 3\]",
    ),
    (
        "scalar shape",
        lambda t: t.update({"moments/return/count": np.array([64.0])}),
        r"moments/return/count is float64\[1\]",
    ),
    (
        "NaN",
        lambda t: t["policy/net.weight"].__setitem__((1, 2), np.nan),
        "policy/net.weight has values that are not finite",
    ),
    (
        "infinity",
        lambda t: t["extra/log_ent_coef"].__setitem__(0, -np.inf),
        "extra/log_ent_coef has values that are not finite",
    ),
    (
        "NaN moments",
        lambda t: t["moments/observation/mean"].__setitem__(1, np.nan),
        "moments/observation/mean has values that are not finite",
    ),
    (
        "huge count",
        lambda t: t.update({"moments/observation/count": np.array(1e18)}),
        r"observation moments claim 1e\+18 samples where 68 were ordered",
    ),
    (
        "count without resets",
        lambda t: t.update({"moments/observation/count": np.array(64.0)}),
        "observation moments claim 64 samples where 68 were ordered",
    ),
    (
        "broken count",
        lambda t: t.update({"moments/return/count": np.array(64.5)}),
        "return moments claim 64.5 samples where 64 were ordered",
    ),
    (
        "negative variance",
        lambda t: t["moments/observation/var"].__setitem__(0, -1e-9),
        "observation moments have a negative variance",
    ),
    (
        "negative scalar variance",
        lambda t: t.update({"moments/return/var": np.array(-1.0)}),
        "return moments have a negative variance",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
def test_a_wrong_update_is_rejected_by_name(change: Change, message: str) -> None:
    update = sound_update()
    change(update)
    with pytest.raises(UpdateRejected, match=message):
        screen_update(update, STEPS, ASSIGNMENT)


@pytest.mark.parametrize("steps", [0, STEPS - 1, STEPS + 1, 10**12])
def test_other_steps_than_ordered_are_rejected(steps: int) -> None:
    with pytest.raises(UpdateRejected, match=f"{steps} steps were done where 64 were ordered"):
        screen_update(sound_update(), steps, ASSIGNMENT)


@given(st.sampled_from(sorted(sound_update())), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_no_array_may_hold_what_is_not_finite(name: str, value: float) -> None:
    update = sound_update()
    update[name] = np.full_like(update[name], value)
    with pytest.raises(UpdateRejected, match=name):
        screen_update(update, STEPS, ASSIGNMENT)


@pytest.mark.parametrize(
    ("name", "size", "passes"),
    [
        ("policy/net.weight", 9999.0, True),
        ("policy/net.weight", -10001.0, False),
        ("policy/net.weight", 3.75e37, False),
        ("extra/log_ent_coef", -49.0, True),
        ("extra/log_ent_coef", 51.0, False),  # e ** (51 * rounds) is soon no float32 any more
        ("optimizer/policy/0/step", 1e19, True),
        ("optimizer/policy/0/step", 3e38, False),
    ],
)
def test_no_number_may_move_absurdly_far(name: str, size: float, passes: bool) -> None:
    update = sound_update()
    update[name] = np.full_like(update[name], size)
    if passes:
        screen_update(update, STEPS, ASSIGNMENT)
    else:
        with pytest.raises(UpdateRejected, match=f"{name} moves a number by more than"):
            screen_update(update, STEPS, ASSIGNMENT)


@pytest.mark.parametrize(
    ("name", "size"),
    [("mean", 1.01e100), ("mean", -1.7e308), ("var", 1.02e200), ("var", 1.7e308)],
)
@pytest.mark.parametrize("kind", ["observation", "return"])
def test_moments_that_could_not_be_merged_are_rejected(kind: str, name: str, size: float) -> None:
    update = sound_update()
    update[f"moments/{kind}/{name}"] = np.full_like(update[f"moments/{kind}/{name}"], size)
    with pytest.raises(UpdateRejected, match=f"the {kind} moments are of numbers beyond"):
        screen_update(update, STEPS, ASSIGNMENT)


EXTREMES = {
    "policy/": 1e4,
    "extra/": 50.0,
    "optimizer/": 9e19,
    "moments/observation/mean": 1e100,
    "moments/observation/var": 1e200,
    "moments/return/mean": 1e100,
    "moments/return/var": 1e200,
}


@given(st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=9, max_size=9), min_size=1))
def test_whatever_passes_can_be_merged_round_after_round(choices: list[list[int]]) -> None:
    model: Tensors = {name: np.zeros(spec.shape, spec.dtype) for name, spec in MODEL_SPECS.items()}
    for round_index in range(20):
        plan = plan_round(FederationSettings(0, 20, len(choices), STEPS, 1), round_index)
        updates = []
        for item, signs in zip(plan.items, choices, strict=True):
            update = sound_update()
            for sign, name in zip(signs, sorted(update), strict=True):
                size = next((EXTREMES[at] for at in EXTREMES if name.startswith(at)), None)
                if size is not None:
                    sign = abs(sign) if name.endswith("/var") else sign
                    update[name] = np.full_like(update[name], sign * size)
            screen_update(update, STEPS, ASSIGNMENT)
            updates.append(ClientUpdate(item, update))
        model = close_round(plan, model, updates, Merger()).candidate
    assert all(np.isfinite(tensor).all() for tensor in model.values())


@pytest.mark.parametrize(("steps", "fits"), [(4, True), (2000, True), (3, False), (2001, False)])
def test_whole_episodes_may_have_fewer_steps_than_the_most(steps: int, fits: bool) -> None:
    specs = {"policy/w": TensorSpec("float32", (2,))}
    assignment = Assignment(specs, local_steps=2000, n_envs=1, episodes=4)
    update = {"policy/w": np.zeros(2, np.float32)}
    if fits:
        screen_update(update, steps, assignment)
    else:
        with pytest.raises(UpdateRejected, match="steps were done where 2000 were ordered"):
            screen_update(update, steps, assignment)
