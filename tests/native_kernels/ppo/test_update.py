"""Gradients and whole updates against Stable-Baselines3's PPO.train() on the same samples."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger

from native_kernels import _native
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings, Rollout, UpdateReport

Make = Callable[..., PPO]
Weights = Callable[[PPO], NDArray[np.float32]]


def relative(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Norm of the difference over the norm of the reference, in float64."""
    difference = ours.astype(np.float64) - theirs
    return float(np.linalg.norm(difference) / np.linalg.norm(theirs.astype(np.float64)))


def rollout_of(model: PPO, shape: PolicyShape, steps: int, environments: int) -> Rollout:
    """Samples as the policy would give them, its log-probabilities and values a little stale."""
    random = np.random.default_rng(3)
    leading = (steps, environments)

    def normal(*more: int, scale: float = 1.0) -> NDArray[np.float32]:
        return (random.normal(size=(*leading, *more)) * scale).astype(np.float32)

    observations = normal(shape.observation_size)
    with torch.no_grad():
        flat = torch.tensor(observations.reshape(-1, shape.observation_size))
        distribution = model.policy.get_distribution(flat)
        torch.manual_seed(5)
        actions = distribution.sample()
        log_probs = distribution.log_prob(actions).numpy().reshape(leading)
        values = model.policy.predict_values(flat).numpy().reshape(leading)
    return Rollout(
        observations,
        actions.numpy().reshape(*leading, *([-1] if shape.distribution == "gaussian" else [])),
        log_probs + normal(scale=0.15),
        values + normal(scale=0.3),
        normal(scale=3.0) + np.float32(0.5),
        values + normal(scale=2.0),
    )


def fill_buffer(model: PPO, rollout: Rollout) -> None:
    steps, environments = rollout.returns.shape
    buffer = RolloutBuffer(
        steps,
        model.observation_space,
        model.action_space,
        device="cpu",
        n_envs=environments,
    )
    buffer.observations[:] = rollout.observations
    buffer.actions[:] = rollout.actions.reshape(buffer.actions.shape)
    for name in ("log_probs", "values", "advantages", "returns"):
        getattr(buffer, name)[:] = getattr(rollout, name)
    buffer.full = True
    model.rollout_buffer = buffer


class Recorder(Logger):
    def __init__(self) -> None:
        super().__init__(folder=None, output_formats=[])
        self.seen: dict[str, float] = {}

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        self.seen[key] = float(value)


def train(
    model: PPO,
    rollout: Rollout,
    order: NDArray[np.int64],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, float]:
    """SB3's train() with its minibatches in the given order; what it logged."""
    fill_buffer(model, rollout)
    passes = iter(order)
    monkeypatch.setattr(np.random, "permutation", lambda n: next(passes))
    recorder = Recorder()
    model.set_logger(recorder)
    model.train()
    return recorder.seen


def orders(epochs: int, samples: int) -> NDArray[np.int64]:
    random = np.random.default_rng(11)
    return np.array([random.permutation(samples) for _ in range(epochs)])


def optimizer_state(model: PPO) -> tuple[int, NDArray[np.float32], NDArray[np.float32]]:
    states = [model.policy.optimizer.state[p] for p in model.policy.parameters()]
    first, second = (
        np.concatenate([s[name].numpy().ravel() for s in states])
        for name in ("exp_avg", "exp_avg_sq")
    )
    return int(states[0]["step"]), first, second


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "clipped values": {"clip_range_vf": 0.4},
    "entropy": {"ent_coef": 0.05},
    "advantages as they are": {"normalize_advantage": False},
    "weights of the terms": {"vf_coef": 0.9, "ent_coef": 0.01, "clip_range": 0.05},
    "tight norm": {"max_grad_norm": 0.02},
    "loose norm": {"max_grad_norm": 1e6},
}


@pytest.mark.parametrize("samples", [1, 5, 64, 100, 256])
def test_the_gradient_is_that_of_torch(
    shape: PolicyShape, samples: int, make_peer: Make, weights_of: Weights
) -> None:
    model = make_peer(shape)
    rollout = rollout_of(model, shape, 64, 5)
    settings = PpoSettings(ent_coef=0.01, clip_range_vf=0.5)
    indices = np.random.default_rng(0).permutation(320)[:samples]

    ours = Ppo(shape, weights_of(model)).gradient(rollout, settings, indices)

    theirs = gradient_by_torch(model, rollout, settings, indices)
    assert relative(ours, theirs) < 1e-5


def gradient_by_torch(
    model: PPO, rollout: Rollout, settings: PpoSettings, indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The loss as the papers state it, differentiated in float64."""

    def picked(x: NDArray[Any]) -> torch.Tensor:
        return torch.tensor(x.swapaxes(0, 1).reshape(-1, *x.shape[2:])[indices])

    policy = model.policy.double()
    advantages = picked(rollout.advantages).double()
    if settings.normalize_advantage and len(indices) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    # features as they are: SB3 would make float32 of them
    features = picked(rollout.observations).double()
    distribution = policy._get_action_dist_from_latent(policy.mlp_extractor.forward_actor(features))
    values = policy.value_net(policy.mlp_extractor.forward_critic(features))
    log_probs = distribution.log_prob(picked(rollout.actions))
    entropy = distribution.entropy()
    assert entropy is not None
    ratio = torch.exp(log_probs - picked(rollout.log_probs))
    clipped = ratio.clamp(1 - settings.clip_range, 1 + settings.clip_range)
    surrogate = torch.min(advantages * ratio, advantages * clipped).mean()
    old_values = picked(rollout.values)
    change = values.flatten() - old_values
    if settings.clip_range_vf is not None:
        change = change.clamp(-settings.clip_range_vf, settings.clip_range_vf)
    error = torch.nn.functional.mse_loss(picked(rollout.returns), old_values + change)
    loss = settings.vf_coef * error - surrogate - settings.ent_coef * entropy.mean()
    gradients = torch.autograd.grad(loss, list(policy.parameters()))
    policy.float()
    return torch.cat([g.flatten() for g in gradients]).float().numpy()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("shape", [PolicyShape(4, 2), PolicyShape(3, 1, "gaussian")], ids=str)
def test_an_update_with_every_option_is_that_of_stable_baselines3(
    shape: PolicyShape,
    options: dict[str, Any],
    make_peer: Make,
    weights_of: Weights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_update(shape, options, make_peer, weights_of, monkeypatch)


def test_an_update_of_any_network_is_that_of_stable_baselines3(
    shape: PolicyShape, make_peer: Make, weights_of: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_update(shape, {"ent_coef": 0.01}, make_peer, weights_of, monkeypatch)


# Where a ReLU's input is a few 1e-8 from zero, rounding decides whether a sample's share of the
# gradient is there; with this start of the weights there is no such input.
SEED = 1


def check_update(
    shape: PolicyShape,
    options: dict[str, Any],
    make_peer: Make,
    weights_of: Weights,
    monkeypatch: pytest.MonkeyPatch,
    steps: int = 75,
    environments: int = 2,
) -> UpdateReport:
    """Weights, optimizer and log after train(); 150 samples in minibatches of 64, 64 and 22."""
    epochs = 3
    settings = replace(PpoSettings(batch_size=64, n_epochs=epochs), **options)
    model = make_peer(shape, SEED, batch_size=64, n_epochs=epochs, **options)
    rollout = rollout_of(model, shape, steps, environments)
    ppo = Ppo(shape, weights_of(model))
    order = orders(epochs, steps * environments)

    report = ppo.update(rollout, settings, order=order)

    logged = train(model, rollout, order, monkeypatch)
    theirs = weights_of(model)
    assert relative(ppo.parameters, theirs) < 1e-5
    np.testing.assert_allclose(ppo.parameters, theirs, atol=1e-5)
    step, first, second = ppo.optimizer_state
    their_step, their_first, their_second = optimizer_state(model)
    assert step == their_step == report.updates
    assert relative(first, their_first) < 1e-4
    assert relative(second, their_second) < 1e-4
    for name in (
        "policy_gradient_loss",
        "value_loss",
        "entropy_loss",
        "approx_kl",
        "clip_fraction",
        "loss",
        "explained_variance",
    ):
        expected = logged[f"train/{name}"]
        assert getattr(report, name) == pytest.approx(expected, rel=1e-4, abs=2e-6), name
    assert report.epochs == logged["train/n_updates"]
    return report


@pytest.mark.parametrize("shape", [PolicyShape(4, 2), PolicyShape(3, 1, "gaussian")], ids=str)
def test_a_default_update_of_2048_samples_is_that_of_stable_baselines3(
    shape: PolicyShape, make_peer: Make, weights_of: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_peer(shape)
    rollout = rollout_of(model, shape, 2048, 1)
    before = weights_of(model)
    ppo = Ppo(shape, before)
    order = orders(10, 2048)
    ppo.update(rollout, PpoSettings(), order=order)
    train(model, rollout, order, monkeypatch)
    theirs = weights_of(model)
    assert relative(theirs, before) > 1e-2  # it has moved
    assert relative(ppo.parameters, theirs) < 1e-5


def test_an_update_goes_on_from_the_state_of_torchs_optimizer(
    make_peer: Make, weights_of: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = PolicyShape(4, 2)
    model = make_peer(shape, n_epochs=2)
    rollout = rollout_of(model, shape, 128, 1)
    train(model, rollout, orders(2, 128), monkeypatch)
    ppo = Ppo(shape, weights_of(model))
    ppo.load_optimizer_state(*optimizer_state(model))
    order = orders(2, 128)[:, ::-1].copy()

    ppo.update(rollout, PpoSettings(n_epochs=2), order=order)

    train(model, rollout, order, monkeypatch)
    assert relative(ppo.parameters, weights_of(model)) < 1e-6
    assert ppo.optimizer_state[0] == 8


def test_it_stops_early_where_stable_baselines3_does(
    make_peer: Make, weights_of: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = PolicyShape(4, 2)
    settings = PpoSettings(learning_rate=3e-2, target_kl=0.05)
    model = make_peer(shape, learning_rate=3e-2, target_kl=0.05)
    rollout = rollout_of(model, shape, 256, 1)
    ppo = Ppo(shape, weights_of(model))
    order = orders(10, 256)

    report = ppo.update(rollout, settings, order=order)

    logged = train(model, rollout, order, monkeypatch)
    assert 0 < report.updates < 40
    assert report.updates == optimizer_state(model)[0]
    assert report.epochs == logged["train/n_updates"]
    assert report.approx_kl == pytest.approx(logged["train/approx_kl"], rel=1e-4)
    assert report.policy_gradient_loss == pytest.approx(
        logged["train/policy_gradient_loss"], rel=1e-4, abs=1e-6
    )
    assert relative(ppo.parameters, weights_of(model)) < 1e-5


def test_the_seed_gives_each_epoch_a_permutation_of_its_own() -> None:
    # advantages and returns mark the samples: with one minibatch, order cannot matter
    shape = PolicyShape(2, 2, pi=(), vf=())
    weights = np.linspace(-1, 1, shape.parameter_count).astype(np.float32)
    random = np.random.default_rng(0)

    def update(seed: int, first_epoch: int, batch_size: int) -> NDArray[np.float32]:
        ppo = Ppo(shape, weights)
        settings = PpoSettings(batch_size=batch_size, n_epochs=1)
        ppo.update(rollout, settings, seed=seed, first_epoch=first_epoch)
        return ppo.parameters

    ones = np.zeros((50, 4), np.float32)
    rollout = Rollout(
        random.normal(size=(50, 4, 2)).astype(np.float32),
        random.integers(0, 2, (50, 4)),
        ones - np.float32(0.7),
        ones,
        random.normal(size=(50, 4)).astype(np.float32),
        random.normal(size=(50, 4)).astype(np.float32),
    )
    np.testing.assert_array_equal(update(1, 0, 64), update(1, 0, 64))
    assert (update(1, 0, 64) != update(2, 0, 64)).any()
    assert (update(1, 0, 64) != update(1, 1, 64)).any()
    np.testing.assert_allclose(update(1, 0, 200), update(2, 0, 200), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("batch_size", [64, 200])
@pytest.mark.parametrize(
    "shape",
    [
        PolicyShape(4, 2),
        PolicyShape(3, 2, "gaussian", pi=(40,), vf=(20, 30), activation="relu"),
        PolicyShape(9, 3, pi=(), vf=(17, 80)),
    ],
    ids=str,
)
def test_levels_and_threads_give_the_same_bits(
    shape: PolicyShape, batch_size: int, level: str, make_peer: Make, weights_of: Weights
) -> None:
    model = make_peer(shape)
    rollout = rollout_of(model, shape, 101, 4)
    settings = PpoSettings(batch_size=batch_size, n_epochs=2, ent_coef=0.01)
    results = []
    for threads, here in ((1, "v2"), (1, level), (2, level), (3, level)):
        if here == "v2" and _native.levels.of_this_machine() == "generic":
            here = level
        _native.levels.force(here)
        ppo = Ppo(shape, weights_of(model), threads=threads)
        report = ppo.update(rollout, settings, seed=9)
        results.append((ppo.parameters, *ppo.optimizer_state, report))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("observations", np.zeros((3, 2), np.float32), "must be float32"),
        ("observations", np.zeros((3, 2, 5), np.float32), "must have 4 columns"),
        ("observations", np.full((3, 2, 4), np.inf, np.float32), "must be finite"),
        ("actions", np.zeros((3, 2), np.int32), "must be int64"),
        ("actions", np.full((3, 2), 2), "must be from 0 to 1"),
        ("actions", np.full((3, 2), -1), "must be from 0 to 1"),
        ("actions", np.zeros((2, 3), np.int64), "T and B"),
        ("advantages", np.full((3, 2), np.nan, np.float32), "must be finite"),
        ("returns", np.full((3, 2), -np.inf, np.float32), "must be finite"),
        ("values", np.zeros((3, 3), np.float32), r"\[3, 2\]"),
        ("log_probs", np.zeros((3, 2)), "must be float32"),
        ("log_probs", np.zeros((2, 3), np.float32).T, "in C order"),
    ],
)
def test_an_unfit_rollout_is_refused_and_changes_nothing(
    name: str, value: NDArray[Any], words: str
) -> None:
    shape = PolicyShape(4, 2)
    weights = np.linspace(-1, 1, shape.parameter_count).astype(np.float32)
    ppo = Ppo(shape, weights)
    zeros = np.zeros((3, 2), np.float32)
    sound = Rollout(
        np.zeros((3, 2, 4), np.float32), np.zeros((3, 2), np.int64), zeros, zeros, zeros, zeros
    )
    with pytest.raises((ValueError, TypeError), match=f"{name}: .*{words}"):
        ppo.update(replace(sound, **{name: value}), PpoSettings())
    np.testing.assert_array_equal(ppo.parameters, weights)
    assert ppo.optimizer_state[0] == 0


def test_a_gradient_beyond_float32_is_an_error_and_changes_nothing() -> None:
    shape = PolicyShape(4, 2)
    weights = np.linspace(-1, 1, shape.parameter_count).astype(np.float32)
    ppo = Ppo(shape, weights)
    zeros = np.zeros((64, 1), np.float32)
    returns = zeros.copy()
    returns[40:] = 3e38
    rollout = Rollout(
        np.ones((64, 1, 4), np.float32), np.zeros((64, 1), np.int64), zeros, zeros, zeros, returns
    )
    order = np.arange(64).reshape(1, 64)  # the first two minibatches are sound
    settings = PpoSettings(batch_size=16, n_epochs=1)
    with pytest.raises(FloatingPointError, match="gradient is not finite at step 3"):
        ppo.update(rollout, settings, order=order)
    np.testing.assert_array_equal(ppo.parameters, weights)
    step, first, second = ppo.optimizer_state
    assert step == 0
    assert not first.any()
    assert not second.any()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"batch_size": 0}, ValueError),
        ({"n_epochs": 1.5}, TypeError),
        ({"learning_rate": float("nan")}, ValueError),
        ({"clip_range": 0.0}, ValueError),
        ({"clip_range_vf": -1.0}, ValueError),
        ({"target_kl": 0.0}, ValueError),
        ({"max_grad_norm": "0.5"}, TypeError),
        ({"adam_betas": (0.9, 1.0)}, ValueError),
    ],
)
def test_unfit_settings_are_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(changes))):
        PpoSettings(**changes)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (np.zeros((1, 6), np.int64), "order: must be int64"),
        (np.full((10, 6), 6), "order: must be from 0 to 5"),
        (np.zeros((10, 6), np.int32), "order: must be int64"),
    ],
)
def test_an_unfit_order_is_refused(order: NDArray[Any], words: str) -> None:
    shape = PolicyShape(4, 2)
    ppo = Ppo(shape, np.zeros(shape.parameter_count, np.float32))
    zeros = np.zeros((3, 2), np.float32)
    rollout = Rollout(
        np.zeros((3, 2, 4), np.float32), np.zeros((3, 2), np.int64), zeros, zeros, zeros, zeros
    )
    with pytest.raises((ValueError, TypeError), match=words):
        ppo.update(rollout, PpoSettings(), order=order)
