"""The benchmarks' own logic, with made-up numbers: statistics, rounds and memory."""

import itertools

import numpy as np
import pytest

from benchmarks import memory, stats, timing

# --- statistics and rounds ----------------------------------------------------------------------------------------------


def test_spread_is_the_median_with_its_quartiles():
    found = stats.spread([4.0, 1.0, 2.0, 3.0, 100.0])
    assert (found.low, found.median, found.high, found.count) == (2.0, 3.0, 4.0, 5)


def test_ratios_are_of_rounds_that_both_took_part_in():
    assert stats.ratios([2.0, None, 9.0, 8.0], [1.0, 5.0, None, 2.0]) == [2.0, 4.0]


def test_a_slow_moment_that_hits_both_leaves_the_ratio():
    ours, peer = [1.0, 10.0, 1.0], [3.0, 30.0, 3.0]
    assert stats.spread(stats.ratios(peer, ours)) == stats.Spread(3.0, 3.0, 3.0, 3)


def test_the_interval_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        low, high = stats.median_interval(list(rng.exponential(size=11)))
        held += low <= np.log(2) <= high
    assert held / 400 > 0.93


def test_the_interval_of_few_values_is_their_range():
    assert stats.median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_no_values_have_no_interval():
    with pytest.raises(ValueError, match="at least one value"):
        stats.median_interval([])


class Steps:
    """Contestants that take seconds which are made up, and write down when they were called."""

    def __init__(self, **seconds):
        self.calls = []
        self.steps = {name: lambda name=name: (self.calls.append(name), seconds[name])[1] for name in seconds}


def test_everyone_is_called_once_a_round_and_comes_after_everyone():
    made, again = Steps(a=0.0, b=0.0, c=0.0), Steps(a=0.0, b=0.0, c=0.0)
    times = timing.interleave(made.steps, anchor="a", rounds=30, seconds=1.0, rest=0.0)
    assert times == {"a": [0.0] * 30, "b": [0.0] * 30, "c": [0.0] * 30}
    assert all(sorted(made.calls[turn : turn + 3]) == ["a", "b", "c"] for turn in range(0, 90, 3))
    followers = list(itertools.pairwise(made.calls))
    assert all(followers.count(pair) > 5 for pair in itertools.permutations("abc", 2))
    timing.interleave(again.steps, anchor="a", rounds=30, seconds=1.0, rest=0.0)
    assert again.calls == made.calls


def test_a_slow_contestant_sits_out_and_the_anchor_stays():
    made = Steps(ours=1.0, slow=5.0, quick=0.1)
    times = timing.interleave(made.steps, anchor="ours", rounds=10, seconds=2.0, rest=0.0)
    assert times["slow"] == [5.0] * 3 + [None] * 7
    assert times["ours"] == [1.0] * 10
    assert times["quick"] == [0.1] * 10


def test_more_rounds_of_everyone_can_be_asked_for():
    made = Steps(ours=1.0, slow=5.0)
    times = timing.interleave(made.steps, anchor="ours", rounds=10, seconds=2.0, least=7, rest=0.0)
    assert times == {"ours": [1.0] * 7, "slow": [5.0] * 7}


def test_rounds_end_when_nobody_has_time_left():
    made = Steps(ours=1.0, slow=5.0)
    assert len(timing.interleave(made.steps, anchor="ours", rounds=100, seconds=2.0, rest=0.0)["ours"]) == 3


@pytest.mark.parametrize("changes", [{"anchor": "nobody"}, {"rounds": 0}])
def test_bad_rounds_are_refused(changes):
    with pytest.raises(ValueError, match="must be"):
        timing.interleave(Steps(a=1.0).steps, **{"anchor": "a", "rounds": 1, "seconds": 1.0, **changes})


# --- memory -------------------------------------------------------------------------------------------------------------


def test_the_peak_shows_an_allocation_that_is_gone_again():
    try:
        extra = memory.peak_extra(lambda: np.ones(64 << 20, np.uint8).sum())
    except memory.PeakUnavailableError as error:
        pytest.skip(str(error))
    assert 60 << 20 <= extra <= 200 << 20


def test_a_machine_that_forbids_it_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no" / "clear_refs")
    with pytest.raises(memory.PeakUnavailableError, match="cannot be reset"):
        memory.peak_extra(lambda: None)
