"""ministack as we run it: its settings, what it must not do to the host, and how we replace parts.

Everything replaced goes through :func:`replace`, so a release that renames something is refused
at start, by name, instead of quietly running its own version.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from stockpipe.errors import LocalCloudError
from stockpipe.local.home import Places

VERSION = "1.5.33"
DEFAULT_REGION = "us-east-2"
SERVICES = (
    "athena",
    "dynamodb",
    "dynamodbstreams",
    "events",
    "glue",
    "iam",
    "kinesis",
    "kms",
    "lambda",
    "logs",
    "monitoring",
    "s3",
    "scheduler",
    "sns",
    "sqs",
    "sts",
    "tagging",
)
"""What the pipeline uses or may be pointed at; the others open ports or start containers."""

_log = logging.getLogger(__name__)

_SEEN_BY_FUNCTIONS = ("GATEWAY_PORT", "MINISTACK_REGION")
"""Read again at run time, so they stay in the environment that functions inherit."""


def settings(places: Places, port: int) -> dict[str, str]:
    """ministack's environment. It reads these when a module is imported."""
    return {
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": DEFAULT_REGION,
        "AUTH": "true",
        "PERSIST_STATE": "1",
        "S3_PERSIST": "1",
        "STATE_DIR": str(places.state),
        "S3_DATA_DIR": str(places.s3),
        "SERVICES": ",".join(SERVICES),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }


def load(settings: Mapping[str, str]) -> Any:
    """Import ministack with our settings and all of its services that we serve.

    Out: ``ministack.app``. Raises LocalCloudError when it is not the release that we know.
    """
    os.environ.update(settings)
    fail_lost_writes()
    from importlib.metadata import version

    import ministack.app as app

    found = version("ministack")
    if found != VERSION:
        raise LocalCloudError(
            f"The embedded cloud needs ministack {VERSION}; {found} is installed.",
            hint="pip install 'stockpipe[local]'",
        )
    # Eagerly: a module imported by a later request would read settings that are gone by then.
    for name in sorted({app.SERVICE_REGISTRY[service]["module"] for service in SERVICES}):
        module = app._get_module(name)
        if not isinstance(module, ModuleType):
            raise LocalCloudError(
                f"ministack's {name} cannot be imported.", hint="pip install 'stockpipe[local]'"
            )
    _leave_host_alone(app)
    return app


def hide(settings: Mapping[str, str]) -> None:
    """Once started, nobody reads the settings but the functions, which inherit the environment."""
    for name in settings.keys() - set(_SEEN_BY_FUNCTIONS):
        os.environ.pop(name, None)


def replace(module: ModuleType, name: str, new: Any) -> Any:
    """Put ``new`` in the place of ``module.name``; out: what was there.

    Raises LocalCloudError when nothing was: this is not the ministack that we know.
    """
    try:
        old = getattr(module, name)
    except AttributeError:
        raise LocalCloudError(
            f"This ministack has no {module.__name__}.{name}; stockpipe was made for {VERSION}.",
            hint="pip install 'stockpipe[local]'",
        ) from None
    setattr(module, name, new)
    return old


def _leave_host_alone(app: ModuleType) -> None:
    """No container is reaped (at boot it removes every ministack container on the host, another
    project's too), and no script in /docker-entrypoint-initaws.d or /etc/localstack is run."""
    replace(app, "_docker_socket_present", lambda: False)
    replace(app, "_collect_scripts", lambda *directories: [])


class _LostWrite(logging.Filter):
    """Raises what S3 is about to log and forget."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and str(record.msg).startswith("Failed to "):
            raise error
        return True


def fail_lost_writes() -> None:
    """A file operation that fails in S3 fails its request.

    As it is, ministack logs "Failed to persist", keeps the object in memory and answers 200: the
    object is gone after a restart; a failed read answers 200 and an empty body. Every such place
    logs a warning that starts so, hence one filter for all of them. Installed before S3 is
    imported, when it reads what is on disk.
    """
    logging.getLogger("s3").addFilter(_LostWrite())


def answer_lost_writes() -> None:
    """A write that fails, of an object or of a mail, fails its request in the service's own words,
    so that every SDK shows the reason and tries again."""
    from ministack.services import s3, sns

    _answer(s3, lambda reason, path: s3._error("InternalError", reason, 500, path))
    _answer(sns, lambda reason, path: sns._error("InternalError", reason, 500))


def _answer(service: ModuleType, refuse: Callable[[str, str], Any]) -> None:
    async def handle_request(method: str, path: str, *rest: Any, **named: Any) -> Any:
        try:
            return await original(method, path, *rest, **named)
        except OSError as error:
            reason = f"The embedded cloud's disk: {error.strerror or error}."
            _log.error("%s %s %s: %s", service.__name__, method, path, reason)
            return refuse(reason, path)

    original: Callable[..., Any] = replace(service, "handle_request", handle_request)


def trust_loopback() -> None:
    """Requests over the loopback interface count as secure transport.

    Our bucket policies refuse plain HTTP, as they should on AWS. Here there is no TLS, and nothing
    between client and server that could listen.
    """
    from ministack.core import iam_evaluator

    def resolve(key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else original(key, context)

    original: Callable[..., Any] = replace(iam_evaluator, "_resolve_condition_key", resolve)


def keep_log_groups_gone() -> None:
    """A function's output goes to its log group only where there is one.

    ministack makes a missing group, as if every role had logs:CreateLogGroup; ours have not, so on
    AWS the lines are lost. Here an invocation that ends after teardown would leave a group behind.
    """
    from ministack.services import cloudwatch_logs, lambda_svc

    def emit(function: dict[str, Any], *rest: Any, **named: Any) -> None:
        config = function.get("config") or function
        group = (config.get("LoggingConfig") or {}).get("LogGroup")
        if (group or f"/aws/lambda/{config.get('FunctionName')}") in cloudwatch_logs._log_groups:
            original(function, *rest, **named)

    original: Callable[..., None] = replace(lambda_svc, "_emit_lambda_logs", emit)


def keep_shards() -> None:
    """Kinesis: UpdateStreamMode is there, and UpdateShardCount loses nothing.

    ministack does not know the former; at the latter it throws all shards away with their
    records. Here a stream keeps the shards that it was made with, and says so.
    """
    from ministack.core.responses import error_response_json, json_response
    from ministack.services import kinesis

    async def handle_request(
        method: str, path: str, headers: dict[str, str], body: bytes, *rest: Any, **named: Any
    ) -> Any:
        if headers.get("x-amz-target", "").endswith(".UpdateStreamMode"):
            wanted = json.loads(body)
            _, stream = kinesis._resolve_stream(wanted)
            if stream is None:
                return error_response_json("ResourceNotFoundException", "Stream not found", 400)
            stream["StreamModeDetails"] = wanted["StreamModeDetails"]
            return json_response({})
        return await original(method, path, headers, body, *rest, **named)

    def update_shard_count(wanted: dict[str, Any]) -> Any:
        name, stream = kinesis._resolve_stream(wanted)
        if stream and len(stream["shards"]) != wanted.get("TargetShardCount"):
            return error_response_json(
                "InvalidArgumentException",
                f"The embedded cloud cannot reshard {name}: a stream keeps the shards that it was "
                "made with. Use another --stack, or tear this one down first.",
                400,
            )
        return count(wanted)

    original: Callable[..., Any] = replace(kinesis, "handle_request", handle_request)
    count: Callable[..., Any] = replace(kinesis, "_update_shard_count", update_shard_count)
