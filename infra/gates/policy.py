"""Gate `policy`: checkov. It passes over files that it cannot read, so what it read is counted here."""

import json

from . import tree
from .model import Context, Outcome

RUNNER = """
import json, logging, sys
logging.disable(logging.CRITICAL)
from checkov.arm.runner import Runner as _  # its checks register for Bicep too
from checkov.bicep.runner import Runner
from checkov.runner_filter import RunnerFilter
runner = Runner()
report = runner.run(root_folder=sys.argv[1], runner_filter=RunnerFilter(framework=["bicep"]))
def line(check):
    return {"id": check.check_id, "name": check.check_name, "where": f"{check.file_path}:{check.file_line_range[0]}",
            "resource": check.resource, "comment": (check.check_result or {}).get("suppress_comment") or ""}
print(json.dumps({
    "read": {str(path): len(content.get("resources") or {}) for path, content in runner.definitions.items()},
    "errors": report.parsing_errors,
    "passed": [check.resource for check in report.passed_checks],
    "failed": [line(check) for check in report.failed_checks],
    "skipped": [line(check) for check in report.skipped_checks],
}))
"""

# Types that checkov has rules for. It has none for container apps and role assignments.
COVERED = ("Microsoft.Storage/storageAccounts", "Microsoft.KeyVault/vaults", "Microsoft.ContainerRegistry/registries")


def policy(context: Context) -> Outcome:
    outcome = Outcome(unit="resources")
    if not context.bicep():
        return outcome
    done = context.run(context.tool("checkov", "python"), "-c", RUNNER, str(context.root / "infra"), LOG_LEVEL="CRITICAL")
    if done.returncode != 0 or not done.stdout.strip():
        outcome.find("checkov", (done.stderr.strip().splitlines() or ["no output"])[-1])
        return outcome
    result = json.loads(done.stdout.splitlines()[-1])
    for path in result["errors"]:
        outcome.find(path, "checkov cannot read it")
    for path, file in tree.readable(context, outcome):
        expected = len(file.of("resource"))
        found = next((count for name, count in result["read"].items() if name.endswith(context.name(path))), None)
        if found != expected:
            outcome.find(context.name(path), f"checkov read {found} resources, there are {expected}")
        else:
            outcome.checked += found
    for kind in COVERED:
        if not any(resource.startswith(f"{kind}.") for resource in result["passed"]):
            outcome.find("checkov", f"no check applies to {kind}; its rules were not loaded")
    for one in result["failed"]:
        outcome.find(one["where"], f"{one['id']} {one['name']} ({one['resource']})")
    for one in result["skipped"]:
        if len(one["comment"].split()) < 4:
            outcome.find(one["where"], f"{one['id']} is skipped without a reason")
    outcome.notices.append(f"checkov: {len(result['passed'])} passed, {len(result['skipped'])} skipped for a written reason")
    return outcome
