"""An SB3 archive's weights come in, and nothing else of it."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

from provider_image.learners.base import LearnerRefused
from provider_image.round_runner import execute
from provider_image.wire import (
    MAX_FILE_BYTES,
    EnvironmentSpec,
    FileRef,
    ImportOrder,
    LearnerSpec,
    NormalizeSpec,
    WireError,
    read_bundle,
    sha256_file,
)

CARTPOLE = EnvironmentSpec(id="CartPole-v1")
PENDULUM = EnvironmentSpec(id="Pendulum-v1")


def imported(
    folder: Path, archive: Path, environment: EnvironmentSpec, algorithm: str
) -> dict[str, np.ndarray]:
    order = ImportOrder(
        run_id="test",
        environment=environment,
        learner=LearnerSpec(algorithm=algorithm),  # type: ignore[arg-type]
        archive=FileRef(
            name=archive.name,
            sha256=sha256_file(archive, MAX_FILE_BYTES),
            bytes=archive.stat().st_size,
        ),
        output="model.safetensors",
    )
    execute(order, folder)
    return read_bundle(folder / "model.safetensors", max_bytes=MAX_FILE_BYTES).tensors


@pytest.mark.parametrize(
    ("algorithm", "kind", "environment"), [("ppo", PPO, CARTPOLE), ("sac", SAC, PENDULUM)]
)
def test_every_weight_of_a_plain_archive_comes_in(
    tmp_path: Path, algorithm: str, kind: type[PPO] | type[SAC], environment: EnvironmentSpec
) -> None:
    model = kind("MlpPolicy", environment.id, seed=5, device="cpu")
    model.save(tmp_path / "plain.zip")
    tensors = imported(tmp_path, tmp_path / "plain.zip", environment, algorithm)
    expected = {f"policy/{k}": v.numpy() for k, v in model.policy.state_dict().items()}
    if isinstance(model, SAC):
        assert model.log_ent_coef is not None
        expected["extra/log_ent_coef"] = model.log_ent_coef.detach().numpy()
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(tensors[name], value)


def test_the_pickled_part_is_never_opened(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", seed=5, device="cpu")
    model.save(tmp_path / "plain.zip")
    witness = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(witness),)

    with (
        zipfile.ZipFile(tmp_path / "plain.zip") as source,
        zipfile.ZipFile(tmp_path / "bomb.zip", "w") as target,
    ):
        for name in source.namelist():
            content = pickle.dumps(Bomb()) if name == "data" else source.read(name)
            target.writestr(name, content)
    imported(tmp_path, tmp_path / "bomb.zip", CARTPOLE, "ppo")
    assert not witness.exists()
    with zipfile.ZipFile(tmp_path / "worse.zip", "w") as target:
        target.writestr("policy.pth", pickle.dumps(Bomb()))
    with pytest.raises(LearnerRefused, match=r"worse\.zip is no PPO archive"):
        imported(tmp_path, tmp_path / "worse.zip", CARTPOLE, "ppo")
    assert not witness.exists()


def test_files_that_are_no_archive_of_this_algorithm_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(LearnerRefused, match="not a zip"):
        imported(tmp_path, tmp_path / "text.zip", CARTPOLE, "ppo")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(LearnerRefused, match=r"policy\.pth"):
        imported(tmp_path, tmp_path / "empty.zip", CARTPOLE, "ppo")
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "ppo.zip")
    with pytest.raises(LearnerRefused, match="log_ent_coef is missing"):
        imported(tmp_path, tmp_path / "ppo.zip", PENDULUM, "sac")
    with pytest.raises(WireError, match="policy/"):
        imported(tmp_path, tmp_path / "ppo.zip", PENDULUM, "ppo")


def test_a_changed_file_and_a_normalised_environment_are_refused(tmp_path: Path) -> None:
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "ppo.zip")
    order = ImportOrder(
        run_id="test",
        environment=CARTPOLE,
        learner=LearnerSpec(algorithm="ppo"),
        archive=FileRef(name="ppo.zip", sha256="0" * 64, bytes=1 << 20),
        output="model.safetensors",
    )
    with pytest.raises(WireError, match="SHA-256"):
        execute(order, tmp_path)
    normalised = EnvironmentSpec(id="CartPole-v1", normalize=NormalizeSpec())
    with pytest.raises(LearnerRefused, match="normaliser"):
        imported(tmp_path, tmp_path / "ppo.zip", normalised, "ppo")


def test_not_finite_weights_are_refused(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", device="cpu")
    with torch.no_grad():
        next(model.policy.parameters()).fill_(float("nan"))
    model.save(tmp_path / "nan.zip")
    with pytest.raises(WireError, match="finite"):
        imported(tmp_path, tmp_path / "nan.zip", CARTPOLE, "ppo")
