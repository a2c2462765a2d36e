"""Topics of a real Kafka as sources and sinks: formats, keys, dead letters, new partitions, restarts of either side, and
a sink that has every change exactly once while Headwater is killed again and again."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

from harness import Headwater, free_port, main, need, wait_for_port

JARS = pathlib.Path(os.environ.get("HEADWATER_KAFKA_JARS", pathlib.Path.home() / ".cache" / "headwater-kafka"))
SEED = int(os.environ.get("HEADWATER_SEED", "1"))
KILLS = int(os.environ.get("HEADWATER_KAFKA_KILLS", "10"))
BROKER_KILLS = int(os.environ.get("HEADWATER_KAFKA_BROKER_KILLS", "2"))


class Kafka:
    """One broker, which is its own controller."""

    def __init__(self):
        need(any(JARS.glob("kafka_2.13-*.jar")), f"Kafka's jars in {JARS}")
        need(shutil.which("java"), "java")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="headwater-kafka-"))
        self.port, controller = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.settings = self.folder / "server.properties"
        self.settings.write_text(f"""
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
log.dirs={self.folder / "logs"}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
""")
        self.java("kafka.tools.StorageTool", "format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA", "--standalone",
                  "--config", str(self.settings)).wait()
        self.start()

    def java(self, *arguments):
        command = ["java", "-Xmx512m", "-cp", f"{JARS}/*", *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)

    def start(self):
        self.process = self.java("kafka.Kafka", str(self.settings))
        wait_for_port(self.port, self.process, 120)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def topic(self, name, partitions=1):
        from confluent_kafka.admin import AdminClient, NewTopic
        admin = AdminClient({"bootstrap.servers": self.address})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)

    def grow(self, name, partitions):
        from confluent_kafka.admin import AdminClient, NewPartitions
        admin = AdminClient({"bootstrap.servers": self.address})
        admin.create_partitions([NewPartitions(name, partitions)])[name].result(30)

    def send(self, topic, messages):
        """Messages are (partition, key, value) or (partition, key, value, headers)."""
        from confluent_kafka import Producer
        producer = Producer({"bootstrap.servers": self.address, "enable.idempotence": True})
        for partition, key, value, *headers in messages:
            while True:
                try:
                    producer.produce(topic, value, key, partition, headers=headers[0] if headers else None)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0, "the broker did not take all messages"

    def read(self, topic):
        """All committed messages as (key, value), each partition in its order."""
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
        consumer = Consumer({
            "bootstrap.servers": self.address, "group.id": "reader", "enable.partition.eof": True,
            "isolation.level": "read_committed", "auto.offset.reset": "earliest"})
        partitions = consumer.list_topics(topic, 30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        messages, ended = [], set()
        while len(ended) < len(partitions):
            message = consumer.poll(30)
            assert message is not None, "the topic cannot be read"
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
            else:
                messages.append((message.key(), message.value()))
        consumer.close()
        return messages


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not after {seconds} s: {what}"
        time.sleep(0.05)


def source(kafka, topic, more=""):
    return f"WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{kafka.address}'{more})"


def formats_and_parts(kafka):
    kafka.topic("clicks", 2)
    kafka.send("clicks", [
        (0, b"a", b'{"id": 1, "name": "x", "tags": {"k": [1, 2]}}', [("h", b"v")]),
        (1, b"b", b'{"id": 2,\n "name": null}'),
        (0, None, b'{"id": "three"}'),
        (1, b"\xff", b"\xff\xfe"),
        (0, None, None),
    ])
    kafka.topic("lines")
    kafka.send("lines", [(0, None, b'1;"a;b"'), (0, None, b"2;NA"), (0, None, b"3")])
    with Headwater() as server:
        server.psql(f"""
            CREATE TABLE clicks (id INT NOT NULL, name TEXT, tags JSONB)
              INCLUDE key AS k INCLUDE partition AS p INCLUDE offset AS o INCLUDE headers AS h {source(kafka, "clicks")};
            CREATE TABLE lines (id INT, text TEXT) {source(kafka, "lines", ", delimiter = ';', null = 'NA'")}
              FORMAT PLAIN ENCODE CSV;
            CREATE TABLE raw (data BYTEA) {source(kafka, "lines")} FORMAT PLAIN ENCODE BYTES;
            CREATE SOURCE found (*) {source(kafka, "clicks")};
            CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, count(name) AS names FROM found;
        """)
        dead = "SELECT source, place, position, reason FROM hw_catalog.hw_dead_letters WHERE source <> 'found' ORDER BY 1, 2, 3"
        until(lambda: len(server.rows(dead)) == 4, "dead letters")
        until(lambda: server.rows("SELECT count(*) FROM raw") == [["3"]], "raw rows")
        assert server.rows("SELECT * FROM clicks ORDER BY id") == [
            ["1", "x", '{"k": [1, 2]}', "\\x61", "0", "0", '[{"key": "h", "value": "v"}]'],
            ["2", None, None, "\\x62", "1", "0", None]], server.rows("SELECT * FROM clicks")
        assert server.rows("SELECT * FROM lines ORDER BY id") == [["1", "a;b"], ["2", None]]
        assert server.rows(dead) == [
            ["clicks", "clicks[0]", "1", 'column "id": invalid input syntax for type integer: "three"'],
            ["clicks", "clicks[0]", "2", "it has no value"],
            ["clicks", "clicks[1]", "1", "it is not UTF-8"],
            ["lines", "lines[0]", "2", "1 fields where 2 are expected"]], server.rows(dead)
        assert server.rows("SELECT data FROM raw ORDER BY 1") == [["\\x313b22613b6222"], ["\\x323b4e41"], ["\\x33"]]
        # The columns that were found: an id that is sometimes text is text.
        kinds = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'found' ORDER BY 1"
        assert server.rows(kinds) == [["id", "text"], ["name", "text"], ["tags", "jsonb"]], server.rows(kinds)
        until(lambda: server.rows("SELECT * FROM sums") == [["3", "1"]], "the rows of the source")


def mistakes_are_told_at_create(kafka):
    with Headwater() as server:
        def refused(statement, *parts):
            try:
                server.psql(statement, "-v", "VERBOSITY=verbose")
            except AssertionError as error:
                for part in parts:
                    assert part in str(error), (part, str(error))
                return
            raise AssertionError(f"was not refused: {statement}")

        kafka.topic("there")
        refused(f"CREATE SOURCE s (a INT) {source(kafka, 'nowhere')}", "42704", 'topic "nowhere" does not exist')
        refused("CREATE SOURCE s (a INT) WITH (connector = 'kafka', topic = 't', "
                "properties.bootstrap.server = '127.0.0.1:1')", "08006", "cannot reach Kafka at 127.0.0.1:1")
        refused(f"CREATE SOURCE s (a INT) {source(kafka, 'there', ', topc = 1')}", "22023", 'did you mean "topic"')
        refused(f"CREATE SOURCE s (a INT) {source(kafka, 'there')} FORMAT UPSERT ENCODE JSON", "42P16", "primary key")
        refused(f"CREATE SOURCE s (a INT) INCLUDE ofset {source(kafka, 'there')}", "22023", "key, partition, offset")
        refused(f"CREATE SOURCE s (a INT) {source(kafka, 'there', ', properties.fetch.min.bytes = x')}", "22023")
        server.psql("CREATE TABLE t (a INT)")
        refused(f"CREATE SINK s FROM t {source(kafka, 'there')}", "22023", "primary_key")


def the_newest_message_of_a_key_wins(kafka):
    kafka.topic("users")
    kafka.send("users", [
        (0, b'{"id": 1}', b'{"id": 1, "name": "a"}'), (0, b"2", b'{"id": 2, "name": "b"}'),
        (0, b'{"id": 1}', None), (0, b"3", b'{"id": 3, "name": "c"}'), (0, b"3", b'{"id": 3, "name": "d"}'),
        (0, b"9", None), (0, b"2", None), (0, b"2", b'{"id": 2, "name": "again"}'), (0, b"x", None)])
    kafka.topic("changes")

    def change(before, after):
        envelope = {"before": before, "after": after, "op": "u", "ts_ms": 1}
        return (0, None, json.dumps({"schema": {}, "payload": envelope}).encode())
    one, two = {"id": 1, "name": "a"}, {"id": 2, "name": "b"}
    kafka.send("changes", [change(None, one), change(None, two), change(one, {"id": 1, "name": "z"}), change(two, None)])
    with Headwater() as server:
        server.psql(f"""
            CREATE TABLE users (id INT PRIMARY KEY, name TEXT NOT NULL) {source(kafka, "users")} FORMAT UPSERT ENCODE JSON;
            CREATE TABLE changes (id INT PRIMARY KEY, name TEXT) {source(kafka, "changes")} FORMAT DEBEZIUM ENCODE JSON;
            CREATE MATERIALIZED VIEW names AS SELECT string_agg(name, ',' ORDER BY id) AS all_names FROM users;
        """)
        until(lambda: server.rows("SELECT * FROM names") == [["again,d"]], "the newest rows")
        until(lambda: server.rows("SELECT * FROM changes") == [["1", "z"]], "the changed rows")
        server.kill()
        server.start()
        kafka.send("users", [(0, b"3", None), (0, b"4", b'{"id": 4, "name": "e"}')])
        until(lambda: server.rows("SELECT * FROM names") == [["again,e"]], "what came after the restart")
        dead = server.rows("SELECT position, reason FROM hw_catalog.hw_dead_letters")
        assert dead == [["8", 'column "id": invalid input syntax for type integer: "x"']], dead


def new_partitions_and_a_broker_that_was_away(kafka):
    kafka.topic("grows")
    kafka.send("grows", [(0, None, b'{"n": 1}')])
    with Headwater() as server:
        server.psql(f"""
            CREATE SOURCE early (n INT) {source(kafka, "grows", ", partition.discovery.interval = '200 ms'")};
            CREATE SOURCE late (n INT) {source(kafka, "grows", ", scan.startup.mode = 'latest', partition.discovery.interval = '200 ms'")};
            CREATE MATERIALIZED VIEW from_early AS SELECT sum(n) AS n FROM early;
            CREATE MATERIALIZED VIEW from_late AS SELECT sum(n) AS n FROM late;
        """)
        until(lambda: server.rows("SELECT * FROM from_early") == [["1"]], "the first message")
        kafka.send("grows", [(0, None, b'{"n": 10}')])
        until(lambda: server.rows("SELECT * FROM from_late") == [["10"]], "what came after the start")
        kafka.grow("grows", 3)
        kafka.send("grows", [(2, None, b'{"n": 100}')])
        until(lambda: server.rows("SELECT * FROM from_early") == [["111"]], "the new partition")
        until(lambda: server.rows("SELECT * FROM from_late") == [["110"]], "the new partition")
        kafka.kill()
        server.psql("CREATE TABLE others (a INT); INSERT INTO others VALUES (1)")
        kafka.start()
        kafka.send("grows", [(1, None, b'{"n": 1000}')])
        until(lambda: server.rows("SELECT * FROM from_early") == [["1111"]], "what came after the broker's restart", 30)
        # A view that is made later has what the first one has.
        server.psql("CREATE MATERIALIZED VIEW second AS SELECT sum(n) AS n FROM late")
        until(lambda: server.rows("SELECT * FROM second") == [["1110"]], "the second view")


def exactly_once_through_kills_of_both_sides(kafka):
    """A view over a topic into a topic. The folded sink equals the batch answer, and it has no message twice."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    kafka.topic("bids", 8)
    kafka.topic("best", 4)
    kafka.topic("copy", 2)
    with Headwater() as server:
        server.psql(f"""
            CREATE SOURCE bids (id BIGINT, auction INT, price INT) {source(kafka, "bids")};
            CREATE MATERIALIZED VIEW best AS
              SELECT auction, count(*) AS bids, max(price) AS price, sum(price) AS total FROM bids GROUP BY auction;
            CREATE SINK best_out FROM best {source(kafka, "best", ", primary_key = 'auction'")} FORMAT UPSERT ENCODE JSON;
            CREATE SINK copy_out AS SELECT id, price * 2 AS double FROM bids {source(kafka, "copy")} FORMAT PLAIN ENCODE JSON;
        """)
        bids, number = [], 0
        broker_kills = set(rng.sample(range(KILLS), BROKER_KILLS))
        for kill in range(KILLS):
            fresh = [{"id": number + i, "auction": rng.randrange(50), "price": rng.randrange(1000)} for i in range(rng.randrange(200, 4000))]
            number += len(fresh)
            bids += fresh
            kafka.send("bids", [(bid["id"] % 8, None, json.dumps(bid).encode()) for bid in fresh])
            time.sleep(rng.uniform(0.02, 1.5))
            if kill in broker_kills:
                kafka.kill()
                time.sleep(rng.uniform(0.0, 0.5))
                kafka.start()
            else:
                server.kill()
                server.start()
        until(lambda: server.rows("SELECT sum(bids) FROM best") == [[str(len(bids))]], "every bid in the view", 120)
        expected = {}
        for bid in bids:
            row = expected.setdefault(bid["auction"], {"auction": bid["auction"], "bids": 0, "price": 0, "total": 0})
            row["bids"] += 1
            row["price"] = max(row["price"], bid["price"])
            row["total"] += bid["price"]
        batch = [[str(value) for value in expected[auction].values()] for auction in sorted(expected)]
        assert server.rows("SELECT * FROM best ORDER BY auction") == batch, "the view differs from the batch answer"

        def folded():
            rows = {}
            for key, value in kafka.read("best"):
                assert set(json.loads(key)) == {"auction"}, (key, value)
                rows[json.loads(key)["auction"]] = json.loads(value)
            return rows
        until(lambda: folded() == expected, "the folded sink equals the batch answer", 120)

        def copies():
            return sorted(json.loads(value)["id"] for _, value in kafka.read("copy"))
        until(lambda: len(copies()) >= len(bids), "every row in the copy", 120)
        assert copies() == [bid["id"] for bid in bids], "rows are lost or doubled"
        doubles = {json.loads(value)["id"]: json.loads(value)["double"] for _, value in kafka.read("copy")}
        assert doubles == {bid["id"]: 2 * bid["price"] for bid in bids}


def with_one_broker(*tests):
    """Starts the broker once for all tests."""
    with Kafka() as kafka:
        def bound(test):
            def run():
                test(kafka)
            run.__name__ = test.__name__
            return run
        main(*map(bound, tests))


TESTS = [formats_and_parts, mistakes_are_told_at_create, the_newest_message_of_a_key_wins,
         new_partitions_and_a_broker_that_was_away, exactly_once_through_kills_of_both_sides]


def everything_needed_is_here():
    need(any(JARS.glob("kafka_2.13-*.jar")), f"Kafka's jars in {JARS}")
    need(shutil.which("java"), "java")
    import importlib.util
    need(importlib.util.find_spec("confluent_kafka"), "the Python client confluent-kafka")


try:
    everything_needed_is_here()
except Exception:
    main(everything_needed_is_here)
with_one_broker(*TESTS)
