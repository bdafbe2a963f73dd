# SPDX-License-Identifier: GPL-3.0-or-later
"""Sample operators: the content of a build's archive of manifests.

Each function returns the files of one archive as ``{relative path: text}``; ``zip_of`` packs them. The operators are
invented, but have the form of real ones: a ClusterServiceVersion (CSV) per version, the CustomResourceDefinitions
(CRDs) that it owns, and a package file with the channels. operator-courier accepts all of them except ``bundle_tree``,
which has no package file.

``sized_operator`` generates operators of typical sizes from a seed, for benchmarks.
"""

from __future__ import annotations

import io
import json
import random
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omps_worker.sandbox import operator_templates as templates

Files = dict[str, str]
"""The files of an archive: relative path and text."""

SIZES: Mapping[str, str] = {
    "flat": "3 files, 6 KB",
    "nested": "11 files, 49 KB, 3 versions",
    "big flat": "12 files, 540 KB, 10 CRDs, a CSV of 319 KB",
    "big nested": "34 files, 1.4 MB, 3 versions with 10 CRDs each",
}
"""The sizes that ``sized_operator`` can generate, with their descriptions."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A custom resource that is owned by an operator."""

    kind: str
    plural: str
    group: str
    version: str = "v1alpha1"

    @property
    def crd_name(self) -> str:
        """The name of its CRD."""
        return f"{self.plural}.{self.group}"


def nested_operator(
    package: str = "otter-cache",
    *,
    versions: Sequence[str] = ("0.9.0", "1.0.0", "1.1.0"),
    image: str = "quay.example.org/otter/otter-cache-operator",
) -> Files:
    """Return a package file and one directory per version, the oldest first. The last version is the current one."""
    group = f"{package}.example.org"
    caches = Resource("Cache", "caches", group)
    backups = Resource("CacheBackup", "cachebackups", group)
    channels = {"stable": versions[-1], "candidate": versions[-1]}
    files = {f"{package}.package.yaml": _package(package, channels, "stable")}
    for index, version in enumerate(versions):
        resources = [caches] if index == 0 and len(versions) > 1 else [caches, backups]
        replaces = f"{package}.v{versions[index - 1]}" if index else None
        files[f"{version}/{package}.v{version}.clusterserviceversion.yaml"] = _csv(
            package, version, resources, image=image, replaces=replaces
        )
        for resource in resources:
            files[f"{version}/{resource.plural}.crd.yaml"] = _crd(resource)
    return files


def flat_operator(
    package: str = "lantern",
    *,
    version: str = "1.4.2",
    image: str = "quay.example.org/harbour/lantern-operator",
) -> Files:
    """Return an operator with one version and all files in the root."""
    resource = Resource("Lantern", "lanterns", f"{package}.example.org", "v1")
    return {
        f"{package}.package.yaml": _package(package, {"stable": version}, None),
        f"{package}.v{version}.clusterserviceversion.yaml": _csv(package, version, [resource], image=image),
        "lanterns.crd.yaml": _crd(resource),
    }


def bundle_tree(
    package: str = "heron",
    *,
    version: str = "2.0.1",
    image: str = "quay.example.org/waders/heron-operator",
) -> Files:
    """Return the files of a bundle build: one CSV and its CRDs, without a package file."""
    resource = Resource("Nest", "nests", f"{package}.example.org")
    return {
        f"{package}.clusterserviceversion.yaml": _csv(package, version, [resource], image=image),
        "nests.crd.yaml": _crd(resource),
    }


def sized_operator(size: str, seed: int = 1) -> Files:
    """Generate an operator of a typical size, a key of ``SIZES``. The same seed gives the same operator."""
    words = random.Random(f"{size} {seed}")  # noqa: S311 - text to measure with, no secret
    package = f"{words.choice(_WORDS)}-{words.choice(_WORDS)}-operator"
    group = f"{package}.example.org"
    if size == "flat":
        resource = Resource("Widget", "widgets", group)
        return {
            "package.yaml": _package(package, {"alpha": "0.1.0"}, None),
            "operator.clusterserviceversion.yaml": _csv(package, "0.1.0", [resource], words=words, size=4_400),
            "widgets.crd.yaml": _crd(resource, words=words, size=2_700),
        }
    if size == "nested":
        return _generated_versions(package, group, words, (9_000, 9_400, 9_800), (2, 2, 3), 3_000)
    if size == "big flat":
        resources = _resources(group, 10)
        files = {
            "package.yaml": _package(package, {"stable": "4.2.0"}, None),
            "operator.clusterserviceversion.yaml": _csv(package, "4.2.0", resources, words=words, size=319_000),
        }
        return files | {f"{each.plural}.crd.yaml": _crd(each, words=words, size=22_400) for each in resources}
    if size == "big nested":
        return _generated_versions(package, group, words, (175_000, 247_000, 319_000), (10, 10, 10), 22_600)
    raise ValueError(f"no such size: {size!r}; there are {', '.join(SIZES)}")


def zip_of(files: Mapping[str, str | bytes]) -> bytes:
    """Return a zip archive of the files, in the given order. The same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            member = zipfile.ZipInfo(path, (2019, 6, 1, 12, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def _generated_versions(
    package: str,
    group: str,
    words: random.Random,
    csv_sizes: Sequence[int],
    crd_counts: Sequence[int],
    crd_size: int,
) -> Files:
    versions = [f"{index + 1}.0.0" for index in range(len(csv_sizes))]
    files = {"package.yaml": _package(package, {"stable": versions[-1], "previous": versions[-2]}, "stable")}
    for index, (version, csv_size, count) in enumerate(zip(versions, csv_sizes, crd_counts, strict=True)):
        resources = _resources(group, count)
        replaces = f"{package}.v{versions[index - 1]}" if index else None
        files[f"{version}/operator.v{version}.clusterserviceversion.yaml"] = _csv(
            package, version, resources, replaces=replaces, words=words, size=csv_size
        )
        for each in resources:
            files[f"{version}/{each.plural}.crd.yaml"] = _crd(each, words=words, size=crd_size)
    return files


def _resources(group: str, count: int) -> list[Resource]:
    kinds = ("Cluster", "Backup", "Restore", "User", "Topic", "Mirror", "Bridge", "Connector", "Rebalance", "Dashboard")
    return [Resource(kind, f"{kind.lower()}s", group, "v1beta1") for kind in kinds[:count]]


def _package(package: str, channels: Mapping[str, str], default: str | None) -> str:
    lines = ["# The channels of this operator.", f"packageName: {package}", "channels:"]
    for name, version in channels.items():
        lines += [f"- name: {name}", f"  currentCSV: {package}.v{version}"]
    if default:
        lines.append(f"defaultChannel: {default}")
    return "\n".join(lines) + "\n"


def _csv(
    package: str,
    version: str,
    resources: Sequence[Resource],
    *,
    image: str = "quay.example.org/generated/operator",
    replaces: str | None = None,
    words: random.Random | None = None,
    size: int = 0,
) -> str:
    """Return a CSV. With ``words``, it is filled up to about ``size`` bytes."""
    title = package.replace("-", " ").title()
    examples: list[object] = [
        {
            "apiVersion": f"{each.group}/{each.version}",
            "kind": each.kind,
            "metadata": {"name": f"example-{each.kind.lower()}"},
            "spec": {"size": 3},
        }
        for each in resources
    ]
    description = [f"{title} runs and looks after {', '.join(each.plural for each in resources)}.", ""]
    description += ["## Before you begin", "", "* a cluster of version 4.1 or newer", "* volumes for the data"]
    descriptors: dict[str, list[str]] = {each.plural: [] for each in resources}
    icon = templates.ICON
    if words:
        icon, parts = _fill(words, size * 94 // 100 - 2_700 - 500 * len(resources), resources, examples, description)
        descriptors.update(parts)
    text = templates.CSV_HEAD.format(
        name=f"{package}.v{version}",
        title=title,
        image=f"{image}:{version}",
        examples=_indented(json.dumps(examples, indent=2), 6),
        description=_indented("\n".join(description), 4),
        icon=icon,
        version=version,
        replaces=f"  replaces: {replaces}\n" if replaces else "",
    )
    owned = [
        templates.OWNED.format(resource=each, crd=each.crd_name) + "".join(descriptors[each.plural])
        for each in resources
    ]
    plurals = "".join(f"          - {each.plural}\n" for each in resources)
    rules = templates.RULES.format(group=resources[0].group, plurals=plurals)
    return text + "".join(owned) + templates.INSTALL.format(package=package, image=f"{image}:{version}", rules=rules)


def _fill(
    words: random.Random, size: int, resources: Sequence[Resource], examples: list[object], description: list[str]
) -> tuple[str, dict[str, list[str]]]:
    """Fill ``size`` bytes as in large CSVs: mostly the icon and the examples, then prose and descriptors."""
    icon = "".join(words.choices(_BASE64, k=max(len(templates.ICON), size * 3 // 10)))
    for count in range(max(size * 3 // 10, 0) // 450):
        each = resources[count % len(resources)]
        config = {f"{words.choice(_WORDS)}.{words.choice(_WORDS)}": words.randrange(10_000) for _ in range(5)}
        metadata = {"name": f"example-{count}", "labels": {"app": words.choice(_WORDS)}}
        spec = {"replicas": words.randrange(9), "config": config, "note": _sentence(words)}
        version = f"{each.group}/{each.version}"
        examples.append({"apiVersion": version, "kind": each.kind, "metadata": metadata, "spec": spec})
    for _ in range(max(size * 2 // 10, 0) // 70):
        description += [_sentence(words)] if words.random() < 0.8 else ["", f"### {words.choice(_WORDS).title()}", ""]
    descriptors: dict[str, list[str]] = {}
    share = max(size * 2 // 10, 0) // len(resources)
    for each in resources:
        parts, room = ["      specDescriptors:\n"], share
        while room > 0:
            name = f"{words.choice(_WORDS)}{len(parts)}"
            parts.append(templates.DESCRIPTOR.format(text=_sentence(words), title=name.title(), path=name))
            room -= len(parts[-1])
        descriptors[each.plural] = parts if len(parts) > 1 else []
    return icon, descriptors


def _crd(resource: Resource, *, words: random.Random | None = None, size: int = 0) -> str:
    """Return a CRD. With ``words``, its schema is filled up to about ``size`` bytes."""
    text = templates.CRD_HEAD.format(resource=resource, singular=resource.kind.lower(), crd=resource.crd_name)
    if not words:
        return text
    parts = [text]
    room = size - len(text) - 500
    while room > 0:
        parts.append(_schema(words, f"{words.choice(_WORDS)}{len(parts)}", 14, 2))
        room -= len(parts[-1])
    return "".join(parts)


def _schema(words: random.Random, name: str, indent: int, depth: int) -> str:
    pad = " " * indent
    note = textwrap.fill(_sentence(words, 25), 110, subsequent_indent=pad + "    ")
    head = f"{pad}{name}:\n{pad}  description: {note}\n"
    if depth and words.random() < 0.3:
        inner = "".join(_schema(words, f"{words.choice(_WORDS)}{n}", indent + 4, depth - 1) for n in range(3))
        return f"{head}{pad}  type: object\n{pad}  properties:\n{inner}"
    kind = words.choice(("string", "string", "integer", "boolean"))
    limits = f"{pad}  minimum: {words.randrange(10)}\n" if kind == "integer" else ""
    return f"{head}{pad}  type: {kind}\n{limits}"


def _sentence(words: random.Random, length: int = 11) -> str:
    return " ".join(words.choices(_WORDS, k=length)).capitalize() + "."


def _indented(text: str, indent: int) -> str:
    return textwrap.indent(text, " " * indent).lstrip()


_WORDS = """
amber basin cedar delta ember fjord grove harbour inlet jetty kelp ledge marsh north ocean pier quartz ridge
shore tide upland valley willow yard zephyr anchor beacon cable drift engine ferry gauge hull iron keel lamp
mast node oar port quay rope sail tiller unit vessel winch
""".split()  # noqa: SIM905

_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
