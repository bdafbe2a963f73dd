# SPDX-License-Identifier: GPL-3.0-or-later
"""Pin all packages that the project installs to the newest versions that fit: ``python -m scripts.constraints``.

For all Python versions in setup.cfg, this writes

* ``constraints.txt``, for ``pip install -c``: the package with all its extras, and its build tools;
* ``requirements/runtime.txt`` and ``requirements/build.txt``: the packages in the image, and those that build it, with
  hashes.

pip resolves the dependencies, once with each Python. ``PYTHON310=/path/to/python3.10`` names one that is not found.
pip-tools, in a temporary environment, looks up the hashes of all files of each release.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from scripts import pins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
ITSELF = "omps-worker"
BUILDING = ("setuptools>=70.1", "wheel")
"""The build tools of packages without a wheel that name none; older versions of pip need both."""
EXTRAS = ("api", "test", "check")
IMAGE_EXTRAS = ("api",)

HEADER = """\
# SPDX-License-Identifier: GPL-3.0-or-later
# {about}
# Made by `make constraints`; see docs/releasing.md.
"""


def main() -> int:
    """Write the three files; return 1 if a Python is missing."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    pythons = {
        version: find(version) for version in re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    }
    missing = [version for version, path in pythons.items() if path is None]
    for version in missing:
        name = variable(version)
        print(f"Python {version} was not found. Set {name}=/path/to/python{version}.", file=sys.stderr)
    if missing:
        return 1
    with tempfile.TemporaryDirectory(prefix="omps-worker-") as directory:
        work = Path(directory)
        reports = {version: resolve(str(path), work / version) for version, path in pythons.items()}
        everything = {version: installed(report) for version, report in reports.items()}
        runtime = {
            version: {name: everything[version][name] for name in pins.closure(report, ITSELF, IMAGE_EXTRAS)}
            for version, report in reports.items()
        }
        build = {version: resolve_builds(work / version, report) for version, report in reports.items()}
        everything = {version: {**chosen, **build[version]} for version, chosen in everything.items()}
        hashes = look_up_hashes(work / list(pythons)[-1], [*runtime.values(), *build.values()])
    write("constraints.txt", "Every package in one version, for `pip install -c`.", pins.lines(everything))
    write("requirements/runtime.txt", "What the container image holds.", pins.lines(runtime, hashes))
    write("requirements/build.txt", "What the container image is built with.", pins.lines(build, hashes))
    return 0


def variable(version: str) -> str:
    """Return the name of the environment variable for a Python version."""
    return "PYTHON" + version.replace(".", "")


def find(version: str) -> str | None:
    """Return a Python of a version such as "3.11": from its environment variable, from the PATH, or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates = [os.environ.get(variable(version)), shutil.which(f"python{version}"), sys.executable]
    candidates += sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True)
    check = f"import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    for candidate in filter(None, candidates):
        try:
            if subprocess.run([candidate, "-c", check], capture_output=True).returncode == 0:
                return candidate
        except OSError:
            continue
    return None


def resolve(python: str, environment: Path) -> dict[str, Any]:
    """Create ``environment`` with ``python``, and return pip's report of what it would install, with all extras."""
    subprocess.run([python, "-m", "venv", environment], check=True)
    pip(environment, "install", "--upgrade", "pip")
    return dry_run(environment, f".[{','.join(EXTRAS)}]")


def resolve_builds(environment: Path, report: Mapping[str, Any]) -> dict[str, str]:
    """Return the pins of the build tools for those distributions of a report that have no wheel."""
    wanted = [*BUILDING]
    for item in report["install"]:
        about, source = item["metadata"], item["download_info"]
        if "archive_info" in source and not source["url"].endswith(".whl"):
            wanted += build_requirements(environment, f"{about['name']}=={about['version']}")
    given = environment / "given.txt"
    given.write_text("".join(f"{name}=={version}\n" for name, version in installed(report).items()), encoding="utf-8")
    return installed(dry_run(environment, "--constraint", given, *wanted))


def build_requirements(environment: Path, pinned: str) -> list[str]:
    """Return the build requirements in the pyproject.toml of a source distribution."""
    directory = Path(tempfile.mkdtemp(dir=environment))
    name = pinned.partition("==")[0]
    pip(environment, "download", "--no-deps", "--no-binary", name, "--use-pep517", "--dest", directory, pinned)
    (archive,) = directory.iterdir()
    with tarfile.open(archive) as files:
        for member in files:
            if re.fullmatch(r"[^/]+/pyproject\.toml", member.name):
                text = files.extractfile(member).read().decode()  # type: ignore[union-attr]
                return list(tomllib.loads(text).get("build-system", {}).get("requires", ()))
    return []


def dry_run(environment: Path, *wanted: str | Path) -> dict[str, Any]:
    """Return pip's report of what it would install into an empty environment."""
    report = environment / "report.json"
    pip(environment, "install", "--dry-run", "--ignore-installed", "--use-pep517", "--report", report, *wanted)
    return dict(json.loads(report.read_text(encoding="utf-8")))


def pip(environment: Path, *arguments: str | Path) -> None:
    """Run the environment's pip, without constraints from environment variables."""
    command = [environment / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    clean = {name: value for name, value in os.environ.items() if name not in ("PIP_CONSTRAINT", "PIP_REQUIRE_HASHES")}
    subprocess.run(command, check=True, cwd=ROOT, env=clean, stdin=subprocess.DEVNULL)


def installed(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions that a report would install, without the package itself."""
    found = {canonicalize_name(item["metadata"]["name"]): item["metadata"]["version"] for item in report["install"]}
    return {name: version for name, version in found.items() if name != ITSELF}


def look_up_hashes(environment: Path, sets: list[dict[str, str]]) -> dict[tuple[str, str], list[str]]:
    """Return the hashes of all files of each release, for all platforms."""
    pip(environment, "install", "pip-tools")
    found: dict[tuple[str, str], list[str]] = {}
    for number, chosen in enumerate({tuple(sorted(one.items())): one for one in sets}.values()):
        wanted, answer = environment / f"{number}.in", environment / f"{number}.txt"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in chosen.items()), encoding="utf-8")
        options = ["--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header", "--no-annotate"]
        options += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-options", "--output-file", str(answer)]
        command = [environment / "bin/python", "-m", "piptools", "compile", *options, str(wanted)]
        subprocess.run(command, check=True, cwd=environment, stdin=subprocess.DEVNULL)
        for requirement, allowed in pins.parse(answer.read_text(encoding="utf-8")):
            (specifier,) = requirement.specifier
            found[canonicalize_name(requirement.name), specifier.version] = list(allowed)
    return found


def write(name: str, about: str, lines: list[str]) -> None:
    """Replace one of the files."""
    (ROOT / name).parent.mkdir(exist_ok=True)
    (ROOT / name).write_text(HEADER.format(about=about) + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
