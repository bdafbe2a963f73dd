# SPDX-License-Identifier: GPL-3.0-or-later
"""What opm makes of the files of a bundle: the corners that no recorded case has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.destinations.catalog.bundles.bundle import CHANNELS_LABEL, DEFAULT_CHANNEL_LABEL, PACKAGE_LABEL, Bundle
from omps_worker.destinations.catalog.bundles.render import CannotRender, read_bundle
from omps_worker.destinations.catalog.bundles.tree import annotations_text, bundle_labels
from omps_worker.destinations.catalog.grammars import go_yaml
from omps_worker.destinations.catalog.grammars.csv_metadata import csv_metadata
from omps_worker.destinations.catalog.grammars.go_structs import Mismatch, loose_text
from omps_worker.destinations.catalog.grammars.go_yaml import GoReader, documents, json_value, scalar
from omps_worker.destinations.catalog.packages.package_file import canonical
from omps_worker.manifests.yaml_reader import ODD_KEYS, NotYaml, YamlFault
from tests.support.olm import crd, csv

ANNOTATIONS = annotations_text(bundle_labels("otter", ["stable"], "stable"))
IMAGE = "registry.example/otter@sha256:" + 64 * "1"


def bundle(spec: dict[str, Any] | None = None, *objects: dict[str, Any], **files: str) -> Bundle:
    """A bundle of a CSV with ``spec``, other objects, and files, in whose names ``__`` is a slash and ``_`` a dot."""
    made = {"manifests/csv.yaml": json.dumps(csv(**(spec or {}))).encode(), "metadata/annotations.yaml": ANNOTATIONS}
    made |= {f"manifests/object.{number}.yaml": json.dumps(each).encode() for number, each in enumerate(objects)}
    made |= {name.replace("__", "/").replace("_", "."): text.encode() for name, text in files.items()}
    return read_bundle(made)


def properties(made: Bundle, kind: str) -> list[Any]:
    return [each["value"] for each in made.properties if each["type"] == kind]


def metadata(spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    """The ``olm.csv.metadata`` of a CSV, without what every CSV has there."""
    value = csv_metadata({"metadata": meta, "spec": spec})
    for key in ("apiServiceDefinitions", "crdDescriptions", "provider"):
        if not value[key]:
            del value[key]
    return value


def test_a_csv_that_says_nothing_has_the_structs_that_go_always_writes():
    assert csv_metadata({}) == {"apiServiceDefinitions": {}, "crdDescriptions": {}, "provider": {}}


def test_keys_are_matched_whatever_their_case_and_the_last_one_counts():
    assert metadata({"minKubeversion": "1.16.0"}) == {"minKubeVersion": "1.16.0"}
    assert metadata({"minKubeVersion": "1.16.0", "minKubeversion": "1.17.0"}) == {"minKubeVersion": "1.17.0"}
    assert metadata({"INSTALLMODES": [{"TYPE": "x"}]}) == {"installModes": [{"type": "x", "supported": False}]}


def test_null_is_nothing_in_a_struct_and_empty_text_in_a_mapping_of_texts():
    assert metadata({"description": None, "keywords": None, "provider": None, "installModes": None}) == {}
    assert metadata({}, annotations={"a": None}, labels={"b": None}) == {"annotations": {"a": ""}, "labels": {"b": ""}}
    assert metadata({"keywords": [None, "a"], "links": [None]}) == {"keywords": ["", "a"], "links": [{}]}


def test_what_is_empty_disappears_and_what_is_unknown_is_dropped():
    assert metadata({"description": "", "keywords": [], "maintainers": [{}], "other": 1}) == {"maintainers": [{}]}
    assert metadata({}, annotations={}, labels=None, uid="x") == {}


def test_descriptors_keep_their_value_as_it_is_and_null_too():
    descriptors = [
        {"path": "a", "value": None},
        {"path": "b", "value": {"c": [1, 2.0]}},
        {"value": 0},
        {"x-descriptors": ["x"]},
    ]
    made = metadata({"customresourcedefinitions": {"owned": [{"specDescriptors": descriptors}]}})

    assert canonical(made["crdDescriptions"]["owned"][0]["specDescriptors"]) == canonical(
        [
            {"path": "a", "value": None},
            {"path": "b", "value": {"c": [1, 2]}},
            {"path": "", "value": 0},
            {"path": "", "x-descriptors": ["x"]},
        ]
    )


def test_keys_that_are_no_text_are_keys_as_in_json():
    assert metadata({1: "x", "description": "y"}) == {"description": "y"}
    assert metadata({}, annotations={True: "x", 2: "y"}) == {"annotations": {"true": "x", "2": "y"}}
    with pytest.raises(Mismatch, match="a key that JSON cannot hold"):
        metadata({}, annotations={None: "x"})


def test_an_integer_may_be_written_with_a_fraction_of_zero():
    service = {"owned": [{"containerPort": 443.0}]}

    assert metadata({"apiservicedefinitions": service})["apiServiceDefinitions"]["owned"][0]["containerPort"] == 443


MISMATCHES = {
    "a number for text": ({"description": 1}, "spec.description must be text, but is a number"),
    "text for a list": ({"keywords": "a"}, r"spec.keywords must be a list, but is text"),
    "text for a boolean": (
        {"installModes": [{"supported": "yes"}]},
        r"spec.installModes\[0\].supported must be true",
    ),
    "a list for a struct": ({"provider": []}, "spec.provider must be a mapping, but is a list"),
    "a fraction for an integer": (
        {"apiservicedefinitions": {"owned": [{"containerPort": 1.5}]}},
        "containerPort must be an integer of 32 bits",
    ),
    "a large integer": (
        {"apiservicedefinitions": {"owned": [{"containerPort": 2**31}]}},
        "containerPort must be an integer of 32 bits",
    ),
    "a number that is none": (
        {"customresourcedefinitions": {"owned": [{"specDescriptors": [{"value": float("inf")}]}]}},
        "JSON cannot hold",
    ),
}


@pytest.mark.parametrize(("spec", "fault"), MISMATCHES.values(), ids=MISMATCHES)
def test_values_of_other_types_are_refused_as_go_refuses_them(spec, fault):
    with pytest.raises(Mismatch, match=fault):
        csv_metadata({"spec": spec})


TYPES = {
    "labels": ({"labels": {"a": 1}}, r"spec.labels.a must be text, but is a number"),
    "webhooks": ({"webhookdefinitions": [{"rules": 1}]}, r"spec.webhookdefinitions\[0\].rules must be a list"),
    "a port": ({"webhookdefinitions": [{"targetPort": []}]}, r"targetPort must be an integer of 32 bits"),
    "cleanup": ({"cleanup": {"enabled": "yes"}}, "spec.cleanup.enabled must be true or false"),
    "replicas": (
        {"install": {"strategy": "x", "spec": {"deployments": [{"spec": {"replicas": "1"}}]}}},
        r"deployments\[0\].spec.replicas must be an integer of 32 bits",
    ),
    "a quantity": (
        {
            "install": {
                "spec": {
                    "deployments": [
                        {"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}}}}
                    ]
                }
            }
        },
        r"resources.limits.cpu must be a quantity, like 100m",
    ),
}


@pytest.mark.parametrize(("spec", "fault"), TYPES.values(), ids=TYPES)
def test_a_csv_that_kubernetes_cannot_decode_is_refused(spec, fault):
    with pytest.raises(CannotRender, match=fault):
        bundle(spec)


def test_what_kubernetes_decodes_is_taken():
    container = {
        "resources": {"limits": {"cpu": 1, "memory": " 30Mi ", "x": None}},
        "env": [{"name": "a", "value": ""}],
    }
    probe = {"livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5.0}}
    pod = {"containers": [{**container, **probe}], "terminationGracePeriodSeconds": 2**40}
    template = {"metadata": {"creationTimestamp": None}, "spec": pod}

    assert bundle({"install": {"spec": {"deployments": [{"spec": {"template": template}}]}}}).version == "1.0.0"


def with_limit(quantity: str) -> dict[str, Any]:
    pod = {"containers": [{"resources": {"limits": {"cpu": quantity}}}]}
    return {"install": {"spec": {"deployments": [{"spec": {"template": {"spec": pod}}}]}}}


@pytest.mark.parametrize(
    "quantity",
    ["0", "100m", "1.5", ".5", "5.", "-1", "+3Ki", "1Mi", "2Gi", "1Ti", "1Pi", "1Ei", "7n", "7u", "7k", "7M", "7G",
     "7T", "7P", "7E", "1e3", "1E-3", "1e+3", "9" * 100, " 1 ", ".", "m"],
)  # fmt: skip
def test_quantities_are_what_kubernetes_takes_for_them(quantity):
    assert bundle(with_limit(quantity)).version == "1.0.0"


@pytest.mark.parametrize(
    "quantity",
    ["", " ", "1 m", "1mi", "1ki", "1K", "1i", "1nn", "1eE", "1.1.M", "1+1.0M", "1Mi1", "1m3", "1e", "1e3i", "--1",
     "0x1", "1e9999999999999999999"],
)  # fmt: skip
def test_what_is_no_quantity_is_refused(quantity):
    with pytest.raises(CannotRender, match="must be a quantity"):
        bundle(with_limit(quantity))


@pytest.mark.parametrize("kind", ["dependencies", "properties"])
def test_a_package_or_api_without_a_value_is_refused(kind):
    with pytest.raises(CannotRender, match=r"an olm\.gvk in its dependencies or properties has no value"):
        bundle(metadata__a_yaml=f"{kind}: [{{type: olm.gvk}}]")
    assert bundle(metadata__a_yaml=f"{kind}: [{{type: olm.gvk, value: null}}, {{type: x}}]").name == "otter.v1.0.0"


def test_elsewhere_the_spec_is_read_by_exact_keys():
    made = bundle({"Replaces": "otter.v0.9.0", "RelatedImages": [{"image": "a/b"}], "Version": "2.0.0"})

    assert (made.replaces, made.related_images, made.version) == ("", (), "1.0.0")


def test_apis_are_those_of_definitions_in_both_versions_and_of_services():
    old = {**crd("holts"), "apiVersion": "apiextensions.k8s.io/v1beta1"}
    old["spec"] = {**old["spec"], "version": "v1alpha1", "versions": None}
    made = bundle(
        {
            "apiservicedefinitions": {
                "owned": [{"group": "g", "version": "v1", "kind": "K", "name": "ks"}],
                "required": [{"group": "h", "version": "v1", "kind": "L", "name": "ls"}],
            },
            "customresourcedefinitions": {
                "owned": [{"name": "ks.g", "version": "v1", "kind": "K"}],
                "required": [{"name": "rafts.sea.example", "version": "v2", "kind": "Raft"}],
            },
        },
        crd("dens"),
        old,
        {**crd("nests"), "apiVersion": "apiextensions.k8s.io/v2"},
    )

    assert [(each["group"], each["version"], each["kind"]) for each in properties(made, "olm.gvk")] == [
        ("g", "v1", "K"),
        ("otter.example", "v1", "Den"),
        ("otter.example", "v1alpha1", "Holt"),
    ]
    assert [(each["group"], each["version"], each["kind"]) for each in properties(made, "olm.gvk.required")] == [
        ("h", "v1", "L"),
        ("sea.example", "v2", "Raft"),
    ]


def test_the_single_version_of_a_definition_counts_in_v1beta1_only():
    new = crd("dens", version="v1alpha1")
    old = {**crd("holts", version="v1alpha1"), "apiVersion": "apiextensions.k8s.io/v1beta1"}

    assert [(each["version"], each["kind"]) for each in properties(bundle({}, new, old), "olm.gvk")] == [
        ("v1", "Den"),
        ("v1", "Holt"),
        ("v1alpha1", "Holt"),
    ]


def test_properties_are_there_once_and_an_annotation_can_have_the_package():
    made = bundle(
        {
            "metadata": {
                "annotations": {
                    "olm.properties": '[{"type": "olm.package", "value": {"packageName": "otter", "version": "9.0.0"}},'
                    ' {"type": "a", "value": 1}, {"type": "a", "value": 1}, {"TYPE": "b"}]'
                }
            }
        },
        metadata__properties_yaml="properties: [{type: a, value: 1}, {type: olm.gvk, value: {group: g, kind: K}}]",
    )

    assert properties(made, "olm.package") == [{"packageName": "otter", "version": "9.0.0"}]
    assert properties(made, "a") == [1]
    assert properties(made, "b") == [None]
    assert properties(made, "olm.gvk") == [{"group": "g", "kind": "K", "version": ""}]


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[{", '[{"type": 1}]', "[" * 9999, '[{"type": "a", "value": NaN}]'])
def test_an_annotation_of_properties_that_cannot_be_read_is_ignored(text):
    assert len(bundle({"metadata": {"annotations": {"olm.properties": text}}}).properties) == 2


def test_related_images_are_those_of_the_spec_the_bundle_and_all_containers():
    pod = {"containers": [{"image": "a/run"}, {"image": "a/named"}], "initContainers": [{"image": "a/init"}]}
    deployment = {"name": "x", "spec": {"template": {"spec": pod}}}
    made = bundle(
        {
            "relatedImages": [{"name": "n", "image": "a/named"}],
            "install": {"strategy": "deployment", "spec": {"deployments": [deployment, deployment]}},
        }
    )

    assert made.blob(IMAGE)["relatedImages"] == [
        {"name": "", "image": "a/init"},
        {"name": "n", "image": "a/named"},
        {"name": "", "image": "a/run"},
        {"name": "", "image": IMAGE},
    ]
    assert made.blob("a/named")["relatedImages"] == made.blob(IMAGE)["relatedImages"][:3]


def test_images_of_another_strategy_are_not_seen():
    pod = {"containers": [{"image": "a/run"}]}
    install = {"strategy": "other", "spec": {"deployments": [{"spec": {"template": {"spec": pod}}}]}}

    assert bundle({"install": install}).operator_images == ()


def test_images_that_only_environment_variables_name_are_warned_about():
    variables = [
        {"name": "OPERAND_IMAGE", "value": "quay.io/acme/operand:v1"},
        {"name": "RELATED_IMAGE_KNOWN", "value": "a/known"},
        {"name": "IMAGE_PULL_POLICY", "value": "Always"},
        {"name": "WATCHED", "value": "quay.io/acme/other:v1"},
    ]
    pod = {"containers": [{"image": "a/run", "env": variables}]}
    install = {"strategy": "deployment", "spec": {"deployments": [{"spec": {"template": {"spec": pod}}}]}}
    made = bundle({"install": install, "relatedImages": [{"image": "a/known"}]})

    assert made.warnings == (
        "images that only environment variables name are in no relatedImages, so no mirror copies them: "
        "quay.io/acme/operand:v1",
    )


def test_only_the_first_document_of_files_directly_in_the_directories_counts():
    made = bundle(
        {},
        manifests__a_yaml=f"{json.dumps(crd('dens'))}\n---\n{json.dumps(crd('holts'))}\n",
        manifests__deeper__b_yaml=json.dumps(crd("nests")),
        manifests___hidden_yaml="a: [",
        manifests__notes="{no yaml",
    )

    assert [each["kind"] for each in properties(made, "olm.gvk")] == ["Den"]


def test_numbers_and_booleans_are_text_in_annotations_as_for_opm():
    text = f"annotations: {{{CHANNELS_LABEL}: 4.10, {DEFAULT_CHANNEL_LABEL}: true, {PACKAGE_LABEL}: 7}}"
    made = read_bundle({"manifests/csv.yaml": json.dumps(csv()).encode(), "metadata/a.yaml": text.encode()})

    assert (made.channels, made.default_channel, made.package) == (("4.1",), "true", "7")


def test_files_in_metadata_of_other_types_are_passed_over():
    made = bundle(
        metadata__a_yaml="annotations: [1]\ndependencies: {}\nproperties: [x]\n",
        metadata__b_yaml="dependencies: [{type: olm.label, value: {label: x}}]\n",
    )

    assert (made.package, properties(made, "olm.label")) == ("otter", [{"label": "x"}])


def test_of_two_csvs_the_first_one_counts():
    assert bundle({}, csv("badger.v2.0.0", "2.0.0")).name == "otter.v1.0.0"


REFUSED = {
    "no CSV": (
        {"manifests/a.yaml": b"kind: Role\n", "metadata/a.yaml": ANNOTATIONS},
        "there is no ClusterServiceVersion",
    ),
    "no annotations": ({"manifests/csv.yaml": json.dumps(csv()).encode()}, "no file in metadata/ has the annotations"),
    "no name": (
        {"manifests/csv.yaml": json.dumps(csv("")).encode(), "metadata/a.yaml": ANNOTATIONS},
        "metadata.name is missing",
    ),
    "JSON that is no UTF-8": (
        {"manifests/csv.yaml": json.dumps(csv()).encode(), "manifests/x.json": b'{"a": "\xff"}'},
        "manifests/x.json cannot be read: it is not UTF-8 text",
    ),
    "a limit of ours": (
        {"manifests/csv.yaml": json.dumps(csv()).encode(), "manifests/x.yaml": b"[" * 300 + b"]" * 300},
        "manifests/x.yaml cannot be read: its values are nested more than 200 levels deep",
    ),
    "versions that are no list": (
        {
            "manifests/csv.yaml": json.dumps(csv()).encode(),
            "manifests/crd.yaml": json.dumps(crd(versions=1)).encode(),
            "metadata/a.yaml": ANNOTATIONS,
        },
        "spec.versions must be a list, but is a number",
    ),
}


@pytest.mark.parametrize(("files", "fault"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_bundle_is_refused(files, fault):
    with pytest.raises(CannotRender, match=fault):
        read_bundle(files)


@pytest.mark.parametrize("content", [b"[", b"a: b: c", b"--- |\n a\n", b"\xff"])
def test_files_that_opm_cannot_read_do_not_count_and_are_told(content):
    files = {"manifests/csv.yaml": json.dumps(csv()).encode(), "metadata/a.yaml": ANNOTATIONS}

    made = read_bundle({**files, "manifests/x.yaml": content, "metadata/dependencies.yaml": content})

    assert made.properties == read_bundle(files).properties
    assert [each.partition(":")[0] for each in made.warnings] == [
        "opm cannot read manifests/x.yaml, so it does not count",
        "opm cannot read metadata/dependencies.yaml, so it does not count",
    ]


def test_what_begins_with_a_brace_is_read_as_json():
    text = '{"a": "x \u2028 y\\/z", "b": "\\ud83d\\ude00 \\ud83d", "c": 1e2, "d":\t-0,\n\t"c2": 10}'

    assert GoReader().first(f"\n \t{text} trailing") == {
        "a": "x \u2028 y/z", "b": "\U0001f600 \ufffd", "c": 100.0, "d": 0, "c2": 10,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["{a: 08}", '{"a": 08}', '{"a": 08,}', "{a: 08} # {", " " * 40 + '{"a": 08}'])
def test_what_begins_with_a_brace_and_is_no_json_is_read_as_yaml(text):
    assert GoReader().first(text) == {"a": 8.0}


def test_json_objects_after_each_other_are_documents():
    text = '{"a": 1}\n{"b": 2} {"c": "\u2028"}\n---\nd: 4\n---\n{"e": " \u2028 "} {"f": 6}\n---\n{g: 7}\n'
    found = GoReader().all(text, 10)

    assert [value for _, value in found] == [
        {"a": 1}, {"b": 2}, {"c": "\u2028"}, {"d": 4}, {"e": " \u2028 "}, {"f": 6}, {"g": 7},
    ]  # fmt: skip
    assert [GoReader().first(piece) for piece, _ in found] == [value for _, value in found]
    with pytest.raises(YamlFault, match="too many documents"):
        GoReader().all(text, 6)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "more than 200 levels"),
        ('{"a": [' + "1," * 500 + "1]}", "more than 500 values"),
        ('{"a": [' + "[]," * 500 + "1]}", "more than 500 values"),
        ('{"a": "' + 11 * 2**20 * "b" + '"}', "characters of text"),
    ],
    ids=["depth", "values", "lists", "characters"],
)
def test_json_is_read_within_the_limits_for_yaml(text, fault):
    with pytest.raises(YamlFault, match=fault) as caught:
        GoReader(500).first(text)
    assert not isinstance(caught.value, NotYaml)


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_json_with_more_brackets_than_values_is_refused_before_it_is_parsed(brackets, monkeypatch):
    parsed: list[str] = []
    decode = go_yaml._JSON.raw_decode
    monkeypatch.setattr(go_yaml._JSON, "raw_decode", lambda text, at: parsed.append(text) or decode(text, at))
    text = f'{{"a": [{f"{brackets}," * 500}1]}}'

    for read in (GoReader(500).first, lambda text: GoReader(500).all(f"b: 1\n---\n{text}", 5)):
        with pytest.raises(YamlFault, match="more than 500 values"):
            read(text)
    assert parsed == []
    GoReader(2000).first(text)
    assert parsed == [text]


@pytest.mark.parametrize("text", ["a: b\t# x\n", "a:\tb", "\ufeff{\n\t'a': b}", "a: b\n \t # c\n", "{a: b,\tc: d}"])
def test_tabs_stand_where_libyaml_takes_them(text):
    assert GoReader().first(text)["a"] == "b"


@pytest.mark.parametrize("text", ["a: b\n...\nc: d", "{a: b} c", "a: b\n...\n]\n"])
def test_what_follows_a_document_does_not_count_and_a_tree_may_not_have_it(text):
    assert GoReader().first(text) == {"a": "b"}
    with pytest.raises(YamlFault, match="something follows the end of its document"):
        GoReader().all(text, 2)


@pytest.mark.parametrize("text", ["a: !own b", "a: <<"])
def test_what_opm_reads_in_another_way_is_refused_and_not_skipped(text):
    with pytest.raises(YamlFault) as caught:
        GoReader().first(text)
    assert not isinstance(caught.value, NotYaml)


def test_directives_and_comments_are_no_documents():
    text = "%YAML 1.1\n---\na: 1\n---\n# end\n"

    assert [value for _, value in GoReader().all(text, 3)] == [None, {"a": 1}, None]


def test_a_text_block_that_the_end_of_the_file_ends_has_its_line_break():
    assert GoReader().first("a: |\n  b") == {"a": "b\n"}
    assert GoReader().first("a: b") == {"a": "b"}


def test_dependencies_are_there_as_often_as_they_are_named():
    text = "dependencies: [{type: olm.label, value: {label: x}}, {type: olm.label, value: {label: x}}]"
    text += "\nproperties: [{type: 1, value: z}, {type: 1, value: z}]"
    made = bundle(metadata__a_yaml=text)

    assert properties(made, "olm.label") == [{"label": "x"}, {"label": "x"}]
    assert properties(made, "1") == ["z"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (4.10, "4.1"), (1.0, "1"), (100000.0, "100000"), (1234567.0, "1.234567e+06"), (1e-5, "1e-05"),
        (0.0001, "0.0001"), (1.123456789, "1.1234568"), (-2.5, "-2.5"), (1e300, "+Inf"), (-1e300, "-Inf"), (0.0, "0"),
    ],
)  # fmt: skip
def test_floats_where_text_belongs_are_written_as_opm_writes_them(value, written):
    assert loose_text(value, "") == written


def test_a_bundle_with_more_values_than_may_be_read_is_refused():
    files = {"manifests/csv.yaml": json.dumps(csv(keywords=["a"] * 500)).encode(), "metadata/a.yaml": ANNOTATIONS}

    assert read_bundle(files, 1000).name == "otter.v1.0.0"
    with pytest.raises(CannotRender, match="more than 100 values"):
        read_bundle(files, 100)


SCALARS = {
    "y": True, "NO": False, "on": True, "tRue": "tRue", "~": None, "Null": None, "1:30": "1:30",
    "2020-01-01": "2020-01-01", "2020-01-01T00:00:00Z": "2020-01-01T00:00:00Z", "=": "=", "010": 8, "0o17": 15,
    "08": 8.0, "0x1F": 31, "-0b11": -3,
    "1_000": 1000, "1e3": 1000.0, ".5": 0.5, ".2_5": 0.25, "5.": 5.0, "1.2.3": "1.2.3", "+12": 12, "-": "-", "e1": "e1",
    "18446744073709551615": 2**64 - 1, "18446744073709551616": 2.0**64, "+18446744073709551615": 2.0**64,
    "-9223372036854775808": -(2**63), "1e400": "1e400", "infinity": "infinity", "0x": "0x",
}  # fmt: skip
"""Compared with yaml.v2 2.4.0."""


@pytest.mark.parametrize("text", SCALARS)
def test_plain_scalars_are_what_yaml_v2_takes_them_for(text):
    value = GoReader().read(f"a: {text}\n" if text != "-" else 'a: "-"\n')["a"]

    assert (type(value), value) == (type(SCALARS[text]), SCALARS[text])


def test_tags_and_merge_keys_are_read_by_the_same_rules():
    text = "x: &a {b: 1:30, c: 2020-01-01}\nz:\n  <<: *a\n  d: !!str 5\n  e: y\n"

    assert GoReader().read(text)["z"] == {"b": "1:30", "c": "2020-01-01", "d": "5", "e": True}


def test_merge_keys_make_no_mapping_of_more_odd_keys_than_one_may_have():
    def merged(keys: int) -> str:
        halves = (", ".join(f"{number}: x" for number in range(start, keys, 2)) for start in (0, 1))
        return "".join(f"- &{name} {{{half}}}\n" for name, half in zip("ab", halves, strict=True)) + "- <<: [*a, *b]\n"

    assert len(GoReader().read(merged(ODD_KEYS))[2]) == ODD_KEYS
    with pytest.raises(YamlFault, match=f"more than {ODD_KEYS} keys that are not text"):
        GoReader().read(merged(ODD_KEYS + 1))


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".NaN", "1" * 2000])
def test_numbers_that_json_cannot_hold_are_refused(text):
    with pytest.raises(YamlFault):
        scalar(text)


@pytest.mark.parametrize("text", ["0.1.0-" + "a" * 2000, "1.0.0-" + "1.2" * 700, "1e" * 1000])
def test_a_long_version_is_text(text):
    assert scalar(text) == text


@given(st.text(st.sampled_from("0123456789-+._eExXoObBaf:T"), min_size=1, max_size=12))
def test_a_number_is_text_a_number_or_refused(text):
    try:
        value = scalar(text)
    except YamlFault:
        return
    assert isinstance(value, (str, int, float))
    assert json.loads(json.dumps(json_value(value), allow_nan=False)) == value


def test_dates_become_text_and_other_types_of_yaml_are_refused():
    assert json_value(GoReader().read("!!timestamp 2020-01-01")) == "2020-01-01"
    with pytest.raises(YamlFault):
        json_value(GoReader().read("!!binary aGk="))


def test_keys_become_text_as_in_json():
    assert json_value(GoReader().read("3: a\ntrue: b\n2.5: c\n08: d\n")) == {
        "3": "a",
        "true": "b",
        "2.5": "c",
        "8": "d",
    }
    for text in ("~: a", "[1]: a"):
        with pytest.raises(YamlFault):
            json_value(GoReader().read(text))


@given(st.lists(st.sampled_from(["a: 1\n", "# c\n", "---\n", "--- # c\n", "  ---\n", "b: |\n  ---\n"]), max_size=8))
def test_splitting_loses_nothing_but_separators(lines):
    text = "".join(lines)
    joined = "".join(documents(text))

    assert joined.replace("--- # c\n", "").replace("  ---\n", "").replace("---\n", "") == text.replace(
        "--- # c\n", ""
    ).replace("  ---\n", "").replace("---\n", "")
    assert all(documents(text))


def test_what_is_no_separator_is_refused_and_nothing_is_no_document():
    assert documents("") == []
    with pytest.raises(YamlFault):
        documents("a: 1\n--- |\n b\n")
