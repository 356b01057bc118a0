"""From a config to whom is rented, for what work, with which manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from requestor.config import (
    ManifestConfig,
    RunConfig,
    environment_spec,
    learner_spec,
    state_rules,
)
from requestor.errors import PreflightError
from requestor.marketplace.choice.choosing import Work
from requestor.marketplace.choice.selection import Preferences, lower
from requestor.marketplace.ports import Manifest

MAX_MANIFEST_BYTES = 256 << 10


def preferences(config: RunConfig) -> Preferences:
    """Return whom to rent under `config`."""
    golem, fed = config.golem, config.federation
    return Preferences(
        rule=golem.choose,
        allow=lower(golem.allow),
        block=lower(golem.block),
        max_per_wallet=golem.max_per_wallet,
        gather_seconds=golem.gather_seconds,
        replaces_slow=golem.replace_slow,
        agreement_ceiling_glm=golem.max_price.agreement_glm,
        work=Work(
            kind=work_kind(config),
            steps=fed.rounds * fed.clients * fed.local_steps,
            providers=golem.providers,
        ),
    )


def work_kind(config: RunConfig) -> str:
    """Return what speeds are remembered by: orders of one kind cost a machine the same."""
    parts = (environment_spec(config), learner_spec(config), state_rules(config))
    text = repr((parts, config.federation.local_steps, config.golem.runtime))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{config.algo.name} {config.env.id[:60]} {digest}"


def read_manifest(config: ManifestConfig | None) -> Manifest | None:
    """Read the files of a manifest, if there is one.

    Raises:
        PreflightError: a file is too large to be one of a manifest.
    """
    if config is None:
        return None
    return Manifest(
        content=_content(config.path),
        signature=_content(config.signature) if config.signature else None,
        certificate=_content(config.certificate) if config.certificate else None,
        algorithm=config.algorithm,
        node_descriptor=_content(config.node_descriptor) if config.node_descriptor else None,
    )


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise PreflightError(
            f"{path} is larger than {MAX_MANIFEST_BYTES} bytes", fix="check golem.manifest"
        )
    return content
