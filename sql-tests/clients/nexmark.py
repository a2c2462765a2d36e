"""The Nexmark suite, in RisingWave's and in Flink's spelling, as materialized views: each equals its query run over the
same events, while they arrive and after rows were deleted, and none is of class recompute."""

import os
import pathlib
import time

from harness import ROOT, Headwater, main

FOLDER = ROOT / "sql-tests" / "nexmark"
EVENTS = int(os.environ.get("HEADWATER_NEXMARK_EVENTS", "10000"))
WORKERS = os.environ.get("HEADWATER_NEXMARK_WORKERS", "2")


def queries():
    """Name and text of each query; RisingWave's spelling, then Flink's where it differs."""
    order = lambda path: (int(path.stem.split(".")[0][1:]), path.stem)
    paths = sorted(FOLDER.glob("q*.sql"), key=order)
    return [(path.stem.replace(".", "_"), path.read_text()) for path in paths]


def create(server, kind, rate):
    for name in ["Bid", "Auction", "Person"]:
        server.psql(
            f"CREATE {kind} {name} WITH (connector = 'nexmark', nexmark.table.type = '{name}', "
            f"nexmark.event.num = '{EVENTS}', nexmark.rate = '{rate}', nexmark.min.event.gap.in.ns = '5000000')"
        )
    server.psql("CREATE TABLE side_input (key BIGINT PRIMARY KEY, value VARCHAR);"
                "INSERT INTO side_input SELECT k, k::varchar FROM generate_series(0, 9999) AS g (k)")
    server.psql("CREATE MATERIALIZED VIEW arrived AS SELECT (SELECT count(*) FROM bid) AS bids, "
                "(SELECT count(*) FROM auction) AS auctions, (SELECT count(*) FROM person) AS persons")
    for name, text in queries():
        server.psql(f"CREATE MATERIALIZED VIEW {name} AS {text}")


def wait_for_all(server, seconds=240):
    rounds = EVENTS // 50
    all_there = [[str(rounds * 46), str(rounds * 3), str(rounds)]]
    end = time.monotonic() + seconds
    while (there := server.rows("SELECT * FROM arrived")) != all_there:
        assert time.monotonic() < end, f"after {seconds} s {there} of {all_there} rows are there"
        time.sleep(0.2)


def check(server):
    """Every view against its query, both read in one transaction; then the sizes, which must not all be nothing."""
    sizes = {}
    for name, text in queries():
        counts = server.rows(
            f"WITH query AS ({text}), missing AS (SELECT * FROM query EXCEPT ALL SELECT * FROM {name}), "
            f"surplus AS (SELECT * FROM {name} EXCEPT ALL SELECT * FROM query) "
            f"SELECT (SELECT count(*) FROM {name}), (SELECT count(*) FROM missing), (SELECT count(*) FROM surplus)"
        )
        [[size, missing, surplus]] = counts
        assert (missing, surplus) == ("0", "0"), f"{name}: {missing} rows are missing, {surplus} are too many"
        sizes[name] = int(size)
    return sizes


def no_query_is_recomputed():
    with Headwater() as server:
        create(server, "SOURCE", 1)
        for name, _ in queries():
            plan = server.psql(f"EXPLAIN MATERIALIZED VIEW {name}")
            assert "[recompute" not in plan, f"{name}:\n{plan}"


def views_over_streams_equal_their_queries():
    with Headwater("--workers", WORKERS) as server:
        create(server, "SOURCE", EVENTS // 10)
        wait_for_all(server)
        sizes = check(server)
        empty = [name for name, size in sizes.items() if size == 0]
        assert not empty, f"no rows in {empty}: too few events to tell"
        server.kill()
        server.start()
        assert check(server) == sizes, "the views differ after kill -9"


def views_over_tables_follow_deletes():
    with Headwater("--workers", WORKERS) as server:
        create(server, "TABLE", EVENTS // 5)
        wait_for_all(server)
        check(server)
        server.psql("DELETE FROM bid WHERE mod(price, 50) = 7; DELETE FROM auction WHERE mod(id, 40) = 3")
        server.psql("UPDATE bid SET price = price + 1000 WHERE mod(bidder, 30) = 5")
        check(server)
        server.psql("DELETE FROM bid; DELETE FROM auction; DELETE FROM person")
        sizes = check(server)
        assert all(size == 0 for size in sizes.values()), sizes


main(no_query_is_recomputed, views_over_streams_equal_their_queries, views_over_tables_follow_deletes)
