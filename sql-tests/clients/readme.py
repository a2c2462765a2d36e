"""The psql transcript on the README's first screen is what psql shows."""

import re

from harness import ROOT, Headwater, main


def blocks():
    text = (ROOT / "README.md").read_text().split("<!-- transcript", 1)[1].split("`SUBSCRIBE", 1)[0]
    return re.findall(r"```(sql)?\n(.*?)```", text, re.S)


def the_transcript_is_true():
    expected, statements = "", ""
    for language, body in blocks():
        if language == "sql":
            statements += body
        else:
            expected += body
    with Headwater() as server:
        shown = server.psql(statements)
    answers = [line.rstrip() for line in shown.splitlines() if line and not re.match(r"^(CREATE|INSERT|DELETE)", line)]
    assert answers == [line.rstrip() for line in expected.splitlines() if line], shown


main(the_transcript_is_true)
