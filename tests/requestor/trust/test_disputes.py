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


def settle(dispute: Dispute, *accounts: Account) -> Dispute:
    """Hear one provider after the other, each of which has done the whole work."""
    for account in accounts:
        assert dispute.next_replay is not None
        assert account.by not in dispute.barred
        dispute = dispute.heard(account)
    return dispute


def test_the_witness_is_the_first_who_is_heard() -> None:
    dispute = Dispute(honest("a"))
    assert dispute.verdict is None and dispute.next_replay == Replay()
    assert dispute.barred == {"a"}
    assert settle(dispute, honest("b")).verdict == Dispute(honest("a"), honest("b")).verdict


@pytest.mark.parametrize("place", [0, 1])
def test_two_providers_contradict_a_third_and_convict_nobody(place: int) -> None:
    voices = ["a", "b", "c"]
    told = [lying_from(2, v) if i == place else honest(v) for i, v in enumerate(voices)]
    dispute = settle(Dispute(told[0]), told[1], told[2])
    verdict = dispute.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.convicted, verdict.link) == ("contradicted", (), 2)
    assert verdict.contradicted == (voices[place],)
    assert dispute.doubted == {"a", "b", "c"}  # two wallets may have one owner


def test_a_witness_that_is_not_believed_does_not_clear_the_accused() -> None:
    # the witness lies from link 2, the accused from link 3: up to link 2 the accused is right
    first = settle(Dispute(lying_from(3, "a")), lying_from(2, "b"), honest("c"))
    assert first.verdict is not None and first.verdict.contradicted == ("b",)
    again = first.without_witness()
    assert again.witness == honest("c") and again.next_replay == Replay(3)
    assert again.barred == {"a", "b", "c"}
    verdict = settle(again, honest("d")).verdict
    assert verdict is not None and verdict.contradicted == ("a",)
    # where the referee has done the first links only, somebody has to do all of it
    short = Dispute(lying_from(3, "a"), lying_from(2, "b")).heard(honest(last=2))
    assert short.verdict is not None and short.verdict.convicted == ("b",)
    assert short.without_witness().witness is None


def test_with_a_vanished_third_both_are_doubted_and_nobody_is_convicted() -> None:
    dispute = settle(Dispute(honest("a")), lying_from(1, "b")).vanished("c")
    assert dispute.barred == {"a", "b", "c"} and dispute.next_replay == Replay(1)
    assert dispute.doubted == set()  # a fourth may still tell
    dispute = dispute.given_up()
    verdict = dispute.verdict
    assert verdict is not None and verdict.outcome == "undecided" and not verdict.convicted
    assert dispute.doubted == {"a", "b"}


def test_with_nobody_to_ask_nobody_is_doubted() -> None:
    dispute = Dispute(honest("a")).vanished("b").given_up()
    assert dispute.verdict is not None and dispute.verdict.outcome == "undecided"
    assert dispute.doubted == set()


def test_three_different_ends_leave_all_three_in_doubt() -> None:
    dispute = settle(Dispute(honest("a")), lying_from(1, "b"), lying_from(1, "c"))
    assert dispute.verdict is not None and not dispute.verdict.convicted
    assert dispute.doubted == {"a", "b", "c"}


@given(st.lists(st.sampled_from(["good", "b", "c"]), min_size=3, max_size=3, unique=True))
def test_two_equal_liars_have_no_honest_provider_convicted_and_this_machine_does_them(
    order: list[str],
) -> None:
    lie = ("x1", "x2", "x3", "x4")
    told = {"good": honest("good"), "b": Account("b", lie, "lie"), "c": Account("c", lie, "lie")}
    dispute = Dispute(told[order[0]])
    while dispute.next_replay is not None:
        dispute = dispute.heard(told[order[1 if dispute.witness is None else 2]])
    assert dispute.verdict is not None and not dispute.verdict.convicted
    if order[2] == "good":  # the two have verified each other
        return
    ours = Dispute(told[order[0]], told[order[1]]).heard(honest(last=1)).verdict
    assert ours is not None and set(ours.convicted) == {*order[:2]} - {"good"}


@given(st.permutations(["a", "b", "c", "d"]), st.sets(st.sampled_from("abcd")), st.integers(1, 4))
def test_whatever_providers_say_of_each_other_none_of_them_is_convicted_by_that(
    order: list[str], liars: set[str], link: int
) -> None:
    told = {v: lying_from(link, v) if v in liars else honest(v) for v in order}
    dispute = Dispute(told[order[0]])
    for voice in order[1:]:
        if dispute.next_replay is None:
            break
        dispute = dispute.heard(told[voice])
    verdict = dispute.verdict
    assert verdict is not None
    assert not verdict.convicted
    if len(liars) == 1:  # and one liar never has an honest one disbelieved
        assert set(verdict.contradicted) <= liars
