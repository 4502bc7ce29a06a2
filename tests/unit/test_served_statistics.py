"""What the statistics of several targets come to together."""

from dataclasses import fields

from kvstore.client.served_store import summed
from kvstore.types import Stats


def stats_of(**values: int) -> Stats:
    names = [field.name for field in fields(Stats) if field.name != "description"]
    return Stats(description="", **{name: values.get(name, 0) for name in names})


def test_amounts_add_up() -> None:
    both = summed("two", [stats_of(objects=1, sets=5), stats_of(objects=2, sets=7)])

    assert ("two", 3, 12) == (both.description, both.objects, both.sets)


def test_what_is_no_amount_is_the_largest() -> None:
    both = summed("two", [stats_of(slab_size=32, sequence=9), stats_of(slab_size=16, sequence=3)])

    assert (32, 9) == (both.slab_size, both.sequence)


def test_the_first_target_that_is_offline_says_why() -> None:
    found = [stats_of(), stats_of(offline=5), stats_of(offline=28)]

    assert 5 == summed("three", found).offline
