# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers and images as bytes: the same for the same content, readable for others, and read without trust."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.destinations.catalog.images import catalog_image
from omps_worker.destinations.catalog.images.catalog_image import CatalogLayers, NotOurs, layer_number, package_files
from omps_worker.destinations.catalog.images.image import JSON_BYTES, Format, bundle_image, digest_tag
from omps_worker.destinations.catalog.images.layers import layer_of, sha256, stored_gzip, tar_of
from omps_worker.destinations.catalog.images.unpacking import CannotUnpack, Room, unpack
from omps_worker.destinations.catalog.packages.package_file import canonical

ROOM = Room(1_000_000, 4_000_000, 100)
WANTED = ("manifests", "metadata")
FILES = {"manifests/csv.yaml": b"kind: x\n", "manifests/crd.yaml": b"", "metadata/annotations.yaml": b"a: b\n" * 500}


def tar(*members: tuple[str, Any], **options: Any) -> bytes:
    """A tar with members in order: content, None for a directory, or a TarInfo's type and link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=options.get("format", tarfile.PAX_FORMAT)) as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
            elif content is None:
                member.type = tarfile.DIRTYPE
                made.addfile(member)
            else:
                member.type, member.linkname = content
                made.addfile(member)
    return out.getvalue()


def refused(*layers: bytes, room: Room = ROOM, wanted: tuple[str, ...] = WANTED) -> str:
    with pytest.raises(CannotUnpack) as caught:
        unpack(layers, wanted, room)
    assert len(str(caught.value)) < 400
    return str(caught.value)


@given(st.binary(max_size=200) | st.integers(0, 200_000).map(lambda size: b"ab" * (size // 2) + b"c" * (size % 2)))
def test_what_is_packed_without_compression_is_gzip(data):
    packed = stored_gzip(data)

    assert gzip.decompress(packed) == data
    assert len(packed) == 18 + len(data) + 5 * max(1, -(-len(data) // 65535))


@pytest.mark.parametrize("size", [0, 1, 65534, 65535, 65536, 131070, 131071])
def test_blocks_of_any_size_are_gzip(size):
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)

    assert gzip.decompress(stored_gzip(data)) == data


NAMES = st.text(st.sampled_from("ab.-_é\u4e2d\U0001f600 "), min_size=1, max_size=60).filter(
    lambda name: name.strip(". ")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/".join(["manifests", *parts]))
TREES = st.dictionaries(PATHS, st.binary(max_size=600), max_size=5).filter(
    lambda files: not any(other.startswith(f"{path}/") for path in files for other in files)
)


@given(TREES, st.randoms(use_true_random=False))
def test_a_layer_is_the_same_in_whatever_order_its_files_come_and_others_can_read_it(files, random):
    shuffled = list(files.items())
    random.shuffle(shuffled)
    layer = layer_of(files)

    assert layer_of(dict(shuffled)) == layer
    assert layer.digest == f"sha256:{hashlib.sha256(layer.blob).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(layer.blob)).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.blob))) as opened:
        members = opened.getmembers()
        assert {each.name: opened.extractfile(each).read() for each in members if each.isfile()} == files
    assert [each.name for each in members] == sorted(each.name for each in members)
    assert {each.name for each in members if each.isdir()} == {
        path[:end] for path in files for end, letter in enumerate(path) if letter == "/"
    }
    assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in members} <= {(0, 0, 0, "", "")}
    assert {(each.isdir(), each.mode) for each in members} <= {(True, 0o755), (False, 0o644)}


@given(TREES)
def test_a_layer_that_was_written_is_read_again(files):
    layer = layer_of(files)

    assert unpack([layer.blob], WANTED, ROOM, depth=10) == files
    assert unpack([gzip.decompress(layer.blob)], WANTED, ROOM, depth=10) == files
    assert unpack([gzip.compress(gzip.decompress(layer.blob))], WANTED, ROOM, depth=10) == files


def test_images_of_both_formats_describe_the_same_layer():
    labels = {"b": "2", "a": "1"}
    (docker, layer), (oci, same) = (bundle_image(FILES, labels, each) for each in Format)

    assert layer == same
    assert docker.config == oci.config
    assert json.loads(docker.config) == {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Labels": labels},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    for made, manifest, config, blob in (
        (
            docker,
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
        (
            oci,
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
    ):
        assert json.loads(made.manifest) == {
            "schemaVersion": 2,
            "mediaType": manifest,
            "config": {"mediaType": config, "digest": sha256(made.config), "size": len(made.config)},
            "layers": [{"mediaType": blob, "digest": layer.digest, "size": layer.size}],
        }
        assert made.digest == f"sha256:{hashlib.sha256(made.manifest).hexdigest()}"


def test_digests_do_not_depend_on_the_machine():
    image, layer = bundle_image(FILES, {"a": "b"})

    assert layer.digest == "sha256:52e8882cb1120f8dbd59280d0e568a8ae77147548ea8c53295a6d865777b0eca"
    assert image.digest == "sha256:77d4ead65fcf5cd773043bfd122901c86375e0b009d2aa8e1bc20fc2080e8b52"
    assert digest_tag("sha256:0123456789abcdef") == "sha256-0123456789ab"


def test_whiteouts_hide_what_is_below_them():
    below = tar(("manifests/a", b"1"), ("manifests/b", b"2"), ("metadata/c", b"3"), ("etc/passwd", b"x"))

    assert unpack([below, tar(("manifests/.wh.a", b""))], WANTED, ROOM) == {"manifests/b": b"2", "metadata/c": b"3"}
    assert unpack([below, tar((".wh.manifests", b""))], WANTED, ROOM) == {"metadata/c": b"3"}
    assert unpack([below, tar((".wh..wh..opq", b""), ("metadata/d", b"4"))], WANTED, ROOM) == {"metadata/d": b"4"}
    again = tar(("manifests/b", b"new"), ("manifests/.wh..wh..opq", b""))
    assert unpack([below, again], WANTED, ROOM) == {"manifests/b": b"new", "metadata/c": b"3"}


def test_whiteouts_elsewhere_do_not_count():
    many = tar(*((f"usr/.wh.{number}", b"") for number in range(500)), ("usr/.wh..wh..opq", b""), ("manifests/a", b"1"))

    assert unpack([many], WANTED, ROOM) == {"manifests/a": b"1"}
    below = tar(("configs/otter/catalog.json", b"x"))
    assert unpack([below, tar((".wh.configs", b""))], ("configs/otter",), ROOM, depth=3) == {}


def test_later_layers_and_later_members_win_and_directories_replace_files():
    assert unpack([tar(("manifests/a", b"1")), tar(("./manifests//a", b"2"))], WANTED, ROOM) == {"manifests/a": b"2"}
    assert unpack([tar(("manifests/a", b"1"), ("/manifests/a", b"2"))], WANTED, ROOM) == {"manifests/a": b"2"}
    assert unpack([tar(("manifests/a", b"1")), tar(("manifests/a", None))], WANTED, ROOM) == {}
    assert unpack([tar(("manifests/a", b"1")), tar(("manifests/a/b", b""))], WANTED, ROOM) == {}
    assert unpack([tar(("manifests/a/b", b"1")), tar(("manifests/a", b"2"))], WANTED, ROOM) == {"manifests/a": b"2"}
    assert unpack([tar(("manifests/a/b", b"1"), ("manifests/a", b"2"))], WANTED, ROOM, depth=9) == {"manifests/a": b"2"}


OPERATIONS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "mkdir", "whiteout", "opaque"]),
            st.sampled_from(["a", "b", "a/c", "b/c", "a/c/d"]),
        ),
        max_size=4,
    ),
    min_size=1,
    max_size=4,
)


@given(OPERATIONS)
def test_layers_are_applied_as_to_a_file_system(layers):
    blobs, disk = [], {}
    for number, operations in enumerate(layers):
        members: list[tuple[str, Any]] = []
        lower, disk = disk, {}
        for operation, path in operations:
            above, _, name = f"manifests/{path}".rpartition("/")
            if operation == "write":
                members.append((f"{above}/{name}", b"%d" % number))
            elif operation == "mkdir":
                members.append((f"{above}/{name}", None))
            else:
                members.append((f"{above}/{'.wh.' + name if operation == 'whiteout' else '.wh..wh..opq'}", b""))
        for operation, path in operations:
            hidden = path if operation == "whiteout" else path.rpartition("/")[0]
            if operation in ("whiteout", "opaque"):
                lower = {
                    each: content
                    for each, content in lower.items()
                    if not (each == hidden and operation == "whiteout")
                    and not f"{each}/".startswith(f"{hidden}/" if hidden else "")
                }
        disk = lower
        for operation, path in operations:
            if operation in ("write", "mkdir"):
                parents = {path[:end] for end, letter in enumerate(path) if letter == "/"}
                disk = {each: content for each, content in disk.items() if each not in parents}
                if operation == "write":
                    disk = {each: content for each, content in disk.items() if not each.startswith(f"{path}/")}
                    disk[path] = b"%d" % number
                else:
                    disk.pop(path, None)
        blobs.append(tar(*members))

    assert unpack(blobs, WANTED, ROOM, depth=9) == {f"manifests/{path}": content for path, content in disk.items()}


def test_only_what_is_wanted_and_not_too_deep_is_kept():
    made = tar(
        ("etc/passwd", b"x"), ("manifests/a", b"1"), ("manifests/b/c", b"2"), ("manifests2/a", b"3"), ("metadata", None)
    )

    assert unpack([made], WANTED, ROOM) == {"manifests/a": b"1"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_are_refused_where_files_are_wanted_and_ignored_elsewhere(kind):
    assert "neither a file nor a directory" in refused(tar(("manifests/a", (kind, "/etc/passwd"))))
    assert "neither a file nor a directory" in refused(tar(("manifests", (kind, "/etc"))))
    assert unpack([tar(("bin/a", (kind, "/etc/passwd")), ("manifests/a", b"1"))], WANTED, ROOM) == {"manifests/a": b"1"}


def test_a_file_in_the_place_of_a_wanted_directory_is_refused():
    assert "manifests is no directory" in refused(tar(("manifests", b"x")))


@pytest.mark.parametrize("path", ["../manifests/a", "manifests/../../a", "manifests/..", "/../a"])
def test_paths_that_lead_out_of_the_image_are_refused(path):
    assert ".." in refused(tar((path, b"x")))


def test_limits_are_kept_while_layers_are_read():
    bomb = gzip.compress(tar(("manifests/a", bytes(5_000_000))))
    assert len(bomb) < 10_000
    assert "more than 1000000 bytes" in refused(bomb)
    assert "too large when they are unpacked" in refused(bomb, room=Room(10_000_000, 1_000_000, 9))
    assert "too large when they are unpacked" in refused(gzip.compress(tar(("x", bytes(5_000_000)))))
    assert "more than 100 files" in refused(tar(*((f"manifests/{number}", b"") for number in range(300))))
    assert "more than 100 files" in refused(*(tar((f"manifests/{number}", b"")) for number in range(120)))
    assert "more than 100 files" in refused(tar(*((f"manifests/.wh.{number}", b"") for number in range(300))))
    assert "more than 100 files" in refused(tar(*((f"manifests/{number}", None) for number in range(300))))
    assert "layers" in refused(*[tar(("a", b""))] * 200)
    assert "directories deep" in refused(tar(("manifests/" + "a/" * 40 + "b", b"")))
    assert "more than 100 files" in refused(tar(*[("manifests/a", b""), ("manifests/a", None)] * 150))
    twice = [tar(("manifests/a", bytes(600_000))), tar(("manifests/b", bytes(600_000)))]
    assert "more than 1000000 bytes" in refused(*twice)


def test_a_size_that_is_declared_and_not_there_is_not_believed():
    header = tarfile.TarInfo("manifests/a")
    header.size = 900_000

    assert "ends in the middle" in refused(header.tobuf() + b"x" * 512)


HEADERS: Mapping[str, Callable[[], bytes]] = {
    "many long names in a row": lambda: b"".join(long_name(b"manifests/x") for _ in range(5000)) + tar(("a", b"")),
    "a large header": lambda: long_name(b"x" * 1_000_000),
    "one name for all": lambda: (
        pax(b"24 path=manifests/global\n"[:0] + record("path", "manifests/a"), b"g") + tar(("a", b""))
    ),
    "a record without an end": lambda: pax(b"9999 path=a\n") + tar(("a", b"")),
    "a record of no length": lambda: pax(b"0 path=a\n") + tar(("a", b"")),
    "a negative record": lambda: pax(b"-5 path=a\n") + tar(("a", b"")),
    "a record without a key": lambda: pax(b"8 path\n\n") + tar(("a", b"")),
    "a size that is none": lambda: pax(record("size", "-1")) + tar(("a", b"")),
    "a size that is huge": lambda: pax(record("size", "9999999999999")) + tar(("a", b"")),
    "a sparse file": lambda: pax(record("GNU.sparse.major", "1")) + tar(("a", b"")),
    "a path with a NUL": lambda: pax(record("path", "manifests/a\0b")) + tar(("a", b"")),
    "a path that is too long": lambda: pax(record("path", "manifests/" + "a" * 5000)) + tar(("a", b"")),
    "a path that is not UTF-8": lambda: tar(("manifests/\udcff", b""), format=tarfile.GNU_FORMAT),
    "a checksum that is wrong": lambda: b"x" + tar(("manifests/a", b""))[1:],
    "no tar": lambda: b"x" * 2048,
    "a size that is negative": lambda: numbered(b"\xff" * 12),
    "a size that is huge in binary": lambda: numbered(b"\x80" + b"\xff" * 11),
    "a size that is no number": lambda: numbered(b"abcdefghijkl"),
    "half a block": lambda: tar(("a", b""))[:300],
    "zstandard": lambda: b"\x28\xb5\x2f\xfd" + b"x" * 100,
    "a damaged gzip": lambda: stored_gzip(tar(("a", b"")))[:-8] + bytes(8),
    "half a gzip": lambda: stored_gzip(tar(("a", b"")))[:-20],
    "something after a gzip": lambda: stored_gzip(tar(("a", b""))) + b"x",
}


def numbered(size: bytes) -> bytes:
    """A header whose size is ``size``."""
    header = bytearray(tar(("manifests/a", b""))[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode()
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length += 1
    return str(length).encode() + text


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, len(records)
    return header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)


def long_name(name: bytes) -> bytes:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, len(name) + 1
    return header.tobuf(tarfile.GNU_FORMAT) + name + b"\0" + bytes(-(len(name) + 1) % 512)


@pytest.mark.parametrize("blob", HEADERS.values(), ids=HEADERS)
def test_layers_that_are_damaged_or_hostile_are_refused(blob):
    assert refused(blob()).isprintable()


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_each_format(tar_format):
    path = "manifests/" + "n" * 90 + ".yaml"
    layer = tar((path, b"1"), ("manifests/b", b"2"), format=tar_format)

    assert unpack([layer], WANTED, ROOM) == {path: b"1", "manifests/b": b"2"}


def test_sizes_may_be_binary():
    header, content = numbered(b"\x80" + (3).to_bytes(11, "big"))[:512], b"abc".ljust(512, b"\0")

    assert unpack([header + content + bytes(1024)], WANTED, ROOM) == {"manifests/a": b"abc"}


def test_a_gzip_of_several_members_is_read_to_its_end():
    made = tar(("manifests/a", b"1"))
    halves = gzip.compress(made[:700]) + gzip.compress(made[700:]) + bytes(64)

    assert unpack([halves], WANTED, ROOM) == {"manifests/a": b"1"}
    assert "something follows" in refused(gzip.compress(b"") * 2000)


@given(st.binary(max_size=3000), st.integers(0, 20_000), st.binary(max_size=4))
def test_whatever_a_layer_is_it_is_read_or_refused(noise, at, patch):
    whole = bytearray(tar(*FILES.items(), ("manifests/" + "x" * 200, b"y")))
    whole[at % len(whole) : at % len(whole) + len(patch)] = patch
    for blob in (noise, bytes(whole), stored_gzip(noise), bytes(whole)[: at % len(whole)]):
        with contextlib.suppress(CannotUnpack):
            assert all(path.partition("/")[0] in WANTED for path in unpack([blob], WANTED, ROOM))


def test_each_layer_takes_the_time_of_one_pass():
    tiny = b"".join(pax(record("comment", "x")) + tar((f"a{number}", b""))[:512] for number in range(2000))

    assert unpack([tiny + bytes(1024)], WANTED, ROOM) == {}


class Shelf:
    """A catalog and the blobs of its layers, as a registry holds them."""

    def __init__(self) -> None:
        self.catalog = CatalogLayers()
        self.blobs: dict[str, bytes] = {}
        self.read: list[str] = []

    def put(self, package: str, data: bytes | None) -> None:
        present = self.catalog.layer_with(package)
        files = package_files(present, self.blobs[present.digest]) if present else {}
        self.catalog, layer = self.catalog.changed(package, data, files)
        if layer is not None:
            self.blobs[layer.digest] = layer.blob
        image = self.catalog.image()
        assert CatalogLayers.parse(image.manifest, image.config) == self.catalog

    def content(self) -> dict[str, bytes]:
        return {
            name: data
            for layer in self.catalog.layers.values()
            for name, data in package_files(layer, self.blobs[layer.digest]).items()
        }


def test_packages_are_put_into_a_catalog_changed_and_taken_out():
    shelf = Shelf()
    names = [f"otter-{number}" for number in range(100)]
    for name in names:
        shelf.put(name, name.encode())
    shelf.put("otter-7", b"new")
    shelf.put("otter-8", None)

    expected = {name: name.encode() for name in names} | {"otter-7": b"new"}
    del expected["otter-8"]
    assert shelf.content() == expected
    assert shelf.catalog.packages == tuple(sorted(expected))
    assert len(shelf.catalog.layers) <= 64
    assert set(shelf.catalog.layers) == {layer_number(name) for name in expected}
    assert layer_number("otter-7") == hashlib.sha256(b"otter-7").digest()[-1] % 64


def test_a_change_replaces_one_layer_and_leaves_the_others_unread():
    shelf = Shelf()
    for number in range(30):
        shelf.put(f"otter-{number}", b"x")
    before = shelf.catalog.layers
    shelf.put("otter-3", b"y")

    changed = {number for number, layer in shelf.catalog.layers.items() if layer != before[number]}
    assert changed == {layer_number("otter-3")}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "otter-1", "otter-2"]), st.none() | st.binary(max_size=3)), max_size=6
    )
)
def test_the_image_depends_on_what_is_in_the_catalog_and_not_on_how_it_came_there(changes):
    shelf, fresh = Shelf(), Shelf()
    final: dict[str, bytes] = {}
    for package, data in changes:
        shelf.put(package, data)
        if data is None:
            final.pop(package, None)
        else:
            final[package] = data
    for package, data in sorted(final.items(), reverse=True):
        fresh.put(package, data)
    if not final:
        fresh.put("a", None)
        shelf.put("b", None)

    assert shelf.content() == final
    assert shelf.catalog.image() == fresh.catalog.image()


def test_the_image_of_a_catalog_says_what_it_is():
    shelf = Shelf()
    shelf.put("etcd", b"x")
    config = json.loads(shelf.catalog.image(Format.OCI).config)

    assert config["config"]["Labels"] == {"operators.operatorframework.io.index.configs.v1": "/configs"}
    assert [entry["created_by"] for entry in config["history"]] == [
        f"omps-worker catalog layer {layer_number('etcd')}: etcd"
    ]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(next(iter(shelf.blobs.values()))))) as opened:
        assert opened.getnames() == ["configs", "configs/etcd", "configs/etcd/catalog.json"]


def test_the_layers_of_a_catalog_are_compressed_as_each_update_reads_and_sends_one():
    data = b"words that come again and again " * 5000
    shelf = Shelf()
    shelf.put("etcd", data)
    (blob,) = shelf.blobs.values()

    assert len(blob) < len(data) / 10
    assert shelf.content() == {"etcd": data}


def test_the_layer_of_a_bundle_is_not_compressed_as_each_replica_must_make_the_same_digest(monkeypatch):
    monkeypatch.setattr("zlib.compressobj", None)
    _, layer = bundle_image({"manifests/csv.yaml": bytes(70_000)}, {})

    assert layer.size > 70_000


def parsed(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> CatalogLayers:
    shelf = Shelf()
    for package in ("etcd", "otter"):
        shelf.put(package, b"x")
    image = shelf.catalog.image()
    manifest, config = json.loads(image.manifest), json.loads(image.config)
    change(manifest, config)
    return CatalogLayers.parse(canonical(manifest).encode(), canonical(config).encode())


FOREIGN: Mapping[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "no label": lambda manifest, config: config["config"].pop("Labels"),
    "another label": lambda manifest, config: config["config"]["Labels"].update({catalog_image.CONFIGS_LABEL: "/x"}),
    "no layers": lambda manifest, config: manifest.pop("layers"),
    "no history": lambda manifest, config: config.pop("history"),
    "a layer more": lambda manifest, config: manifest["layers"].append(manifest["layers"][0]),
    "a step that is not ours": lambda manifest, config: config["history"][0].update(created_by="COPY configs /configs"),
    "a step that is no object": lambda manifest, config: config["history"].__setitem__(0, "x"),
    "a package elsewhere": lambda manifest, config: config["history"][0].update(
        created_by=config["history"][0]["created_by"] + " other"
    ),
    "other order": lambda manifest, config: config["history"].reverse(),
    "a layer number that is too high": lambda manifest, config: config["history"][1].update(
        created_by="omps-worker catalog layer 64:"
    ),
    "no digest": lambda manifest, config: manifest["layers"][0].update(digest="x"),
    "no diff_id": lambda manifest, config: config["rootfs"]["diff_ids"].__setitem__(0, 1),
    "no size": lambda manifest, config: manifest["layers"][0].update(size=True),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_an_image_of_another_program_is_recognised(change):
    with pytest.raises(NotOurs) as caught:
        parsed(change)
    assert str(caught.value).isprintable()


def test_an_image_that_is_not_changed_is_ours():
    assert parsed(lambda manifest, config: None).packages == ("etcd", "otter")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 9999, b"{" + b" " * JSON_BYTES + b"}"])
def test_manifests_and_configurations_that_are_none_are_refused(body):
    image = CatalogLayers().changed("etcd", b"x", {})[0].image()

    for manifest, config in ((body, image.config), (image.manifest, body)):
        with pytest.raises(NotOurs):
            CatalogLayers.parse(manifest, config)


def test_a_layer_that_holds_something_else_than_its_history_says_is_refused():
    catalog, layer = CatalogLayers().changed("etcd", b"x", {})
    described = catalog.layer_with("etcd")
    other = CatalogLayers().changed("otter", b"x", {})[1]

    assert package_files(described, layer.blob) == {"etcd": b"x"}
    for blob in (other.blob, b"x", stored_gzip(tar_of({"configs/etcd/catalog.json": b"x", "configs/etcd/b": b""}))):
        with pytest.raises(NotOurs):
            package_files(described, blob)
