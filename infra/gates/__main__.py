"""Runs the gates. `infra/check` installs what they need and starts this."""

import argparse
import os
import sys
import time
from pathlib import Path

from . import lint, links, monitoring, parameters, parsers, policy, privilege, properties, selftest, service
from .model import Context, Gate, Outcome

# With the tools that a gate is nothing without.
GATES = {
    "parse": Gate(parsers.parse),
    "subset": Gate(parsers.subset, ("checkov",)),
    "links": Gate(links.links),
    "properties": Gate(properties.properties, ("node",)),
    "parameters": Gate(parameters.parameters),
    "privilege": Gate(privilege.privilege),
    "tags": Gate(privilege.tags, ("node",)),
    "policy": Gate(policy.policy, ("checkov",)),
    "shell": Gate(lint.shell, ("shellcheck",)),
    "yaml": Gate(lint.yaml),
    "container": Gate(lint.container),
    "workflows": Gate(lint.workflows, ("node",)),
    "compose": Gate(lint.compose),
    "service": Gate(service.service),
    "rules": Gate(monitoring.rules, ("promtool",)),
    "dashboard": Gate(monitoring.dashboard, ("promtool",)),
}


def judge(context: Context, name: str, gates: bool, mistakes: bool) -> bool:
    """Runs one gate, prints its verdict in one line and what it found below; true if there is nothing to do about it."""
    gate = GATES[name]
    absent = [tool for tool in gate.needs if tool in os.environ.get("EBB_INFRA_MISSING", "").split()]
    if absent:
        strict = os.environ.get("EBB_INFRA_STRICT") == "true"
        print(f"{name:<11} {'FAILED' if strict else 'SKIPPED':<8} {' and '.join(absent)} cannot be installed here", flush=True)
        return not strict
    began = time.monotonic()
    outcome = gate.check(context) if gates else Outcome(checked=1)
    proof = selftest.prove(context, name, gate, gates) if mistakes and outcome.passed else None
    passed = outcome.passed and (proof is None or proof.passed)
    parts = [f"{name:<11} {'ok' if passed else 'FAILED':<8}"]
    if gates:
        parts.append(f"{outcome.checked:>4} {outcome.unit:<22}")
    if proof is not None:
        parts.append(f"{proof.found:>2} of {proof.planted:>2} mistakes found")
    parts.append(f"{time.monotonic() - began:6.1f} s")
    print(" ".join(parts), flush=True)
    for one in [*outcome.findings, *(proof.failures if proof else [])]:
        print(f"    {one}")
    for one in outcome.notices:
        print(f"    note: {one}")
    if not outcome.findings and not outcome.checked:
        print("    nothing was checked; a gate that sees nothing proves nothing")
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(prog="infra/check", description="Checks everything around the programs, without Azure.")
    parser.add_argument("gates", nargs="*", metavar="GATE", help=f"only these: {', '.join(GATES)}")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--quick", action="store_true", help="only run the gates")
    only.add_argument("--self-test", action="store_true", help="only plant mistakes in a copy, and see each gate find its own")
    options = parser.parse_args()
    unknown = [name for name in options.gates if name not in GATES]
    if unknown:
        parser.error(f"there is no gate {unknown[0]}; they are {', '.join(GATES)}")
    context = Context(Path.cwd(), Path(os.environ["EBB_INFRA_TOOLS"]))
    names = options.gates or list(GATES)
    results = [judge(context, name, not options.self_test, not options.quick) for name in names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
