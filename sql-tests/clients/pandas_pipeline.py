"""The pipeline of a pandas script (read, drop nulls, compute, group, write), as one file and as a live view."""

import csv
import gzip
import io
import os
import pathlib
import subprocess
import tempfile

from harness import BINARY, FLIGHTS, Headwater, main, need

COLUMNS = """year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT,
  sched_arr_time INT, arr_delay INT, carrier TEXT, flight INT, tailnum TEXT, origin TEXT, dest TEXT, air_time INT,
  distance INT, hour INT, minute INT, time_hour TIMESTAMPTZ"""
# pandas drops a row that misses any value, so the query names every column that can miss one.
COMPLETE = " AND ".join(
    f"{name} IS NOT NULL" for name in ("dep_time", "dep_delay", "arr_time", "arr_delay", "tailnum", "air_time"))
QUERY = f"""SELECT carrier, origin, sum(distance * 2) AS doubled, sum(air_time) AS air, count(*) AS flights
  FROM flights WHERE {COMPLETE} GROUP BY carrier, origin"""


def with_pandas(text):
    import pandas
    frame = pandas.read_csv(io.StringIO(text)).dropna()
    frame["doubled"] = frame["distance"] * 2
    groups = frame.groupby(["carrier", "origin"])
    table = groups.agg(doubled=("doubled", "sum"), air=("air_time", "sum"), flights=("doubled", "size")).reset_index()
    table["air"] = table["air"].astype("int64")
    return sorted([str(cell) for cell in row] for row in table.itertuples(index=False))


def flights_text():
    need((FLIGHTS / "flights.csv.gz").exists(), f"no real data at {FLIGHTS}")
    try:
        import pandas  # noqa: F401
    except ImportError:
        need(False, "pandas is not installed")
    return gzip.open(FLIGHTS / "flights.csv.gz", "rt").read()


def one_file_gives_what_pandas_gives():
    expected = with_pandas(flights_text())
    with tempfile.TemporaryDirectory() as folder:
        script, out = pathlib.Path(folder) / "job.sql", pathlib.Path(folder) / "out.csv"
        script.write_text(f"""
            CREATE TABLE flights ({COLUMNS})
              WITH (connector = 'file', path = '{FLIGHTS}/flights.csv.gz', null = 'NA') FORMAT PLAIN ENCODE CSV;
            COPY ({QUERY} ORDER BY carrier, origin) TO '{out}' (FORMAT csv, HEADER);
        """)
        allowed = f"{FLIGHTS}{os.pathsep}{folder}"
        done = subprocess.run([BINARY, "sql", "-f", str(script), "--allowed-paths", allowed],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        header, *rows = csv.reader(out.open())
    assert header == ["carrier", "origin", "doubled", "air", "flights"], header
    assert sorted(rows) == expected


def a_view_fed_in_a_hundred_pieces_equals_the_batch_answer_each_time():
    text = flights_text()
    header, *lines = text.splitlines(keepends=True)
    pieces = [lines[len(lines) * piece // 100:len(lines) * (piece + 1) // 100] for piece in range(100)]
    with Headwater() as server, tempfile.TemporaryDirectory() as folder:
        server.psql(f"CREATE TABLE flights ({COLUMNS}); CREATE MATERIALIZED VIEW totals AS {QUERY};")
        piece_file = pathlib.Path(folder) / "piece.csv"
        seen = ""
        for number, piece in enumerate(pieces):
            piece_file.write_text(header + "".join(piece))
            seen += "".join(piece)
            server.psql(f"\\copy flights FROM '{piece_file}' (FORMAT csv, HEADER, NULL 'NA')\n")
            live = sorted(server.rows("SELECT * FROM totals"))
            # The batch answer of the same engine each time, pandas' own at every tenth piece and at the end.
            assert live == sorted(server.rows(QUERY)), f"after piece {number}"
            if number % 10 == 9:
                assert live == with_pandas(header + seen), f"after piece {number}"


main(one_file_gives_what_pandas_gives, a_view_fed_in_a_hundred_pieces_equals_the_batch_answer_each_time)
