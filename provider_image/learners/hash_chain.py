"""The hash chain of a round's work, and which part of it an order asks for.

`wire/FORMAT.md`, section 6, says what a link is. An *update* stands here for what a link comes
after: an update of an on-policy learner, a collection of an off-policy one.
"""

from __future__ import annotations

from collections.abc import Callable

from provider_image.learners.base import LearnerRefused
from provider_image.wire import (
    MAX_LINKS,
    Tensors,
    TrainOrder,
    WireError,
    base_digest,
    tensors_digest,
)


class HashChain:
    """Takes the digests of what stands after each link of an order's work.

    A learner does the updates after `first_update` up to `last_update`, all of them unless the
    order has `links`, and calls `note` after each. `links` are the digests so far, lower-case hex,
    and `state` what stood after the last of them, if the order asks for it.
    """

    def __init__(self, order: TrainOrder, updates: int, *, can_resume: bool) -> None:
        """Begin the chain of `order`, whose whole work has `updates` updates, 1 or more.

        `can_resume`: whether this learner can go on from a link's state with the same bits. Raises
        LearnerRefused where the order asks for links that there are not, or to begin after link 0
        or to leave a state where that cannot be; WireError where its digests contradict.
        """
        self._updates, self._count = updates, min(updates, MAX_LINKS)
        asked, base = order.links, base_digest(order)
        first, last = (0, self._count) if asked is None else (asked.first, asked.last)
        if last > self._count:
            raise LearnerRefused(
                f"links.last is {last}, but this work has {self._count} links; ask for no more"
            )
        if asked is not None and not can_resume and (first or asked.state_output):
            raise LearnerRefused(
                "this work cannot go on from a link's state with the same bits: only the native "
                "learner can, in native environments without wrappers; ask for links from 0 on "
                "and no links.state_output"
            )
        if asked is not None and first == 1 and asked.state_previous != base:
            raise WireError("links.state_previous is not the digest of the order without links")
        self._previous = base
        if asked is not None and asked.state_link is not None:
            self._previous = asked.state_link
        self._wants_state = asked is not None and asked.state_output is not None
        self._next, self._last = first + 1, last
        self.first_update, self.last_update = self._update_of(first), self._update_of(last)
        self.links: tuple[str, ...] = ()
        self.state: Tensors | None = None

    def note(self, done: int, standing: Callable[[], Tensors]) -> None:
        """Take the link after update `done` of the whole work (from 1), if one comes there.

        `standing` gives the tensors of the link; it is called only then. Raises RuntimeError if
        an update was left out.
        """
        if self._next > self._last or done < self._update_of(self._next):
            return
        if done > self._update_of(self._next):
            raise RuntimeError(f"update {done} follows, but link {self._next} was not taken")
        tensors = standing()
        self._previous = tensors_digest(tensors, self._previous)
        self.links += (self._previous,)
        if self._next == self._last and self._wants_state:
            self.state = tensors
        self._next += 1

    def _update_of(self, link: int) -> int:
        """How many updates are done when `link` is taken: ceil(link * n / m)."""
        return -(-link * self._updates // self._count)


def check_link_state(order: TrainOrder, state: Tensors) -> None:
    """Raise WireError unless `state` is what the order's `links.state_link` is the digest of."""
    asked = order.links
    if asked is None or asked.state_previous is None:
        raise WireError("a link's state is given, but the order does not begin with one")
    if tensors_digest(state, asked.state_previous) != asked.state_link:
        raise WireError(
            "links.state does not have the digest links.state_link: it is not what stood after "
            f"link {asked.first} of that chain"
        )
