"""All the quick benchmarks, one after the other: a few minutes."""

from collections.abc import Iterator

from tests.benchmarks import aggregation, rollout, round, stepping, update
from tests.benchmarks.measuring import Options, Row, main


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows of all of them."""
    for benchmark in (stepping, rollout, update, round, aggregation):
        yield from benchmark.rows(options)


if __name__ == "__main__":
    main("kernels", __doc__, rows)
