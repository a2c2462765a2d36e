"""`headwater demo` shows live views, and psql reads them while they move."""

import subprocess
import tempfile
import time

from harness import BINARY, free_port, main, wait_for_port


def psql_reads_the_views_while_they_move():
    port, http = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [BINARY, "demo", "--data-dir", f"{folder}/data", "--listen", f"127.0.0.1:{port}",
                   "--http-listen", f"127.0.0.1:{http}", "--seconds", "20"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
        try:
            wait_for_port(port, process)
            views = query(port, "SELECT matviewname FROM pg_matviews ORDER BY 1", lambda rows: len(rows) >= 5)
            assert len(views) >= 5, views
            sizes = lambda: [query(port, f'SELECT * FROM "{view}"', lambda rows: len(rows) > 0) for view in views]
            first = sizes()
            end = time.monotonic() + 15
            while (second := sizes()) == first and time.monotonic() < end:
                pass
            assert second != first, "the views do not move"
            shown, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, process.returncode
    assert "psql" in shown, shown[:2000]


def query(port, sql, enough, seconds=30):
    """The rows of a query, asked again until there are enough."""
    end = time.monotonic() + seconds
    while True:
        command = ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "headwater", "-d", "dev", "-X", "-A", "-t", "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        rows = [line for line in done.stdout.splitlines() if line]
        if enough(rows) or time.monotonic() > end:
            return rows


main(psql_reads_the_views_while_they_move)
