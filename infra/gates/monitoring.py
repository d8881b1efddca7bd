"""Gates `rules` and `dashboard`: what Prometheus says of them, and whether the daemon has the metrics, labels and values they name.

A rule about a metric that does not exist never fires and no tool of Prometheus minds.
"""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from .model import Context, Outcome, lines

FOLDER = "deploy/prometheus"
RULES = f"{FOLDER}/ebb.rules.yml"
TESTS = (f"{FOLDER}/ebb.test.yml", f"{FOLDER}/ebb-long.test.yml")
RUNBOOKS = "deploy/runbooks.md"
DASHBOARDS = "deploy/grafana/dashboards/*.json"

SEVERITIES = {"critical", "warning", "info"}
# Prometheus adds these to everything that it scrapes.
TARGET_LABELS = {"job", "instance"}

# `name("metric", "help", &["label"]` or `&LABELS` with `const LABELS: [&str; N] = [...]`.
METRIC = re.compile(r'"((?:ebb|wireguard)_[a-z_]+)",\s*"[^"]*"(?:,\s*&(?:\[([^\]]*)\]|([A-Z_]+)))?')
CONSTANT = re.compile(r"const ([A-Z_]+): \[&str; \d+\] = \[([^\]]*)\]")
STRING = re.compile(r'"([^"\n]*)"')
SELECTOR = re.compile(r"\b((?:ebb|wireguard)_[a-z_]+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass
class Metrics:
    """What the sources of the daemon say that it exposes."""

    labels: dict[str, set[str]]
    # Every string of the sources: values of labels are among them.
    strings: set[str]

    @classmethod
    def of(cls, context: Context) -> "Metrics":
        labels: dict[str, set[str]] = {}
        for path in context.files("reconciler/src/metrics/*.rs"):
            text = path.read_text(encoding="utf-8")
            constants = dict(CONSTANT.findall(text))
            for name, written, constant in METRIC.findall(text):
                labels[name] = set(STRING.findall(written or constants.get(constant, "")))
        strings = {
            one for path in context.files("reconciler/**/*.rs") for one in STRING.findall(path.read_text(encoding="utf-8"))
        }
        return cls(labels, strings)

    def check(self, where: str, expression: str, outcome: Outcome) -> None:
        known = set(TARGET_LABELS)
        for name, matchers in SELECTOR.findall(expression):
            base = name if name in self.labels else re.sub(r"_(bucket|sum|count)$", "", name)
            if name == "up":
                labels = set(TARGET_LABELS)
            elif base in self.labels:
                labels = self.labels[base] | TARGET_LABELS | ({"le"} if base != name else set())
            else:
                outcome.find(where, f"the daemon has no metric {name}")
                continue
            known |= labels
            for label, value in MATCHER.findall(matchers):
                if label not in labels:
                    outcome.find(where, f"{name} has no label {label}")
                elif label not in TARGET_LABELS and not value.startswith("$"):
                    for option in value.split("|"):
                        if option not in self.strings:
                            outcome.find(where, f'{name} never has {label}="{option}"')
        for group in GROUPING.findall(expression):
            for label in filter(None, (one.strip() for one in group.split(","))):
                if label not in known:
                    outcome.find(where, f"no metric here has the label {label}")


def rules(context: Context) -> Outcome:
    outcome = Outcome(unit="alerts")
    path = context.root / RULES
    if not path.is_file():
        return outcome
    _promtool(context, outcome, "check", "rules", RULES)
    _promtool(context, outcome, "check", "config", f"{FOLDER}/prometheus.yml")
    if not outcome.findings:
        _promtool(context, outcome, "test", "rules", *TESTS)
    fired = set().union(*(_fired((context.root / tests).read_text(encoding="utf-8")) for tests in TESTS))
    runbooks = context.root / RUNBOOKS
    pages = set(re.findall(r"^## (\w+)$", runbooks.read_text(encoding="utf-8"), re.MULTILINE)) if runbooks.is_file() else set()
    metrics = Metrics.of(context)
    try:
        alerts = _alerts(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return outcome
    for rule in alerts:
        outcome.checked += 1
        name, where = rule["alert"], f"{RULES}: {rule['alert']}"
        metrics.check(where, rule["expr"], outcome)
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            outcome.find(where, f"its severity is not one of {', '.join(sorted(SEVERITIES))}")
        if name not in fired:
            outcome.find(where, f"no test in {FOLDER} sees it fire")
        notes = rule.get("annotations", {})
        if not notes.get("summary") or not notes.get("description"):
            outcome.find(where, "it has no summary or no description")
        if not notes.get("runbook_url", "").endswith(f"/{RUNBOOKS}#{name.lower()}"):
            outcome.find(where, f"its runbook_url does not end in /{RUNBOOKS}#{name.lower()}")
        if name not in pages:
            outcome.find(where, f"{RUNBOOKS} has no page for it")
    for page in sorted(pages - {rule["alert"] for rule in alerts}):
        if page.startswith("Ebb"):
            outcome.find(RUNBOOKS, f"{page} is no alert")
    return outcome


def _alerts(text: str) -> list[dict]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"] if "alert" in rule]


def _fired(text: str) -> set[str]:
    """Names of the alerts that a test expects to fire."""
    fired = set()
    for test in yaml.safe_load(text)["tests"]:
        fired.update(one["alertname"] for one in test.get("alert_rule_test", []) if one.get("exp_alerts"))
        for one in test.get("promql_expr_test", []):
            for sample in one.get("exp_samples", []):
                fired.update(re.findall(r'alertname="(\w+)", alertstate="firing"', sample["labels"]))
    return fired


def _promtool(context: Context, outcome: Outcome, *arguments: str) -> None:
    done = context.run("promtool", *arguments)
    if done.returncode != 0:
        said = [line for line in lines(done.stdout + done.stderr) if "SUCCESS" not in line and not line.startswith("Checking")]
        outcome.findings += said or [f"promtool {' '.join(arguments)} failed"]


def dashboard(context: Context) -> Outcome:
    outcome = Outcome(unit="panels")
    metrics = Metrics.of(context)
    for path in context.files(DASHBOARDS):
        where = context.name(path)
        try:
            board = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            outcome.find(where, str(error))
            continue
        if not board.get("uid") or not board.get("title"):
            outcome.find(where, "the dashboard has no uid or no title")
        if board.get("id") is not None:
            outcome.find(where, "id is for Grafana to choose; it is null in a file")
        variables = {one["name"] for one in board.get("templating", {}).get("list", [])}
        panels = [panel for panel in board.get("panels", []) if panel.get("type") != "row"]
        _layout(where, board.get("panels", []), outcome)
        expressions: dict[str, str] = {}
        for panel in panels:
            outcome.checked += 1
            title = f"{where}: {panel.get('title') or panel.get('id')}"
            if panel.get("datasource", {}).get("uid") != "${datasource}":
                outcome.find(title, "it does not take its datasource from the variable")
            if not panel.get("description"):
                outcome.find(title, "nothing says what it shows")
            if not panel.get("targets"):
                outcome.find(title, "it shows nothing")
            for target in panel.get("targets", []):
                expression = target.get("expr", "")
                for name in re.findall(r"\$\{?(\w+)", expression):
                    if name not in variables and not name.startswith("__"):
                        outcome.find(title, f"there is no variable {name}")
                metrics.check(title, expression, outcome)
                expressions[f"{title}, query {target.get('refId')}"] = expression
        _syntax(context, expressions, outcome)
    return outcome


def _layout(where: str, panels: list[dict], outcome: Outcome) -> None:
    ids = [panel.get("id") for panel in panels]
    for one in sorted({one for one in ids if ids.count(one) > 1 or not isinstance(one, int)}, key=str):
        outcome.find(where, f"panel id {one} is not a number of its own")
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place, title = panel.get("gridPos", {}), panel.get("title", "")
        if sorted(place) != ["h", "w", "x", "y"] or not all(isinstance(one, int) for one in place.values()):
            outcome.find(where, f"{title} has no gridPos of four numbers")
            continue
        if place["x"] + place["w"] > 24:
            outcome.find(where, f"{title} is wider than the page")
        for row in range(place["y"], place["y"] + place["h"]):
            for column in range(place["x"], place["x"] + place["w"]):
                other = taken.setdefault((row, column), title)
                if other != title:
                    outcome.find(where, f"{title} lies over {other}")
                    return


def _syntax(context: Context, expressions: dict[str, str], outcome: Outcome) -> None:
    """promtool reads rules only, so each query becomes one."""
    written = []
    for number, expression in enumerate(expressions.values()):
        concrete = re.sub(r"\$\{?__(?:rate_)?(?:interval|range)\}?", "5m", expression)
        concrete = re.sub(r"\$\{?(\w+)\}?", r"\1", concrete)
        written.append({"record": f"query:{number}", "expr": concrete})
    with tempfile.TemporaryDirectory() as place:
        for (name, _), rule in zip(expressions.items(), written, strict=True):
            # JSON is YAML. One file each: promtool stops naming rules when one of them is wrong.
            file = Path(place) / f"{rule['record'].replace(':', '-')}.yml"
            file.write_text(json.dumps({"groups": [{"name": "queries", "rules": [rule]}]}), encoding="utf-8")
        done = context.run("promtool", "check", "rules", *map(str, sorted(Path(place).glob("*.yml"))))
        if done.returncode == 0:
            return
        for name, rule in zip(expressions, written, strict=True):
            file = Path(place) / f"{rule['record'].replace(':', '-')}.yml"
            done = context.run("promtool", "check", "rules", str(file))
            if done.returncode != 0:
                said = re.search(r"could not parse expression: (.*)", done.stdout + done.stderr)
                outcome.find(name, said.group(1) if said else "promtool cannot read it")
