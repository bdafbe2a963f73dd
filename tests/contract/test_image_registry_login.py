# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in to image registries: tokens and their scopes, and where credentials go and never go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import CatalogAuthorizationError, ImageRegistryError
from omps_worker.destinations.catalog.image_registry import auth
from omps_worker.destinations.catalog.image_registry.answers import Descriptor, digest_of
from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from tests.support.certificates import self_signed
from tests.support.docker_registry import PASSWORD, USER
from tests.support.images import ROBOT, Place, SmallImage, docker_place, sandbox_place
from tests.support.peer import Conversation, Peer

IMAGE = SmallImage()
LAYER = Descriptor("application/octet-stream", digest_of(IMAGE.layer), len(IMAGE.layer))
BASIC = ROBOT.authorization.get_secret_value().partition(" ")[2]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with sandbox_place(tmp_path, "token") as made:
        yield made


def calls(place: Place, path: str) -> list[str]:
    """The requests to a path so far."""
    return [each.target for each in place.registry.log if each.target.startswith(path)]


# ---- tokens


def test_one_token_serves_many_calls_and_threads(place: Place) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    client.look(image)
    before = len(calls(place, "/token"))
    threads = [threading.Thread(target=client.look, args=(image,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(3):
        client.digest(image)
        client.tags(image.repository)

    assert before == 2, "one to write, one to read"
    assert len(calls(place, "/token")) == before
    assert len(calls(place, "/v2/?")) + calls(place, "/v2/").count("/v2/") == 1


def test_each_repository_has_a_token_of_its_own(place: Place) -> None:
    client = place.client()
    for image in (place.image(), place.image()):
        IMAGE.push(client, image)
        client.look(image)

    assert len({target for target in calls(place, "/token") if "scope=" in target}) == 4


def test_a_token_that_is_revoked_is_renewed(place: Place) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)

    place.registry.tokens.revoke()
    assert client.look(image).digest == IMAGE.digest
    place.registry.tokens.revoke()
    assert client.push_blob(image.repository, b"new") is True
    place.registry.tokens.revoke()
    assert client.blob(image.repository, LAYER, max_bytes=10**6) == IMAGE.layer


def test_a_token_is_renewed_before_it_expires(place: Place) -> None:
    now = [0.0]
    client, image = place.client(), place.image()
    client._calls.auth._clock = lambda: now[0]
    client.tags(image.repository)
    issued = place.registry.tokens.issued

    now[0] += 60 * (1 - auth.MARGIN) - 0.1
    client.tags(image.repository)
    assert place.registry.tokens.issued == issued
    now[0] += 0.2
    client.tags(image.repository)
    assert place.registry.tokens.issued == issued + 1
    assert len(client._calls.auth._tokens) == 1, "expired tokens are forgotten"


@pytest.mark.parametrize("lifetime", [None, 0, -5, "60", True, 1e300, 10**400, 3])
def test_whatever_a_lifetime_is_tokens_work(place: Place, lifetime: object) -> None:
    client, image = place.client(), place.image()
    token = f'{{"token": "x", "expires_in": {str(lifetime).lower() if lifetime is True else lifetime or "null"}}}'
    if isinstance(lifetime, str):
        token = '{"token": "x", "expires_in": "60"}'
    place.registry.faults.add(Fault("GET /token", body=token.encode()))

    client.tags(image.repository)
    assert all(each.until - client._calls.auth._clock() < 3600 for each in client._calls.auth._tokens.values())


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"token": ""},
        {"token": 1},
        {"token": "a\r\nX-Injected: yes"},
        {"token": "a b"},
        {"token": "é"},
        {"access_token": None},
        "<html>",
        b"x" * 70_000,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_token_is_not_sent(place: Place, body: object) -> None:
    place.registry.faults.add(Fault("GET /token", body=body, times=None))

    with pytest.raises(ImageRegistryError) as caught:
        place.client().tags(place.repository())

    assert caught.value.transient
    assert calls(place, "/v2/community") == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 301])
def test_a_token_server_in_trouble_is_trouble_for_now(place: Place, status: int) -> None:
    place.registry.faults.add(Fault("GET /token", status=status, body={"details": "no"}, times=None))

    with pytest.raises(ImageRegistryError) as caught:
        place.client().tags(place.repository())

    assert caught.value.transient
    assert isinstance(caught.value, CatalogAuthorizationError) == (status in (401, 403))


def test_an_old_form_of_token_will_do(place: Place) -> None:
    client, image = place.client(), place.image()
    server = place.registry.tokens
    answer = server.answer

    def old(request: object) -> object:
        value = answer(request).body.replace(b'"token"', b'"another"')
        return type(answer(request))(200, value)

    server.answer = old
    IMAGE.push(client, image)
    assert client.digest(image) == IMAGE.digest


def test_more_scopes_than_were_asked_for_are_asked_for_next_time(place: Place) -> None:
    client, image = place.client(), place.image()
    client.tags(image.repository)
    scopes = f"repository:{image.repository.path}:pull repository:community/base:pull registry:catalog:* nonsense"
    challenge = f'Bearer realm="{place.url}/token",service="sandbox-registry",scope="{scopes}"'
    place.registry.faults.add(Fault("GET /v2/.*/manifests", status=401, headers={"WWW-Authenticate": challenge}))

    assert client.look(image) is None
    last = calls(place, "/token")[-1]
    assert "scope=repository:community/base:pull" in last
    assert "catalog" not in last.replace(image.repository.path, "")
    issued = place.registry.tokens.issued
    assert client.look(image) is None
    assert place.registry.tokens.issued == issued


def test_further_scopes_are_remembered_of_the_last_repositories_only(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED", 2)
    now = [0.0]
    client, images = place.client(), [place.image() for _ in range(3)]
    client._calls.auth._clock = lambda: now[0]
    client.tags(place.repository())
    challenge = f'Bearer realm="{place.url}/token",service="sandbox-registry",scope="repository:community/base:pull"'
    for image in images:
        place.registry.faults.add(Fault("GET /v2/.*/manifests", status=401, headers={"WWW-Authenticate": challenge}))
        client.look(image)

    now[0] += auth.LIFETIME_LIMIT
    asked = []
    for image in images:
        client.look(image)
        asked.append("scope=repository:community/base:pull" in calls(place, "/token")[-1])
    assert asked == [False, True, True]


def test_an_example_of_a_scope_in_the_first_refusal_is_not_asked_for(place: Place) -> None:
    """As on ghcr.io, whose token server would refuse the whole request."""
    scope = f'Bearer realm="{place.url}/token",service="sandbox-registry",scope="repository:user/image:pull"'
    place.registry.faults.add(Fault("GET /v2/$", status=401, headers={"WWW-Authenticate": scope}, times=1))
    client, image = place.client(), place.image()

    client.check_account(image.repository)
    IMAGE.push(client, image)
    assert client.digest(image) == IMAGE.digest
    assert [target for target in calls(place, "/token") if "user/image" in target] == []


def test_a_token_server_says_why_it_refuses(place: Place) -> None:
    """As Docker Hub does."""
    wrong = Credentials(USER, SecretStr("another password"))
    with pytest.raises(CatalogAuthorizationError, match="the registry answered 401, incorrect username or password"):
        place.client(wrong).check_account(place.repository())


def test_a_login_names_no_repository(place: Place) -> None:
    place.client().check_account(place.repository())
    assert all("scope" not in target for target in calls(place, "/token"))
    assert set(calls(place, "/v2/")) == {"/v2/"}


def test_rights_differ(tmp_path: Path) -> None:
    for login in ("basic", "token"):
        with SandboxImageRegistry(login=login) as registry:
            registry.accounts.add("reader", PASSWORD, pull=["public/*"], push=[])
            registry.accounts.add(USER, PASSWORD)
            reader = Credentials("reader", SecretStr(PASSWORD))
            client = ImageRegistryClient(lambda _, found=reader: found, timeout=20)
            image = ImageName(Repository("http", registry.host, "public/x"), "latest")
            assert client.look(image) is None
            client.check_login(image.repository)
            with pytest.raises(CatalogAuthorizationError):
                client.check_push(image.repository)
            with pytest.raises(CatalogAuthorizationError):
                client.look(ImageName(Repository("http", registry.host, "private/x"), "latest"))


def test_what_is_public_is_read_without_a_login(place: Place) -> None:
    image = place.image()
    IMAGE.push(place.client(), image)
    place.registry.accounts.public.append(image.repository.path)
    anonymous = place.client(None)

    assert anonymous.blob(image.repository, anonymous.look(image).layers[0], max_bytes=10**6) == IMAGE.layer
    with pytest.raises(CatalogAuthorizationError):
        anonymous.push_blob(image.repository, b"x")


def test_a_registry_that_wants_no_login_at_first_may_want_one_later(tmp_path: Path) -> None:
    with sandbox_place(tmp_path, "basic") as place:
        client, image = place.client(), place.image()
        place.registry.faults.add(Fault("GET /v2/$", status=200, body={}))

        IMAGE.push(client, image)

        assert client.digest(image) == IMAGE.digest


def test_the_real_registry_refuses_tokens_that_are_not_its_own(tmp_path: Path) -> None:
    with docker_place(tmp_path, "token") as place:
        client, image = place.client(), place.image()
        IMAGE.push(client, image)
        client.look(image)
        place.registry.tokens._sign = lambda claims: "forged." + "x" * 20

        with pytest.raises(CatalogAuthorizationError):
            place.client().look(image)
        assert client.look(image).digest == IMAGE.digest, "that token is still valid"


@pytest.mark.parametrize("header", ["Negotiate", "Digest realm=x, NTLM", "Negotiate abc==", 'Custom a="Basic realm=x"'])
def test_other_kinds_of_login_are_named(place: Place, header: str) -> None:
    place.registry.faults.add(Fault("GET /v2/", status=401, headers={"WWW-Authenticate": header}, times=None))

    with pytest.raises(CatalogAuthorizationError, match=r"not supported \((negotiate|digest, ntlm|custom)\)"):
        place.client().tags(place.repository())


def test_a_missing_repository_is_known_to_be_missing_by_those_who_may_make_it(tmp_path: Path) -> None:
    """On Quay, a token to read a repository that does not exist allows nothing; one to write makes it."""
    with sandbox_place(tmp_path, "token", like_quay=True) as place:
        client, image = place.client(), place.image()
        for call in (client.look, client.digest, lambda each: client.tags(each.repository)):
            with pytest.raises(CatalogAuthorizationError):
                call(image)
        assert place.registry.repositories() == ()

        assert client.look(image, writing=True) is None
        assert client.digest(image, writing=True) is None
        assert client.tags(image.repository, writing=True) == ()
        IMAGE.push(client, image)
        assert client.look(image).digest == IMAGE.digest
        IMAGE.push(client, place.image("bundle"))


# ---- where credentials go


@contextmanager
def listening(*answers: bytes) -> Iterator[tuple[Peer, list[bytes]]]:
    """A peer that keeps what it is sent."""
    seen: list[bytes] = []

    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            seen.append(request)
            if answers:
                peer.send(answers[0])
            else:
                peer.answer(b"{}")

    with Peer(script) as peer:
        yield peer, seen


def challenge(realm: str, status: str = "401 Unauthorized") -> bytes:
    header = f'WWW-Authenticate: Bearer realm="{realm}",service="x"'
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{header}\r\n\r\n".encode()


@pytest.mark.parametrize(
    "realm",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/token",
        "//127.0.0.1/token",
        "/token",
        "",
        "http://",
        "http://user:password@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://[",
        "http://127.0.0.1/ x",
        "http://127.0.0.1/#x",
        "http://ex\u00e4mple/",
        "gopher:",
    ],
)
def test_a_realm_that_is_no_token_server_is_sent_nothing(place: Place, realm: str) -> None:
    header = {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}
    place.registry.faults.add(Fault("GET /v2/", status=401, headers=header, times=None))

    with pytest.raises(CatalogAuthorizationError, match="names a token server whose address is not usable"):
        place.client().tags(place.repository())


def test_a_registry_behind_tls_has_no_token_server_without(tmp_path: Path) -> None:
    with listening() as (peer, seen), sandbox_place(tmp_path, "token", tls=True) as place:
        header = {"WWW-Authenticate": f'Bearer realm="{peer.url}/token",service="x"'}
        place.registry.faults.add(Fault("GET /v2/", status=401, headers=header, times=None))

        with pytest.raises(CatalogAuthorizationError, match="nothing is sent without TLS"):
            place.client().tags(place.repository())

        assert seen == []


def test_a_registry_that_is_not_trusted_is_told_nothing(tmp_path: Path) -> None:
    with sandbox_place(tmp_path, "basic", tls=True) as place:
        with pytest.raises(ImageRegistryError, match="no trusted certificate"):
            place.client(ca_bundle=None).tags(place.repository())
        assert place.registry.log == []


def test_a_token_server_that_leads_elsewhere_is_not_followed(place: Place) -> None:
    with listening() as (peer, seen):
        place.registry.faults.add(Fault("GET /token", status=302, headers={"Location": f"{peer.url}/?x"}, times=None))
        with pytest.raises(ImageRegistryError):
            place.client().tags(place.repository())
        assert seen == []


@pytest.mark.parametrize("login", ["basic", "token"])
@pytest.mark.parametrize("answer", ["401", "403", "200"])
def test_a_storage_of_blobs_is_told_nothing(tmp_path: Path, login: str, answer: str) -> None:
    """Not even if it asks."""
    with sandbox_place(tmp_path, login) as place:
        client, image = place.client(), place.image()
        IMAGE.push(client, image)
        status = {"401": "401 Unauthorized", "403": "403 Forbidden", "200": "200 OK"}[answer]
        with listening(challenge(f"{place.url}/token", status)) as (peer, seen):
            location = {"Location": f"{peer.url}/blob?signature=s1gnature"}
            place.registry.faults.add(Fault("GET /v2/.*/blobs", status=307, headers=location, times=None))
            with pytest.raises(ImageRegistryError) as caught:
                client.blob(image.repository, LAYER, max_bytes=10**6)
            assert len(seen) == 1
            assert b"authorization" not in seen[0].lower()
            assert "s1gnature" not in f"{caught.value} {caught.value.details}"


@pytest.mark.parametrize("login", ["basic", "token"])
def test_an_upload_that_is_led_elsewhere_is_not_sent(tmp_path: Path, login: str) -> None:
    with listening() as (peer, seen), sandbox_place(tmp_path, login) as place:
        location = {"Location": f"{peer.url}/v2/x/blobs/uploads/1"}
        place.registry.faults.add(Fault("POST /v2/.*/blobs/uploads", status=202, headers=location))
        with pytest.raises(ImageRegistryError, match="wants uploads to be sent elsewhere"):
            place.client().push_blob(place.repository(), b"x")
        assert seen == []


def test_an_upload_behind_a_proxy_stays_behind_tls(tmp_path: Path) -> None:
    """A registry that does not know that it is reached through TLS names an address without."""
    trusted, tls = self_signed(tmp_path)
    with SandboxImageRegistry(tls=tls) as registry:
        registry._api.url = registry.url.replace("https:", "http:")
        client = ImageRegistryClient(lambda _: None, timeout=20, ca_bundle=trusted)

        assert client.push_blob(Repository("https", registry.host, "x"), b"x") is True


def test_credentials_of_one_registry_do_not_go_to_another(tmp_path: Path) -> None:
    def keychain(repository: Repository) -> Credentials | None:
        return ROBOT if repository.host == made.host else None

    refusal = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nWWW-Authenticate: Basic realm=x\r\n\r\n"
    with listening(refusal) as (peer, seen), sandbox_place(tmp_path, "basic") as made:
        client = ImageRegistryClient(keychain, timeout=20)
        IMAGE.push(client, made.image())
        other = Repository("http", peer.url.partition("://")[2], "x")
        with pytest.raises(CatalogAuthorizationError):
            client.tags(other)
    assert seen
    assert all(b"authorization" not in request.lower() for request in seen)


# ---- secrets stay out of errors and logs


def test_the_secrets_that_were_used_last_are_looked_for_and_no_more(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED", 2)
    client = place.client()
    for _ in range(2):
        client.tags(place.repository())
    known = client._calls.auth
    older, last = (token.value.get_secret_value().partition(" ")[2] for token in known._tokens.values())

    told = known.scrubber().text(f"{BASIC} {older} {last}")
    assert [secret in told for secret in (BASIC, older, last)] == [False, True, False]


def everything(client: ImageRegistryClient, image: ImageName) -> list[Callable[[], object]]:
    return [
        lambda: client.ping(image.repository),
        lambda: client.check_account(image.repository),
        lambda: client.check_login(image.repository),
        lambda: client.check_push(image.repository),
        lambda: client.look(image),
        lambda: client.manifest(image),
        lambda: client.digest(image),
        lambda: client.tags(image.repository),
        lambda: client.blob(image.repository, LAYER, max_bytes=10**6),
        lambda: client.push_blob(image.repository, b"x"),
        lambda: client.put_manifest(image, IMAGE.body, IMAGE.media_type),
    ]


def told_by(call: Callable[[], object]) -> str:
    """Everything that a call says when it fails, or its result."""
    try:
        return repr(call())
    except ImageRegistryError as error:
        return f"{error} {error!r} {error.message} {error.details} {error.__cause__!r}"


def leak_in(text: str, form: str) -> object:
    return {
        "errors": {"errors": [{"code": text, "message": text, "detail": {"x": [text, {text: text}]}}]},
        "details": {"details": text},
        "title": f"<title>{text}</title>",
        "text": text.encode(),
    }[form]


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
@pytest.mark.parametrize("form", ["errors", "details", "title", "text"])
@pytest.mark.parametrize("login", ["basic", "token"])
def test_a_registry_that_repeats_a_credential_does_not_get_it_into_an_error(
    tmp_path: Path, login: str, form: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"), sandbox_place(tmp_path, login) as place:
        client, image = place.client(), place.image()
        IMAGE.push(client, image)
        tokens = [token.value.get_secret_value().partition(" ")[2] for token in client._calls.auth._tokens.values()]
        secrets = [BASIC, PASSWORD, *tokens]
        leak = leak_in(f"you sent {' and '.join(secrets)}", form)
        location = {"Location": f"http://127.0.0.1:1/{PASSWORD}?{BASIC}", "Docker-Content-Digest": PASSWORD}
        place.registry.faults.add(
            Fault("[A-Z]+ /v2/.*community", status=status, body=leak, headers=location, times=None)  # type: ignore[arg-type]
        )

        told = [told_by(call) for call in everything(client, image)]
        shown = caplog.text + repr(client) + repr(vars(client._calls.auth)) + repr(place.registry.log)

    for secret in secrets:
        assert secret not in "".join(told)
        assert secret not in shown
    if status == 500:
        assert sum("you sent ***" in each for each in told) >= 5, "the rest of the words stays"


@pytest.mark.parametrize("form", ["errors", "details", "title", "text"])
def test_a_token_server_that_repeats_a_credential_does_not_get_it_into_an_error(place: Place, form: str) -> None:
    leak = leak_in(f"you sent {PASSWORD} as {BASIC}", form)
    place.registry.faults.add(Fault("GET /token", status=400, body=leak, times=None))  # type: ignore[arg-type]

    told = told_by(lambda: place.client().tags(place.repository()))

    assert "you sent *** as ***" in told
    assert PASSWORD not in told
    assert BASIC not in told
