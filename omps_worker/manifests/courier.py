# SPDX-License-Identifier: GPL-3.0-or-later
"""Run operator-courier on manifests that are already parsed, and return its verdict.

operator-courier reads files, parses each of them three to seven times with PyYAML's slow parser, and dumps each once
or twice only to find its name for a log line. Its rules are what counts, so its own code runs here, but on a tree of
files that exists only in memory. During one call, its modules see another ``os`` and ``open``, whose files contain
documents instead of text, and another ``yaml``, which returns these documents and dumps with libyaml. Nothing outside
of operator-courier's modules is changed.

operator-courier keeps state in its modules, so only one call runs at a time in a process. Its logger is silenced,
because the verdict contains all its messages.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.text import one_line
from omps_worker.manifests import yaml_dump
from omps_worker.manifests.findings import Finding, in_short, sentences
from omps_worker.manifests.operator_manifests import CRD, CSV, PACKAGE, invalid, kind_of

log = logging.getLogger(__name__)

MOST_VERDICTS = 10_000
"""operator-courier is stopped after this number of errors and warnings."""

MOST_COMPARISONS = 1_000_000
"""The most comparisons of owned resources in CSVs with defined ones in CRDs. It compares each with each."""

MOST_EXAMPLE_VALUES = 100_000
"""The most values in all ``alm-examples`` together. It parses them as JSON, only to check whether they are valid."""

_ROOT = "manifests"
_UNBROKEN = 2**31 - 1
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class CourierVerdict:
    """operator-courier's verdict on manifests that it accepts."""

    nested: bool
    warnings: tuple[str, ...]
    """operator-courier's warnings, in its own words."""
    findings: tuple[Finding, ...]
    """The same warnings, each with its file."""
    bundle: str | None
    """For a flat tree: the text of ``bundle.yaml``, the only file in a release."""


def verify(
    documents: Mapping[str, Any], repository: str, too_deep: Callable[[], Sequence[str]] = tuple
) -> CourierVerdict:
    """Return operator-courier's verdict on ``documents`` (by relative path), without changing them.

    ``too_deep`` is called if operator-courier finds no CSV; it returns the paths of CSVs in directories that
    operator-courier ignores.

    Raises PackageValidationError if operator-courier refuses the documents, or if their package name is not
    ``repository``; trying again does not help. ``details["validation_info"]`` is the whole verdict,
    ``{errors, warnings}``, or empty if there is none. ``details["findings"]`` has the errors with their files.
    """
    _check_comparisons(documents)
    _check_examples(documents)
    with _lock:
        courier = _Courier.load()
        try:
            with courier.reading(documents):
                verified = courier.verified_manifest.VerifiedManifest(_ROOT, None, False, repository)
                verdict = verified.validation_dict
                if not verified.is_valid:
                    # The message of operator-courier's api module, which cannot be imported without distutils.
                    message = "Resulting bundle is invalid, input yaml is improperly defined."
                    raise courier.errors.OpCourierBadBundle(message, verdict)
                bundle = None if verified.nested else courier.bundle_text(verified)
        except MemoryError:
            raise
        except Exception as error:
            raise _refusal(error, courier, _Shape(documents, too_deep)) from error
        else:
            return CourierVerdict(verified.nested, tuple(verdict["warnings"]), tuple(courier.command.warnings), bundle)
        finally:
            # The command is kept for the next tree; its notes about this tree are not.
            courier.command.begin({})


def left_out() -> frozenset[str]:
    """Return the names of files that operator-courier does not pack, in any directory."""
    with _lock:
        return _Courier.load().left_out


class _Document:
    """Stands in for a file and for its text. operator-courier passes texts only to the parser."""

    def __init__(self, document: Any) -> None:
        self.document = document

    def read(self) -> _Document:
        return self

    def __enter__(self) -> _Document:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class _Tree:
    """The part of ``os`` that operator-courier uses to read a tree, for files in memory."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        self._documents = documents
        self._directories: dict[str, list[str]] = {_ROOT: []}
        for path in documents:
            directory, _, name = f"{_ROOT}/{path}".rpartition("/")
            self._directories.setdefault(directory, []).append(name)
        real = importlib.import_module("os.path")
        self.path = SimpleNamespace(
            join=real.join, basename=real.basename, splitext=real.splitext, isfile=self._is_file
        )

    def walk(self, root: str) -> Iterator[tuple[str, list[str], list[str]]]:
        inside = sorted(name.rpartition("/")[2] for name in self._directories if name != root)
        yield root, inside, sorted(self._directories[root])

    def listdir(self, directory: str) -> list[str]:
        return sorted(self._directories[directory])

    def open(self, path: str) -> _Document:
        return _Document(self._documents[path.removeprefix(f"{_ROOT}/")])

    def _is_file(self, path: str) -> bool:
        return path.removeprefix(f"{_ROOT}/") in self._documents


class _Shared(Exception):
    """A value occurs in more than one place."""


class _TooMuch(Exception):
    """operator-courier has found more errors and warnings than anyone reads."""


class _Courier:
    """operator-courier's modules, and the replacements for the libraries that they use."""

    _loaded: _Courier | None = None

    def __init__(self) -> None:
        yaml: Any = importlib.import_module("yaml")
        self._yaml = yaml
        # The order matters, because two of them import each other.
        self.errors, self._identify, self._parser, self._build, self._format, self.validate, self.verified_manifest = (
            importlib.import_module(f"operatorcourier.{name}")
            for name in ("errors", "identify", "manifest_parser", "build", "format", "validate", "verified_manifest")
        )
        logging.getLogger("operatorcourier").setLevel(logging.CRITICAL + 1)
        self.left_out: frozenset[str] = frozenset(importlib.import_module("operatorcourier.push").BLACK_LIST)
        self._dumper = _dumper(getattr(yaml, "CDumper", yaml.Dumper), self._format)
        self._pure_dumper = _dumper(yaml.Dumper, self._format)
        self.command = _recording_command(self.validate.ValidateCmd, self.validate.log_info)

    @classmethod
    def load(cls) -> _Courier:
        """Return the modules; the first call imports operator-courier."""
        if cls._loaded is None:
            cls._loaded = cls()
        return cls._loaded

    @contextlib.contextmanager
    def reading(self, documents: Mapping[str, Any]) -> Iterator[None]:
        """Let operator-courier read ``documents`` instead of files."""
        tree = _Tree(documents)

        def load(text: _Document) -> Any:
            return text.document

        # It dumps a document only to find the file that it came from. Its identity is enough for that.
        parsed = SimpleNamespace(safe_load=load, dump=id)
        formatting = SimpleNamespace(dump=self._dump, add_representer=lambda *_: None)
        self.command.begin(documents)
        with contextlib.ExitStack() as stack:
            for module, name, value in (
                (self._parser, "os", tree),
                (self._parser, "open", tree.open),
                (self._identify, "safe_load", load),
                (self._build, "yaml", parsed),
                (self.validate, "yaml", parsed),
                (self._format, "yaml", formatting),
                (self.verified_manifest, "os", tree),
                (self.verified_manifest, "ValidateCmd", self.command),
            ):
                stack.enter_context(_replaced(module, name, value))
            yield

    def bundle_text(self, verified: Any) -> str:
        """Return the bundle of a flat tree, as operator-courier writes it to ``bundle.yaml``."""
        data = verified.bundle_dict["data"]
        # Copied, because operator-courier changes the CSVs that it formats.
        data["clusterServiceVersions"] = _copy_keeping_aliases(data["clusterServiceVersions"])
        return self._dump(verified.bundle, default_flow_style=False)

    def _dump(self, value: Any, **options: Any) -> str:
        # libyaml and PyYAML break long lines in different places. Without line breaks, they write the same bytes.
        options["width"] = _UNBROKEN
        if type(value) is list:
            written = yaml_dump.dump(value, partial(self._dump_whole, **options), self._format._literal)
            if written is not None:
                return written
        return self._dump_whole(value, **options)

    def _dump_whole(self, value: Any, **options: Any) -> str:
        try:
            text: str = self._yaml.dump(value, Dumper=self._dumper, **options)
        except UnicodeEncodeError:
            # libyaml cannot write lone surrogates; PyYAML escapes them.
            text = self._yaml.dump(value, Dumper=self._pure_dumper, **options)
        return text


def _copy_keeping_aliases(value: Any) -> Any:
    """Return a deep copy of ``value``. Values that are shared in the original are shared in the copy."""
    try:
        return _copy_tree(value, set())
    except _Shared:
        return copy.deepcopy(value)


def _copy_tree(value: Any, seen: set[int]) -> Any:
    kind = type(value)
    if kind is not dict and kind is not list:
        return value
    if id(value) in seen:
        raise _Shared
    seen.add(id(value))
    if kind is list:
        return [_copy_tree(each, seen) for each in value]
    return {key: each if type(each) is str else _copy_tree(each, seen) for key, each in value.items()}


def _replaced(module: ModuleType, name: str, value: object) -> contextlib.ExitStack:
    """Set ``module.name`` to ``value`` until the returned stack is closed."""
    stack = contextlib.ExitStack()
    if name in vars(module):
        stack.callback(setattr, module, name, vars(module)[name])
    else:
        stack.callback(delattr, module, name)
    setattr(module, name, value)
    return stack


def _dumper(base: Any, courier_format: Any) -> Any:
    """Return PyYAML's dumper ``base`` with operator-courier's format for long texts."""

    class Dumper(base):  # type: ignore[misc]
        pass

    def literal(dumper: Any, text: str) -> Any:
        # str(), because libyaml does not accept a subclass.
        return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")

    Dumper.add_representer(courier_format._literal, literal)
    return Dumper


def _recording_command(command: Any, log_info: dict[str, str]) -> Any:
    """Return a subclass of operator-courier's ValidateCmd that records each finding with its file.

    It raises _TooMuch after ``MOST_VERDICTS`` findings. ``log_info`` is the mapping in which operator-courier keeps the
    path of the current file.
    """

    class RecordingCommand(command):  # type: ignore[misc]
        errors: ClassVar[list[Finding]] = []
        warnings: ClassVar[list[Finding]] = []
        paths: ClassVar[dict[int, str]] = {}

        @classmethod
        def begin(cls, documents: Mapping[str, Any]) -> None:
            cls.errors, cls.warnings = [], []
            cls.paths = {id(document): path for path, document in documents.items()}
            log_info["current_manifest_file"] = ""

        def get_filename_from_metadata(self, _metadata: object, document: Any) -> str:
            return self.paths.get(id(document), "")

        def _type_validation(self, *arguments: Any, **options: Any) -> Any:
            # A finding about all files of a kind is not about the current file.
            log_info["current_manifest_file"] = ""
            return super()._type_validation(*arguments, **options)

        def _log_warning(self, message: str, *args: object, **options: object) -> None:
            self._note(RecordingCommand.warnings, message, args)
            super()._log_warning(message, *args, **options)

        def _log_error(self, message: str, *args: object, **options: object) -> None:
            self._note(RecordingCommand.errors, message, args)
            super()._log_error(message, *args, **options)

        def _note(self, findings: list[Finding], message: str, args: tuple[object, ...]) -> None:
            findings.append(Finding(message % args, log_info["current_manifest_file"] or None))
            if len(RecordingCommand.errors) + len(RecordingCommand.warnings) > MOST_VERDICTS:
                raise _TooMuch(
                    f"operator-courier has more than {MOST_VERDICTS} errors and warnings about these manifests."
                )

    return RecordingCommand


def _check_comparisons(documents: Mapping[str, Any]) -> None:
    owned: dict[str, int] = {}
    defined: dict[str, int] = {}
    for path, document in documents.items():
        directory, _, _ = path.rpartition("/")
        spec = document.get("spec") if isinstance(document, dict) else None
        if not isinstance(spec, dict):
            continue
        if kind_of(document) == CSV:
            definitions = spec.get("customresourcedefinitions")
            names = definitions.get("owned") if isinstance(definitions, dict) else None
            owned[directory] = owned.get(directory, 0) + _length(names)
        elif kind_of(document) == CRD:
            defined[directory] = defined.get(directory, 0) + 1 + _length(spec.get("versions"))
    comparisons = sum(count * defined.get(directory, 0) for directory, count in owned.items())
    if comparisons > MOST_COMPARISONS:
        raise invalid(
            "Failed to push manifest: its ClusterServiceVersions own too many custom resources. To compare them with "
            f"the definitions takes {comparisons} comparisons, the limit is {MOST_COMPARISONS}."
        )


def _check_examples(documents: Mapping[str, Any]) -> None:
    values = 0
    for document in documents.values():
        if kind_of(document) == CSV:
            metadata = document.get("metadata")
            annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
            examples = annotations.get("alm-examples") if isinstance(annotations, dict) else None
            if isinstance(examples, str):
                values += sum(map(examples.count, "[{,"))
    if values > MOST_EXAMPLE_VALUES:
        raise invalid(
            f"Failed to push manifest: the annotations alm-examples have more than {MOST_EXAMPLE_VALUES} values."
        )


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (list, dict, str)) else 0


def _refusal(error: Exception, courier: _Courier, shape: _Shape) -> PackageValidationError:
    """Return the PackageValidationError for an exception that was raised while operator-courier ran."""
    if isinstance(error, courier.errors.OpCourierError):
        verdict = getattr(error, "validation_info", {})
        found = courier.command.errors if verdict else shape.findings()
        message = f"Failed to push manifest: {error}"
        if found:
            message = f"{message} {in_short(found)}"
        return PackageValidationError(message, details={"validation_info": verdict, "findings": list(sentences(found))})
    if isinstance(error, _TooMuch):
        return invalid(f"Failed to push manifest: {error}")
    log.debug("operator-courier failed on these manifests", exc_info=error)
    file = one_line(courier.validate.log_info["current_manifest_file"])
    where = f"at or after file {file}" if file else "at one of the files"
    return invalid(
        f"Failed to push manifest: operator-courier failed {where} ({type(error).__name__}): a value there is not of "
        "the expected kind, for example a list instead of a mapping, or an empty value."
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """The layout of a tree, to explain errors of operator-courier that are about the whole tree."""

    documents: Mapping[str, Any]
    too_deep: Callable[[], Sequence[str]]

    def findings(self) -> list[Finding]:
        """Return the likely causes of such an error."""
        root = {path: kind_of(document) for path, document in self.documents.items() if "/" not in path}
        packages = [path for path, kind in root.items() if kind == PACKAGE]
        if len(packages) > 1:
            return [Finding(f"packageName is in {' and in '.join(packages[:5])}")]
        if CSV not in map(kind_of, self.documents.values()):
            return [Finding(f"this {CSV} is more than one directory deep", path) for path in self.too_deep()]
        return []
