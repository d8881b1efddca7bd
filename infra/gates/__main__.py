"""Runs the gates. `infra/check` installs what they need and starts this."""

import argparse
import os
import sys
import time
from pathlib import Path

from . import lint, links, parameters, parsers, policy, privilege, properties, selftest
from .model import Context, Outcome

GATES = {
    "parse": parsers.parse,
    "subset": parsers.subset,
    "links": links.links,
    "properties": properties.properties,
    "parameters": parameters.parameters,
    "privilege": privilege.privilege,
    "tags": privilege.tags,
    "policy": policy.policy,
    "shell": lint.shell,
    "yaml": lint.yaml,
    "container": lint.container,
    "workflows": lint.workflows,
    "compose": lint.compose,
}


def run(context: Context, names: list[str]) -> bool:
    passed = True
    for name in names:
        began = time.monotonic()
        outcome: Outcome = GATES[name](context)
        took = time.monotonic() - began
        verdict = "ok" if outcome.passed else "FAILED"
        print(f"{name:<11} {verdict:<7} {outcome.checked:>4} {outcome.unit:<22} {took:5.1f} s")
        for one in outcome.findings:
            print(f"    {one}")
        for one in outcome.notices:
            print(f"    note: {one}")
        if not outcome.findings and not outcome.checked:
            print("    nothing was checked; a gate that sees nothing proves nothing")
        passed = passed and outcome.passed
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(prog="infra/check", description=__doc__)
    parser.add_argument("gates", nargs="*", metavar="GATE", help=f"run only these: {', '.join(GATES)}")
    parser.add_argument("--self-test", action="store_true", help="plant one mistake after another and see each gate find it")
    options = parser.parse_args()
    unknown = [name for name in options.gates if name not in GATES]
    if unknown:
        parser.error(f"there is no gate {unknown[0]}; they are {', '.join(GATES)}")
    context = Context(Path.cwd(), Path(os.environ["EBB_INFRA_TOOLS"]))
    names = options.gates or list(GATES)
    if options.self_test:
        return 0 if selftest.run(context, GATES, names) else 1
    return 0 if run(context, names) else 1


if __name__ == "__main__":
    sys.exit(main())
