"""Sample vintages of whole days, and what tests of sinks do with them."""

from datetime import UTC, datetime

from forecastcore.testing import sample_vintage


def days(*numbers, **kwargs):
    """The sample vintages of some days of January 2024."""
    return [sample_vintage(issued_at=datetime(2024, 1, n, tzinfo=UTC), **kwargs) for n in numbers]


def key(table):
    """A vintage's run key."""
    return table["run_key"][0].as_py()


def publish(sink, *tables):
    """Publish vintages one after the other; what the sink said of each."""
    return [sink.publish(table, key(table)) for table in tables]


def rows(table):
    """In an order that no sink promises."""
    return table.sort_by([(name, "ascending") for name in ("issued_at", "scenario", "unique_id", "ds")])
