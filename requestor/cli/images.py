"""Which image a config means, and which registry has it."""

from __future__ import annotations

from gvmi.errors import ImageToolError
from gvmi.image_lock import LOCK_FILE, LockedImage, locked_image
from gvmi.variants import SPECS, Variant
from native_kernels.environments import ENVIRONMENTS
from requestor.config import METHODS, GolemConfig, RunConfig
from requestor.errors import ConfigError
from requestor.marketplace.golem.daemon.address import DaemonAddress
from requestor.marketplace.ports import Terms

LOCK = "lock:"
NO_IMAGE = "0" * 56
"""The hash of none: what stands in DeRL's defaults."""


def with_image(config: RunConfig) -> tuple[RunConfig, LockedImage | None]:
    """Put the hash in place of `golem.image: lock:<variant>`; return the image's row, too.

    `lock:auto` is the smallest image that does the run's work.

    From then on the config means that very image, whatever is locked later.

    Raises:
        ConfigError: nothing is locked for the variant, or it cannot do the run's work.
    """
    reference = config.golem.image or ""
    if not reference.startswith(LOCK):
        return config, None
    variant = reference.removeprefix(LOCK)
    if variant == "auto":
        variant = smallest_variant(config)
        reference = f"{reference} ({variant})"
    try:
        image = locked_image(variant, LOCK_FILE)
    except ImageToolError as error:
        raise ConfigError(f"golem.image: {reference}: {error}", fix=error.fix) from error
    if SPECS[image.variant].runtime != config.golem.runtime:
        raise ConfigError(
            f"golem.image: {reference}: that image is for {SPECS[image.variant].runtime}, "
            f"golem.runtime is {config.golem.runtime}",
            fix="golem.image: lock:auto, or another golem.runtime",
        )
    if image.variant == "native" and smallest_variant(config) != "native":
        raise ConfigError(
            f"golem.image: {reference}: that image has no Stable-Baselines3 and no Gymnasium, "
            f"which {config.algo.name} with algo.learner: {config.algo.learner} in {config.env.id} "
            "with these settings of env needs",
            fix="golem.image: lock:sb3",
        )
    golem = config.golem.model_copy(update={"image": image.sha3})
    return config.model_copy(update={"golem": golem}), image


def smallest_variant(config: RunConfig) -> Variant:
    """Return the variant that does a run's work and takes providers the least time to fetch.

    The native one holds no Gymnasium: it serves runs whose environment is native, too.
    """
    if config.golem.runtime == "vm-nvidia":
        return "cuda"
    env, algo = config.env, config.algo
    is_bare = not (env.kwargs or env.wrappers or env.frame_stack > 1)
    is_native = algo.name in ("ppo", *METHODS) and algo.learner != "sb3"
    if is_native and is_bare and env.id in ENVIRONMENTS:
        return "native"
    return "sb3"


def registry_url(golem: GolemConfig, address: DaemonAddress) -> str:
    """Return which registry is asked: the config's, else a private daemon's own, else Golem's."""
    return golem.registry_url or address.registry_url or Terms.registry_url
