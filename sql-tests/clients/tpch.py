"""The 22 queries of TPC-H as materialized views equal DuckDB's answers after the load and while 1 % of the orders go
and others come, in 50 steps. `--scale 0.1` for the larger run, `--every 1` to compare after each step."""

import argparse
import sys

import duck
from harness import Headwater, main

FLAGS = argparse.ArgumentParser()
FLAGS.add_argument("--scale", type=float, default=0.01)
FLAGS.add_argument("--steps", type=int, default=50)
FLAGS.add_argument("--every", type=int, default=10, help="steps from one comparison to the next")
FLAGS.add_argument("--only", type=int, nargs="*", help="numbers of queries")
FLAGS = FLAGS.parse_args()


def queries(judge):
    texts = judge.execute("SELECT query_nr, query FROM tpch_queries() ORDER BY query_nr").fetchall()
    return {f"q{number}": text.strip().rstrip(";") for number, text in texts if number in (FLAGS.only or range(1, 23))}


class Refresh:
    """One per cent of the orders with their lines to delete, and as many, held back from the load, to insert."""

    def __init__(self, judge):
        keys = [row[0] for row in judge.execute("SELECT o_orderkey FROM orders ORDER BY hash(o_orderkey), o_orderkey").fetchall()]
        share = max(len(keys) // 100, FLAGS.steps)
        self.old, self.new = keys[:share], keys[share:2 * share]
        self.judge = judge
        judge.execute("CREATE TEMP TABLE later (key BIGINT)")
        judge.executemany("INSERT INTO later VALUES (?)", [[key] for key in self.new])
        for table, key in (("orders", "o_orderkey"), ("lineitem", "l_orderkey")):
            judge.execute(f"CREATE TEMP TABLE later_{table} AS SELECT * FROM {table} WHERE {key} IN (SELECT key FROM later)")
            judge.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT key FROM later)")

    def play(self, cursor, step):
        """Deletes and inserts the step's share on both sides."""
        gone = ", ".join(map(str, self.old[step::FLAGS.steps]))
        come = ", ".join(map(str, self.new[step::FLAGS.steps]))
        for table, key in (("lineitem", "l_orderkey"), ("orders", "o_orderkey")):
            for side in (cursor, self.judge):
                side.execute(f"DELETE FROM {table} WHERE {key} IN ({gone})")
            rows = self.judge.execute(f"SELECT * FROM later_{table} WHERE {key} IN ({come})").fetchall()
            duck.copy(cursor, table, rows)
            self.judge.execute(f"INSERT INTO {table} SELECT * FROM later_{table} WHERE {key} IN ({come})")


def views_equal_duckdb():
    import psycopg
    judge = duck.judge("tpch")
    judge.execute(f"CALL dbgen(sf = {FLAGS.scale})")
    columns_of, views, refresh = duck.tables(judge), queries(judge), Refresh(judge)
    with Headwater() as server, psycopg.connect(
            host="127.0.0.1", port=server.port, user="headwater", dbname="dev", autocommit=True) as connection:
        cursor = connection.cursor()
        columns_of = {table: columns for table, columns in columns_of.items() if not table.startswith("later")}
        duck.create_tables(cursor, columns_of)
        # Half of the views exist before the data, half are made over it.
        early = dict(list(views.items())[::2])
        refused = duck.create_views(cursor, early)
        for table in columns_of:
            duck.copy(cursor, table, duck.rows_of(judge, f"SELECT * FROM {table}"))
        refused |= duck.create_views(cursor, {name: query for name, query in views.items() if name not in early})
        kept = {name: query for name, query in views.items() if name not in refused}
        found = duck.classes(cursor, kept)
        for kind in duck.CLASSES:
            print(kind, " ".join(name for name in kept if found[name] == kind))
        wrong = [f"{name} is refused: {reason}" for name, reason in refused.items()]
        wrong += [f"{name} is of class recompute" for name in kept if found[name] == "recompute"]
        wrong += duck.compare(cursor, judge, kept, "the load")
        for step in range(FLAGS.steps):
            refresh.play(cursor, step)
            if step % FLAGS.every == 0 or step == FLAGS.steps - 1:
                wrong += duck.compare(cursor, judge, kept, f"step {step + 1}")
        assert not wrong, "\n".join(wrong)


# The tests of the harness know no flags.
sys.argv = sys.argv[:1]
main(views_equal_duckdb)
