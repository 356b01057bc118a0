"""Where a run's models lie, and the Python that opens them without us."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider_image.wire import EnvironmentSpec


@dataclass(frozen=True)
class ModelFiles:
    """Where a run leaves its models; files that do not exist are not spoken of.

    environment: what the model was trained on; None where the run's config cannot be read.
    """

    algorithm: str
    model: Path
    best_model: Path
    normalizer: Path
    best_normalizer: Path
    environment: EnvironmentSpec | None = None

    @property
    def opening_lines(self) -> tuple[str, ...]:
        """Python that opens the final model in plain Stable-Baselines3, to be copied.

        With a normaliser, `env` is the environment as the model is used to seeing it. None at all
        where there is no model, or where its environment is not known but needed.
        """
        if not self.model.exists():
            return ()
        name = self.algorithm.upper()
        archive = _text(str(self.model))
        if not self.normalizer.exists():
            return (f"from stable_baselines3 import {name}; model = {name}.load({archive})",)
        if self.environment is None:
            return ()
        imports, venv = _vector_environment(self.environment)
        return (
            "; ".join(["import gymnasium", f"from stable_baselines3 import {name}", *imports]),
            f"env = VecNormalize.load({_text(str(self.normalizer))}, {venv}); "
            f"env.training = env.norm_reward = False; model = {name}.load({archive}, env=env)",
        )


def _vector_environment(spec: EnvironmentSpec) -> tuple[list[str], str]:
    """Return the imports beyond Gymnasium itself, and an expression for one environment."""
    classes = ["DummyVecEnv", "VecNormalize"]
    imports: list[str] = []
    one = _bare(spec, imports)
    for wrapper in spec.wrappers:
        module, colon, name = wrapper.name.rpartition(":")
        if colon:
            imports.append(f"from {module} import {name}")
        owner = "" if colon else "gymnasium.wrappers."
        one = f"{owner}{name}({one}{_arguments(wrapper.kwargs)})"
    venv = f"DummyVecEnv([lambda: {one}])"
    if spec.frame_stack > 1:
        classes.insert(1, "VecFrameStack")
        venv = f"VecFrameStack({venv}, {spec.frame_stack})"
    imports.insert(0, f"from stable_baselines3.common.vec_env import {', '.join(classes)}")
    return imports, venv


def _bare(spec: EnvironmentSpec, imports: list[str]) -> str:
    module, colon, name = spec.id.partition(":")
    if colon and name.isidentifier():  # a class; ids that are registered end in a version
        imports.append(f"from {module} import {name}")
        return f"{name}({_arguments(spec.kwargs).removeprefix(', ')})"
    return f"gymnasium.make({_text(spec.id)}{_arguments(spec.kwargs)})"


def _arguments(kwargs: Mapping[str, Any]) -> str:
    return f", **{dict(kwargs)!r}" if kwargs else ""


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
