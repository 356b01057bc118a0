"""FedProx's term and SCAFFOLD's correction: autograd of the penalised loss, and closed forms."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO

from native_kernels import _native
from native_kernels.ppo import Drift, PolicyShape, Ppo, PpoSettings, Rollout

Make = Callable[..., PPO]
Weights = Callable[[PPO], NDArray[np.float32]]
Floats = NDArray[np.float32]

SHAPES = [PolicyShape(4, 3, pi=(16,), vf=(12, 8)), PolicyShape(3, 2, "gaussian", pi=(9,), vf=(7,))]
SETTINGS = PpoSettings(
    learning_rate=3e-3, batch_size=32, n_epochs=2, max_grad_norm=0.4, normalize_advantage=False
)
LEVELS = ["generic", "v2", "avx2", "avx512"]


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rollout_for(shape: PolicyShape, steps: int = 80) -> Rollout:
    """Samples of one environment, as if an old policy had given them."""
    actions = np.random.default_rng(1).integers(0, shape.action_size, (steps, 1))
    return Rollout(
        normal(2, steps, 1, shape.observation_size),
        actions if shape.distribution == "categorical" else normal(3, steps, 1, shape.action_size),
        normal(4, steps, 1) * 0.2 - 1.5,
        normal(5, steps, 1),
        normal(6, steps, 1),
        normal(7, steps, 1),
    )


def policy_for(shape: PolicyShape) -> Ppo:
    return Ppo(shape, 0.3 * normal(8, shape.parameter_count))


def order_for(steps: int = 80) -> NDArray[np.int64]:
    random = np.random.default_rng(9)
    return np.array([random.permutation(steps) for _ in range(SETTINGS.n_epochs)])


def update_by_torch(model: PPO, rollout: Rollout, drift: Drift) -> Floats:
    """Every minibatch's loss with its penalty differentiated by torch; the weights that result."""
    policy = model.policy
    parameters = list(policy.parameters())
    optimizer = torch.optim.Adam(parameters, lr=SETTINGS.learning_rate, eps=1e-5)
    zeros = np.zeros(sum(p.numel() for p in parameters), np.float32)
    anchor = torch.tensor(zeros if drift.anchor is None else drift.anchor)
    correction = torch.tensor(zeros if drift.correction is None else drift.correction)
    columns = [
        torch.tensor(array[:, 0])
        for array in (
            rollout.observations, rollout.actions, rollout.log_probs, rollout.advantages,
            rollout.returns,
        )
    ]  # fmt: skip
    for epoch in order_for():
        for first in range(0, 80, SETTINGS.batch_size):
            chosen = epoch[first : first + SETTINGS.batch_size]
            observations, actions, old_log_probs, advantages, returns = (c[chosen] for c in columns)
            values, log_probs, _ = policy.evaluate_actions(observations, actions)
            ratio = torch.exp(log_probs - old_log_probs)
            surrogate = torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
            error = torch.nn.functional.mse_loss(returns, values.flatten())
            flat = torch.cat([p.flatten() for p in parameters])
            penalty = drift.proximal / 2 * (flat - anchor).square().sum() + correction @ flat
            optimizer.zero_grad()
            torch.autograd.backward(0.5 * error - surrogate + penalty)
            torch.nn.utils.clip_grad_norm_(parameters, SETTINGS.max_grad_norm)
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in parameters]).numpy()


@pytest.mark.parametrize("kind", ["fedprox", "scaffold", "both"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_update_is_torchs_under_the_penalised_loss(
    shape: PolicyShape, kind: str, make_peer: Make, weights_of: Weights
) -> None:
    model = make_peer(shape)
    before = weights_of(model)
    count = shape.parameter_count
    drift = Drift(
        proximal=0.0 if kind == "scaffold" else 0.7,
        anchor=None if kind == "scaffold" else before + 0.1 * normal(10, count),
        correction=None if kind == "fedprox" else 0.05 * normal(11, count),
    )
    ppo = Ppo(shape, before)
    ppo.update(rollout_for(shape), SETTINGS, order=order_for(), drift=drift)
    without = Ppo(shape, before)
    without.update(rollout_for(shape), SETTINGS, order=order_for())

    theirs = update_by_torch(model, rollout_for(shape), drift)

    assert np.linalg.norm(ppo.parameters - theirs) < 1e-5 * np.linalg.norm(theirs)
    assert np.linalg.norm(without.parameters - theirs) > 1e-3 * np.linalg.norm(theirs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_has_the_terms_added(shape: PolicyShape) -> None:
    ppo, rollout = policy_for(shape), rollout_for(shape)
    anchor, correction = normal(12, shape.parameter_count), normal(13, shape.parameter_count)
    indices = np.arange(50)
    plain = ppo.gradient(rollout, SETTINGS, indices).astype(np.float64)
    found = ppo.gradient(rollout, SETTINGS, indices, Drift(0.3, anchor, correction))
    # d/dy of mu/2 * |y - w|^2 + <c, y>
    wanted = plain + 0.3 * (ppo.parameters.astype(np.float64) - anchor) + correction
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_no_drift_is_an_update_as_ever() -> None:
    shape = SHAPES[0]
    found = []
    for drift in (None, Drift(), Drift(correction=np.zeros(shape.parameter_count, np.float32))):
        ppo = policy_for(shape)
        report = ppo.update(rollout_for(shape), SETTINGS, seed=3, drift=drift)
        found.append((ppo.parameters.tobytes(), *(a.tobytes() for a in ppo.optimizer_state[1:])))
        assert report.updates == 6  # 2 passes over minibatches of 32, 32 and 16
    assert found[0] == found[1] == found[2]


def test_the_proximal_term_tends_to_nothing_and_to_a_standstill() -> None:
    shape = SHAPES[0]
    distances, plain = {}, policy_for(shape)
    plain.update(rollout_for(shape), SETTINGS, seed=3)
    for proximal in (1e-7, 1.0, 1e6):
        ppo = policy_for(shape)
        anchor = ppo.parameters
        for _ in range(30):
            ppo.update(rollout_for(shape), SETTINGS, seed=3, drift=Drift(proximal, anchor))
        distances[proximal] = float(np.linalg.norm(ppo.parameters - anchor))
    assert distances[1e-7] > 2 * distances[1.0] > 20 * distances[1e6]
    near = policy_for(shape)
    near.update(rollout_for(shape), SETTINGS, seed=3, drift=Drift(1e-7, near.parameters))
    np.testing.assert_allclose(near.parameters, plain.parameters, atol=1e-6)


def test_the_sum_of_gradients_is_that_of_the_steps_without_the_drift() -> None:
    shape, rollout = SHAPES[1], rollout_for(SHAPES[1])
    settings = PpoSettings(batch_size=80, n_epochs=1, normalize_advantage=False)
    ppo = policy_for(shape)
    alone = ppo.gradient(rollout, settings, np.arange(80))
    correction = normal(14, shape.parameter_count)
    ppo.update(rollout, settings, order=np.arange(80)[None], drift=Drift(correction=correction))
    np.testing.assert_array_equal(ppo.gradient_sum, alone)
    total = np.zeros(shape.parameter_count)
    for _ in range(3):  # a step each, from where the last one left off
        total += ppo.gradient(rollout, settings, np.arange(80))
        ppo.update(rollout, settings, order=np.arange(80)[None], drift=Drift(correction=correction))
        total -= ppo.gradient_sum
    np.testing.assert_array_equal(total, 0)
    ppo.update(rollout, settings, order=np.arange(80)[None])
    assert not ppo.gradient_sum.any()


@pytest.fixture
def any_level() -> Iterator[None]:
    before = _native.levels.in_force()
    yield
    _native.levels.force(before)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_level_gives_the_same_bits(shape: PolicyShape, any_level: None) -> None:
    best = LEVELS.index(_native.levels.of_this_machine())
    count = shape.parameter_count
    drift = Drift(0.3, normal(12, count), 0.1 * normal(13, count))
    found = set()
    for level in LEVELS[min(best, 1) : best + 1]:
        _native.levels.force(level)
        for threads in (1, 3):
            ppo = Ppo(shape, 0.3 * normal(8, count), threads=threads)
            ppo.update(rollout_for(shape), SETTINGS, seed=3, drift=drift)
            found.add((ppo.parameters.tobytes(), ppo.gradient_sum.tobytes()))
    assert len(found) == 1


def test_what_is_no_drift_is_refused() -> None:
    shape = SHAPES[0]
    count = shape.parameter_count
    weights = np.zeros(count, np.float32)
    with pytest.raises(ValueError, match="anchor: must be given exactly when proximal"):
        Drift(0.1)
    with pytest.raises(ValueError, match="anchor: must be given exactly when proximal"):
        Drift(anchor=weights)
    with pytest.raises(ValueError, match="proximal: must be finite and at least 0"):
        Drift(-1.0, weights)
    ppo = policy_for(shape)
    before = ppo.parameters
    for wrong, error, message in (
        (weights[1:].copy(), ValueError, f"must have {count} entries"),
        (np.zeros(count), TypeError, "must be float32"),
        (weights + np.float32(np.nan), ValueError, "every entry must be finite"),
        ([0.0], TypeError, "must be float32"),
        (np.zeros((count, 1), np.float32), ValueError, "must be float32"),
    ):
        for drift in (Drift(0.1, wrong), Drift(correction=wrong)):  # type: ignore[arg-type]
            with pytest.raises(error, match=message):
                ppo.update(rollout_for(shape), SETTINGS, drift=drift)
            with pytest.raises(error, match=message):
                ppo.gradient(rollout_for(shape), SETTINGS, np.arange(3), drift)
    np.testing.assert_array_equal(ppo.parameters, before)


def test_an_update_that_breaks_off_changes_nothing() -> None:
    shape = SHAPES[0]
    ppo = policy_for(shape)
    before, state = ppo.parameters, ppo.optimizer_state
    far = np.full(shape.parameter_count, 3e38, np.float32)
    with pytest.raises(FloatingPointError):
        ppo.update(rollout_for(shape), SETTINGS, drift=Drift(1.0, -far, far))
    np.testing.assert_array_equal(ppo.parameters, before)
    np.testing.assert_array_equal(ppo.optimizer_state[1], state[1])
