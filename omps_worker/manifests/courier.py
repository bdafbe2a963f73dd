# SPDX-License-Identifier: GPL-3.0-or-later
"""operator-courier's verdict on manifests that were parsed already.

operator-courier reads files, parses each of them three to seven times with PyYAML's slow parser,
and dumps each once or twice only to find its name for a log line. Its rules are what counts
here, so its own code runs, on a tree of files that exists in memory only: for the time of one
call its modules see another ``os`` and ``open``, whose files hold documents instead of text, and
another ``yaml``, which hands these documents out and dumps with libyaml. Nothing outside of
operator-courier's modules is touched.

It keeps state in its modules, so one call runs at a time in a process. Its logger is silenced:
what it has to say is in the verdict.
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
"""After so many errors and warnings operator-courier is stopped."""

MOST_COMPARISONS = 1_000_000
"""How often it may compare what CSVs own with what CRDs define: it compares each with each."""

MOST_EXAMPLE_VALUES = 100_000
"""How many values all ``alm-examples`` may hold: it reads them as JSON, only to see whether they are."""

_ROOT = "manifests"
_UNBROKEN = 2**31 - 1
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class CourierVerdict:
    """What operator-courier thinks of manifests that it accepts."""

    nested: bool
    warnings: tuple[str, ...]
    """As it words them."""
    findings: tuple[Finding, ...]
    """The same, each with its file."""
    bundle: str | None
    """For a flat tree: the text of ``bundle.yaml``, all that a release holds."""


def verify(
    documents: Mapping[str, Any], repository: str, too_deep: Callable[[], Sequence[str]] = tuple
) -> CourierVerdict:
    """operator-courier's verdict on ``documents`` (by relative path), which stay as they are.

    ``too_deep``: asked for the paths of CSVs where it never looks, if it finds none.

    Raises PackageValidationError if it refuses them, or if their package name is not
    ``repository``; ``details["validation_info"]`` is its whole verdict, ``{errors, warnings}``, or
    empty when it came to none, and ``details["findings"]`` has its errors with their files. Trying again does not
    help.
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
                    # What operator-courier's api module says; that one needs distutils to import.
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
            # It stays for the next tree; what it noted of this one need not.
            courier.command.begin({})


def left_out() -> frozenset[str]:
    """The names of files that operator-courier never packs, wherever they are."""
    with _lock:
        return _Courier.load().left_out


class _Document:
    """Stands for a file, and for its text: operator-courier only passes texts on to the parser."""

    def __init__(self, document: Any) -> None:
        self.document = document

    def read(self) -> _Document:
        return self

    def __enter__(self) -> _Document:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class _Tree:
    """The part of ``os`` that operator-courier looks at a tree with, for files in memory."""

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
    """A value stands in more than one place."""


class _TooMuch(Exception):
    """operator-courier has found more than anybody reads."""


class _Courier:
    """operator-courier's modules, and what stands in for the libraries that they use."""

    _loaded: _Courier | None = None

    def __init__(self) -> None:
        yaml: Any = importlib.import_module("yaml")
        self._yaml = yaml
        # The order matters: two of them import each other.
        self.errors, self._identify, self._parser, self._build, self._format, self.validate, self.verified_manifest = (
            importlib.import_module(f"operatorcourier.{name}")
            for name in ("errors", "identify", "manifest_parser", "build", "format", "validate", "verified_manifest")
        )
        logging.getLogger("operatorcourier").setLevel(logging.CRITICAL + 1)
        self.left_out: frozenset[str] = frozenset(importlib.import_module("operatorcourier.push").BLACK_LIST)
        self._dumper = _dumper(getattr(yaml, "CDumper", yaml.Dumper), self._format)
        self._pure_dumper = _dumper(yaml.Dumper, self._format)
        self.command = _listening(self.validate.ValidateCmd, self.validate.log_info)

    @classmethod
    def load(cls) -> _Courier:
        """Import operator-courier at the first call."""
        if cls._loaded is None:
            cls._loaded = cls()
        return cls._loaded

    @contextlib.contextmanager
    def reading(self, documents: Mapping[str, Any]) -> Iterator[None]:
        """Let operator-courier see ``documents`` instead of the disk."""
        tree = _Tree(documents)

        def load(text: _Document) -> Any:
            return text.document

        # It dumps a document only to find out which file it came from: identity tells that as well.
        parsed = SimpleNamespace(safe_load=load, dump=id)
        shown = SimpleNamespace(dump=self._dump, add_representer=lambda *_: None)
        self.command.begin(documents)
        with contextlib.ExitStack() as stack:
            for module, name, value in (
                (self._parser, "os", tree),
                (self._parser, "open", tree.open),
                (self._identify, "safe_load", load),
                (self._build, "yaml", parsed),
                (self.validate, "yaml", parsed),
                (self._format, "yaml", shown),
                (self.verified_manifest, "os", tree),
                (self.verified_manifest, "ValidateCmd", self.command),
            ):
                stack.enter_context(_replaced(module, name, value))
            yield

    def bundle_text(self, verified: Any) -> str:
        """The bundle of a flat tree, as operator-courier writes it to ``bundle.yaml``."""
        data = verified.bundle_dict["data"]
        # It changes the CSVs that it formats.
        data["clusterServiceVersions"] = _copied(data["clusterServiceVersions"])
        return self._dump(verified.bundle, default_flow_style=False)

    def _dump(self, value: Any, **options: Any) -> str:
        # libyaml and PyYAML break long lines at different places; unbroken, both write the same bytes.
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
            # Lone surrogates, which libyaml cannot write and PyYAML escapes.
            text = self._yaml.dump(value, Dumper=self._pure_dumper, **options)
        return text


def _copied(value: Any) -> Any:
    """A copy of ``value`` and all that is in it, in which what was shared is."""
    try:
        return _copied_tree(value, set())
    except _Shared:
        return copy.deepcopy(value)


def _copied_tree(value: Any, seen: set[int]) -> Any:
    kind = type(value)
    if kind is not dict and kind is not list:
        return value
    if id(value) in seen:
        raise _Shared
    seen.add(id(value))
    if kind is list:
        return [_copied_tree(each, seen) for each in value]
    return {key: each if type(each) is str else _copied_tree(each, seen) for key, each in value.items()}


def _replaced(module: ModuleType, name: str, value: object) -> contextlib.ExitStack:
    """``module.name`` is ``value`` until the stack that is returned is closed."""
    stack = contextlib.ExitStack()
    if name in vars(module):
        stack.callback(setattr, module, name, vars(module)[name])
    else:
        stack.callback(delattr, module, name)
    setattr(module, name, value)
    return stack


def _dumper(base: Any, courier_format: Any) -> Any:
    """PyYAML's dumper ``base``, with operator-courier's way of writing long texts."""

    class Dumper(base):  # type: ignore[misc]
        pass

    def literal(dumper: Any, text: str) -> Any:
        # str(): libyaml takes no subclass.
        return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")

    Dumper.add_representer(courier_format._literal, literal)
    return Dumper


def _listening(command: Any, log_info: dict[str, str]) -> Any:
    """operator-courier's ValidateCmd, but one that notes in which file it found what, and ends when that is too much.

    ``log_info`` is where it keeps the path of the file that it looks at.
    """

    class Listening(command):  # type: ignore[misc]
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
            # What it says of all files of a kind is not about the file that it looked at last.
            log_info["current_manifest_file"] = ""
            return super()._type_validation(*arguments, **options)

        def _log_warning(self, message: str, *args: object, **options: object) -> None:
            self._note(Listening.warnings, message, args)
            super()._log_warning(message, *args, **options)

        def _log_error(self, message: str, *args: object, **options: object) -> None:
            self._note(Listening.errors, message, args)
            super()._log_error(message, *args, **options)

        def _note(self, findings: list[Finding], message: str, args: tuple[object, ...]) -> None:
            findings.append(Finding(message % args, log_info["current_manifest_file"] or None))
            if len(Listening.errors) + len(Listening.warnings) > MOST_VERDICTS:
                raise _TooMuch(f"There is more wrong with these manifests than {MOST_VERDICTS} errors and warnings.")

    return Listening


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
            "Failed to push manifest: its ClusterServiceVersions own too many custom resources for operator-courier "
            f"to compare with the definitions: {comparisons} comparisons, the limit is {MOST_COMPARISONS}."
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
            f"Failed to push manifest: the annotations alm-examples hold more than {MOST_EXAMPLE_VALUES} values."
        )


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (list, dict, str)) else 0


def _refusal(error: Exception, courier: _Courier, shape: _Shape) -> PackageValidationError:
    """operator-courier's exception as ours."""
    if isinstance(error, courier.errors.OpCourierError):
        verdict = getattr(error, "validation_info", {})
        found = courier.command.errors if verdict else shape.findings()
        message = f"Failed to push manifest: {error}"
        if found:
            message = f"{message} {in_short(found)}"
        return PackageValidationError(message, details={"validation_info": verdict, "findings": list(sentences(found))})
    if isinstance(error, _TooMuch):
        return invalid(f"Failed to push manifest: {error}")
    log.debug("operator-courier stopped at manifests that it does not understand", exc_info=error)
    file = one_line(courier.validate.log_info["current_manifest_file"])
    where = f"at or after file /{file}" if file else "at one of the files"
    return invalid(
        f"Failed to push manifest: operator-courier stopped {where} ({type(error).__name__}): something there is not "
        "of the kind that it expects, like a list where a mapping belongs, or an empty value."
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which files a tree has where, for what operator-courier says of all of it."""

    documents: Mapping[str, Any]
    too_deep: Callable[[], Sequence[str]]

    def findings(self) -> list[Finding]:
        """What it may mean."""
        root = {path: kind_of(document) for path, document in self.documents.items() if "/" not in path}
        packages = [f"/{path}" for path, kind in root.items() if kind == PACKAGE]
        if len(packages) > 1:
            return [Finding(f"packageName stands in {' and in '.join(packages[:5])}")]
        if CSV not in map(kind_of, self.documents.values()):
            return [Finding(f"this {CSV} is more than one directory deep", path) for path in self.too_deep()]
        return []
