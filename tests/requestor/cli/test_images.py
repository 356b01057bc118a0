"""`golem.image` as a hash, a tag or `lock:<variant>`, on registries of fleets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gvmi.image_lock import LockedImage, write_locked
from requestor.cli.images import registry_url, smallest_variant, with_image
from requestor.config import load_config, parse_config
from requestor.errors import ConfigError
from requestor.marketplace.golem.daemon.api import DaemonAddress
from tests.requestor.mock_golem.images.registry_client import gvmi, sha3

if TYPE_CHECKING:
    from tests.requestor.cli.conftest import Program

IMAGE, OTHER = gvmi(5000), gvmi(5000, seed=1)
TINY = """
env: {id: CartPole-v1}
algo: {name: ppo, n_steps: 16, batch_size: 16, n_epochs: 1}
federation: {rounds: 1, clients: 2, local_steps: 16}
evaluation: {episodes: 1, final_episodes: 1}
golem: {providers: 1, budget_glm: 1}
"""


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "image.lock.yaml"
    monkeypatch.setattr("requestor.cli.images.LOCK_FILE", path)
    return path


def locked(content: bytes, variant: Any = "native") -> LockedImage:
    return LockedImage(variant, sha3(content), len(content), "0" * 64, "abc")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A tiny config, and a fleet whose registry has an image."""
    store = tmp_path / "images"
    store.mkdir()
    (store / "derl-native.gvmi").write_bytes(IMAGE)
    (store / "tags.json").write_text(json.dumps({"me/derl:v1": sha3(IMAGE)}))
    (tmp_path / "fleet.yaml").write_text(
        "runtime: {isolation: process}\nregistry: {store: images}\nproviders: [{name: willow}]"
    )
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def config(image: str, more: str = "") -> Any:
    return parse_config(TINY, [f"golem.image={image}", *([more] if more else [])])


class TestReference:
    def test_hashes_and_tags_stay_as_they_are(self, lock: Path) -> None:
        for image in (sha3(IMAGE), "me/derl:v1", f"hash:sha3:{sha3(IMAGE)}:http://x/i"):
            given = config(image)
            assert with_image(given) == (given, None)
        assert with_image(parse_config(TINY))[0].golem.image is None

    def test_a_locked_one_becomes_its_hash(self, lock: Path) -> None:
        write_locked(locked(IMAGE), lock)
        found, row = with_image(config("lock:native"))
        assert found.golem.image == sha3(IMAGE) and row == locked(IMAGE)

    def test_what_is_not_locked(self, lock: Path) -> None:
        with pytest.raises(ConfigError, match="lock:native: no image 'native' is locked") as one:
            with_image(config("lock:native"))
        assert one.value.fix == "build it: derl-image build native"
        with pytest.raises(ConfigError, match="no image 'best'") as other:
            with_image(config("lock:best"))
        assert other.value.fix == "variants are native, sb3, cuda"
        lock.write_text("[]")
        with pytest.raises(ConfigError, match="not an image lock"):
            with_image(config("lock:native"))

    @pytest.mark.parametrize("learner", ["algo.learner=sb3", "algo={name: a2c, n_steps: 16}"])
    def test_the_native_image_does_native_rounds_only(self, lock: Path, learner: str) -> None:
        write_locked(locked(IMAGE), lock)
        with pytest.raises(ConfigError, match="has no Stable-Baselines3") as caught:
            with_image(config("lock:native", learner))
        assert "lock:sb3" in str(caught.value.fix)

    def test_the_native_image_has_no_gymnasium(self, lock: Path) -> None:
        write_locked(locked(IMAGE), lock)
        for more in ("env.id=LunarLander-v3", "env.kwargs={sutton_barto_reward: true}"):
            with pytest.raises(ConfigError, match="no Gymnasium"):
                with_image(config("lock:native", more))

    def test_an_image_is_for_one_runtime(self, lock: Path) -> None:
        write_locked(locked(IMAGE, "sb3"), lock)
        with pytest.raises(ConfigError, match="that image is for vm,"):
            with_image(config("lock:sb3", "golem.runtime=vm-nvidia"))

    def test_real_money_takes_a_locked_one(self) -> None:
        text = "golem={mode: yagna, payment_network: polygon, budget_glm: 1, image: 'lock:native'}"
        assert parse_config(TINY, [text]).golem.image == "lock:native"

    @pytest.mark.parametrize("given", [None, "http://127.0.0.1:9"])
    @pytest.mark.parametrize("own", [None, "http://127.0.0.1:8"])
    def test_which_registry(self, given: str | None, own: str | None) -> None:
        golem = parse_config(TINY).golem.model_copy(update={"registry_url": given})
        address = DaemonAddress("u", "k", "m", "p", "a", own)
        expected = given or own or "https://registry.golem.network"
        assert registry_url(golem, address) == expected


class TestRun:
    def test_the_lock_s_hash_is_kept_with_the_run(
        self, program: Program, lock: Path, files: Path
    ) -> None:
        write_locked(locked(IMAGE), lock)
        fleet = f"golem.fleet={files / 'fleet.yaml'}"
        arguments = (str(files / "tiny.yaml"), fleet, "golem.image=lock:native")
        done = program("run", *arguments, "--json", "--wire-log")
        assert done.exit_code == 0, done.output
        (folder,) = (program.runs / "ppo").iterdir()
        assert json.loads((folder / "run.json").read_text())["image"]["sha3"] == sha3(IMAGE)
        write_locked(locked(OTHER), lock)
        assert load_config(folder / "config.resolved.yaml").golem.image == sha3(IMAGE)
        assert program.json("run", *arguments, "--dry-run")["config"]["golem"]["image"] == sha3(
            OTHER
        )
        wire = (folder / "logs" / "wire.jsonl").read_text()
        assert "/v1/image/info" in wire and f"hash:sha3:{sha3(IMAGE)}:http://127.0.0.1:" in wire

    def test_a_tag_is_looked_up_at_the_fleet_s_registry(
        self, program: Program, files: Path
    ) -> None:
        arguments = ("run", str(files / "tiny.yaml"), f"golem.fleet={files / 'fleet.yaml'}")
        done = program(*arguments, "golem.image=me/derl:v1", "--json", "--wire-log")
        assert done.exit_code == 0, done.output
        (folder,) = (program.runs / "ppo").iterdir()
        assert f"hash:sha3:{sha3(IMAGE)}:" in (folder / "logs" / "wire.jsonl").read_text()
        failed = program(*arguments, "golem.image=me/derl:v2", "--json")
        assert failed.exit_code != 0


class TestDoctor:
    def image(self, program: Program, *arguments: str) -> Any:
        record = program.json("doctor", *arguments)
        return next(one for one in record["checks"] if one["name"] == "image")

    def test_a_locked_image_in_the_registry(
        self, program: Program, lock: Path, files: Path
    ) -> None:
        write_locked(locked(IMAGE), lock)
        arguments = (str(files / "tiny.yaml"), f"golem.fleet={files / 'fleet.yaml'}")
        found = self.image(program, *arguments, "golem.image=lock:native")
        assert found["state"] == "ok", found
        assert f"variant native, hash {sha3(IMAGE)[:12]}" in found["says"]
        assert found["facts"]["variant"] == "native"

        write_locked(LockedImage("native", sha3(IMAGE), 7, "0" * 64, "abc"), lock)
        found = self.image(program, *arguments, "golem.image=lock:native")
        assert found["state"] == "failed" and "should have 7 bytes" in found["says"]

        write_locked(locked(OTHER), lock)
        found = self.image(program, *arguments, "golem.image=lock:native")
        assert found["state"] == "failed" and "knows no image of hash" in found["says"]
        assert "derl-image push" in found["fix"]

        found = self.image(program, *arguments, "golem.image=lock:sb3")
        assert found["state"] == "failed" and found["fix"] == "build it: derl-image build sb3"

    def test_without_a_config(self, program: Program, lock: Path, files: Path) -> None:
        fleet = f"golem.fleet={files / 'fleet.yaml'}"
        assert self.image(program, fleet, "golem.image=me/derl:v1")["state"] == "warning"
        assert self.image(program, fleet)["says"].startswith("none needed")


@pytest.mark.parametrize(
    ("overrides", "variant"),
    [
        ([], "native"),
        (["algo.learner=sb3"], "sb3"),
        (["env.id=LunarLander-v3"], "sb3"),
        (["env.frame_stack=4"], "sb3"),
        (["golem.runtime=vm-nvidia"], "cuda"),
    ],
)
def test_the_smallest_image_that_does_the_work(overrides: list[str], variant: str) -> None:
    assert smallest_variant(parse_config(TINY, overrides)) == variant


def test_stable_baselines3_is_needed_by_all_but_ppo() -> None:
    text = TINY.replace(
        "{name: ppo, n_steps: 16, batch_size: 16, n_epochs: 1}", "{name: dqn, learning_starts: 1}"
    )
    assert smallest_variant(parse_config(text)) == "sb3"


def test_auto_takes_the_locked_image_of_that_variant(lock: Path) -> None:
    write_locked(locked(IMAGE), lock)
    write_locked(locked(OTHER, "sb3"), lock)
    for more, content in (("seed=1", IMAGE), ("algo.learner=sb3", OTHER)):
        found, row = with_image(config("lock:auto", more))
        assert found.golem.image == sha3(content)
        assert row is not None and row.sha3 == sha3(content)
