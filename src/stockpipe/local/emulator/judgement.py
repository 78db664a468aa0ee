"""What a request is judged on: the action and the resource that AWS derives from it.

ministack enforces policies, but derives for some requests no action, another resource or no
condition key, so that a policy of exact ARNs is refused, or not asked. Here stands what AWS does,
for what the pipeline calls:
https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stockpipe.local.emulator.parts import replace

Place = Callable[[str, str], str]
"""The ARN of a service's resource, in the region and account of the request."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is left of a request once its protocol does not matter."""

    operation: str
    fields: Mapping[str, Any]
    path: str
    place: Place

    def first(self, *names: str) -> str | None:
        """The first of these fields that is there; of a list, its first entry."""
        for name in names:
            value = self.fields.get(name)
            value = value[0] if isinstance(value, list) and value else value
            if value and isinstance(value, str):
                return value
        return None


def install() -> None:
    """To be called once, before the server starts. Raises LocalCloudError."""
    name_lambda_actions()
    name_resources()
    know_conditions()
    judge_every_level()


def name_lambda_actions() -> None:
    """Lambda's actions by botocore's model: an operation without an action is allowed to everybody,
    and ministack's own list lacks a third of what is called here."""
    from ministack.core import iam_actions

    iam_actions._BOTOCORE_SERVICE_MAP["lambda"] = ["lambda"]

    def action(method: str, path: str) -> str | None:
        found: str | None = iam_actions._match_rest_action("lambda", method, path)
        return "InvokeFunction" if found == "Invoke" else found or original(method, path)

    original: Callable[..., str | None] = replace(iam_actions, "_lambda_action", action)


def name_resources() -> None:
    """The resource of a request, where ministack takes "*" or one that AWS does not know."""
    from ministack.core import iam_actions

    def resource(
        service: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        params: Mapping[str, Any],
        region: str,
        account: str,
    ) -> str:
        found = original(service, method, path, headers, body, params, region, account)
        derive = _RESOURCES.get(service)
        if derive is None or (found != "*" and service not in _MISTAKEN):
            return found
        operation = headers.get("x-amz-target", "").rpartition(".")[2]

        def place(of: str, name: str) -> str:
            return f"arn:aws:{of}:{region}:{account}:{name}"

        return derive(Request(operation, _fields(body, params), path, place)) or found

    original: Callable[..., str] = replace(iam_actions, "extract_resource_arn", resource)


def know_conditions() -> None:
    """``lambda:FunctionArn`` of a mapping and ``iam:PermissionsBoundary`` of a role.

    Of the request where it says them, else of what is there.
    """
    from ministack.core import iam_actions, iam_evaluator
    from ministack.core.responses import get_account_id, get_region
    from ministack.services import iam, lambda_svc

    def of_request(service: str, action: str, body: bytes, params: Mapping[str, Any]) -> Any:
        context = tags(service, action, body, params)
        if action == "lambda:CreateEventSourceMapping":
            name = str(_fields(body, params).get("FunctionName")).rpartition(":")[2]
            place = f"{get_region()}:{get_account_id()}"
            context = {**context, _FUNCTION: f"arn:aws:lambda:{place}:function:{name}"}
        elif action in ("iam:CreateRole", "iam:PutRolePermissionsBoundary"):
            boundary = _fields(body, params).get("PermissionsBoundary")
            context = {**context, _BOUNDARY: boundary}
        return context

    def resolve(key: str, context: Any) -> Any:
        known = _LIVE.get(key.lower())
        if known is None or key.lower() in context.service_context:
            return original(key, context)
        name = context.resource_arn.rpartition(":")[2].rpartition("/")[2]
        found = (lambda_svc._esms if known == "FunctionArn" else iam._roles).get(name) or {}
        return found.get(known)

    tags: Callable[..., Any] = replace(iam_actions, "request_tag_context", of_request)
    original: Callable[..., Any] = replace(iam_evaluator, "_resolve_condition_key", resolve)


def judge_every_level() -> None:
    """Glue asks for the right to the catalog and to the database as well as to the table; tags are
    of one resource alone."""
    from ministack.core import iam_evaluator

    def enforce(
        key: str, action: str, service: str, region: str, resource_arn: str = "*", **named: Any
    ) -> Any:
        deep = service == "glue" and action not in ("glue:GetTags", "glue:TagResource")
        for level in _levels(resource_arn) if deep else [resource_arn]:
            refusal = original(key, action, service, region, resource_arn=level, **named)
            if refusal is not None:
                return refusal
        return None

    original: Callable[..., Any] = replace(iam_evaluator, "enforce", enforce)


def _levels(arn: str) -> list[str]:
    """A resource of the catalog, after those above it; only a table or database has any."""
    place, _, resource = arn.rpartition(":")
    kind, _, name = resource.partition("/")
    if kind == "database":
        return [f"{place}:catalog", arn]
    if kind == "table":
        return [f"{place}:catalog", f"{place}:database/{name.partition('/')[0]}", arn]
    return [arn]


_FUNCTION = "lambda:functionarn"
_BOUNDARY = "iam:permissionsboundary"
_LIVE = {_FUNCTION: "FunctionArn", _BOUNDARY: "PermissionsBoundary"}
"""Condition keys, in small letters as ministack compares them, and the field that holds them."""


def _fields(body: bytes, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request's parameters, of the JSON or of the query protocol."""
    flat = {name: value[0] if isinstance(value, list) else value for name, value in params.items()}
    if body[:1] != b"{":
        return flat
    try:
        return {**flat, **json.loads(body)}
    except ValueError:
        return flat  # the service itself refuses it


def _athena(request: Request) -> str | None:
    """The workgroup, also where only something in it is named."""
    from ministack.services import athena

    if arn := request.first("ResourceARN"):
        return arn
    inside = (
        athena._executions.get(request.first("QueryExecutionId"))
        or athena._named_queries.get(request.first("NamedQueryId", "NamedQueryIds"))
        or {}
    )
    group = request.first("WorkGroup") or inside.get("WorkGroup") or request.first("Name")
    return group and request.place("athena", f"workgroup/{group}")


def _dynamodb(request: Request) -> str | None:
    return request.first("ResourceArn")


def _events(request: Request) -> str | None:
    """A rule of the default bus: its ARN does not name the bus."""
    rule = request.first("Rule", "Name")
    return request.first("ResourceARN") or (rule and request.place("events", f"rule/{rule}"))


def _glue(request: Request) -> str | None:
    """The innermost one."""
    if arn := request.first("ResourceArn"):
        return arn
    made = request.fields.get("TableInput") or request.fields.get("DatabaseInput") or {}
    name = request.first("Name") or made.get("Name")
    database = request.first("DatabaseName")
    inner = f"table/{database}/{name}" if database and name else f"database/{database or name}"
    return request.place("glue", inner)


def _lambda(request: Request) -> str | None:
    """A function that is being created is named in the body only."""
    created = request.path.endswith("/functions") and request.first("FunctionName")
    return request.place("lambda", f"function:{created}") if created else None


def _logs(request: Request) -> str | None:
    """But for tags, a log group is known with ``:*`` at its end."""
    group = request.first("logGroupName")
    return group and request.place("logs", f"log-group:{group}:*")


def _monitoring(request: Request) -> str | None:
    if arn := request.first("ResourceARN"):
        return arn
    if request.operation == "DescribeAlarms":  # a listing, whatever it is narrowed to
        return request.place("cloudwatch", "alarm:*")
    alarm = request.first("AlarmName", "AlarmNames")
    dashboard = request.first("DashboardName", "DashboardNames")
    if dashboard:  # dashboards have no region
        _, account = request.place("", "").split(":")[3:5]
        return f"arn:aws:cloudwatch::{account}:dashboard/{dashboard}"
    return alarm and request.place("cloudwatch", f"alarm:{alarm}")


def _sns(request: Request) -> str | None:
    """The topic, also of a subscription, whose ARN begins with it."""
    subscription = request.first("SubscriptionArn")
    return subscription.rpartition(":")[0] if subscription else request.first("ResourceArn")


_RESOURCES: Mapping[str, Callable[[Request], str | None]] = {
    "athena": _athena,
    "dynamodb": _dynamodb,
    "events": _events,
    "glue": _glue,
    "lambda": _lambda,
    "logs": _logs,
    "monitoring": _monitoring,
    "sns": _sns,
}
"""By ministack's names of the services; asked where ministack found no resource."""
_MISTAKEN = frozenset({"events", "glue", "logs", "monitoring"})
"""Where it may have found a wrong one."""
