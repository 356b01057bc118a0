"""A model bundle from a zip that Stable-Baselines3 wrote, ours or anybody's.

Only the archive's tensors are read, by torch's weights-only loader; the pickled rest of the zip
(`data`) is never opened. So environment and network come from the order, not from the file.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from provider_image.learners.base import LearnerRefused
from provider_image.learners.sb3_state import ENTROPY_NAME
from provider_image.wire import (
    MAX_FILE_BYTES,
    POLICY_PREFIX,
    ImportOrder,
    Tensors,
    check_tensors,
    specs_of,
)

POLICY_ENTRY = "policy.pth"
VARIABLES_ENTRY = "pytorch_variables.pth"


def read_archive(order: ImportOrder, fresh: Tensors, directory: Path) -> Tensors:
    """Return the archive's tensors under the names of `fresh`, a model made from the same order.

    Raises LearnerRefused if the file is no such archive or does not fit the order.
    """
    if order.environment.normalize is not None:
        raise LearnerRefused(
            "an archive does not hold the normaliser's statistics; evaluate the run by its name"
        )
    path = directory / order.archive.name
    try:
        with zipfile.ZipFile(path) as archive:
            tensors = {
                POLICY_PREFIX + name: value for name, value in _load(archive, POLICY_ENTRY).items()
            }
            if ENTROPY_NAME in fresh:
                variables = _load(archive, VARIABLES_ENTRY)
                tensors[ENTROPY_NAME] = variables["log_ent_coef"]
    except Exception as error:  # zipfile and torch raise a dozen kinds for a damaged file
        raise _refused(order, error) from error
    merged = {**fresh, **{name: value.detach().cpu().numpy() for name, value in tensors.items()}}
    check_tensors(merged, specs_of(fresh), source=order.archive.name)
    return merged


def _refused(order: ImportOrder, error: Exception) -> LearnerRefused:
    what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
    return LearnerRefused(
        f"{order.archive.name} is no {order.learner.algorithm.upper()} archive of "
        f"Stable-Baselines3's: {what}"
    )


def _load(archive: zipfile.ZipFile, name: str) -> Mapping[str, torch.Tensor]:
    entry = archive.getinfo(name)
    if entry.file_size > MAX_FILE_BYTES:
        raise ValueError(f"{name} has {entry.file_size} bytes, the limit is {MAX_FILE_BYTES}")
    content = io.BytesIO(archive.read(entry))
    loaded: Any = torch.load(content, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in loaded.values()
    ):
        raise ValueError(f"{name} holds something else than tensors")
    return loaded
