"""The main job from the very file that would be pushed: scripts/image builds it and runs these."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gvmi.image_lock import locked_image

if TYPE_CHECKING:
    from tests.end_to_end.conftest import RunFolder, Workbench

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "build" / "images"
Settled = Callable[[Decimal, dict[str, Any]], None]


def image(variant: str) -> Path:
    """The built image; one that scripts/image was told to build must be there."""
    path = IMAGES / f"derl-{variant}.gvmi"
    if variant not in os.environ.get("DERL_IMAGES", "").split() and not path.exists():
        pytest.skip(f"NOT RUN: scripts/image {variant} builds the image for it")
    return path


def fleet(bench: Workbench, store: Path) -> str:
    text = f"""
runtime: {{kind: image}}
registry: {{store: {store}}}
providers: [{{name: willow, count: 4}}]
"""
    return f"golem.fleet={bench.write('image.yaml', text)}"


def job(bench: Workbench, *overrides: str) -> RunFolder:
    done = bench.derl("run", ROOT / "configs" / "cartpole.yaml", *overrides)
    assert done.code == 0, done.text
    return bench.run


def test_the_main_job_from_the_image_gives_the_same_weights(
    bench: Workbench, settled: Settled
) -> None:
    image("native")
    inside, outside = bench.beside("inside"), bench.beside("outside")
    from_image = job(inside, fleet(inside, IMAGES), "golem.image=lock:native")
    as_process = job(outside)
    assert from_image.weights == as_process.weights
    settled(from_image.spent_glm, from_image.books)
    inside.assert_no_process_left()


def test_rounds_of_stable_baselines3_from_its_image(bench: Workbench, settled: Settled) -> None:
    image("sb3")
    overrides = ("algo.learner=sb3", "federation.rounds=1", "evaluation.final_episodes=5")
    inside, outside = bench.beside("inside"), bench.beside("outside")
    from_image = job(inside, fleet(inside, IMAGES), "golem.image=lock:sb3", *overrides)
    as_process = job(outside, *overrides)
    assert from_image.weights == as_process.weights
    settled(from_image.spent_glm, from_image.books)


def test_an_image_with_one_changed_byte_is_refused_by_name(bench: Workbench) -> None:
    content = bytearray(image("native").read_bytes())
    content[len(content) // 2] ^= 1
    store = bench.folder / "store"
    store.mkdir()
    (store / "derl-native.gvmi").write_bytes(content)
    done = bench.derl(
        *("run", ROOT / "configs" / "cartpole.yaml", fleet(bench, store)),
        *("golem.image=lock:native", "golem.invoice_timeout_seconds=4"),
    )
    assert done.code == 4
    locked = locked_image("native").sha3
    assert f"no image with hash {locked} in {store}" in done.text
