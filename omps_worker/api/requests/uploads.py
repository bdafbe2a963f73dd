# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking in an uploaded file, with limits on bytes and time that hold while it arrives.

Nothing is kept in memory: the file goes to a private temporary directory piece by piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from typing import IO
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from omps_worker.common import machine
from omps_worker.common.errors import (
    OMPSExpectedFileError,
    OMPSUploadedFileError,
    RequestEntityTooLarge,
    RequestTimeout,
    StorageError,
)
from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.common.model import UploadedArchive
from omps_worker.manifests.uploaded_archive import base_name

log = logging.getLogger(__name__)

FIELD = "file"
"""The field of the form that brings the archive."""

EXTENSION = ".zip"

_PARAMETERS = re.compile(rb';[ \t]*([^ \t=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;"]*)', re.DOTALL)
"""The parameters of a header; what stands in quotes is never taken for one."""

_CHARSETS = {b"utf-8": "utf-8", b"iso-8859-1": "latin-1"}
"""Those that RFC 5987 knows."""

PARTS = 100
"""How many parts a form may have; OMPS's clients send one."""


class Upload:
    """A received file, on disk until ``close``."""

    def __init__(self) -> None:
        self._directory = ScratchDirectory()
        self.path = self._directory.path / "upload.zip"
        """Where it is."""
        self.archive = UploadedArchive("", "")
        """What it is called, and what is in it; known once it is here."""

    def close(self) -> None:
        """Remove it."""
        self._directory.remove()


def check_length(announced: str | None, most: int) -> None:
    """Refuse a body that is announced to be larger than ``most`` bytes: RequestEntityTooLarge."""
    if announced is not None and announced.isascii() and announced.isdigit() and _larger(announced, most):
        raise _too_large(most)


def _larger(announced: str, most: int) -> bool:
    # A number of thousands of digits is none that int() takes.
    return len(announced) > 20 or int(announced) > most


def extended_name(disposition: bytes) -> str | None:
    """The ``filename*`` of a Content-Disposition (RFC 5987, RFC 6266); None if there is none that can be read.

    The parser of forms passes over it; OMPS did not, and clients write names like that which are not ASCII.
    """
    for key, value in _PARAMETERS.findall(disposition):
        charset, *more = value.strip(b' \t"').split(b"'", 2)
        if key.lower() == b"filename*" and len(more) == len(("language", "value")):
            with contextlib.suppress(LookupError):
                return unquote_to_bytes(more[1]).decode(_CHARSETS[charset.lower()], "replace")
    return None


async def receive(content_type: str | None, body: AsyncIterator[bytes], *, most: int, seconds: float) -> Upload:
    """The file that a multipart form brings; the caller closes it.

    Raises OMPSExpectedFileError, OMPSUploadedFileError (the extension), RequestEntityTooLarge above
    ``most`` bytes, RequestTimeout when the body takes more than ``seconds``, and StorageError.
    """
    try:
        upload = Upload()
        try:
            with upload.path.open("wb") as file:
                form = _Form(content_type, file)
                await asyncio.wait_for(_read(body, form, most), seconds)
            upload.archive = form.check()
        except BaseException:
            upload.close()
            raise
    except asyncio.TimeoutError:
        raise RequestTimeout(f"The request's body did not arrive within {seconds:g} seconds.") from None
    except FormParserError:
        raise OMPSExpectedFileError(f'No field "{FIELD}": the body is not a multipart form.') from None
    except OSError as error:
        machine.log_failure(log, error, "an upload could not be kept", stored=True)
        raise StorageError.wrap(error) from error
    return upload


async def _read(body: AsyncIterator[bytes], form: _Form, most: int) -> None:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > most:
            raise _too_large(most)
        form.feed(piece)


def _too_large(most: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The request is larger than the {most} bytes that are taken.")


class _Form:
    """Reads a multipart form, of which it keeps the first file under the right name."""

    def __init__(self, content_type: str | None, file: IO[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise OMPSExpectedFileError(f'No field "{FIELD}": the request is not multipart/form-data.')
        self._file = file
        self._parts = 0
        self._header = self._disposition = b""
        self._value = b""
        self._wanted = self._found = self._whole = False
        self._name = ""
        self._digest = hashlib.sha256()
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_to_header,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._judge,
                "on_part_data": self._keep,
                "on_part_end": self._end,
            },
        )

    def feed(self, piece: bytes) -> None:
        """Read on. Raises FormParserError, OMPSExpectedFileError, OMPSUploadedFileError."""
        self._parser.write(piece)

    def check(self) -> UploadedArchive:
        """What came. Raises OMPSExpectedFileError if the file is not here, or not whole."""
        if not self._found:
            raise OMPSExpectedFileError(f'No field "{FIELD}"')
        if not self._whole:
            raise OMPSExpectedFileError(f'The field "{FIELD}" is cut off: the form has no end.')
        return UploadedArchive(self._name, self._digest.hexdigest())

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS:
            raise OMPSExpectedFileError(f"The form has more than {PARTS} parts.")
        self._disposition = b""

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _judge(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = extended_name(self._disposition)
        if name is None and b"filename" in options:
            name = options[b"filename"].decode("utf-8", "replace")
        called = options.get(b"name") == FIELD.encode() and not self._found
        if called and name is None and b"filename*" in self._disposition.lower():
            raise OMPSExpectedFileError(f'The name of the file in the field "{FIELD}" cannot be read (RFC 5987).')
        self._wanted = called and name is not None
        if name is None or not self._wanted:
            return
        self._found = True
        if not name:
            raise OMPSExpectedFileError(f'No selected "{FIELD}"')
        if not name.lower().endswith(EXTENSION):
            raise OMPSUploadedFileError(f"The uploaded file has another file extension than {EXTENSION}.")
        self._name = base_name(name)

    def _keep(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            piece = data[start:end]
            self._digest.update(piece)
            self._file.write(piece)

    def _end(self) -> None:
        if self._wanted:
            self._whole, self._wanted = True, False
