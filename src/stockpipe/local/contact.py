"""What a command says to the embedded cloud besides AWS requests: who are you, and save it all.

Imported by every command: nothing heavy at module scope.
"""

from __future__ import annotations

from pathlib import Path

from stockpipe.errors import LocalCloudError
from stockpipe.local.home import (
    HOST,
    NONCE_HEADER,
    NOT_SAVED,
    PROOF_HEADER,
    READY,
    SAVE,
    Credentials,
    Places,
    ServerRecord,
)

_ANSWER_S = 5.0
_SAVE_BUDGET_S = 150.0


def introduction(port: int) -> dict[str, str]:
    """The headers with which a server answers on the readiness route; empty when it does not."""
    try:
        code, _, headers = _request(port, "GET", READY, {}, timeout_s=_ANSWER_S)
    except OSError:
        return {}
    return headers | ({} if code == 200 else {NONCE_HEADER: ""})


def save(home: Path) -> None:
    """Return once everything that was made so far is on disk, where ``kill -9`` cannot reach it.

    Records and items are in a journal as it is; this is for the resources. Raises LocalCloudError
    when they cannot be saved, or the embedded cloud does not answer.
    """
    places = Places(home)
    record, credentials = ServerRecord.load(places.server), Credentials.load(places.credentials)
    if record is None or record.port is None or credentials is None:
        raise LocalCloudError(f"No embedded cloud is running in {home}.")
    proof = {PROOF_HEADER: credentials.proof(record.nonce)}
    try:
        code, said, _ = _request(record.port, "GET", SAVE, proof, timeout_s=_SAVE_BUDGET_S)
    except OSError as error:
        raise LocalCloudError(f"The embedded cloud does not answer: {error}.") from error
    if code != 200:
        said = said if code == NOT_SAVED else f"answered {code} when asked to save its data"
        raise LocalCloudError(f"The embedded cloud {said}.", hint=f"Its log: {places.log}")


def _request(
    port: int, method: str, path: str, headers: dict[str, str], *, timeout_s: float
) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers by lower-case name; raises OSError."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        return answer.status, body, {name.lower(): text for name, text in answer.getheaders()}
    except HTTPException as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
