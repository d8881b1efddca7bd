"""Gate `service`: the systemd unit. What systemd itself says of it where systemd is there, and what it must say in any case."""

import re
import shutil
import tempfile
from pathlib import Path

from .model import Context, Outcome, lines

# Each takes away something that a daemon of this kind never needs.
WANTED = {
    "CapabilityBoundingSet": "",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelModules": "yes",
    "RestrictNamespaces": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallFilter": "@system-service",
    "UMask": "0077",
}

# systemd's own measure of exposure in tenths; what is left is that a VPN daemon reaches the network.
EXPOSURE = 20


def service(context: Context) -> Outcome:
    outcome = Outcome(unit="units")
    for path in context.files("deploy/systemd/*.service"):
        outcome.checked += 1
        where, text = context.name(path), path.read_text(encoding="utf-8")
        settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
        for key, value in WANTED.items():
            if settings.get(key) != value:
                outcome.find(where, f"{key} is {settings.get(key, 'missing')}, not {value or 'empty'}")
        if "User" not in settings or settings["User"] == "root":
            outcome.find(where, "the service has no user of its own")
        if shutil.which("systemd-analyze"):
            _analyze(context, path, text, outcome)
        else:
            outcome.notices.append("systemd-analyze is not here; only the settings that must be there were looked at")
    return outcome


def _analyze(context: Context, path: Path, text: str, outcome: Outcome) -> None:
    with tempfile.TemporaryDirectory() as place:
        # The program and its user are not on the machine that checks.
        copy = Path(place) / path.name
        copy.write_text(re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", text, flags=re.MULTILINE), encoding="utf-8")
        for arguments in (["verify", "--man=no"], ["security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager"]):
            done = context.run("systemd-analyze", *arguments, str(copy))
            said = [line for line in lines(done.stdout + done.stderr) if "/usr/" not in line]
            if done.returncode != 0 or (arguments[0] == "verify" and path.name in "".join(said)):
                outcome.findings += [f"{context.name(path)}: {line.replace(f'{place}/', '')}" for line in said[-3:]]
