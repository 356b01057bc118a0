"""From an EnvironmentSpec to a Gymnasium environment, with messages that name the fix."""

from __future__ import annotations

import difflib
import importlib
from typing import Any, NoReturn, TypeAlias

import gymnasium
import gymnasium.wrappers
import numpy as np
from gymnasium import spaces

from provider_image.environments.frame_stack import ConcatenateFrames
from provider_image.environments.spaces import EnvironmentRefused, Space, Spaces
from provider_image.wire import EnvironmentSpec, WrapperSpec

Environment: TypeAlias = "gymnasium.Env[Any, Any]"


def make_environment(spec: EnvironmentSpec) -> Environment:
    """One environment as the specification says, without rendering and without normalisation.

    Frames are stacked here, so every observation, the terminal one included, is stacked alike.
    Raises EnvironmentRefused.
    """
    if "render_mode" in spec.kwargs:
        raise EnvironmentRefused(
            f"environment {spec.id}: kwargs.render_mode cannot be set, providers have no display; "
            "remove it"
        )
    try:
        environment = _make_bare(spec)
        for wrapper in spec.wrappers:
            environment = _wrap(environment, wrapper)
        if spec.frame_stack > 1:
            environment = ConcatenateFrames(environment, spec.frame_stack)
    except EnvironmentRefused:
        raise
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise EnvironmentRefused(f"environment {spec.id} cannot be made: {error}") from error
    return environment


def spaces_of(environment: Environment) -> Spaces:
    """The environment's spaces as plain data."""
    return Spaces(_space(environment.observation_space), _space(environment.action_space))


def import_environment(spec: EnvironmentSpec) -> None:
    """Import what the environment's id names and make nothing; raises EnvironmentRefused."""
    module_name, colon, _ = spec.id.partition(":")
    if colon:
        _import_module(spec.id, module_name)
    elif spec.id not in gymnasium.registry:
        _refuse_unknown(spec.id)


def _space(space: spaces.Space[Any]) -> Space:
    text = repr(space)
    if isinstance(space, spaces.Box):
        low, high = (
            tuple(float(value) for value in np.ravel(bound)) for bound in (space.low, space.high)
        )
        return Space("box", text, space.shape, space.dtype.name, low, high)
    if isinstance(space, spaces.Discrete):
        return Space("discrete", text, n=int(space.n), start=int(space.start))
    return Space("other", text)


def _make_bare(spec: EnvironmentSpec) -> Environment:
    module_name, colon, name = spec.id.partition(":")
    if not colon:
        return _make_registered(spec.id, spec.kwargs)
    module = _import_module(spec.id, module_name)
    found = getattr(module, name, None)
    if found is None:
        if name in gymnasium.registry:
            return _make_registered(name, spec.kwargs)
        names = [n for n, v in vars(module).items() if _is_subclass(v, gymnasium.Env)]
        raise EnvironmentRefused(
            f"environment {spec.id}: module {module_name} neither has {name} nor registers it; "
            f"{_near(name, names)}"
        )
    if not _is_subclass(found, gymnasium.Env):
        raise EnvironmentRefused(
            f"environment {spec.id}: {name} in {module_name} is no subclass of gymnasium.Env"
        )
    environment: Environment = found(**spec.kwargs)
    return environment


def _make_registered(environment_id: str, kwargs: dict[str, Any]) -> Environment:
    try:
        registered = gymnasium.spec(environment_id).kwargs
        silent = {"render_mode": None} if "render_mode" in registered else {}
        return gymnasium.make(environment_id, disable_env_checker=True, **kwargs, **silent)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        _refuse_unknown(environment_id, str(error))
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise EnvironmentRefused(
            f"environment {environment_id} needs a package that is not installed: {error}. "
            "Install it on this machine and in the provider image"
        ) from error


def _refuse_unknown(environment_id: str, reason: str = "") -> NoReturn:
    detail = f" ({' '.join(reason.split())})" if reason else ""
    raise EnvironmentRefused(
        f"environment {environment_id} is not registered with Gymnasium{detail}; "
        f"{_near(environment_id, list(gymnasium.registry))}. If a package provides it, install "
        "that package and write the id as package:Id"
    )


def _wrap(environment: Environment, spec: WrapperSpec) -> Environment:
    module_name, colon, name = spec.name.rpartition(":")
    module = _import_module(spec.name, module_name) if colon else gymnasium.wrappers
    wrapper = getattr(module, name, None)
    if wrapper is None or not _is_subclass(wrapper, gymnasium.Wrapper):
        names = [n for n in dir(module) if _is_subclass(getattr(module, n), gymnasium.Wrapper)]
        raise EnvironmentRefused(
            f"wrapper {spec.name}: {module.__name__} has no wrapper class {name}; "
            f"{_near(name, names)}"
        )
    try:
        wrapped: Environment = wrapper(environment, **spec.kwargs)
    except (TypeError, ValueError, AssertionError, gymnasium.error.Error) as error:
        raise EnvironmentRefused(
            f"wrapper {spec.name} with {spec.kwargs} does not fit: {error}"
        ) from error
    return wrapped


def _import_module(wanted: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise EnvironmentRefused(
            f"{wanted}: module {module_name} cannot be imported: {error}. Install the package that "
            "has it, on this machine and in the provider image"
        ) from error


def _is_subclass(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _near(name: str, names: list[str]) -> str:
    found = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"near names: {', '.join(found)}" if found else "no name is near"
