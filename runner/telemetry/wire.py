"""Carries OTLP over HTTP for the SDK's exporters, and knows how the last request went.

The exporters themselves only say that something failed. This sits below them, as a session of
their HTTP library, sees the answers, and at a run's end keeps them to what time is left.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from requests.adapters import HTTPAdapter

_PROTOBUF = "application/x-protobuf"


class NotTaken(Exception):  # noqa: N818  says what happened; never seen by a person as a name
    """The server will not take this however often it is asked: the exporter must not try again."""


class Wire(HTTPAdapter):
    """One exporter's way to its server.

    Attributes:
        trouble: Why the last request failed, in few words; empty when it did not.
        status: Of the last answer; 0 when there was none.
        rejected: Spans that the server said it did not keep.
        until: `time.monotonic()` by which all must be over; `None`: there is time.
    """

    def __init__(self, until: float | None = None, *, patient: bool = True) -> None:
        super().__init__()
        self.trouble, self.status, self.rejected = "", 0, 0
        self.until, self._patient = until, patient

    def session(self) -> requests.Session:
        """Return a session whose every request goes this way."""
        session = requests.Session()
        session.mount("http://", self)
        session.mount("https://", self)
        return session

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002  as the library has it
        timeout: Any = None,
        verify: bool | str = True,  # noqa: FBT001, FBT002
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send one request.

        Raises:
            NotTaken: Trying again would be of no use, or there is no time for it.
            requests.RequestException: It may come through the next time.
        """
        if self.until is not None:
            timeout = min(float(timeout), max(0.05, self.until - time.monotonic()))
        self.status = 0
        try:
            response = super().send(request, stream, timeout, verify, cert, proxies)
        except requests.RequestException as error:
            self.trouble = words_for(error)
            in_haste = self.until is not None or not self._patient
            if in_haste and (isinstance(error, requests.Timeout) or self.trouble in _LASTING):
                raise NotTaken(self.trouble) from error
            raise
        self.status = response.status_code
        self.trouble = _trouble(response)
        if self.trouble and not _worth_another_try(response.status_code):
            response.close()
            raise NotTaken(self.trouble)
        self.rejected += _rejected(response)
        return response


def _worth_another_try(status: int) -> bool:
    """Tell what the specification lists as retryable.

    https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
    """
    return status in (429, 502, 503, 504)


def _trouble(response: requests.Response) -> str:
    """Say what is wrong with an answer; empty when nothing is."""
    status = response.status_code
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if 200 <= status < 300:
        return "a web page answered, no OTLP" if kind == "text/html" else ""
    if 300 <= status < 400:
        return f"{status}, it points to {response.headers.get('location', 'nowhere')}"
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"{status} {phrase}".strip()


def _rejected(response: requests.Response) -> int:
    """Return how many spans an answer says were not kept.

    https://opentelemetry.io/docs/specs/otlp/#partial-success-1
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if response.status_code != HTTPStatus.OK or kind != _PROTOBUF or not response.content:
        return 0
    try:
        answer = ExportTraceServiceResponse.FromString(response.content)
    except Exception:  # noqa: BLE001  what a server writes into its answer must not matter
        return 0
    return answer.partial_success.rejected_spans


def words_for(error: BaseException) -> str:
    """Say in few words why a request failed."""
    text = str(error).lower()
    for what, words in _WORDS:
        if what in text:
            return words
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "the TLS connection failed"
    return type(error).__name__


_REFUSED, _UNKNOWN, _UNTRUSTED = (
    "connection refused",
    "no such host",
    "its certificate is not trusted",
)
_LASTING = (_REFUSED, _UNKNOWN, _UNTRUSTED)
"""What is not over in a second; a connection that the server gave up may be at once."""
_WORDS = (
    ("refused", _REFUSED),
    ("certificate", _UNTRUSTED),
    ("failed to resolve", _UNKNOWN),
    ("name or service not known", _UNKNOWN),
    ("timed out", "no answer in time"),
    ("reset by peer", "the connection was reset"),
    ("without response", "it closed the connection without an answer"),
    ("unreachable", "the network is not reachable"),
)
