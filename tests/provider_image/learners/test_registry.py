"""Every algorithm of the wire has a learner, and no other name has one."""

from __future__ import annotations

from typing import get_args

import pytest

from provider_image.learners import LearnerRefused, load_learner
from provider_image.learners.registry import LEARNERS
from provider_image.wire import Algorithm, LearnerName


def test_every_algorithm_of_the_wire_has_a_learner() -> None:
    assert set(LEARNERS) == set(get_args(LearnerName))
    assert {one for does in LEARNERS.values() for one in does} == set(get_args(Algorithm))
    for name, algorithms in LEARNERS.items():
        for algorithm in algorithms:
            assert load_learner(algorithm, name).packages()["numpy"]
    assert "torch" not in load_learner("ppo", "native").packages()


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(LearnerRefused, match="algorithm trpo is unknown; known: ppo"):
        load_learner("trpo")


def test_a_learner_is_asked_for_its_own_algorithms_only() -> None:
    with pytest.raises(LearnerRefused, match="native does not do sac, but ppo, pg; set learner"):
        load_learner("sac", "native")


def test_policy_gradients_are_the_native_learners_alone() -> None:
    with pytest.raises(LearnerRefused, match=r"sb3 does not do pg, .* set learner to native"):
        load_learner("pg", "sb3")
