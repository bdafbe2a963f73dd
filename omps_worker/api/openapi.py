# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of the API: an OpenAPI 3.1 document, and an HTML page, generated from it, to try the API."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from omps_worker import __version__
from omps_worker.api.replies import EXTRAS, STATUSES
from omps_worker.api.requests.idempotency import HEADER

ABOUT = ("/v1/about", "/v2/about")
PING = ("/v1/health/ping", "/v2/health/ping")
PUSH_ARCHIVE = (
    "/v1/{organization}/{repository}/zipfile",
    "/v1/{organization}/{repository}/zipfile/{version}",
    "/v2/{organization}/zipfile",
    "/v2/{organization}/zipfile/{version}",
)
PUSH_BUILD = (
    "/v1/{organization}/{repository}/koji/{nvr}",
    "/v1/{organization}/{repository}/koji/{nvr}/{version}",
    "/v2/{organization}/koji/{nvr}",
    "/v2/{organization}/koji/{nvr}/{version}",
)
DELETE = (
    "/v1/{organization}/{repository}",
    "/v1/{organization}/{repository}/{version}",
    "/v2/{organization}/{repository}",
    "/v2/{organization}/{repository}/{version}",
)
"""The paths, in the syntax that OpenAPI and the router share."""

_PARAMETERS = {
    "organization": "The organization (namespace) in the registry.",
    "repository": "The repository. In a push, it must be the packageName.",
    "version": "The version of the release: three integers joined by dots. A push without it gets the next version.",
    "nvr": "The name-version-release of a build in Koji.",
}
_IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "A unique key for this push. If you repeat the push with the same key, it makes only one release.",
}
_PUSH_STATUSES = (400, 403, 404, 413, 500, 503)
_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, Any] = {}
    for path in PUSH_ARCHIVE:
        operation = _operation(path, "Publish an uploaded archive of manifests", "Pushed", (*_PUSH_STATUSES, 408))
        paths[path] = {"post": {**operation, "requestBody": _FORM}}
    for path in PUSH_BUILD:
        paths[path] = {
            "post": _operation(path, "Publish the manifests of a build", "PushedBuild", (*_PUSH_STATUSES, 409))
        }
    for path in DELETE:
        scope = "one release" if "{version}" in path else "all releases"
        operation = _operation(path, f"Delete {scope} of a package", "Deleted", (400, 403, 404, 413, 500, 503))
        paths[path] = {"delete": operation}
    for path in PING:
        health = {
            "200": _answer("All services are healthy", "Health"),
            "503": _answer("A service is unhealthy", "Health"),
        }
        paths[path] = {"get": {**_named(path, "Check Koji, the registry and Greenwave"), "responses": health}}
    for path in ABOUT:
        about = {"200": _answer("The versions", "About")}
        paths[path] = {"get": {**_named(path, "Get the versions of this service"), "responses": about}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "omps-worker",
            "version": __version__,
            "description": "OMPS's REST API: publishes operator manifests to an app registry.",
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "registry": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "The token for the registry, as the registry's login returns it: `basic …`.",
                }
            },
        },
    }


_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "string",
                        "contentMediaType": "application/zip",
                        "description": "The zip archive of manifests. Its file name must end with .zip.",
                    }
                },
            }
        }
    },
}


def _named(path: str, summary: str) -> dict[str, Any]:
    plain = path.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    return {"summary": summary, "operationId": plain, "tags": [path.split("/")[1]]}


def _operation(path: str, summary: str, result: str, statuses: tuple[int, ...]) -> dict[str, Any]:
    named = _named(path, summary)
    if result == "Deleted":
        named["operationId"] = "delete_" + named["operationId"]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}, "description": about}
        for name, about in _PARAMETERS.items()
        if f"{{{name}}}" in path
    ]
    if result != "Deleted":
        parameters.append(_IDEMPOTENCY_KEY)
    errors = {str(status): _answer(_names(status), "Error") for status in statuses}
    return {
        **named,
        "security": [{"registry": []}],
        "parameters": parameters,
        "responses": {"200": _answer("Done", result), **errors},
    }


def _names(status: int) -> str:
    names = ", ".join(kind.__name__ for kind, number in STATUSES.items() if number == status)
    return f"{HTTPStatus(status).phrase}: {names}"


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _schemas() -> dict[str, Any]:
    pushed = {"organization": _TEXT, "repo": _TEXT, "version": _TEXT, "extracted_files": _TEXTS}
    service = _object({"ok": {"type": "boolean"}, "details": _TEXT})
    extras = {name: {"type": "object", "description": _errors_with(name)} for name in sorted(set(EXTRAS.values()))}
    deleted = {"organization": _TEXT, "repo": _TEXT, "deleted": _TEXTS}
    return {
        "Pushed": _object(pushed),
        "PushedBuild": _object({**pushed, "nvr": _TEXT}),
        "Deleted": _object(deleted),
        "Error": _object(
            {
                "status": {"type": "integer"},
                "error": {"type": "string", "enum": [*(kind.__name__ for kind in STATUSES), *_ROUTING_ERRORS]},
                "message": _TEXT,
            },
            {**extras, **deleted},
        ),
        "Health": _object(
            {
                "ok": {"type": "boolean"},
                "status": {"type": "integer"},
                "services": _object(
                    {"koji": service, "quay": service, "greenwave": {"oneOf": [service, {"type": "null"}]}}
                ),
            }
        ),
        "About": _object({"version": _TEXT, "operatorcourier": _TEXT}),
    }


_ROUTING_ERRORS = ("NotFound", "MethodNotAllowed")


def _errors_with(extra: str) -> str:
    return "Only with " + ", ".join(kind.__name__ for kind, name in EXTRAS.items() if name == extra)


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>omps-worker: REST API</title>
<style>
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 1em auto; padding: 0 1em; color: #222; background: #fff }
details { border: 1px solid #ccc; border-radius: 4px; margin: .5em 0; padding: .3em .8em }
summary { cursor: pointer }
code, pre, input { font-family: monospace; font-size: 14px }
label { display: block; margin: .4em 0 }
pre { background: #f4f4f4; padding: .6em; overflow: auto; white-space: pre-wrap }
.method { display: inline-block; width: 5em; font-weight: bold }
</style>
<h1>omps-worker: REST API</h1>
<p>Generated from <a href="openapi.json">openapi.json</a>. Requests that you send from this page are carried out.</p>
<label>Authorization: the token for the registry <input id="token" type="password" size="50" autocomplete="off"></label>
<main></main>
<script>
"use strict";
const make = (kind, text, parent) => {
  const made = document.createElement(kind);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
};
const show = (method, path, about) => {
  const box = make("details", "", document.querySelector("main"));
  const head = make("summary", "", box);
  make("span", method.toUpperCase(), head).className = "method";
  make("code", path, head);
  make("span", " " + about.summary, head);
  const form = make("form", "", box);
  for (const parameter of about.parameters || []) {
    const input = make("input", "", make("label", parameter.description + " ", form));
    input.name = parameter.name;
    input.placeholder = parameter.name;
    input.required = parameter.required;
  }
  let file = null;
  if (about.requestBody) {
    file = make("input", "", make("label", "The zip archive ", form));
    file.type = "file";
    file.required = true;
  }
  make("button", "Send", form);
  const output = make("pre", Object.entries(about.responses).map(([s, r]) => s + " " + r.description).join("\\n"), box);
  form.addEventListener("submit", async event => {
    event.preventDefault();
    const target = path.replace(/{(\\w+)}/g, (_, name) => encodeURIComponent(form.elements[name].value));
    const options = {method: method.toUpperCase(), headers: {}};
    const token = document.getElementById("token").value;
    if (about.security && token) options.headers.Authorization = token;
    for (const parameter of about.parameters || [])
      if (parameter.in === "header" && form.elements[parameter.name].value)
        options.headers[parameter.name] = form.elements[parameter.name].value;
    if (file) {
      options.body = new FormData();
      options.body.append("file", file.files[0]);
    }
    output.textContent = "…";
    try {
      const reply = await fetch(target.slice(1), options);
      output.textContent = reply.status + " " + JSON.stringify(await reply.json(), null, 2);
    } catch (error) {
      output.textContent = String(error);
    }
  });
};
fetch("openapi.json").then(reply => reply.json()).then(all => {
  for (const [path, methods] of Object.entries(all.paths))
    for (const [method, about] of Object.entries(methods)) show(method, path, about);
});
</script>
</html>
"""
"""The HTML page. It is self-contained, and sends requests to this server only."""
