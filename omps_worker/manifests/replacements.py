# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace texts in the YAML files of a tree.

This module imports nothing of the project and little of the standard library. If there are regular expressions, it is
the program of a separate process; see ``regexp_process``. ``main`` sets the limits of that process.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

NOT_TEXT, NOT_UTF8, PLACES, CHARACTERS, TIME, MEMORY = "not_text", "not_utf8", "places", "characters", "time", "memory"
"""Why texts cannot be replaced: a file is not UTF-8 text, or would no longer be; there are too many places to
replace, or the text would grow too much; it takes too much time, or too much memory."""

GRACE_SECONDS = 1.0
"""Seconds of processor time in which the process can report that its time is over, before the kernel ends it."""

_YAML_ENDINGS = (".yaml", ".yml")


class CannotReplace(Exception):
    """Texts cannot be replaced: ``kind`` is the reason, ``file`` the relative path, ``rule`` the index of the rule."""

    def __init__(self, kind: str, file: str = "", rule: int = 0) -> None:
        super().__init__(kind, file, rule)
        self.kind, self.file, self.rule = kind, file, rule


class TextReplacer:
    """Applies rules one after the other. A rule is ``(old, new, whether old is a regular expression)``.

    In all files together, and for all rules together, at most ``places`` may be replaced and ``characters`` added.
    """

    def __init__(self, rules: Sequence[tuple[str, str, bool]], places: int, characters: int) -> None:
        self._places, self._characters = places, characters
        self._steps = [(old, new, re.compile(old, re.MULTILINE) if regexp else None) for old, new, regexp in rules]
        self.file, self.rule = "", 0
        """The relative path of the current file, and the index of the current rule."""

    def replace_in(self, directory: Path) -> None:
        """Change the YAML files below ``directory``, including those that operator-courier does not read.

        Raises CannotReplace; some files may already be changed then. Raises OSError if the disk fails.
        """
        for path in sorted(directory.rglob("*")):
            if path.name.lower().endswith(_YAML_ENDINGS) and path.is_file():
                self.file = path.relative_to(directory).as_posix()
                self._replace_in_file(path)

    def _replace_in_file(self, path: Path) -> None:
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            raise CannotReplace(NOT_TEXT, self.file) from None
        changed = self._applied(text)
        if changed != text:
            try:
                path.write_bytes(changed.encode())
            except UnicodeEncodeError:
                raise CannotReplace(NOT_UTF8, self.file) from None

    def _applied(self, text: str) -> str:
        for number, (old, new, pattern) in enumerate(self._steps):
            self.rule = number
            plain = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
            if plain != text and plain.replace("\n", "\r\n") == text:
                # OMPS opened files as text, so its "$" and "\n" never met a carriage return.
                text = self._replaced(plain, old, new, pattern).replace("\n", "\r\n")
            else:
                text = self._replaced(text, old, new, pattern)
        return text

    def _replaced(self, text: str, old: str, new: str, pattern: re.Pattern[str] | None) -> str:
        if pattern is None:
            self._count(text.count(old), len(new) - len(old))
            return text.replace(old, new)

        def expanded(match: re.Match[str]) -> str:
            put = match.expand(new) if "\\" in new else new
            self._count(1, len(put) - (match.end() - match.start()))
            return put

        return pattern.sub(expanded, text)

    def _count(self, places: int, growth: int) -> None:
        """Count ``places`` replaced places that grow by ``growth`` characters each. Raises CannotReplace."""
        self._places -= places
        self._characters -= places * max(growth, 0)
        if self._places < 0:
            raise CannotReplace(PLACES, self.file, self.rule)
        if self._characters < 0:
            raise CannotReplace(CHARACTERS, self.file, self.rule)


class _TimeOver(BaseException):
    """Raised by the timer, in the middle of the work."""


def main() -> None:
    """Read a job from stdin, do it within its limits, and write the error to stdout as JSON (``{}`` if there is none).

    When the processor time is used up, Python raises an exception if it gets the chance. Otherwise the kernel ends the
    process with SIGPROF. Neither depends on how busy the machine is.
    """
    job = json.load(sys.stdin)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it
        resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
    signal.signal(signal.SIGVTALRM, _time_over)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, job["seconds"] + GRACE_SECONDS)
    signal.setitimer(signal.ITIMER_VIRTUAL, job["seconds"])
    replacing: TextReplacer | None = None
    answer: dict[str, object] = {}
    try:
        replacing = TextReplacer(job["rules"], job["places"], job["characters"])
        replacing.replace_in(Path(job["directory"]))
    except CannotReplace as fault:
        answer = {"kind": fault.kind, "file": fault.file, "rule": fault.rule}
    except (_TimeOver, MemoryError) as fault:
        kind = TIME if isinstance(fault, _TimeOver) else MEMORY
        answer = {"kind": kind, "file": replacing.file if replacing else "", "rule": replacing.rule if replacing else 0}
    except OSError as fault:
        answer = {"errno": fault.errno, "strerror": fault.strerror}
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    json.dump(answer, sys.stdout)


def _time_over(_number: int, _frame: object) -> None:
    raise _TimeOver


if __name__ == "__main__":
    main()
