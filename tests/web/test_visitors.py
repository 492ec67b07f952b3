"""How often an address may be wrong."""

from __future__ import annotations

import pytest

from healthd.visitors import MOST_ADDRESSES, Mistakes, network


def test_so_many_mistakes_at_once_and_more_with_time() -> None:
    mistakes = Mistakes(at_once=3, per_second=0.5)
    assert [mistakes.again("a", 0.0) for _ in range(5)] == [False, False, False, True, True]
    assert mistakes.again("a", 1.0)
    assert not mistakes.again("a", 6.0)


def test_one_address_pays_for_its_own_mistakes_alone() -> None:
    mistakes = Mistakes(at_once=1)
    assert not mistakes.again("a", 0.0)
    assert mistakes.again("a", 0.0)
    assert not mistakes.again("b", 0.0)


def test_a_clock_that_goes_back_forgives_nothing() -> None:
    mistakes = Mistakes(at_once=1, per_second=1)
    assert not mistakes.again("a", 100.0)
    assert mistakes.again("a", 0.0)


def test_the_memory_is_bounded_and_forgets_the_quiet_ones_first() -> None:
    mistakes = Mistakes(at_once=1)
    for number in range(MOST_ADDRESSES):
        mistakes.again(str(number), 0.0)
    assert mistakes.again("0", 0.0)
    mistakes.again("one more", 0.0)
    assert not mistakes.again("1", 0.0)
    assert mistakes.again("0", 0.0)


NETWORKS = {
    "203.0.113.77": ("203.0.113.77/32", "203.0.113.0/24"),
    "2001:db8:1:2:3:4:5:6": ("2001:db8:1:2::/64", "2001:db8:1::/48"),
    "fe80::1%eth0": ("fe80::/64", "fe80::/48"),
    "testclient": ("unknown", "unknown"),
    "": ("unknown", "unknown"),
}


@pytest.mark.parametrize("address", NETWORKS)
def test_who_has_one_address_of_a_network_has_them_all(address: str) -> None:
    assert (network(address), network(address, v4=24, v6=48)) == NETWORKS[address]
