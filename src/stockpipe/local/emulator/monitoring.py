"""CloudWatch and EventBridge as AWS has them, where ministack's would make a plan drift or hide a
mistake until the first deployment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from stockpipe.local.emulator.parts import replace

_log = logging.getLogger(__name__)


def install() -> None:
    """All of the below; to be called once, before the server starts."""
    tag_dashboards()
    ignore_tags_of_known_rules()
    keep_rules_with_targets()
    ask_functions_for_permission()


def tag_dashboards() -> None:
    """Dashboards have tags, given when they are made or later.

    ministack forgets those of PutDashboard, and knows no resource but alarms in the tagging calls:
    so no dashboard would ever be ours.
    """
    from ministack.services import cloudwatch

    def put(params: Any, data: Any, is_cbor: bool, is_json: bool = False) -> Any:
        known = set(cloudwatch._dashboards)
        answer = put_dashboard(params, data, is_cbor, is_json)
        tags = cloudwatch._alarm_request_tags(params, data, is_cbor, is_json)
        for name in set(cloudwatch._dashboards) - known:
            arn = cloudwatch._dashboards[name]["DashboardArn"]
            cloudwatch._resource_tags[arn] = {tag["Key"]: tag["Value"] for tag in tags or []}
        return answer

    def validate(arn: str, *rest: Any, **named: Any) -> Any:
        arns = {found["DashboardArn"] for found in cloudwatch._dashboards.values()}
        return None if arn in arns else validate_arn(arn, *rest, **named)

    put_dashboard: Callable[..., Any] = replace(cloudwatch, "_put_dashboard", put)
    validate_arn: Callable[..., Any] = replace(cloudwatch, "_validate_alarm_tag_arn", validate)


def ignore_tags_of_known_rules() -> None:
    """PutRule's tags count for a new rule only; ministack replaces those of one that is there."""
    from ministack.services import eventbridge

    def put(data: dict[str, Any]) -> Any:
        key = eventbridge._rule_key(data.get("Name"), data.get("EventBusName", "default"))
        if key in eventbridge._rules:
            data = {name: value for name, value in data.items() if name != "Tags"}
        return put_rule(data)

    put_rule: Callable[..., Any] = replace(eventbridge, "_put_rule", put)


def keep_rules_with_targets() -> None:
    """DeleteRule refuses a rule that has targets; ministack deletes them with it."""
    from ministack.core.responses import error_response_json
    from ministack.services import eventbridge

    def delete(data: dict[str, Any]) -> Any:
        key = eventbridge._rule_key(data.get("Name"), data.get("EventBusName", "default"))
        if eventbridge._targets.get(key):
            return error_response_json(
                "ValidationException", "Rule can't be deleted since it has targets.", 400
            )
        return delete_rule(data)

    delete_rule: Callable[..., Any] = replace(eventbridge, "_delete_rule", delete)


def ask_functions_for_permission() -> None:
    """A rule calls a function only where the function's policy lets it; ministack never asks.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    from ministack.services import eventbridge, lambda_svc

    def invoke(target: dict[str, Any], event: Any, rule: dict[str, Any], *rest: Any) -> None:
        arn, caller = str(target.get("Arn", "")), str(rule.get("Arn", ""))
        # EventBridge Scheduler comes this way too, and has a role instead.
        if ":lambda:" in arn and ":events:" in caller:
            policy, account = lambda_svc.function_policy_for_arn(arn) or ({"Statement": []}, "")
            if not any(_lets_in(one, caller, account) for one in policy["Statement"]):
                _log.warning("rule %s may not call %s: no permission", rule["Name"], arn)
                return
        invoke_target(target, event, rule, *rest)

    invoke_target: Callable[..., None] = replace(eventbridge, "_invoke_target", invoke)


def _lets_in(statement: Mapping[str, Any], rule_arn: str, account: str) -> bool:
    """Whether a statement that AddPermission made lets this rule call the function."""
    condition = statement.get("Condition", {})
    arn = condition.get("ArnLike", {}).get("AWS:SourceArn", "*")
    owner = condition.get("StringEquals", {}).get("AWS:SourceAccount", account)
    return (
        statement.get("Principal") == {"Service": "events.amazonaws.com"}
        and statement.get("Action") == "lambda:InvokeFunction"
        and fnmatchcase(rule_arn, arn)
        and owner == account
    )
