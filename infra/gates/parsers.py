"""Gates `parse` and `subset`: every file is read by three parsers.

There is no Bicep compiler outside Microsoft's own; two independent parsers stand in, and a third, older one is what checkov
uses: a file that it cannot read would pass checkov unread.
"""

import json

from pycep import BicepParser

from . import tree
from .model import Context, Outcome

OLD_PARSER = """
import json, sys
from pycep import BicepParser
parser, findings = BicepParser(), {}
for path in sys.argv[1:]:
    try:
        parser.parse(text=open(path, encoding="utf-8").read())
    except Exception as error:
        findings[path] = str(error).splitlines()[0]
print(json.dumps(findings))
"""


def parse(context: Context) -> Outcome:
    outcome = Outcome()
    parser = BicepParser()
    for path in context.bicep():
        outcome.checked += 1
        try:
            tree.read(path)
        except tree.Malformed as error:
            outcome.find(context.name(path), str(error))
        try:
            parser.parse(text=path.read_text(encoding="utf-8"))
        except Exception as error:  # noqa: BLE001 - the parser generator raises many kinds
            outcome.find(context.name(path), f"pycep: {str(error).splitlines()[0]}")
    return outcome


def subset(context: Context) -> Outcome:
    outcome = Outcome()
    paths = [str(path) for path in context.bicep()]
    done = context.run(context.tool("checkov", "python"), "-c", OLD_PARSER, *paths)
    if done.returncode != 0:
        outcome.find("pycep of checkov", done.stderr.strip().splitlines()[-1])
        return outcome
    outcome.checked = len(paths)
    for path, error in json.loads(done.stdout).items():
        outcome.find(path.removeprefix(f"{context.root}/"), f"checkov's parser cannot read it: {error}")
    return outcome
