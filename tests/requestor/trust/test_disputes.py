"""Disputes: who is convicted, by how many, and that the honest never are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.trust.disputes import Account, Dispute, Replay, first_difference

HONEST = ("h1", "h2", "h3", "h4")


def lying_from(link: int, by: str | None = "liar") -> Account:
    """A chain that is right before `link` (from 1), and wrong from there on."""
    links = HONEST[: link - 1] + tuple(f"{by}{i}" for i in range(link, 5))
    return Account(by, links, f"result of {by}")


def honest(by: str | None = None, last: int | None = None) -> Account:
    return Account(by, HONEST[:last], "" if last is not None else "truth")


def test_the_first_difference_is_counted_from_one() -> None:
    assert first_difference("abcd", "abxd") == 3
    assert first_difference("abcd", "abcd") is None
    assert first_difference("abcd", "ab") == 3
    assert first_difference("", "") is None


@pytest.mark.parametrize("link", [1, 2, 3, 4])
def test_a_liar_is_convicted_by_the_replay_up_to_its_first_wrong_link(link: int) -> None:
    dispute = Dispute(lying_from(link), honest())
    assert dispute.verdict is None
    assert dispute.next_replay == Replay(link)
    verdict = dispute.heard(honest(last=link)).verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.convicted, verdict.link) == ("convicted", ("liar",), link)


def test_equal_accounts_need_no_referee() -> None:
    dispute = Dispute(honest("a"), honest())
    assert dispute.verdict is not None and dispute.verdict.outcome == "verified"
    assert dispute.next_replay is None


def test_a_witness_that_lies_is_convicted_and_not_the_accused() -> None:
    dispute = Dispute(honest("good"), lying_from(2, "witness"))
    verdict = dispute.heard(honest(None, last=2)).verdict
    assert verdict is not None and verdict.convicted == ("witness",)


def test_a_machine_of_ours_that_contradicts_itself_convicts_nobody() -> None:
    dispute = Dispute(honest("good"), lying_from(3, None))
    verdict = dispute.heard(honest(None, last=3)).verdict
    assert verdict is not None and verdict.outcome == "undecided" and not verdict.convicted


def test_three_ends_convict_nobody() -> None:
    dispute = Dispute(lying_from(2, "a"), lying_from(2, "b"))
    verdict = dispute.heard(honest(last=2)).verdict
    assert verdict is not None and verdict.outcome == "undecided" and not verdict.convicted


def test_nobody_confirms_itself() -> None:
    dispute = Dispute(honest("good"), lying_from(2, "sybil"))
    verdict = dispute.heard(lying_from(2, "sybil")).verdict
    assert verdict is not None and not verdict.convicted


def test_without_a_referee_nobody_is_convicted() -> None:
    verdict = Dispute(lying_from(1), honest()).given_up().verdict
    assert verdict is not None and verdict.outcome == "undecided" and verdict.link == 1


def test_an_update_that_does_not_belong_to_its_chain_is_settled_by_the_whole_work() -> None:
    dispute = Dispute(Account("liar", HONEST, "another"), honest())
    assert dispute.link is None and dispute.next_replay == Replay(None)
    assert dispute.heard(honest()).verdict.convicted == ("liar",)  # type: ignore[union-attr]


def test_a_chain_that_is_cut_short_or_missing_is_settled_by_the_whole_work() -> None:
    for links in ((), HONEST[:2], (*HONEST, "h5")):
        dispute = Dispute(Account("liar", links, "truth"), honest())
        assert dispute.next_replay == Replay(None)
        verdict = dispute.heard(honest()).verdict
        assert verdict is not None and verdict.convicted == ("liar",)


ACCOUNTS = st.builds(
    lambda by, links, result: Account(by, tuple(links), result),
    st.sampled_from(["a", "b", "c"]),
    st.lists(st.sampled_from("xyz"), max_size=3),
    st.sampled_from(["r", "s"]),
)


@given(ACCOUNTS, st.booleans())
def test_whatever_liars_say_the_honest_are_never_convicted(liar: Account, is_first: bool) -> None:
    good = honest("good")
    dispute = Dispute(good, liar) if is_first else Dispute(liar, good)
    for referee in (honest(), honest(None, last=dispute.link)):
        verdict = dispute.heard(referee).verdict
        assert verdict is not None
        assert "good" not in verdict.convicted
