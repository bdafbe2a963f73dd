# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor plan, held against the code: who may know whom, and what no file of ours may hold."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from tests.support.sources import (
    ROOT,
    foreign_imports_of,
    imported_at_once,
    imports_of,
    modules,
    ours,
    python_files,
    reachable_from,
    relative,
    text_files,
    tree,
)

MAY_KNOW = {
    "common": "",
    "manifests": "common",
    "messages": "common",
    "sandbox": "common",
    "results": "common messages",
    "destinations": "common manifests",
    "configuration": "common manifests messages destinations",
    "koji_client": "common configuration",
    "publishing": "common manifests messages destinations configuration",
    "broker": "common messages configuration publishing",
    "monitoring": "common configuration destinations koji_client publishing",
    "broker_site": "common messages configuration broker",
    "destination_wiring": "common destinations configuration koji_client",
    "bootstrap": "common manifests messages destinations configuration koji_client publishing broker broker_site "
    "destination_wiring",
    "running": "common messages publishing broker monitoring bootstrap",
    "api": "common manifests messages destinations configuration koji_client publishing broker monitoring",
    "cli": "common messages destinations configuration koji_client publishing broker monitoring broker_site "
    "destination_wiring bootstrap running api sandbox",
    "__main__": "cli",
}
"""The rooms, from the ground up, and which others each may know. docs/architecture.md has the same as a table."""

INSIDE = {
    "broker": {
        "connection": "",
        "headers": "",
        "delivery": "headers",
        "copies": "headers delivery",
        "outbox": "copies",
        "locks": "connection",
        "queues": "connection locks",
        "publisher": "connection copies outbox",
        "watch": "connection headers",
        "catch_up": "headers locks outbox",
        "dead_letters": "connection headers delivery copies outbox locks queues publisher",
        "consuming": "connection headers delivery copies outbox queues publisher dead_letters",
    },
    "api": {
        "replies": "",
        "scheduling": "",
        "monitoring": "",
        "announcer": "",
        "requests": "replies",
        "health": "replies",
        "service": "replies",
        "openapi": "replies requests",
        "app": "replies requests scheduling health service openapi",
        "wiring": "requests scheduling announcer health service app",
        "server": "replies monitoring wiring",
    },
    "destinations": {
        "versions": "",
        "release_history": "versions",
        "refusals": "",
        "app_registry": "refusals versions release_history",
        "catalog": "refusals",
        "routing": "",
    },
    "destinations.catalog": {
        "image_registry": "",
        "grammars": "",
        "packages": "grammars",
        "bundles": "grammars packages",
        "images": "grammars packages",
        "merge": "grammars packages bundles",
        "catalog": "image_registry",
        "ledger": "image_registry packages images",
        "catalog_contents": "image_registry packages images ledger",
        "content": "image_registry bundles images catalog",
        "bundle_builds": "image_registry bundles images catalog",
        "uploads": "image_registry packages images content",
        "updates": "image_registry packages images merge ledger content uploads",
        "edits": "image_registry packages bundles images merge catalog ledger content bundle_builds updates",
        "visibility": "image_registry catalog",
        "access_checks": "image_registry catalog",
        "catalog_checks": "image_registry catalog catalog_contents access_checks",
        "destination": "image_registry packages images merge catalog content bundle_builds updates edits "
        "visibility catalog_checks",
    },
}
"""The rooms and modules inside the largest rooms, from the ground up, and which others each may know."""

ABOVE_THE_CORE = ("broker", "monitoring", "running", "sandbox", "broker_site", "bootstrap", "cli", "api", "__main__")
OF_THE_API = ("starlette", "uvicorn", "h11", "python_multipart")
BUS_AND_FRONT_ENDS = ("pika", "fedora_messaging", "click", "http.server", "socketserver", *OF_THE_API)


def core_modules() -> list[str]:
    return [name for name in modules() if name and name.split(".")[0] not in ABOVE_THE_CORE]


def room_of(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("room", MAY_KNOW)
def test_a_room_knows_no_others_than_it_may(room):
    known = {
        (name, other)
        for name in modules()
        if room_of(name) == room
        for other in imports_of(name)
        if room_of(other) not in (room, *MAY_KNOW[room].split())
    }

    assert known == set()


@pytest.mark.parametrize(("room", "inner"), [(room, inner) for room, plan in INSIDE.items() for inner in plan])
def test_a_room_inside_a_room_knows_no_others_than_it_may(room, inner):
    plan, depth = list(INSIDE[room]), room.count(".") + 1
    allowed = INSIDE[room][inner].split()
    assert [other for other in allowed if plan.index(other) >= plan.index(inner)] == []
    known = {
        (name, other)
        for name in modules()
        if f"{name}.".startswith(f"{room}.{inner}.")
        for other in imports_of(name)
        if other.startswith(f"{room}.") and other.split(".")[depth] not in (inner, *allowed)
    }

    assert known == set()
    assert {name.split(".")[depth] for name in modules() if name.startswith(f"{room}.")} == set(plan)


def test_every_room_is_on_the_plan_and_the_plan_is_one_of_rooms_that_exist():
    assert {room_of(name) for name in modules() if name} == set(MAY_KNOW)


def test_rooms_know_only_rooms_below_them():
    rooms = list(MAY_KNOW)
    for room, known in MAY_KNOW.items():
        assert [other for other in known.split() if rooms.index(other) >= rooms.index(room)] == [], room


@pytest.mark.parametrize(
    "room", sorted(name for name, path in modules().items() if name and path.name == "__init__.py")
)
def test_every_room_says_what_it_is_for_and_what_it_may_know(room):
    assert "May know: " in (ast.get_docstring(tree(modules()[room])) or "")


def test_the_page_about_architecture_names_rooms_and_files_that_exist():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", page))

    assert {name for name in named if not ((ROOT / "omps_worker" / name).exists() or (ROOT / name).exists())} == set()
    assert {room for room in MAY_KNOW if not room.startswith("_")} <= {
        name.split("/")[0].split(".")[0] for name in named
    }


def test_the_page_about_architecture_says_which_rooms_each_may_know():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")

    assert rooms_on(page) == {room: set(known.split()) for room, known in MAY_KNOW.items() if room != "__main__"}


def test_rooms_on_the_page_about_architecture_know_only_rooms_below_them():
    on_page = rooms_on((ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    rooms = list(on_page)

    for room, known in on_page.items():
        assert [other for other in known if rooms.index(other) <= rooms.index(room)] == [], room


def rooms_on(page: str) -> dict[str, set[str]]:
    """Return the table of rooms: by room, from the top down, the other rooms that it may know."""
    table = page.split("\n| room | is for | may import, besides `common` |\n|---|---|---|\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    rooms = [first.strip("`").removesuffix("/").removesuffix(".py") for first, _, _ in rows]
    found = {}
    for index, (room, (_, _, cell)) in enumerate(zip(rooms, rows, strict=True)):
        named = set(re.findall(r"`([a-z_]+)`", cell))
        found[room] = set(rooms[index + 1 :]) - named if cell.startswith("everything below but ") else named
        found[room] |= {"common"} - {room}
    return found


def test_no_module_leads_back_to_itself():
    assert [name for name in modules() if name in reachable_from(name)] == []


@pytest.mark.parametrize("name", core_modules())
def test_the_core_knows_no_bus_no_command_line_and_no_http_server(name):
    known = {
        foreign
        for foreign in foreign_imports_of(name)
        for library in BUS_AND_FRONT_ENDS
        if f"{foreign}.".startswith(f"{library}.")
    }
    if name == "results":  # its classes are fedora-messaging's message contract; nothing in the core imports it
        known = {foreign for foreign in known if not foreign.startswith("fedora_messaging")}

    assert known == set()


@pytest.mark.parametrize("name", core_modules())
def test_the_core_knows_nothing_above_it(name):
    above = {other for other in reachable_from(name) if other.split(".")[0] in ABOVE_THE_CORE}

    assert above == set()


def test_what_publishes_knows_no_kind_of_destination_but_the_protocol():
    """Another kind is added without changing what speaks to the others; only its settings and its wiring name it."""
    kinds = {
        name for name, path in modules().items() if name.startswith("destinations.") and path.name == "__init__.py"
    }
    known = {
        (name, other)
        for name in core_modules()
        if room_of(name) not in ("destinations", "destination_wiring", "configuration")
        for other in imports_of(name)
        if any(f"{other}.".startswith(f"{kind}.") for kind in kinds)
    }

    assert known == set()


def test_only_the_front_doors_know_the_sandbox():
    guests = {name for name in modules() if any(other.split(".")[0] == "sandbox" for other in imports_of(name))}

    assert {name for name in guests if room_of(name) != "sandbox"} <= {"cli"}


def test_only_the_wiring_knows_the_broker_and_the_core():
    knows_broker = {name for name in modules() if any(other.startswith("broker.") for other in imports_of(name))}

    assert {name for name in knows_broker if not name.startswith("broker.")} == {
        "broker_site",
        "bootstrap",
        "running",
        "cli.site_checks",
        "api.wiring",
    }


def test_only_the_rest_api_knows_its_libraries_and_only_its_command_knows_the_rest_api():
    """They are an extra: everything else works without them."""
    knows_libraries = {
        name for name in modules() if {other.split(".")[0] for other in foreign_imports_of(name)} & set(OF_THE_API)
    }
    knows_api = {name for name in modules() if any(other.split(".")[0] == "api" for other in imports_of(name))}

    assert {name for name in knows_libraries if not name.startswith("api.")} == set()
    assert {name for name in knows_api if not name.startswith("api.")} == {"cli.api"}


@pytest.mark.parametrize("name", ["api.service", "api.replies"])
def test_what_requests_mean_is_known_without_a_web_framework(name):
    foreign = set(foreign_imports_of(name))
    for other in reachable_from(name):
        foreign |= foreign_imports_of(other)

    assert {library.split(".")[0] for library in foreign} & set(OF_THE_API) == set()


def test_schemas_of_results_can_be_imported_where_only_fedora_messaging_is():
    """Monitors install the package for its schemas: they are not to load Koji's or the registry's client."""
    foreign = set(foreign_imports_of("results"))
    for name in reachable_from("results"):
        foreign |= foreign_imports_of(name)
    libraries = {name.split(".")[0] for name in foreign} - sys.stdlib_module_names

    assert libraries <= {"fedora_messaging"}


def test_the_command_line_answers_before_it_loads_anything_heavy():
    loaded, waiting = {"cli"}, ["cli"]
    foreign: set[str] = set()
    while waiting:
        for name in imported_at_once(waiting.pop()):
            inside = ours(name)
            if inside is None:
                foreign.add(name.split(".")[0])
            elif inside and inside not in loaded:
                loaded.add(inside)
                waiting.append(inside)

    assert foreign - sys.stdlib_module_names == {"click"}


def test_threads_are_started_by_machine_alone_which_knows_what_it_means_that_there_are_none():
    starts = re.compile(r"thread\)?\.start\(\)|Thread\([^\n]*\)\.start\(\)", re.IGNORECASE)
    ours = (path for name, path in modules().items() if not name.startswith("sandbox"))

    assert [relative(path) for path in ours if starts.search(path.read_text(encoding="utf-8"))] == [
        "omps_worker/common/machine.py"
    ]


def test_every_python_file_names_its_licence_and_its_purpose():
    for path in python_files():
        text = path.read_text(encoding="utf-8")
        if not text and path.name == "__init__.py":
            continue  # an empty one has nothing to license
        assert text.startswith("# SPDX-License-Identifier: GPL-3.0-or-later\n"), relative(path)
        assert ast.get_docstring(tree(path)) or path.is_relative_to(ROOT / "tests"), relative(path)


def test_every_module_can_be_read_in_one_sitting():
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values()}

    assert {name: count for name, count in lines.items() if count > 400} == {}


MACHINE_PATH = re.compile(r"(?<![\w./-])/(work|farm|root|tmp/w)/")
PACKAGE_REGISTRIES = re.compile(r"\b(pypi|pythonhosted|debian|npmjs|crates|golang)\.(org|io)\b")


def test_no_file_knows_a_machine_or_a_package_registry():
    for path in text_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        assert MACHINE_PATH.search(text) is None, relative(path)
        assert PACKAGE_REGISTRIES.search(text) is None, relative(path)


def test_nothing_turns_off_the_verification_of_certificates_or_runs_a_shell():
    unsafe = {("verify", False), ("shell", True)}
    for path in python_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
                assert (node.arg, node.value.value) not in unsafe, f"{relative(path)}: {ast.unparse(node)}"


UNSAFE_YAML = re.compile(r"yaml\.(C?(Full|Unsafe)?Loader|(full|unsafe)_load(_all)?)")
UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen", "pickle.loads", "pickle.load", "marshal.loads"}


def test_the_package_names_no_yaml_loader_that_makes_objects():
    for name, path in modules().items():
        attributes = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        named = attributes | foreign_imports_of(name)
        assert [word for word in named if UNSAFE_YAML.fullmatch(word)] == [], name


def test_the_package_runs_no_text_as_code():
    for name, path in modules().items():
        calls = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
        assert calls & UNSAFE_CALLS == set(), name


def test_every_test_runs_and_waits_for_conditions_only():
    forbidden = {"time.sleep", "pytest.skip", "pytest.xfail", "pytest.importorskip"}
    marks = {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
    for path in python_files():
        if path.is_relative_to(ROOT / "tests"):
            used = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
            assert used & (forbidden | marks) == set(), relative(path)


TEMPORARY = ("TemporaryDirectory", "NamedTemporaryFile", "mkdtemp", "mkstemp")


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_temporary_files_of_a_worker_are_in_directories_that_are_swept_if_it_is_killed():
    placed = {
        (name, called(node))
        for name, path in modules().items()
        if room_of(name) != "sandbox"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and called(node) in TEMPORARY
        if "dir" not in {each.arg for each in node.keywords}
    }

    assert placed == {("common.files.scratch", "mkdtemp")}
