"""Every algorithm of the wire has a learner, and no other name has one."""

from __future__ import annotations

from typing import get_args

import pytest

from provider_image.learners import LearnerRefused, load_learner
from provider_image.learners.registry import LEARNERS
from provider_image.wire import Algorithm


def test_every_algorithm_of_the_wire_has_a_learner() -> None:
    assert set(LEARNERS) == set(get_args(Algorithm))
    for algorithm in LEARNERS:
        assert load_learner(algorithm).packages()["stable_baselines3"]


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(LearnerRefused, match="algorithm trpo is unknown; known: ppo"):
        load_learner("trpo")
