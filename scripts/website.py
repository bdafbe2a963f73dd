# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a searchable website from the Markdown pages in the repository: ``python -m scripts.website``.

It runs Sphinx with MyST, in a separate environment below .cache. Every warning is an error, including broken links. The
result is ``dist/docs/index.html``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.constraints import ROOT, pip

TOOLS = ("sphinx==9.0.4", "myst-parser==5.2.0", "furo==2025.12.19")

ENVIRONMENT, SOURCE, RESULT = ROOT / ".cache/website", ROOT / ".cache/website-source", ROOT / "dist/docs"

FIRST = "README.md"
"""The page that leads to the others; it becomes the website's index."""

CONFIGURATION = """\
project = "omps-worker"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "omps-worker"
"""

_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Return the paths of all pages, relative to the repository, with ``FIRST`` first."""
    found = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
    names = [path.relative_to(ROOT) for path in found]
    return sorted(names, key=lambda name: (str(name) != FIRST, name))


def on_the_website(page: Path, text: str) -> str:
    """Return the text of ``page`` with links that work on the website. Links to other files become text."""

    def link(match: re.Match[str]) -> str:
        shown, target = match.groups()
        name, mark, anchor = target.partition("#")
        if not name or re.match(r"[a-z]+:", target):
            return match.group(0)
        path = (ROOT / page).parent.joinpath(name).resolve().relative_to(ROOT)
        if path.suffix != ".md":
            return shown if shown.strip("`") == str(path) else f"{shown} (`{path}`)"
        return f"[{shown}]({name.replace(FIRST, 'index.md')}{mark}{anchor})"

    return _LINK.sub(link, text)


def stage() -> None:
    """Write everything that Sphinx reads into ``SOURCE``."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for page in pages():
        text = on_the_website(page, (ROOT / page).read_text(encoding="utf-8"))
        if str(page) == FIRST:
            rest = "\n".join(str(other.with_suffix("")) for other in pages()[1:])
            text += f"\n```{{toctree}}\n:hidden:\n\n{rest}\n```\n"
        place = SOURCE / (Path("index.md") if str(page) == FIRST else page)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    (SOURCE / "conf.py").write_text(CONFIGURATION, encoding="utf-8")


def main() -> int:
    """Build the website, and return Sphinx's exit code."""
    ready = ENVIRONMENT / "ready"
    if not ready.exists() or ready.read_text(encoding="utf-8") != str(TOOLS):
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        pip(ENVIRONMENT, "install", *TOOLS)
        ready.write_text(str(TOOLS), encoding="utf-8")
    stage()
    shutil.rmtree(RESULT, ignore_errors=True)
    build = [ENVIRONMENT / "bin/python", "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", SOURCE, RESULT]
    code = subprocess.run(build, stdin=subprocess.DEVNULL).returncode
    if code == 0:
        print(f"{RESULT.relative_to(ROOT)}/index.html has {len(pages())} pages")
    return code


if __name__ == "__main__":
    sys.exit(main())
