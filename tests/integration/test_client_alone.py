"""The client as its own distribution, in an environment without the pipeline."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline_under_test import Pipeline

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "client.md"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the client and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("service")
    uv = Path(sys.executable).with_name("uv")
    # Built from a copy: a build leaves files beside what it builds.
    for name in ("client", "schemas"):
        shutil.copytree(ROOT / name, folder / name)
    made = folder / "venv" / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"],
        [uv, "build", "--quiet", "--wheel", folder / "client", "--out-dir", folder],
        [uv, "pip", "install", "--quiet", "--python", made, "--find-links", folder,
         "millrace-client"],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and os.environ.get("CI") != "true":
            pytest.skip(f"the client's environment cannot be made: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
    return made


async def _run(python: Path, script: str, pipeline: Pipeline) -> str:
    kafka = pipeline.settings.kafka
    process = await asyncio.create_subprocess_exec(
        str(python),
        "-c",
        script,
        env={
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(kafka.bootstrap_servers or ()),
            "MILLRACE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def _examples() -> dict[str, str]:
    """The programs of the guide, by their heading."""
    sections = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)[1:]
    return {
        section.splitlines()[0]: found.group(1)
        for section in sections
        if (found := re.search(r"```python\n(.*?)```", section, re.DOTALL))
    }


async def test_it_needs_nothing_of_the_pipeline(python: Path, pipeline: Pipeline) -> None:
    """No Faust, no engine, no provider."""
    script = (
        "import importlib.util as u, millrace.client\n"
        "print([n for n in ('faust', 'chdb', 'httpx', 'aiohttp', 'jinja2', 'typer')"
        " if u.find_spec(n)])"
    )
    assert (await _run(python, script, pipeline)).strip() == "[]"


@pytest.mark.parametrize("heading", _examples())
async def test_each_example_of_the_guide_runs(
    python: Path, pipeline: Pipeline, heading: str
) -> None:
    """As it stands there, with only the environment naming the cluster."""
    assert await _run(python, _examples()[heading], pipeline)
