"""``python -m benchmarks``: one table per topic, every client beside its peers in the same run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import chart, profile, report, scale
from benchmarks.process import MEBIBYTE
from benchmarks.report import Table
from benchmarks.rounds import files, running_sink
from benchmarks.topics import CPU_OF_CURL, OURS, TOPICS, Bench

README = Path(__file__).with_name("README.md")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {' '.join(TOPICS)}; all")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds (7)")
    parser.add_argument("--size", type=int, default=2048, help="MiB of the uploaded file (2048)")
    parser.add_argument("--calls", type=int, default=4000, help="small calls per run (4000)")
    parser.add_argument("--json", type=Path, help="write every sample here")
    parser.add_argument("--svg", type=Path, help="draw the upload table here")
    parser.add_argument("--markdown", action="store_true", help="print as the README has it")
    parser.add_argument("--readme", action="store_true", help="rewrite benchmarks/README.md")
    parser.add_argument("--from", dest="results", type=Path, help="show this JSON, run nothing")
    given = parser.parse_args()
    if unknown := set(given.topics) - set(TOPICS):
        parser.error(f"no such topic: {' '.join(sorted(unknown))}")
    return given


def run(given: argparse.Namespace) -> list[Table]:
    tables: list[Table] = []
    with running_sink() as sink, files() as test_files:
        bench = Bench(sink, test_files, given.size * MEBIBYTE, given.calls, given.rounds)
        for topic in given.topics or TOPICS:
            done = TOPICS[topic](bench)
            tables += done
            if not given.markdown:
                print(report.as_text(done), end="\n\n", flush=True)
    return tables


def main() -> None:
    if sys.argv[1:2] == ["scale"]:  # over clusters, each with processes of its own
        scale.main(sys.argv[2:])
        return
    if sys.argv[1:2] == ["profile"]:
        profile.main(sys.argv[2:])
        return
    given = arguments()
    if given.results:
        tables, machine = report.from_json(json.loads(given.results.read_text()))
        if not given.markdown:
            print(report.as_text(tables), end="\n\n")
    else:
        machine = report.machine()
        tables = run(given)
    if given.markdown:
        print(report.as_markdown(tables, machine), end="")
    else:
        print(report.machine_line(machine))
    if given.json:
        given.json.write_text(json.dumps(report.as_json(tables, machine), indent=1))
    if given.readme:
        README.write_text(report.readme(README.read_text(), tables, machine))
        given.svg = given.svg or README.with_name("uploads.svg")
    uploads = [table for table in tables if table.name.startswith("upload-")]
    if given.svg and uploads:
        title = "CPU per GiB uploaded, curl -F = 1"
        line = report.machine_line(machine)
        given.svg.write_text(chart.draw(uploads, CPU_OF_CURL, title=title, machine=line, own=OURS))


if __name__ == "__main__":
    main()
