"""Gate `parameters`: the parameter files fit the template, and each other."""

import json
import re
from pathlib import Path

from . import tree
from .model import Context, Outcome
from .tree import Declaration

ENVIRONMENTS = ("dev", "staging", "prod")

# Without a default on purpose and in no file: people and addresses are given to `deploy/up`.
GIVEN_BY_UP = {"alertEmails", "daemonImage", "gatewayImage", "budgetStart", "operatorId", "operatorType"}

SECRET = re.compile(r"secret(?!RetentionDays)|password|passwd|token|apikey|accesskey|connectionstring|privatekey", re.IGNORECASE)


def parameters(context: Context) -> Outcome:
    outcome = Outcome()
    template = context.root / "infra/main.bicep"
    try:
        declared = {one.name: one for one in tree.read(template).of("param")}
    except (OSError, tree.Malformed) as error:
        outcome.find("infra/main.bicep", str(error))
        return outcome
    _secrets(context, outcome)
    keys: dict[str, set[str]] = {}
    for environment in ENVIRONMENTS:
        path = context.root / f"infra/main.parameters.{environment}.json"
        values = _read(context, path, outcome)
        if values is None:
            continue
        outcome.checked += 1
        keys[environment] = set(values)
        _check(context.name(path), environment, values, declared, outcome)
    for environment, found in keys.items():
        for name in sorted(set.union(*keys.values()) - found):
            outcome.find(f"infra/main.parameters.{environment}.json", f"{name} is missing; other environments have it")
    _up(context, declared, outcome)
    return outcome


def _secrets(context: Context, outcome: Outcome) -> None:
    for path, file in tree.readable(context, outcome):
        for one in file.of("param"):
            if "secure" in one.decorators or SECRET.search(one.name):
                outcome.find(
                    f"{context.name(path)}:{one.line}",
                    f"param {one.name} looks like a secret; no secret is a parameter, the daemon reads them as its identity",
                )


def _read(context: Context, path: Path, outcome: Outcome) -> dict | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates)
    except (OSError, ValueError) as error:
        outcome.find(context.name(path), str(error))
        return None
    if not str(data.get("$schema", "")).endswith("/deploymentParameters.json#"):
        outcome.find(context.name(path), "$schema does not name deploymentParameters.json")
    for name, entry in data["parameters"].items():
        if set(entry) != {"value"}:
            outcome.find(context.name(path), f"{name} has {sorted(entry)} instead of a value")
    return {name: entry.get("value") for name, entry in data["parameters"].items()}


def _no_duplicates(pairs: list) -> dict:
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key} stands there twice")
        found[key] = value
    return found


def _check(where: str, environment: str, values: dict, declared: dict[str, Declaration], outcome: Outcome) -> None:
    for name, value in values.items():
        one = declared.get(name)
        if one is None:
            outcome.find(where, f"the template has no param {name}")
            continue
        if name in GIVEN_BY_UP:
            outcome.find(where, f"{name} is given by deploy/up and does not belong into a file")
        kind = {bool: "bool", int: "int", str: "string", list: "array", dict: "object"}.get(type(value))
        if kind != one.type:
            outcome.find(where, f"{name} is {kind}, the template wants {one.type}")
            continue
        _limits(where, name, value, one, outcome)
        if SECRET.search(json.dumps(value)):
            outcome.find(where, f"the value of {name} looks like a secret")
    for name, one in declared.items():
        if one.value is None and name not in values and name not in GIVEN_BY_UP:
            outcome.find(where, f"{name} has no default and is missing")
    if values.get("environmentName") != environment:
        outcome.find(where, f"environmentName is {values.get('environmentName')}")


def _limits(where: str, name: str, value: object, one: Declaration, outcome: Outcome) -> None:
    allowed = one.decorators.get("allowed")
    if allowed:
        options = [tree.literal(node) for node in allowed[0].children if node.type == "string"]
        if value not in options:
            outcome.find(where, f"{name} is {value!r}, not one of {', '.join(map(str, options))}")
    size = value if isinstance(value, int) else len(value) if isinstance(value, (str, list)) else None
    what = "Value" if isinstance(value, int) else "Length"
    least, most = one.number(f"min{what}"), one.number(f"max{what}")
    if size is not None and ((least is not None and size < least) or (most is not None and size > most)):
        outcome.find(where, f"{name} is {value!r}; the template allows {least} to {most}")


def _up(context: Context, declared: dict[str, Declaration], outcome: Outcome) -> None:
    script = context.root / "deploy/up"
    given = set(re.findall(r"\b(\w+)=", script.read_text(encoding="utf-8"))) if script.is_file() else set()
    for name in sorted(GIVEN_BY_UP):
        if name not in declared:
            outcome.find("infra/main.bicep", f"there is no param {name}, which deploy/up gives")
        if name not in given:
            outcome.find("deploy/up", f"it does not give {name}")
