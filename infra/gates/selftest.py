"""Plants mistakes in a copy of the tree, one at a time, and demands that the gate finds each. A gate that cannot fail is worth nothing;
this is its test."""

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .model import SKIPPED, Context, Gate, Outcome

# What the gates look at.
COPIED = (".github", "container", "deploy", "infra", "reconciler", "tests")


@dataclass(frozen=True)
class Mistake:
    gate: str
    what: str
    file: str
    old: str
    new: str
    # Part of the finding, so that the gate fails for this reason and not for another.
    finding: str
    # Only what the folder of EBB_AZURE_SCHEMA holds can find it.
    schema: bool = False


MAIN = "infra/main.bicep"
MODULES = "infra/modules"
DEV = "infra/main.parameters.dev.json"
RULES = "deploy/prometheus/ebb.rules.yml"
BOARD = "deploy/grafana/dashboards/ebb.json"
UNIT = "deploy/systemd/ebb.service"
MISTAKES = [
    Mistake("parse", "a brace too few", f"{MODULES}/logs.bicep", "    features: {\n", "    features: \n", "logs.bicep"),
    Mistake("parse", "a property without a value", f"{MODULES}/vault.bicep", "family: 'A'", "family:", "vault.bicep"),
    Mistake("subset", "a nullable type, which checkov's parser does not know", MAIN, "param operatorId string = ''", "param operatorId string?", "main.bicep"),
    Mistake("links", "a name that is not declared", MAIN, "location: location\n    tags: tags\n    retentionDays", "location: region\n    tags: tags\n    retentionDays", "region is not declared"),
    Mistake("links", "a param that nobody uses", f"{MODULES}/logs.bicep", "retentionInDays: retentionDays", "retentionInDays: 30", "param retentionDays is never used"),
    Mistake("links", "a param that the module does not have", MAIN, "    quotaGb: logQuotaGb", "    quotaGB: logQuotaGb", "has no param quotaGB"),
    Mistake("links", "a param that the module misses", MAIN, "    quotaGb: logQuotaGb\n", "", "param quotaGb of modules/logs.bicep is missing"),
    Mistake("links", "a param of another type", MAIN, "quotaGb: logQuotaGb", "quotaGb: location", "is int, not string"),
    Mistake("links", "an output that the module does not have", MAIN, "vault.outputs.uri", "vault.outputs.url", "has no output url"),
    Mistake("links", "a module in the wrong scope", MAIN, "module logs 'modules/logs.bicep' = {\n  scope: dataGroup\n", "module logs 'modules/logs.bicep' = {\n", "targets a resourceGroup"),
    Mistake("links", "a function that does not exist", MAIN, "uniqueString(dataGroup.id)}', 24)", "uniqString(dataGroup.id)}', 24)", "uniqString() is no function"),
    Mistake("links", "a circle", f"{MODULES}/identities.bicep", "name: 'id-${base}-daemon'", "name: 'id-${gatewayPull.name}-${daemon.name}'", "depend on each other"),
    Mistake("links", "a name that is known too late", f"{MODULES}/identities.bicep", "guid(gatewayPull.id, daemon.id,", "guid(gatewayPull.id, daemon.properties.principalId,", "not known before the deployment starts"),
    Mistake("links", "an output without a description", MAIN, "@description('Name of the vault, for deploy/up.')\n", "", "vaultName has no @description"),
    Mistake("properties", "a misspelt property", f"{MODULES}/storage.bicep", "allowSharedKeyAccess", "allowSharedKeysAccess", "has no property allowSharedKeysAccess"),
    Mistake("properties", "a property that the newest version does not have", f"{MODULES}/daemon.bicep", "maxInactiveRevisions:", "maxInactiveRevision:", "app in 2026-01-01.properties.configuration has no property maxInactiveRevision", schema=True),
    Mistake("properties", "the wrong case", f"{MODULES}/daemon.bicep", "targetPort: port", "TargetPort: port", "but targetPort"),
    Mistake("properties", "a property that is missing", f"{MODULES}/daemon.bicep", "type: 'Readiness'\n              httpGet: {\n                path: '/livez'\n                port: port", "type: 'Readiness'\n              httpGet: {\n                path: '/livez'", "port is missing"),
    Mistake("properties", "a property that is read-only", f"{MODULES}/registry.bicep", "adminUserEnabled: false", "loginServer: 'x'", "loginServer is read-only"),
    Mistake("properties", "a value that is not listed", f"{MODULES}/storage.bicep", "'TLS1_2'", "'TLS12'", "'TLS12', not one of"),
    Mistake("properties", "a string for a number", f"{MODULES}/daemon.bicep", "maxInactiveRevisions: 5", "maxInactiveRevisions: '5'", "is int, not string"),
    Mistake("properties", "a number out of range", f"{MODULES}/storage.bicep", "enabled: true\n      days: 30\n    }\n    containerDeleteRetentionPolicy", "enabled: true\n      days: 400\n    }\n    containerDeleteRetentionPolicy", "has 400"),
    Mistake("properties", "an object for a list", f"{MODULES}/daemon.bicep", "args: [\n            'run'\n          ]", "args: {\n            run: 'run'\n          }", "not an object"),
    Mistake("properties", "a mistake inside a loop", f"{MODULES}/storage.bicep", "value: block\n", "Value: block\n", "but value"),
    Mistake("properties", "a mistake behind a condition", f"{MODULES}/daemon.bicep", "external: true", "externall: true", "no property externall"),
    Mistake("properties", "a mistake in a type of our own list", f"{MODULES}/alerts.bicep", "windowSize: 'PT15M'", "windowSize: 'PT7M'", "'PT7M', not one of"),
    Mistake("properties", "a property that does not exist is read", f"{MODULES}/registry.bicep", "registry.properties.loginServer", "registry.properties.server", "there is no server"),
    Mistake("properties", "a type that does not exist", f"{MODULES}/logs.bicep", "Microsoft.OperationalInsights/workspaces@", "Microsoft.OperationalInsights/workspace@", "does not know"),
    Mistake("properties", "a version that nobody can check", f"{MODULES}/logs.bicep", "workspaces@2025-02-01", "workspaces@2020-08-01", "not what can be checked here"),
    Mistake("parameters", "a name that the template does not have", DEV, '"replicas"', '"replica"', "has no param replica"),
    Mistake("parameters", "another type", DEV, '"replicas": { "value": 1 }', '"replicas": { "value": "1" }', "replicas is string"),
    Mistake("parameters", "a value that is not allowed", DEV, "Standard_LRS", "Premium_LRS", "not one of"),
    Mistake("parameters", "a value out of range", DEV, '"replicas": { "value": 1 }', '"replicas": { "value": 3 }', "the template allows"),
    Mistake("parameters", "something that is missing", DEV, '    "budgetAmount": { "value": 30 }', '    "logQuotaGb": { "value": 2 }', "budgetAmount has no default and is missing"),
    Mistake("parameters", "the name of another environment", DEV, '"environmentName": { "value": "dev" }', '"environmentName": { "value": "prod" }', "environmentName is prod"),
    Mistake("parameters", "a secret", MAIN, "param project string", "param gitToken string = ''\nparam project string", "looks like a secret"),
    Mistake("parameters", "a script that forgets one", "deploy/up", "gatewayImage=$gateway_image", "", "does not give gatewayImage"),
    Mistake("privilege", "a wildcard", f"{MODULES}/gateway-access.bicep", "containerGroups/delete'", "containerGroups/*'", "has no use for"),
    Mistake("privilege", "one more action", f"{MODULES}/gateway-access.bicep", "containers/logs/read'", "containers/exec/action'", "exec/action, which the daemon has no use for"),
    Mistake("privilege", "Contributor", f"{MODULES}/registry.bicep", "7f951dda-4ed3-4680-a7ca-43fe172d538d", "b24988ac-6180-42a0-ab88-20f7382dd24c", "not in the table"),
    Mistake("privilege", "a whole resource group", f"{MODULES}/storage.bicep", "  scope: account\n  properties: {\n    roleDefinitionId: tableContributorRole", "  properties: {\n    roleDefinitionId: tableContributorRole", "on the whole resourceGroup"),
    Mistake("privilege", "a role for the whole subscription", f"{MODULES}/vault.bicep", "var groupId = resourceGroup().id", "var groupId = subscription().id", "not just in resourceGroup().id"),
    Mistake("privilege", "a person with the daemon's role", f"{MODULES}/gateway-access.bicep", "principalType: 'ServicePrincipal'", "principalType: 'User'", "principalType ServicePrincipal"),
    Mistake("tags", "a resource without tags", f"{MODULES}/logs.bicep", "  tags: tags\n", "", "workspace does not carry the tags"),
    Mistake("tags", "tags that lack one", MAIN, "  CostCenter: costCenter\n", "", "no CostCenter"),
    Mistake("policy", "an old TLS version", f"{MODULES}/storage.bicep", "'TLS1_2'", "'TLS1_0'", "CKV_AZURE"),
    Mistake("policy", "a check skipped without a reason", f"{MODULES}/registry.bicep", "CKV_AZURE_163: scanning is Defender for Cloud, a setting of the subscription; the release workflow makes an SBOM", "CKV_AZURE_163: no", "skipped without a reason"),
    Mistake("policy", "a file that checkov cannot read", f"{MODULES}/vault.bicep", "param purgeProtection bool", "param purgeProtection bool?", "vault.bicep"),
    Mistake("shell", "an unquoted variable", "deploy/lib.sh", '"$@" >&2', "$@ >&2", "SC2068"),
    Mistake("shell", "a script that goes on after errors", "tests/images", "set -euo pipefail\n", "", "goes on after errors"),
    Mistake("yaml", "a key twice", "deploy/compose.yaml", "services:\n", "services: {}\nservices:\n", "duplication of key"),
    Mistake("container", "an image without a digest", "container/Containerfile", "@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082", "", "not named by digest"),
    Mistake("container", "something hadolint knows", "container/Containerfile", "RUN rustup target add x86_64-unknown-linux-musl\n", "RUN cd /tmp && apt-get install curl\n", "DL3"),
    Mistake("workflows", "a step that does not exist", ".github/workflows/release.yml", "steps.images.outputs", "steps.image.outputs", "image"),
    Mistake("workflows", "an input that the action does not have", ".github/workflows/ci.yml", "persist-credentials:", "persist-credential:", "persist-credential"),
    Mistake("workflows", "an action by tag", ".github/workflows/ci.yml", "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "actions/checkout@v7", "not pinned"),
    Mistake("workflows", "every permission", ".github/workflows/ci.yml", "permissions: {}", "permissions: write-all", "permissions"),
    Mistake("compose", "a privileged container", "deploy/compose.yaml", "read_only: true", "privileged: true", "more than it needs"),
    Mistake("compose", "what compose does not understand", "deploy/compose.yaml", "services:\n", "services\n", ""),
    Mistake("compose", "an image by tag", "deploy/compose.yaml", "@sha256:63805ebb8d2b3920190daf1cb14a60871b16fd38bed42b857a3182bc621f4996", "", "not named by digest"),
    Mistake("service", "a setting that systemd does not know", UNIT, "ProtectClock=", "ProtectClocks=", "ProtectClocks"),
    Mistake("service", "a disk that can be written", UNIT, "ProtectSystem=strict\n", "", "ProtectSystem is missing"),
    Mistake("service", "root", UNIT, "User=ebb\n", "", "no user of its own"),
    Mistake("rules", "an expression that does not parse", RULES, "(ebb_held_teardowns) > 0", "(ebb_held_teardowns > 0", "parse"),
    Mistake("rules", "a metric that the daemon does not have", RULES, "(ebb_held_teardowns)", "(ebb_teardowns_held)", "ebb_teardowns_held"),
    Mistake("rules", "a label that the metric does not have", RULES, 'type="Configured"', 'kind="Configured"', "kind"),
    Mistake("rules", "a threshold that never fires", RULES, "(ebb_desired_rejected) == 1", "(ebb_desired_rejected) == 2", "EbbDocumentRefused"),
    Mistake("rules", "a longer wait", RULES, "for: 10m", "for: 40m", "exp"),
    Mistake("rules", "an alert without a test", RULES, "      - alert: EbbTeardownsHeld", "      - {alert: EbbNew, expr: up == 7, labels: {severity: info}}\n\n      - alert: EbbTeardownsHeld", "no test"),
    Mistake("rules", "another page", RULES, "runbooks.md#ebbdown", "runbooks.md#ebbup", "runbooks.md#ebb"),
    Mistake("rules", "a page that is missing", "deploy/runbooks.md", "## EbbStartSlow", "## Slow starts", "no page"),
    Mistake("rules", "a metric that the daemon no longer has", "reconciler/src/metrics/snapshot.rs", '"ebb_held_teardowns"', '"ebb_teardowns_held"', "no metric ebb_held_teardowns"),
    Mistake("rules", "a state that was renamed", "reconciler/core/src/state.rs", '"terminating"', '"ending"', 'never has state="terminating"'),
    Mistake("rules", "a configuration that does not load", "deploy/prometheus/prometheus.yml", "scrape_configs:", "scrapes:", "scrapes"),
    Mistake("dashboard", "a query that does not parse", BOARD, "time() - max(", "time() - max((", "parse"),
    Mistake("dashboard", "a metric that does not exist", BOARD, "ebb_provider_available{", "ebb_provider_up{", "no metric ebb_provider_up"),
    Mistake("dashboard", "a label that does not exist", BOARD, "friendly_name) (rate(wireguard_sent", "user) (rate(wireguard_sent", "has the label user"),
    Mistake("dashboard", "a value that does not exist", BOARD, "TelemetryKnown|Configured", "TelemetryFresh|Configured", "TelemetryFresh"),
    Mistake("dashboard", "the same id twice", BOARD, '"id": 3,', '"id": 2,', "panel id 2"),
    Mistake("dashboard", "a fixed datasource", BOARD, '"${datasource}"', '"prometheus"', "datasource"),
    Mistake("dashboard", "panels over each other", BOARD, '"x": 4,', '"x": 3,', "lies over"),
    Mistake("dashboard", "a variable that does not exist", BOARD, 'session=~\\"$session\\"', 'session=~\\"$tunnel\\"', "no variable tunnel"),
]  # fmt: skip


@dataclass
class Proof:
    planted: int
    found: int
    failures: list[str]

    @property
    def passed(self) -> bool:
        return not self.failures and self.planted > 1


def prove(context: Context, name: str, gate: Gate, passes: bool) -> Proof:
    """Plants every mistake that is meant for the gate; the last one is a tree with nothing in it. `passes` says that the gate is
    already known to pass without."""
    known = bool(os.environ.get("EBB_AZURE_SCHEMA"))
    mistakes = [one for one in MISTAKES if one.gate == name and (known or not one.schema)]
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:

        def attempt(numbered: tuple[int, Mistake]) -> str | None:
            number, one = numbered
            damaged = _copy(context, Path(place) / str(number))
            error = _plant(damaged, one) or _found(gate.check(damaged), one)
            return f"planted {one.what}: {error}" if error else None

        clean = Outcome(checked=1) if passes else gate.check(context)
        if not clean.passed:
            return Proof(len(mistakes) + 1, 0, ["fails without any mistake:", *clean.findings])
        failures = [error for error in pool.map(attempt, enumerate(mistakes)) if error]
        empty = Path(place) / "empty"
        empty.mkdir()
        if gate.check(Context(empty, context.tools)).passed:
            failures.append("planted an empty tree: not found")
    planted = len(mistakes) + 1
    return Proof(planted, planted - len(failures), failures or ([] if mistakes else ["no mistake is known for this gate"]))


def _copy(context: Context, target: Path) -> Context:
    for name in COPIED:
        source = context.root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=_unseen, symlinks=True)
    return Context(target, context.tools)


def _unseen(folder: str, names: list[str]) -> set[str]:
    """No gate looks at Rust but at the daemon's, where metrics are."""
    rust = "/reconciler" not in folder
    return SKIPPED.intersection(names) | {name for name in names if rust and name.endswith(".rs") or name.endswith(".snap")}


def _plant(context: Context, one: Mistake) -> str | None:
    path = context.root / one.file
    if not path.is_file():
        return f"{one.file} is not there"
    text = path.read_text(encoding="utf-8")
    if one.old not in text:
        return f"{one.file} does not hold {one.old!r}"
    path.write_text(text.replace(one.old, one.new), encoding="utf-8")
    return None


def _found(outcome: Outcome, one: Mistake) -> str | None:
    if not outcome.findings:
        return "not found"
    if not any(one.finding in finding for finding in outcome.findings):
        return f"found something else: {outcome.findings[0]}"
    return None
