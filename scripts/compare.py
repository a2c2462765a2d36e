"""Headwater beside DuckDB, DataFusion and PostgreSQL on the Nexmark queries; see scripts/compare."""

import argparse
import datetime
import json
import math
import multiprocessing
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUERIES = ROOT / "sql-tests" / "nexmark"
TABLES = ["person", "auction", "bid"]


def built():
    """The benchmark, compiled: started by itself, so that cargo's own time is not counted."""
    command = ["cargo", "bench", "-q", "--bench", "nexmark", "--no-run", "--message-format=json"]
    messages = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    programs = [json.loads(message).get("executable") for message in messages if message.startswith("{")]
    return next(program for program in reversed(programs) if program)


def bench(options, *arguments):
    size = ["--events", str(options.events), "--batch", str(options.batch)]
    subprocess.run([options.program, *size, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def headwater(folder, query, options):
    file = folder / "result.json"
    bench(options, "--query", query, "--check", "no", "--json", str(file))
    return json.loads(file.read_text())[0].get("cpu_s")


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def without_windows(text, bin_of):
    """TUMBLE and HOP in plain SQL; `bin_of` writes how a system rounds `date_time` down to seconds."""
    def tumble(found):
        start, span = bin_of(found[2]), f"INTERVAL '{found[2]} seconds'"
        return f"(SELECT *, {start} AS window_start, {start} + {span} AS window_end FROM {found[1]}) AS {found[1]}"

    def hop(found):
        step, count = int(found[2]), int(found[3]) // int(found[2])
        start = f"{bin_of(found[2])} - hop"
        hops = ", ".join(f"(INTERVAL '{number * step} seconds')" for number in range(count))
        return f"(SELECT *, {start} AS window_start FROM {found[1]} CROSS JOIN (VALUES {hops}) AS hops(hop)) AS hopped"

    text = re.sub(r"TUMBLE\((\w+), date_time, INTERVAL '(\d+)' SECOND\)", tumble, text)
    return re.sub(r"HOP\((\w+), date_time, INTERVAL '(\d+)' SECOND, INTERVAL '(\d+)' SECOND\)", hop, text)


def duckdb_once(folder, text, answer):
    import duckdb
    connection = duckdb.connect(config={"threads": 1})
    for table in TABLES:
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM read_parquet('{folder}/{table}.parquet')")
    text = text.replace("to_char(date_time, 'YYYY-MM-DD')", "strftime(date_time, '%Y-%m-%d')")
    text = text.replace("to_char(date_time, 'HH24:MI')", "strftime(date_time, '%H:%M')")
    text = without_windows(text, lambda seconds: f"time_bucket(INTERVAL '{seconds} seconds', date_time)")
    begun = cpu()
    connection.execute(f"CREATE TABLE result AS {text}")
    answer.put(cpu() - begun)


def datafusion_once(folder, text, answer):
    import datafusion
    import pyarrow.parquet
    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(1))
    for table in TABLES:
        batches = pyarrow.parquet.read_table(f"{folder}/{table}.parquet").to_batches()
        context.register_record_batches(table, [batches])
    text = text.replace("'YYYY-MM-DD'", "'%Y-%m-%d'").replace("'HH24:MI'", "'%H:%M'")
    text = without_windows(text, lambda seconds: f"date_bin(INTERVAL '{seconds} seconds', date_time)")
    begun = cpu()
    context.sql(text).collect()
    answer.put(cpu() - begun)


def apart(work, folder, text):
    """CPU seconds of `work` in a process of its own; None if it cannot do the query."""
    answer = multiprocessing.Queue()
    process = multiprocessing.Process(target=tried, args=(work, folder, text, answer))
    process.start()
    process.join()
    return answer.get() if process.exitcode == 0 else None


def tried(work, folder, text, answer):
    try:
        work(folder, text, answer)
    except Exception as error:
        print(f"{work.__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(1)


def plain(field):
    """Strings in the layout that writers of CSV know."""
    import pyarrow
    return pyarrow.field(field.name, pyarrow.string()) if str(field.type) == "string_view" else field


class Postgres:
    """A PostgreSQL of our own with the events loaded into unlogged tables."""

    def __init__(self, folder):
        import psycopg
        import pyarrow.csv
        import pyarrow.parquet
        binaries = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self.data = tempfile.mkdtemp(prefix="headwater-compare-")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if user:
            subprocess.run(["chown", "postgres", self.data], check=True)
        self.control = [*user, str(binaries / "pg_ctl"), "-D", self.data, "-w"]
        quiet = {"stdout": subprocess.DEVNULL, "cwd": "/", "check": True}
        subprocess.run([*user, str(binaries / "initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-N",
                        "--locale=C.UTF-8"], **quiet)
        settings = f"-p 54329 -h '' -k {self.data} -F -c shared_buffers=2GB -c work_mem=512MB -c jit=off " \
                   "-c max_parallel_workers_per_gather=0 -c max_wal_size=8GB"
        subprocess.run([*self.control, "-o", settings, "-l", f"{self.data}/log", "start"], **quiet)
        self.connection = psycopg.connect(host=self.data, port=54329, user="postgres", autocommit=True)
        for table in TABLES:
            rows = pyarrow.parquet.read_table(f"{folder}/{table}.parquet")
            rows = rows.cast(pyarrow.schema([plain(field) for field in rows.schema]))
            kinds = {"int64": "bigint", "timestamp[us]": "timestamp"}
            columns = ", ".join(f"{field.name} {kinds.get(str(field.type), 'text')}" for field in rows.schema)
            self.connection.execute(f"CREATE UNLOGGED TABLE {table} ({columns})")
            pyarrow.csv.write_csv(rows, f"{folder}/{table}.csv", pyarrow.csv.WriteOptions(include_header=False))
            with open(f"{folder}/{table}.csv", "rb") as file, self.connection.cursor().copy(
                    f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
                while piece := file.read(1 << 20):
                    copy.write(piece)
        self.connection.execute("ANALYZE")

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.connection.info.backend_pid}/stat").read_text().rsplit(") ")[-1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def once(self, text):
        import psycopg
        text = without_windows(text, lambda seconds: f"date_bin('{seconds} seconds', date_time, TIMESTAMP '2000-01-01')")
        try:
            self.connection.execute(f"CREATE MATERIALIZED VIEW result AS {text} WITH NO DATA")
        except psycopg.Error as error:
            print(f"postgres: {str(error).splitlines()[0]}", file=sys.stderr)
            return None
        begun = self.cpu()
        self.connection.execute("REFRESH MATERIALIZED VIEW result")
        spent = self.cpu() - begun
        self.connection.execute("DROP MATERIALIZED VIEW result")
        return spent

    def stop(self):
        self.connection.close()
        subprocess.run([*self.control, "-m", "immediate", "stop"], cwd="/", stdout=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", self.data])


def shown(value):
    return "–" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--batch", type=int, default=40_000)
    parser.add_argument("--query")
    parser.add_argument("--without", default="")
    parser.add_argument("--program", help="the built benchmark, so that it is not built")
    options = parser.parse_args()
    options.program = options.program or built()
    names = [file.stem for file in QUERIES.glob("*.sql") if file.stem[1:].isdigit() and file.stem != "q13"]
    names.sort(key=lambda name: int(name[1:]))
    names = options.query.split(",") if options.query else names
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        bench(options, "--export", str(folder))
        postgres = None if "postgres" in options.without else Postgres(folder)
        try:
            print(f"{datetime.date.today()}: {options.events} events; Headwater in batches of {options.batch}, one worker; "
                  "the others once; CPU-seconds\n")
            print("| query | Headwater | DuckDB once | DataFusion once | PostgreSQL once | Headwater / best once |")
            print("|---|---|---|---|---|---|")
            ratios = []
            for name in names:
                text = (QUERIES / f"{name}.sql").read_text()
                own = headwater(folder, name, options)
                others = [apart(duckdb_once, folder, text), apart(datafusion_once, folder, text)]
                others.append(postgres.once(text) if postgres else None)
                best = min((value for value in others if value is not None), default=None)
                ratio = own / best if own and best else None
                ratios += [ratio] if ratio else []
                print("|", name, "|", " | ".join(shown(value) for value in [own, *others, ratio]), "|", flush=True)
        finally:
            if postgres:
                postgres.stop()
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"\nGeometric mean of the last column: {mean:.2f}.")


main()
