"""What the tests against DuckDB share: its benchmark data and query texts, loading, and the comparison of answers."""

import decimal
import importlib.resources
import io
import json
import math

from harness import need


def judge(extension):
    """DuckDB with one of its benchmark extensions, which makes the data and holds the query texts."""
    try:
        import duckdb
        import psycopg  # noqa: F401
        found = importlib.resources.files(f"duckdb_extension_{extension}")
    except ImportError as missing:
        need(False, str(missing))
    path = next(iter(found.glob("extensions/*/*.duckdb_extension")))
    connection = duckdb.connect()
    connection.execute(f"LOAD '{path}'")
    # Where both leave something open, PostgreSQL's choice.
    connection.execute("SET default_null_order = 'postgres'")
    return connection


def tables(connection):
    """Each table's columns with PostgreSQL's types, in the order of names."""
    rows = connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index")
    found = {}
    for table, column, kind in rows.fetchall():
        found.setdefault(table, []).append((column, kind.replace("DECIMAL", "NUMERIC").replace("VARCHAR", "TEXT")))
    return found


def create_tables(cursor, columns_of):
    for table, columns in columns_of.items():
        cursor.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns)})")


def rows_of(connection, query):
    return connection.execute(query).fetchall()


def copy(cursor, table, rows):
    """Loads rows by COPY."""
    import csv
    text = io.StringIO()
    writer = csv.writer(text)
    for row in rows:
        writer.writerow(["\\N" if cell is None else cell for cell in row])
    with cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv, NULL '\\N')") as target:
        target.write(text.getvalue())


def normal(cell):
    """A cell as something to sort and compare: numbers by value, text without the blanks of char(n)."""
    if cell is None:
        return (0, "")
    if isinstance(cell, bool):
        return (1, str(cell))
    if isinstance(cell, (int, float, decimal.Decimal)):
        return (2, cell)
    return (1, str(cell).rstrip())


def close(ours, theirs):
    """Exact, but where DuckDB computes with doubles."""
    if ours[0] != 2 or theirs[0] != 2:
        return ours == theirs
    if isinstance(ours[1], float) or isinstance(theirs[1], float):
        left, right = float(ours[1]), float(theirs[1])
        return left == right or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    return ours[1] == theirs[1]


def key_of(row):
    """Doubles in few digits, so that rows which are close stand at the same place."""
    return [(kind, round(float(value), 4) if kind == 2 else 0, value if kind != 2 else "") for kind, value in row]


def ordered(rows):
    return sorted(([normal(cell) for cell in row] for row in rows), key=key_of)


def difference(ours, theirs):
    """Nothing if two answers have the same rows, else a few that differ."""
    ours, theirs = ordered(ours), ordered(theirs)
    pairs = list(zip(ours, theirs))
    wrong = [pair for pair in pairs if not all(map(close, *pair))]
    if len(ours) == len(theirs) and not wrong:
        return None
    shown = "\n".join(f"  ours   {[c[1] for c in mine]}\n  theirs {[c[1] for c in other]}" for mine, other in wrong[:3])
    return f"{len(ours)} rows against {len(theirs)}\n{shown}"


def with_ties_settled(connection, query):
    """The query with its order continued by all its columns, which is what a view does with ties at a LIMIT."""
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()[0])
    node = tree["statements"][0]["node"]
    width = len(connection.execute(query).description)
    for modifier in node["modifiers"]:
        if modifier["type"] == "ORDER_MODIFIER":
            modifier["orders"] += [
                {"type": "ASCENDING", "null_order": "NULLS LAST", "expression": {
                    "class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "query_location": 0,
                    "value": {"type": {"id": "INTEGER", "type_info": None}, "is_null": False, "value": place},
                }} for place in range(1, width + 1)]
    text = connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)])
    return text.fetchone()[0]


def compare(cursor, connection, views, when):
    """Every view against DuckDB's answer to its query; the names of all that differ."""
    wrong = []
    for name, query in views.items():
        try:
            ours = cursor.execute(f"SELECT * FROM {name}").fetchall()
        except Exception as error:
            wrong.append(f"{name} cannot be read after {when}: {error}")
            continue
        found = difference(ours, rows_of(connection, query))
        if found and "limit" in query.lower():
            found = difference(ours, rows_of(connection, with_ties_settled(connection, query)))
        if found:
            wrong.append(f"{name} differs after {when}: {found}")
    return wrong


def create_views(cursor, queries):
    """Makes a materialized view of each query; what was refused, with the reason."""
    refused = {}
    for name, query in queries.items():
        try:
            cursor.execute(f"CREATE MATERIALIZED VIEW {name} AS {query}")
        except Exception as error:
            refused[name] = str(error)
    return refused


CLASSES = ["linear", "keyed", "keyed-recompute", "recompute"]


def classes(cursor, names):
    """The worst class of each view's operators."""
    found = {}
    for name in names:
        lines = [row[0] for row in cursor.execute(f"EXPLAIN MATERIALIZED VIEW {name}").fetchall()]
        marks = [place for place, kind in enumerate(CLASSES) for line in lines
                 if f"[{kind};" in line or f"[{kind}," in line or f"[{kind}]" in line]
        found[name] = CLASSES[max(marks, default=0)]
    return found
