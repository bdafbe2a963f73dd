# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the sdist and the wheel reproducibly: ``python -m scripts.dist DIRECTORY``.

The timestamps in both are those of the environment variable ``SOURCE_DATE_EPOCH`` (seconds since 1970), by default
those of the last commit. Nothing is downloaded: the installed setuptools builds both, so the bytes depend on its
version.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = shutil.ignore_patterns(
    "__pycache__", "*.py[cod]", "*.egg-info", ".git", ".venv", ".cache", ".*_cache", ".hypothesis", "build", "dist"
)
"""Files that are not source, to leave out if there is no git."""

BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def main(arguments: list[str]) -> int:
    """Build both into the directory, and print their paths."""
    (directory,) = arguments
    for path in build(Path(directory), epoch()):
        print(path)
    return 0


def epoch() -> int:
    """Return the timestamp for the archives, in seconds since 1970."""
    named = os.environ.get("SOURCE_DATE_EPOCH")
    if named:
        return int(named)
    command = ["git", "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        sys.exit("There is no git commit to take the timestamp from. Set SOURCE_DATE_EPOCH, in seconds since 1970.")


def build(directory: Path, moment: int, root: Path = ROOT) -> list[Path]:
    """Build the sdist of the sources in ``root``, and the wheel from the sdist, as an installer would; return both."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="omps-worker-") as temporary:
        work = Path(temporary)
        source = work / "source"
        copy(root, source)
        made = work / run("build_sdist", source, work, moment)
        sdist = directory / made.name
        repack(made, sdist, moment)
        with tarfile.open(sdist) as archive:
            # Not all releases of Python 3.10 and 3.11 have extraction filters. This archive is trusted.
            archive.extractall(work / "unpacked")
        (unpacked,) = (work / "unpacked").iterdir()
        wheel = directory / run("build_wheel", unpacked, work, moment)
        shutil.move(work / wheel.name, wheel)
    return [sdist, wheel]


def copy(root: Path, target: Path) -> None:
    """Copy the files that git does not ignore; without git, everything that looks like source."""
    command = ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True).stdout if (root / ".git").exists() else ""
    if not listed:
        shutil.copytree(root, target, ignore=NOT_OURS)
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, target / name)


def run(hook: str, source: Path, target: Path, moment: int) -> str:
    """Run a build hook of setuptools on ``source``, with output to ``target``; return the name of the file."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(moment), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", BUILD, hook, str(target)]
    # The wheel contains the modes of the files that setuptools creates. They must not depend on the user's umask.
    ended = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, umask=0o022)
    if ended.returncode:
        sys.exit(f"{hook} failed:\n{ended.stdout}{ended.stderr}")
    return ended.stdout.split()[-1]


def repack(made: Path, target: Path, moment: int) -> None:
    """Write an archive again: members sorted, with one timestamp, without owners, and with normalized modes."""
    with (
        tarfile.open(made) as old,
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=moment) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old, key=lambda member: member.name):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime, member.pax_headers = moment, {}
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(member, old.extractfile(member) if member.isfile() else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
