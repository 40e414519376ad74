"""What `--dry-run` makes of the seconds that it measured."""

from foolbench.attacks.entry import Entry
from foolbench.attacks.noise import Noise
from foolbench.bench.evaluation.estimate import makespan
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
