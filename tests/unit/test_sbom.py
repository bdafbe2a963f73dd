# SPDX-License-Identifier: GPL-3.0-or-later
"""The bill of materials: what it says, and that it says it in CycloneDX's form."""

from __future__ import annotations

import json
from importlib import resources

import jsonschema
import pytest
import referencing
import referencing.jsonschema

from scripts.distributions import needed
from scripts.sbom import document
from tests.support.distributions import distribution

SMALL = {
    "root": distribution("root", "2.0", requires=("a>=1", 'b; extra == "never"'), expression="GPL-3.0-or-later"),
    "a": distribution(
        "a", "1.0+local", summary="The first", licence="MIT", hashes=(("sha256", "0" * 64), ("odd", "1"))
    ),
}


@pytest.fixture(scope="module")
def validator():
    """CycloneDX's own schema."""
    schemas = {
        name: json.loads((resources.files("cyclonedx.schema._res") / f"{name}.SNAPSHOT.schema.json").read_text())
        for name in ("bom-1.5", "spdx", "jsf-0.82")
    }
    registry = referencing.Registry().with_resources(
        (f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", referencing.jsonschema.DRAFT7.create_resource(one))
        for name, one in schemas.items()
    )
    return jsonschema.Draft7Validator(schemas["bom-1.5"], registry=registry)


def test_the_bill_has_each_component_with_its_version_licence_and_dependencies():
    bill = document(SMALL, "root", epoch=86400)
    assert bill["metadata"]["timestamp"] == "1970-01-02T00:00:00Z"
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/root@2.0"
    (component,) = bill["components"]
    assert component == {
        "type": "library", "bom-ref": "pkg:pypi/a@1.0%2Blocal", "name": "a", "version": "1.0+local",
        "purl": "pkg:pypi/a@1.0%2Blocal", "description": "The first", "licenses": [{"expression": "MIT"}],
        "hashes": [{"alg": "SHA-256", "content": "0" * 64}],
    }  # fmt: skip
    assert bill["dependencies"] == [
        {"ref": "pkg:pypi/a@1.0%2Blocal", "dependsOn": []},
        {"ref": "pkg:pypi/root@2.0", "dependsOn": ["pkg:pypi/a@1.0%2Blocal"]},
    ]


def test_the_same_things_give_the_same_bill_and_others_another_number():
    turned = dict(reversed(SMALL.items()))
    assert json.dumps(document(SMALL, "root"), sort_keys=True) == json.dumps(document(turned, "root"), sort_keys=True)
    newer = {**SMALL, "a": distribution("a", "1.1")}
    assert document(newer, "root")["serialNumber"] != document(SMALL, "root")["serialNumber"]
    assert "timestamp" not in document(SMALL, "root")["metadata"]


def test_the_form_is_cyclonedx_s(validator):
    for bill in (document(SMALL, "root", epoch=0), document(needed())):
        validator.validate(json.loads(json.dumps(bill)))


def test_a_bill_that_is_none_would_be_noticed(validator):
    bill = document(SMALL, "root")
    bill["components"][0]["type"] = "toy"
    assert not validator.is_valid(bill)


def test_everything_that_is_needed_at_run_time_is_in_the_bill():
    names = {component["name"] for component in document(needed())["components"]}
    assert {"koji", "gssapi", "operator-courier", "pika", "starlette", "twisted"} <= names
    assert not {"pytest", "ruff", "omps-worker"} & names
