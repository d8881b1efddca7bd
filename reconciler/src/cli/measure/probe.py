"""What `ebb measure-azure` runs in its containers: a UDP service that tells what a container sees.

One datagram asks, one or more answer: `echo …`, `boot`, `whoami`, `later SECONDS`, `flood SECONDS`, `tun`, `exit`, `config KEY`.
On SIGTERM it tells whoever asked last, before it ends."""

import os
import pathlib
import secrets
import signal
import socket
import sys
import time
import urllib.request

BOOT = secrets.token_hex(8)
SIZE = 1200


def tun():
    caps = next((line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")), "?")
    return f"device {'yes' if os.path.exists('/dev/net/tun') else 'no'}, effective capabilities {caps}"


def config(key):
    found = list(pathlib.Path("/mnt/configmap").glob(f"*/{key}"))
    return found[0].read_text()[:64] if found else "none"


def leave():
    with urllib.request.urlopen("https://api.ipify.org", timeout=10) as answer:
        return answer.read().decode()


def main():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", int(os.environ["PORT"])))
    sock.settimeout(0.05)
    last, due = None, []

    def ended(*_):
        if last:
            sock.sendto(b"sigterm", last)
        sys.exit(0)

    signal.signal(signal.SIGTERM, ended)
    print("probe", BOOT, flush=True)
    while True:
        now = time.monotonic()
        for at, client in [one for one in due if one[0] <= now]:
            sock.sendto(b"later", client)
            due.remove((at, client))
        try:
            data, client = sock.recvfrom(65536)
        except socket.timeout:
            continue
        last = client
        word, _, rest = data.partition(b" ")
        try:
            if word == b"later":
                due.append((now + float(rest), client))
                continue
            if word == b"flood":
                end = time.monotonic() + float(rest)
                while time.monotonic() < end:
                    sock.sendto(bytes(SIZE), client)
                continue
            answer = {
                b"echo": lambda: data,
                b"boot": lambda: BOOT.encode(),
                b"whoami": lambda: client[0].encode(),
                b"tun": lambda: tun().encode(),
                b"exit": lambda: leave().encode(),
                b"config": lambda: config(rest.decode()).encode(),
            }[word]()
        except Exception as error:
            answer = f"error {type(error).__name__}".encode()
        try:
            sock.sendto(answer, client)
        except OSError:
            pass


main()
