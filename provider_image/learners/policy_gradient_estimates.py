"""Estimates of the policy gradient from whole episodes. Axes: E episodes, N their steps.

All are in the direction of ascent: parameters that are moved along an estimate earn more.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from provider_image.learners.policy_gradient_episodes import Episodes
from provider_image.learners.policy_gradient_network import (
    Float64,
    Parameters,
    PolicyNetwork,
    exponential,
)

StepWeights: TypeAlias = Literal["whitened", "discounted"]
"""What the logarithm of an action's probability is weighted with.

`whitened`: the discounted return from there on, less its mean over the episode, divided by its
standard deviation; estimates are means over steps (FedPG-BR). `discounted`: the sum of what comes
from there on, discounted from the episode's start; estimates are means over episodes (GPOMDP,
Baxter and Bartlett 2001; DecByzPG).
"""

_WHITENING_EPSILON = 1e-8


def step_weights(episodes: Episodes, gamma: float, kind: StepWeights) -> Float64:
    """Weights float64[N] with which an estimate is the plain sum of weighted gradients."""
    weights = np.empty(len(episodes.rewards))
    longest = int(episodes.lengths.max())
    powers = np.cumprod(np.concatenate([[1.0], np.full(longest - 1, gamma)]))
    for start, length in zip(episodes.starts, episodes.lengths, strict=True):
        rewards = episodes.rewards[start : start + length]
        if kind == "discounted":
            weights[start : start + length] = np.cumsum((powers[:length] * rewards)[::-1])[::-1]
        else:
            weights[start : start + length] = _whitened(_returns_to_go(rewards, gamma))
    return weights / (len(episodes.lengths) if kind == "discounted" else len(weights))


def _returns_to_go(rewards: Float64, gamma: float) -> Float64:
    returns = np.empty(len(rewards))
    after = 0.0
    for step in range(len(rewards) - 1, -1, -1):
        after = float(rewards[step]) + gamma * after
        returns[step] = after
    return returns


def _whitened(values: Float64) -> Float64:
    count = len(values)
    centred: Float64 = values - np.add.reduce(values) / count
    deviation = np.sqrt(np.add.reduce(centred * centred) / count)
    centred /= deviation + _WHITENING_EPSILON
    return centred


def log_probabilities(
    network: PolicyNetwork, parameters: Parameters, episodes: Episodes
) -> Float64:
    """Logarithms float64[N] of the probabilities that the policy gives to what was done."""
    everything = network.log_probabilities(parameters, episodes.observations)
    return everything[np.arange(len(episodes.actions)), episodes.actions]


def step_ratios(
    network: PolicyNetwork, above: Parameters, below: Parameters, episodes: Episodes
) -> Float64:
    """pi_above(a|s) / pi_below(a|s) of every step: float64[N]."""
    return exponential(
        log_probabilities(network, above, episodes) - log_probabilities(network, below, episodes)
    )


def episode_ratios(
    network: PolicyNetwork, above: Parameters, below: Parameters, episodes: Episodes, most: float
) -> Float64:
    """P(episode | above) / P(episode | below), at most `most`: float64[E].

    The logarithms are added up before the exponential, so that nothing is lost in long episodes.
    """
    difference = log_probabilities(network, above, episodes) - log_probabilities(
        network, below, episodes
    )
    logarithms = np.add.reduceat(difference, episodes.starts)
    return np.minimum(exponential(logarithms), most)


def estimate(
    network: PolicyNetwork, parameters: Parameters, episodes: Episodes, weights: Float64
) -> Parameters:
    """The gradient estimate of the parameters that played `episodes`."""
    return network.score_gradient(parameters, episodes.observations, episodes.actions, weights)


def page_difference(
    network: PolicyNetwork,
    parameters: Parameters,
    previous: Parameters,
    episodes: Episodes,
    weights: Float64,
    most: float,
) -> Parameters:
    """What the estimate has changed by since `previous`, from episodes of `parameters` alone.

    mean of g(episode; parameters) - w g(episode; previous), with w the episode's importance ratio
    P(episode | previous) / P(episode | parameters), bounded by `most` (PAGE-PG, Gargiani et al.
    2022, arXiv 2202.00308).
    """
    now = estimate(network, parameters, episodes, weights)
    ratios = episode_ratios(network, previous, parameters, episodes, most)
    then = estimate(network, previous, episodes, weights * np.repeat(ratios, episodes.lengths))
    return {name: now[name] - then[name] for name in now}
