# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogs, end to end: builds of both kinds, results on the bus, and the commands."""

from __future__ import annotations

import jsonschema
import pytest

from omps_worker.common.model import OperatorKind, Status
from omps_worker.messages.result_schema import body_schema
from omps_worker.sandbox import operators
from omps_worker.sandbox.site import QUEUE
from tests.support.catalogs import MAPPING, PATH, TAG, with_catalog
from tests.support.images import SmallImage
from tests.support.site import results_of
from tests.support.waiting import wait_until

OTTER, HERON = "otter-cache-operator-container", "heron-operator-bundle-container"


@pytest.fixture
def place(site):
    with with_catalog(site) as made:
        yield made


def otter(site, version="1.0.0", release="1"):
    versions = ("0.9.0", version) if version != "0.9.0" else (version,)
    manifests = operators.zip_of(operators.nested_operator("otter-cache", versions=versions))
    return site.koji.add_build(OTTER, version, release, manifests=manifests)


def heron(place, version, *, manifest_list=True):
    pullspec = place.push_bundle("heron", version, manifest_list=manifest_list)
    return place.site.koji.add_build(
        HERON, version, "1", kind=OperatorKind.BUNDLE, pullspec=pullspec, manifest_list=manifest_list
    )


def about_the_catalog(results):
    for result in results:
        jsonschema.validate(result, body_schema(Status(result["status"])))
    return [result for result in results if result["catalog"]]


def test_manifests_become_a_release_and_a_package_of_the_catalog(place):
    site = place.site
    first, second = otter(site), otter(site, "1.1.0")
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(first))
        results = results_of(watch, 2)
        (made,) = about_the_catalog(results)
        site.publish(site.koji.message(second))
        (updated,) = about_the_catalog(results_of(watch, 4)[2:])
    assert {(each["organization"], each["repo"], each["status"]) for each in results} == {
        ("community", "otter-cache", "published"),
        (None, "otter-cache", "published"),
    }
    assert (made["version"], made["catalog"]["previous"]) == ("1.0.0", None)
    assert {each["name"]: each["created"] for each in made["catalog"]["bundles"]} == {
        "otter-cache.v0.9.0": True,
        "otter-cache.v1.0.0": True,
    }
    assert (updated["version"], updated["catalog"]["previous"]) == ("1.1.0", made["catalog"]["digest"])
    assert updated["catalog"]["channels"] == {"candidate": "otter-cache.v1.1.0", "stable": "otter-cache.v1.1.0"}
    assert updated["catalog"]["dropped"] == ["otter-cache.v1.0.0"]
    assert place.tag == updated["catalog"]["digest"]

    shown = site.command("catalog", "show", "community", "--json")
    assert shown.code == 0, shown.err
    (package,) = shown.json["packages"]
    assert (shown.json["digest"], package["digest"]) == (updated["catalog"]["digest"], updated["digest"])
    assert package["channels"] == updated["catalog"]["channels"]
    text = site.command("catalog", "show", "community", "otter-cache").out
    assert "1.1.0    otter-cache.v1.1.0  candidate, stable  " in text


def test_bundles_are_added_to_their_package_and_are_nothing_to_the_organization(place):
    site = place.site
    first, second = heron(place, "2.0.1"), heron(place, "2.1.0", manifest_list=False)
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(first))
        results = results_of(watch, 2)
        site.publish(site.koji.message(second))
        results = results_of(watch, 4)
    skipped = [each for each in results if each["organization"]]
    assert {(each["status"], each["reason"]) for each in skipped} == {("skipped", "bundle build")}
    (made, updated) = about_the_catalog(results)
    assert (made["status"], made["repo"], made["version"]) == ("published", "heron", "2.0.1")
    (bundle,) = made["catalog"]["bundles"]
    assert (bundle["created"], bundle["image"]) == (False, place.push_bundle("heron", "2.0.1"))
    assert (updated["version"], updated["catalog"]["channels"]) == ("2.1.0", {"stable": "heron.v2.1.0"})
    assert site.take(f"{QUEUE}.failed") == []


def test_a_message_that_comes_twice_changes_the_catalog_once(place):
    site = place.site
    message = site.koji.message(heron(place, "2.0.1"))
    with site.watching() as watch, site.running():
        site.publish(message, message)
        results = about_the_catalog(results_of(watch, 4))
    assert [each["status"] for each in results] == ["published", "unchanged"]
    assert results[0]["digest"] == results[1]["digest"]


def test_an_image_registry_that_is_away_is_waited_for(place):
    site = place.site
    place.images.stop()
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(otter(site)))
        results = results_of(watch, 2)
        (retrying,) = about_the_catalog(results)
        assert (retrying["status"], retrying["error"]["name"]) == ("retrying", "CatalogError")
        assert (retrying["catalog"]["name"], retrying["catalog"]["digest"]) == ("community", None)
        place.images.start()
        wait_until(lambda: watch.poll() or watch.results[-1][1]["status"] == "published", what="the next attempt")
    told = [body for _, body in watch.results]
    assert [each["organization"] for each in told if each["status"] == "published"].count("community") == 1
    assert about_the_catalog(told)[-1]["attempt"] > 1


def test_an_image_of_another_program_is_replaced_only_deliberately(place):
    site, small = place.site, SmallImage()
    build = otter(site)
    theirs = place.images.put(PATH, TAG, small.body, small.media_type, small.config, small.layer)
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(build))
        (failed,) = about_the_catalog(results_of(watch, 2))
    assert (failed["error"]["name"], failed["error"]["transient"]) == ("CatalogNotOurs", False)
    ((properties, _),) = site.take(f"{QUEUE}.failed")
    assert properties.headers["omps-targets"] == ["catalog:community"]
    assert place.tag == theirs
    checked = {row["part"]: row for row in site.command("check", "--json").json}
    assert (checked["catalog community"]["state"], checked["catalog community"]["error"]) == (
        "failed",
        "CatalogNotOurs",
    )
    assert site.command("catalog", "show", "community").code == 1
    refused = site.command("push", build["nvr"], "--catalog", "community")
    assert refused.code == 1
    command = f"omps-worker push {build['nvr']} --catalog community --new-catalog"
    assert f"`{command}`" in refused.out, "as it can be typed"
    dry = site.command(*command.split()[1:], "--dry-run")
    assert (dry.code, place.tag) == (0, theirs)
    assert "would replace the image, which omps-worker did not write (its label " in dry.out
    assert site.command(*command.split()[1:]).code == 0
    assert place.tag != theirs


def test_what_would_happen_is_shown_without_the_right_to_write(place):
    site = place.site
    place.forbid_pushes()
    build = otter(site)
    explained = site.command("explain", build["nvr"])
    assert "target    catalog:community/otter-cache: would add otter-cache.v1.0.0 (1.0.0) as head of " in explained.out
    assert "; 0 of 2 bundle images are there" in explained.out
    assert "channels  candidate: new -> otter-cache.v1.0.0" in explained.out
    dry = site.command("push", build["nvr"], "--catalog", "community", "--dry-run")
    assert (dry.code, place.tag) == (0, None)
    assert "would be published  catalog:community  otter-cache" in dry.out
    assert "0 of 2 bundle images are there" in dry.out


def test_commands_publish_show_and_delete(place, tmp_path):
    site = place.site
    build = otter(site, "0.9.0")
    archive = tmp_path / "lantern.zip"
    archive.write_bytes(operators.zip_of(operators.flat_operator("lantern")))
    with site.watching() as watch:
        pushed = site.command("push", build["nvr"], "--catalog", "community", "--json")
        assert [each["catalog"]["name"] for each in pushed.json] == ["community"], pushed.err
        assert site.command("push-zip", str(archive), "--catalog", "community").code == 0
        assert site.registry.releases("community", "otter-cache") == ()
        assert "2 package(s), 2 bundle(s)" in site.command("check").out

        dry = site.command("delete", "--catalog", "community", "lantern", "1.4.2", "--dry-run", "--json")
        assert [(each["status"], each["version"]) for each in dry.json] == [("deleted", "1.4.2")], dry.err
        gone = site.command("delete", "--catalog", "community", "lantern", "--yes", "--json")
        assert {(each["status"], each["repo"]) for each in gone.json} == {("deleted", "lantern")}, gone.err
        told = results_of(watch, 3)
    assert [each["status"] for each in told] == ["published", "published", "deleted"]
    assert [each["catalog"]["name"] for each in told] == ["community"] * 3
    packages = site.command("catalog", "show", "community", "--json").json["packages"]
    assert [each["package"] for each in packages] == ["otter-cache"]
    assert place.images.tags("community/lantern-bundle") != {}, "images stay"
    assert site.command("catalog", "show", "community", "lantern").code == 1
    again = site.command("delete", "--catalog", "community", "lantern", "--yes")
    assert (again.code, "CatalogPackageNotFound: " in again.err) == (1, True)


def test_a_catalog_for_each_package_needs_the_package(place):
    config = place.site.config
    config.write_text(config.read_text().replace("/community/catalog:latest", "/community/{package}-catalog:latest"))
    refused = place.site.command("catalog", "show", "community")
    assert refused.code == 2
    assert "name the package" in refused.err
    assert place.site.command("push", otter(place.site)["nvr"], "--catalog", "community").code == 0
    assert "otter-cache.v1.0.0" in place.site.command("catalog", "show", "community", "otter-cache").out


def test_bundles_whose_messages_never_came_are_found(place):
    site = place.site
    build = heron(place, "2.0.1")
    found = site.command("catch-up", "--since", "1h", "--dry-run", "--json").json
    assert [(each["nvr"], each["status"]) for each in found] == [(build["nvr"], "missing")]
    assert [each["catalog"] and each["catalog"]["name"] for each in found[0]["targets"]] == [None, "community"]
    assert site.command("push", build["nvr"]).code == 1, "the organization skips it"
    found = site.command("catch-up", "--since", "1h", "--dry-run", "--json").json
    assert [each["status"] for each in found] == ["released"]


def test_a_catch_up_brings_back_a_catalog_that_the_registry_lost(place):
    site = place.site
    chain = MAPPING.rpartition("{catalog: community}")
    (site.directory / "mapping.yaml").write_text("{catalog: community, graph: semver}".join(chain[::2]))
    builds = [otter(site), heron(place, "2.0.0"), heron(place, "2.0.1")]
    with site.watching() as watch, site.running():
        for number, build in enumerate(builds, 1):
            site.publish(site.koji.message(build))
            results_of(watch, 2 * number)
        made = place.tag
        place.images.delete(PATH, made)
        assert site.command("catalog", "show", "community", "--json").json["packages"] == []

        sent = site.command("catch-up", "--since", "1h", "--json").json
        again = about_the_catalog(results_of(watch, 12)[6:])
    assert {each["nvr"]: each["status"] for each in sent} == {build["nvr"]: "sent" for build in builds}
    assert {each["status"] for each in again} == {"published"}
    assert place.tag == made


def test_a_paused_catalog_waits(place):
    site = place.site
    (site.directory / "mapping.yaml").write_text(MAPPING.replace("rules:", "pause: ['catalog:community']\nrules:"))
    build = otter(site)
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(build))
        (waits,) = about_the_catalog(results_of(watch, 2))
        assert (waits["status"], waits["reason"]) == ("retrying", "paused")
    assert site.command("push", build["nvr"], "--catalog", "community").code == 75
    assert place.tag is None
