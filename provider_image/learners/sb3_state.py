"""A model's state as tensors, in and out: policy, extras, optimizers, control variates, normaliser.

Target networks and `log_std` are in SB3's policy; SAC's entropy coefficient and its optimizer are
not, and are read here beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecNormalize

from provider_image.learners.base import LearnerRefused
from provider_image.learners.optimizer_bounds import bounded
from provider_image.learners.sb3_environments import load_normalizer, normalizer_tensors
from provider_image.wire import (
    CONTROL_PREFIX,
    OPTIMIZER_PREFIX,
    POLICY_PREFIX,
    StateRules,
    Tensors,
    check_tensors,
    specs_of,
)

ENTROPY_NAME = "extra/log_ent_coef"


def model_tensors(
    model: BaseAlgorithm, rules: StateRules, normalizer: VecNormalize | None
) -> Tensors:
    """Everything a model bundle contains under these rules; copies."""
    tensors = _policy_tensors(model)
    entropy = _entropy_parameter(model)
    if entropy is not None:
        tensors[ENTROPY_NAME] = _to_numpy(entropy)
    if rules.optimizer == "merged":
        tensors |= optimizer_tensors(model)
    if rules.drift == "scaffold":
        tensors |= fresh_controls(model)
    return tensors | normalizer_tensors(normalizer)


def trainable_parameters(model: BaseAlgorithm) -> dict[str, torch.nn.Parameter]:
    """The policy's parameters that an optimizer steps, by name: no target networks."""
    stepped = {id(p) for one in optimizers(model).values() for p, _ in parameters_of(one)}
    return {name: p for name, p in model.policy.named_parameters() if id(p) in stepped}


def fresh_controls(model: BaseAlgorithm) -> Tensors:
    """`control/<parameter>` float32, all 0."""
    return {
        CONTROL_PREFIX + name: np.zeros(tuple(parameter.shape), np.float32)
        for name, parameter in trainable_parameters(model).items()
    }


def link_tensors(model: BaseAlgorithm) -> Tensors:
    """What a link of the hash chain covers beside moments; see `FORMAT.md`, section 6.

    An optimizer whose state has no names in the format (SGD) is left out.
    """
    tensors = _policy_tensors(model)
    entropy = _entropy_parameter(model)
    if entropy is not None:
        tensors[ENTROPY_NAME] = _to_numpy(entropy)
    kinds = (torch.optim.Adam, torch.optim.RMSprop, RMSpropTFLike)
    if all(isinstance(optimizer, kinds) for optimizer in optimizers(model).values()):
        tensors |= optimizer_tensors(model)
    return tensors


def load_model(
    model: BaseAlgorithm, tensors: Tensors, rules: StateRules, normalizer: VecNormalize | None
) -> None:
    """Put received tensors into a freshly built model; WireError if they are not exactly its."""
    check_tensors(tensors, specs_of(model_tensors(model, rules, normalizer)), source="model")
    load_policy(model, tensors)
    entropy = _entropy_parameter(model)
    if entropy is not None:
        entropy.data = torch.from_numpy(np.array(tensors[ENTROPY_NAME]))
    if rules.optimizer == "merged":
        load_optimizers(model, tensors)
    load_normalizer(normalizer, tensors)


def load_policy(model: BaseAlgorithm, tensors: Tensors) -> None:
    """Set the policy from `policy/…`, already checked; other tensors are passed over."""
    model.policy.load_state_dict(
        {
            name.removeprefix(POLICY_PREFIX): torch.from_numpy(np.array(tensor))
            for name, tensor in tensors.items()
            if name.startswith(POLICY_PREFIX)
        }
    )


def optimizer_tensors(model: BaseAlgorithm) -> Tensors:
    """`optimizer/<optimizer>/<index>/<field>` float32; a fresh optimizer's state is made up."""
    tensors: Tensors = {}
    for name, optimizer in optimizers(model).items():
        for index, (parameter, group) in enumerate(parameters_of(optimizer)):
            state = optimizer.state.get(parameter) or _fresh_state(optimizer, parameter, group)
            for field, value in state.items():
                tensors[f"{OPTIMIZER_PREFIX}{name}/{index}/{field}"] = (
                    _to_numpy(value)
                    if isinstance(value, torch.Tensor)
                    else np.array(value, np.float32)
                )
    return tensors


def load_optimizers(model: BaseAlgorithm, tensors: Tensors) -> None:
    """Set every optimizer's state from `optimizer_tensors`-like tensors, already checked.

    They may be a stranger's, or an average with a stranger's: no number is taken that a run of the
    optimizer could not have led to, see `optimizer_bounds`.
    """
    for name, optimizer in optimizers(model).items():
        state: dict[int, dict[str, torch.Tensor | int]] = {}
        for index, (parameter, group) in enumerate(parameters_of(optimizer)):
            fresh = _fresh_state(optimizer, parameter, group)
            stem = f"{OPTIMIZER_PREFIX}{name}/{index}/"
            held = bounded({field: tensors[stem + field] for field in fresh}, group)
            state[index] = {
                field: _restored(field, value, held[field]) for field, value in fresh.items()
            }
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _restored(field: str, fresh: torch.Tensor | int, received: Any) -> torch.Tensor | int:
    value = np.asarray(np.rint(received)) if field == "step" else received
    return torch.from_numpy(value) if isinstance(fresh, torch.Tensor) else int(value)


def _policy_tensors(model: BaseAlgorithm) -> Tensors:
    tensors: Tensors = {}
    for name, parameter in model.policy.state_dict().items():
        if parameter.dtype != torch.float32:
            raise LearnerRefused(
                f"policy parameter {name} is {parameter.dtype}; only float32 can be averaged"
            )
        tensors[POLICY_PREFIX + name] = _to_numpy(parameter)
    return tensors


def _entropy_parameter(model: BaseAlgorithm) -> torch.Tensor | None:
    return model.log_ent_coef if isinstance(model, SAC) else None


def optimizers(model: BaseAlgorithm) -> dict[str, torch.optim.Optimizer]:
    """Every optimizer under its name in a bundle."""
    if isinstance(model, SAC | TD3):
        found: dict[str, torch.optim.Optimizer] = {
            "actor": model.actor.optimizer,
            "critic": model.critic.optimizer,
        }
        if isinstance(model, SAC) and model.ent_coef_optimizer is not None:
            found["ent_coef"] = model.ent_coef_optimizer
        return found
    return {"policy": model.policy.optimizer}


def parameters_of(
    optimizer: torch.optim.Optimizer,
) -> list[tuple[torch.Tensor, dict[str, Any]]]:
    """The parameters that an optimizer steps, each with its group's settings."""
    return [(parameter, group) for group in optimizer.param_groups for parameter in group["params"]]


def _fresh_state(
    optimizer: torch.optim.Optimizer, parameter: torch.Tensor, group: dict[str, Any]
) -> dict[str, torch.Tensor | int]:
    """What the optimizer itself would make before its first step."""
    zeros = torch.zeros_like(parameter)
    if isinstance(optimizer, torch.optim.Adam):
        state: dict[str, torch.Tensor | int] = {
            "step": torch.tensor(0.0),
            "exp_avg": zeros,
            "exp_avg_sq": zeros.clone(),
        }
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros.clone()
        return state
    if isinstance(optimizer, RMSpropTFLike):
        state = {"step": 0, "square_avg": torch.ones_like(parameter)}
    elif isinstance(optimizer, torch.optim.RMSprop):
        state = {"step": torch.tensor(0.0), "square_avg": zeros}
    else:
        raise LearnerRefused(
            f"optimizer {type(optimizer).__name__} can only be used with rule optimizer: reset"
        )
    if group["momentum"] > 0:
        state["momentum_buffer"] = zeros.clone()
    if group["centered"]:
        state["grad_avg"] = zeros.clone()
    return state


def _to_numpy(tensor: torch.Tensor) -> Any:
    return tensor.detach().numpy().copy()
