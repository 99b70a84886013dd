#!/usr/bin/env python3
"""Install and run model servers of other makers, for the contract tests.

    scripts/third_party.py fetch [SERVER ...]        install them, unless they are there
    scripts/third_party.py status [SERVER ...]       say where they are; exit code 1 if one is not
    scripts/third_party.py run SERVER [-- ARGUMENTS] run one in the foreground until Ctrl-C

The servers: litellm (the LiteLLM proxy, from PyPI, 700 MB, a minute) and aimock (a mock of model
servers by CopilotKit, from npm, 12 MB, seconds; needs Node.js 20.15). Each goes into a folder of
its own in MILLRACE_THIRD_PARTY_HOME (default: the user's cache folder), in the version whose
hashes the lock files beside this script name, and never into the project's own environment. Uses
the standard library only.
"""

import argparse
import os
import select
import signal
import subprocess
import sys
from types import FrameType

from third_party_install import SERVERS, Server, ThirdPartyError, fetch, is_installed

POLL_SECONDS = 0.05
STOP_SECONDS = 10.0


def run(server: Server, arguments: list[str], *, until_eof: bool) -> int:
    """Run it until Ctrl-C or SIGTERM, or with `until_eof` until standard input closes."""
    if not is_installed(server):
        raise ThirdPartyError(f"{server.name} is not installed: scripts/third_party.py fetch")
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    command = [str(part) for part in server.command()] + arguments
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    watched = [sys.stdin.fileno()] if until_eof else []
    try:
        while process.poll() is None and not stopping:
            if select.select(watched, [], [], POLL_SECONDS)[0] and not os.read(watched[0], 4096):
                break
        ended_by_itself = process.poll()
    finally:
        end(process)
    return ended_by_itself or 0


def end(process: subprocess.Popen[bytes]) -> None:
    """Let a server shut down in order; kill it when it takes too long."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def status(servers: list[Server]) -> int:
    """Say where they are."""
    for server in servers:
        there = is_installed(server)
        print(f"{server.name}: {server.folder if there else 'not installed'}")
    return 0 if all(is_installed(server) for server in servers) else 1


def named(name: str) -> Server:
    """The server of that name."""
    if name not in SERVERS:
        raise argparse.ArgumentTypeError(f"no such server: {name}; there are {', '.join(SERVERS)}")
    return SERVERS[name]


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("fetch", "status"):
        one = commands.add_parser(name)
        one.add_argument("servers", nargs="*", type=named, metavar="SERVER")
    runner = commands.add_parser("run")
    runner.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    runner.add_argument("server", type=named)
    runner.add_argument("arguments", nargs="*", help="what the server itself is told")
    given = parser.parse_args()
    try:
        if given.command == "run":
            return run(given.server, given.arguments, until_eof=given.until_eof)
        chosen = given.servers or list(SERVERS.values())
        if given.command == "status":
            return status(chosen)
        for server in chosen:
            print(fetch(server))
    except ThirdPartyError as error:
        print(f"third_party.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
