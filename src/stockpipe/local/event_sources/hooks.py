"""Where the event-source runner meets ministack: the only part of it that imports the emulator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from stockpipe.local.emulator.parts import replace

_POLLERS = ("_poll_kinesis", "_poll_dynamodb_streams")
_CHANGES = ("_create_esm", "_update_esm", "_delete_esm")
_KEPT = ("MetricsConfig", "TumblingWindowInSeconds")
"""Settings that the emulator takes and forgets; unseen, they could not be compared or refused."""
_KEPT_AT_FIRST = (*_KEPT, "StartingPositionTimestamp")
_STREAM_BATCH = 100

_listeners: list[Callable[[], None]] = []


def install() -> None:
    """Take Kinesis and DynamoDB Streams mappings away from the emulator's poller, leaving it SQS.

    To be called once, before the server starts. Mappings then also keep the settings that the
    emulator drops, and have AWS's default BatchSize. Raises LocalCloudError when this is not the
    ministack that we know.
    """
    from ministack.services import lambda_svc

    for name in _POLLERS:
        replace(lambda_svc, name, _nothing_polled)
    create = replace(lambda_svc, "_create_esm", None)
    lambda_svc._create_esm = _refusing_twins(_keeping(create, lambda_svc._esms), lambda_svc._esms)
    update = replace(lambda_svc, "_update_esm", None)
    lambda_svc._update_esm = _keeping_changes(update, lambda_svc._esms)
    for name in _CHANGES:
        change = replace(lambda_svc, name, None)
        setattr(lambda_svc, name, _telling(change))


def _nothing_polled() -> bool:
    """Stands for a poller: "nothing was processed", so the loop around it goes to sleep."""
    return False


def _telling(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def changed(*args: Any, **kwargs: Any) -> Any:
        answer = original(*args, **kwargs)
        for listener in list(_listeners):
            listener()
        return answer

    return changed


def _keeping(original: Callable[..., Any], mappings: Any) -> Callable[..., Any]:
    @wraps(original)
    def create(data: dict[str, Any]) -> Any:
        if ":sqs:" not in str(data.get("EventSourceArn")):
            data.setdefault("BatchSize", _STREAM_BATCH)
        before = set(mappings)
        answer = original(data)
        for uuid in set(mappings) - before:
            mappings[uuid].update({name: data[name] for name in _KEPT_AT_FIRST if data.get(name)})
        return answer

    return create


def _keeping_changes(original: Callable[..., Any], mappings: Any) -> Callable[..., Any]:
    @wraps(original)
    def update(uuid: str, data: dict[str, Any]) -> Any:
        if uuid in mappings:
            mappings[uuid].update({name: data[name] for name in _KEPT if name in data})
        return original(uuid, data)

    return update


def _refusing_twins(original: Callable[..., Any], mappings: Any) -> Callable[..., Any]:
    """One source and function have one mapping; a second would process every record twice.

    ``ResourceConflictException`` in
    https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
    """
    from ministack.core.responses import error_response_json

    one_at_a_time = threading.Lock()

    @wraps(original)
    def create(data: dict[str, Any]) -> Any:
        source = data.get("EventSourceArn")
        function = str(data.get("FunctionName", "")).rsplit(":function:", 1)[-1]
        with one_at_a_time:
            for uuid, mapping in list(mappings.items()):
                if (mapping["EventSourceArn"], mapping["FunctionName"]) == (source, function):
                    return error_response_json(
                        "ResourceConflictException",
                        f'The event source arn ("{source}") and function ("{function}") provided '
                        f"mapping already exists. Please update or delete the existing mapping "
                        f"with UUID {uuid}",
                        409,
                    )
            return original(data)

    return create


def on_change(listener: Callable[[], None]) -> Callable[[], None]:
    """Call ``listener`` after every change of a mapping, until the returned function is called."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def wake_event() -> threading.Event:
    """What the emulator sets with every record on a stream; its own poll loop clears it."""
    from ministack.core.concurrency import esm_wake

    event: threading.Event = esm_wake
    return event


def mapping_regions() -> set[str]:
    """The regions that have mappings, of whatever source, so that the others need no call."""
    from ministack.services import lambda_svc

    return {region for _account, region, _uuid in list(lambda_svc._esms._data)}
