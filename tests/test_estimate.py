"""What `--dry-run` makes of the seconds that it measured."""

from foolbench.attacks.entry import Entry, Limit
from foolbench.attacks.noise import Noise
from foolbench.bench.evaluation.estimate import first_needed, makespan
from foolbench.bench.running.shards import Shard, cut


def shards(name: str, count: int, budget: int) -> tuple[Shard, ...]:
    attack = Noise(children=1, generations=budget)
    return cut(Entry(name, name, name, attack, "fool", "black", tasks=count, shard=1, budget=budget, targets=(0,)))


def test_a_worker_that_is_free_takes_the_next_shard_of_any_attack():
    each = dict.fromkeys(shards("short", 10, 1), 1.0) | dict.fromkeys(shards("long", 3, 100), 10.0)
    # Two workers take a long one each; while one has the third, the other does all the short ones.
    assert [makespan(each, workers) for workers in (1, 2, 4)] == [40, 20, 10]
    # The last long shard is nobody's but one worker's.
    assert makespan(dict.fromkeys(shards("long", 3, 100), 10.0), 2) == 20
    assert makespan({}, 2) == 0


def test_an_entry_is_tried_after_those_that_it_needs():
    def entry(name: str, **needs: tuple[str, ...]) -> Entry:
        attack = Noise(children=1, generations=1)
        return Entry(name, name, name, attack, "perturb", "black", 1, 1, 1, limit=Limit("linf", 0.1), **needs)  # pyright: ignore

    plan = [entry("last", after=("middle", "elsewhere")), entry("middle", carries=("first",)), entry("first")]
    assert [e.name for e in first_needed(plan)] == ["first", "middle", "last"]
    circle = [entry("a", after=("b",)), entry("b", after=("a",)), entry("c")]
    assert sorted(e.name for e in first_needed(circle)) == ["a", "b", "c"]
