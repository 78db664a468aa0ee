"""Only the keys of this installation, and the IAM and STS keys made with them, open the door.

ministack alone takes ``test``, any 12 digits or no key at all as root, does not check root's
signature, answers ``/_ministack/*`` (which can wipe everything) to anyone, and derives the keys
of function roles from public names. So every request passes :class:`Gate` first, which checks its
signature; what ministack decides behind it (policies, sessions, accounts) stays its own.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from stockpipe.local.emulator.parts import replace
from stockpipe.local.emulator.wire import (
    App,
    Message,
    Query,
    Receive,
    Refusal,
    Scope,
    Send,
    answer,
    headers_of,
    query_of,
    read_body,
    refuse,
    replay,
)
from stockpipe.local.home import (
    NONCE_HEADER,
    NOT_SAVED,
    NOTICE_HEADER,
    PROOF_HEADER,
    READY,
    SAVE,
    Credentials,
)

_OPEN = frozenset({READY, "/_ministack/health"})
_OWN_ROUTES = ("/_ministack/", "/_localstack/")
_log = logging.getLogger(__name__)


_UNKNOWN = Refusal(
    "UnrecognizedClientException", "The security token included in the request is invalid."
)
_UNSIGNED = Refusal("MissingAuthenticationToken", "Request is missing Authentication Token")
_UNSUPPORTED = Refusal(
    "UnsupportedSignature", "The embedded cloud takes Signature Version 4 (AWS4-HMAC-SHA256) only."
)
_EXPIRED = Refusal("RequestExpired", "Request has expired")


def install(credentials: Credentials) -> None:
    """Make ministack know these credentials as its root, and no others."""
    from ministack.core import iam_evaluator, lambda_runtime
    from ministack.services import lambda_svc, s3, sts

    def is_root(access_key_id: str) -> bool:
        return hmac.compare_digest(
            (access_key_id or "").encode(), credentials.access_key_id.encode()
        )

    original_resolve = iam_evaluator.resolve_credential

    def resolve(
        access_key_id: str, account_id: str | None = None, *token: Any, **named: Any
    ) -> Any:
        found = original_resolve(access_key_id, account_id, *token, **named)
        if isinstance(found, iam_evaluator.ResolvedCredential) and is_root(access_key_id):
            return dataclasses.replace(found, secret_access_key=credentials.secret_access_key)
        return found

    replace(iam_evaluator, "_is_root_key", is_root)
    for module in (iam_evaluator, sts):
        replace(module, "is_root_access_key", is_root)
    for module in (iam_evaluator, sts, s3):
        replace(module, "resolve_credential", resolve)
    role_keys = _role_keys(credentials.seed)
    for module in (lambda_runtime, lambda_svc):
        replace(module, "execution_credentials", role_keys)


def _role_keys(seed: str) -> Callable[[dict[str, Any]], dict[str, str]]:
    """Credentials of a function's role: stable over restarts, known to this installation alone."""
    from ministack.services import sts

    def execution_credentials(config: dict[str, Any]) -> dict[str, str]:
        function, role = config["FunctionArn"], config.get("Role", "")
        account, name = function.split(":")[4], config.get("FunctionName", "")[:64]

        def derived(purpose: str) -> bytes:
            text = f"{purpose}\n{function}\n{role}".encode()
            return hmac.new(seed.encode(), text, hashlib.sha256).digest()

        key = "ASIA" + base64.b32encode(derived("key")).decode()[:16]
        secret, token = derived("secret").hex(), derived("token").hex()
        role_name = role.rsplit("/", 1)[-1]
        sts.register_session(
            key,
            {
                "Arn": f"arn:aws:sts::{account}:assumed-role/{role_name}/{name}",
                "UserId": f"{role_name}:{name}",
                "SecretAccessKey": secret,
                "SessionToken": token,
            },
        )
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_SESSION_TOKEN": token,
        }

    return execution_credentials


class Gate:
    """ASGI: lets through what is signed by a key that exists, and answers the rest itself.

    ``nonce`` is sent with readiness, the one thing that needs no signature, so that a command can
    tell this server from another on its port; so is ``notice``, while there is one. Who knows the
    credentials may have ``save`` called, which puts all on disk, or returns why it could not.
    """

    def __init__(
        self, app: App, credentials: Credentials, nonce: str, save: Callable[[], Awaitable[str]]
    ) -> None:
        self._app, self._root, self._nonce, self._save = app, credentials, nonce, save
        self.notice = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # WebSocket: nothing of ours speaks it
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        if scope["method"] == "GET" and scope["path"] in _OPEN:
            return await self._app(scope, receive, self._introducing(send))
        body = await read_body(receive)
        if body is None:
            return None
        if scope["path"] == SAVE and self._is_ours(scope):
            reason = await self._save()
            return await answer(send, NOT_SAVED if reason else 200, {}, reason.encode())
        refusal = self._refusal(scope, body)
        if refusal is None:
            return await self._app(scope, replay(body, receive), send)
        _log.warning("refused: %s %s: %s", scope["method"], scope["path"], refusal.code)
        forbidden = 403 if scope["path"].startswith(_OWN_ROUTES) else None
        return await refuse(scope, body, refusal, send, status=forbidden)

    def _is_ours(self, scope: Scope) -> bool:
        said = headers_of(scope).get(PROOF_HEADER, "")
        return hmac.compare_digest(said.encode(), self._root.proof(self._nonce).encode())

    def _introducing(self, send: Send) -> Send:
        async def introducing(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {NONCE_HEADER: self._nonce, NOTICE_HEADER: self.notice}
                extra = [(name.encode(), text.encode()) for name, text in own.items() if text]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        return introducing

    def _refusal(self, scope: Scope, body: bytes) -> Refusal | None:
        from ministack.core import sigv4

        headers, query = headers_of(scope), query_of(scope)
        authorization = headers.get("authorization", "")
        presigned = not authorization and "X-Amz-Signature" in query
        if not authorization and not presigned:
            return _UNSIGNED
        algorithm = authorization.partition(" ")[0] or query.get("X-Amz-Algorithm", [""])[0]
        if algorithm != "AWS4-HMAC-SHA256":
            return _UNSUPPORTED
        if not presigned and "X-Amz-Credential" in query:
            return _UNSUPPORTED  # two keys: which of them ministack takes must not matter
        parsed = (
            sigv4.parse_query_signature(query)
            if presigned
            else sigv4.parse_header_signature(headers)
        )
        if isinstance(parsed, tuple):
            return Refusal(*parsed)
        late = _late(parsed, query, presigned)
        if late is not None:
            return late
        token = query.get("X-Amz-Security-Token", [""])[0] if presigned else ""
        secret = self._secret(parsed.access_key_id, token or headers.get("x-amz-security-token"))
        if isinstance(secret, Refusal):
            return secret
        raw_path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        failure = sigv4.header_signature_failure(
            parsed, secret, scope["method"], raw_path, query, headers, body, presigned=presigned
        )
        if failure is not None:
            return Refusal(*failure)
        if scope["path"].startswith(_OWN_ROUTES) and not (
            scope["method"] == "GET" and parsed.access_key_id == self._root.access_key_id
        ):
            return Refusal("AccessDenied", f"{scope['path']} is not served.")
        return None

    def _secret(self, key: str, token: str | None) -> str | Refusal:
        """The secret that belongs to a key: the installation's, an IAM user's or a session's."""
        from ministack.core import iam_evaluator, responses

        if key == self._root.access_key_id:
            return _UNKNOWN if token else self._root.secret_access_key
        try:
            account = responses._account_from_sts_session(
                key
            ) or iam_evaluator.find_iam_access_key_account(key)
        except iam_evaluator.AmbiguousAccessKeyError:
            return _UNKNOWN
        if account is None:
            return _UNKNOWN
        found = iam_evaluator.resolve_credential(key, account, token or "")
        if isinstance(found, iam_evaluator.CredentialResolutionError):
            return Refusal(found.code, found.message)
        secret: str = found.secret_access_key
        return secret


def _late(signature: Any, query: Query, presigned: bool) -> Refusal | None:
    from ministack.core import sigv4

    if not presigned or "X-Amz-Expires" not in query:
        skewed = sigv4.request_time_failure(signature)
        return Refusal(*skewed) if skewed else None
    try:
        expired = sigv4.presigned_request_is_expired(signature.amz_date, query["X-Amz-Expires"][0])
    except ValueError:
        expired = True
    return _EXPIRED if expired else None
