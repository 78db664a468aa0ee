"""What runs, and with which rights: functions, mappings, roles, logs."""

from __future__ import annotations

from stockpipe.domain.names import Names
from stockpipe.infra.areas.area import Area
from stockpipe.infra.permissions import ANY
from stockpipe.settings import Settings

KNOW_BOUNDARY = (
    "iam:CreateRole",
    "iam:DeleteRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
    "iam:UpdateAssumeRolePolicy",
)
"""The actions that can be bound to ``iam:PermissionsBoundary``."""


def areas(names: Names, settings: Settings) -> list[Area]:
    boundary = settings.permissions_boundary
    return [*_functions(names), *_mappings(names), *_roles(names, boundary), *_logs(names)]


def _functions(names: Names) -> list[Area]:
    return [
        Area(
            "Functions",
            "lambda",
            _function_arns(names),
            read="GetFunction",
            # A function whose role was made anew is replaced.
            write="CreateFunction DeleteFunction DeleteFunctionConcurrency "
            "GetFunctionConfiguration PutFunctionConcurrency TagResource UpdateFunctionCode "
            "UpdateFunctionConfiguration",
            delete="DeleteFunction GetFunctionConfiguration",
        ),
        # No resource types.
        Area("Concurrency", "lambda", (ANY,), write="GetAccountSettings", ask="GetAccountSettings"),
        Area(
            "RolesOfFunctions",
            "lambda",
            _role_arns(names),
            write="CreateFunction UpdateFunctionConfiguration",
            condition={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}},
        ),
    ]


def _mappings(names: Names) -> list[Area]:
    """A mapping is known by a UUID that Lambda draws, so it is bound to its function instead."""
    any_mapping = (names.mapping_arn("*"),)
    ours = {"ArnEquals": {"lambda:FunctionArn": list(_function_arns(names))}}
    return [
        # No resource types.
        Area("FindMappings", "lambda", (ANY,), read="ListEventSourceMappings"),
        # No resource types, but the function is a condition.
        Area(
            "MakeMappings",
            "lambda",
            (ANY,),
            write="CreateEventSourceMapping",
            only=("lambda:CreateEventSourceMapping",),
            condition=ours,
        ),
        Area(
            "Mappings",
            "lambda",
            any_mapping,
            write="DeleteEventSourceMapping UpdateEventSourceMapping",
            delete="DeleteEventSourceMapping",
            condition=ours,
        ),
        # The tagging actions do not know the function; a mapping that is gone has none.
        Area(
            "AnyMapping",
            "lambda",
            any_mapping,
            read="ListTags",
            write="CreateEventSourceMapping GetEventSourceMapping TagResource",
            delete="GetEventSourceMapping",
            only=("lambda:GetEventSourceMapping", "lambda:ListTags", "lambda:TagResource"),
        ),
    ]


def _roles(names: Names, boundary: str | None) -> list[Area]:
    return [
        Area(
            "Roles",
            "iam",
            _role_arns(names),
            read="GetRole GetRolePolicy ListAttachedRolePolicies ListRolePolicies",
            write="CreateRole TagRole",
            only=(
                "iam:GetRole",
                "iam:GetRolePolicy",
                "iam:ListAttachedRolePolicies",
                "iam:ListRolePolicies",
                "iam:TagRole",
            ),
        ),
        Area(
            "RolesWithinBoundary" if boundary else "RoleWrites",
            "iam",
            _role_arns(names),
            write="CreateRole DeleteRolePolicy DetachRolePolicy PutRolePolicy "
            "UpdateAssumeRolePolicy "
            + ("PutRolePermissionsBoundary" if boundary else "DeleteRolePermissionsBoundary"),
            delete="DeleteRole DeleteRolePolicy DetachRolePolicy",
            only=KNOW_BOUNDARY,
            condition={"ArnEquals": {"iam:PermissionsBoundary": boundary}} if boundary else {},
        ),
    ]


def _logs(names: Names) -> list[Area]:
    """The tagging actions know a log group by its ARN, the others with ``:*`` at its end.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_LogGroup.html
    """
    groups = [names.log_group_arn(g) for g in (names.process_log_group, names.trend_log_group)]
    tagging = ("logs:ListTagsForResource", "logs:TagResource")
    return [
        # No resource types.
        Area("FindLogGroups", "logs", (ANY,), read="DescribeLogGroups"),
        Area(
            "LogGroupTags",
            "logs",
            tuple(groups),
            read="ListTagsForResource",
            write="CreateLogGroup TagResource",
            only=tagging,
        ),
        Area(
            "LogGroups",
            "logs",
            tuple(f"{group}:*" for group in groups),
            write="CreateLogGroup PutRetentionPolicy",
            delete="DeleteLogGroup",
            only=("logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:PutRetentionPolicy"),
        ),
    ]


def _function_arns(names: Names) -> tuple[str, ...]:
    return names.function_arn(names.process_function), names.function_arn(names.trend_function)


def _role_arns(names: Names) -> tuple[str, ...]:
    return names.role_arn(names.process_role), names.role_arn(names.trend_role)
