# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Greenwave on loopback: every build has passed its tests, except those that are listed as failed."""

from __future__ import annotations

from omps_worker.sandbox.http_server import HttpServer, Request, Response

VERSION = "1.9.0"


class SandboxGreenwave(HttpServer):
    """A server for Greenwave's decisions and version, as a context manager."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.unsatisfied: set[str] = set()
        """The NVRs that have not passed."""

    def _answer(self, request: Request) -> Response:
        if (request.method, request.segments) == ("GET", ("api", "v1.0", "about")):
            return Response.json({"version": VERSION})
        if (request.method, request.segments) != ("POST", ("api", "v1.0", "decision")):
            return Response.json({"message": "The requested URL was not found on the server."}, 404)
        query = request.json()
        for key in ("decision_context", "product_version", "subject_type", "subject_identifier"):
            if key not in query:
                return Response.json({"message": f"Missing required {key}"}, 400)
        passed = query["subject_identifier"] not in self.unsatisfied
        return Response.json(
            {
                "policies_satisfied": passed,
                "summary": "All required tests passed" if passed else "1 of 1 required tests failed",
                "applicable_policies": ["operators"],
                "unsatisfied_requirements": [],
            }
        )
