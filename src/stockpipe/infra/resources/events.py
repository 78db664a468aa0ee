"""A function that EventBridge calls at a fixed rate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stockpipe.errors import ProvisionError
from stockpipe.infra.resource import Live, Resource, absent_is_none, tag_list, tag_map

TARGET = "stockpipe"
STATEMENT = "stockpipe-sweep"
RETRIES = 2
_MIN_EVENT_AGE_S = 60
_IDS_PER_CALL = 10
_ABSENT = "ResourceNotFoundException"


@dataclass
class Schedule(Resource):
    """A rule, the function it calls with ``payload`` every ``rate_s`` seconds, and its right to.

    Target and permission are the rule's children: they have no tags of their own. Targets that
    others add to the rule are left alone while it stands, as no call of theirs changes ours; they
    go with it, because a rule that has targets cannot be deleted.
    """

    kind = "rule"
    upserts = True

    rate_s: float = 300.0
    function: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)

    def desired(self) -> dict[str, Any]:
        return {
            "schedule": rate(self.rate_s),
            "state": "ENABLED",
            "description": f"Calls {self.function}; made by stockpipe",
            "target": self._target(),
            "permission": self._permission(),
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        events = self.aws.client("events")
        rule = absent_is_none(lambda: events.describe_rule(Name=self.name), _ABSENT)
        answer = rule and absent_is_none(
            lambda: events.list_tags_for_resource(ResourceARN=rule["Arn"]), _ABSENT
        )
        if answer is None:
            return None
        targets = {target["Id"]: target for target in self._targets()}
        settings = {
            "schedule": rule.get("ScheduleExpression"),
            "state": rule["State"],
            "description": rule.get("Description", ""),
            "target": _comparable(targets.get(TARGET)),
            "permission": self._granted(),
        }
        return self.standing(settings, tag_map(answer["Tags"]), rule["Arn"])

    def create(self) -> None:
        self._put_rule()
        self._grant()
        self._put_target()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        if {"schedule", "state", "description"} & set(changes):
            self._put_rule()
        if "tags" in changes:
            self.aws.client("events").tag_resource(ResourceARN=self._arn, Tags=tag_list(self.tags))
        if "permission" in changes:
            self._grant()
        if "target" in changes:
            self._put_target()

    def delete(self) -> None:
        """The rule last: as long as it stands, what is left of it is found again."""
        events = self.aws.client("events")
        self._revoke()
        ids = [target["Id"] for target in self._targets()]
        for start in range(0, len(ids), _IDS_PER_CALL):
            answer = events.remove_targets(Rule=self.name, Ids=ids[start : start + _IDS_PER_CALL])
            self._check(answer)
        absent_is_none(lambda: events.delete_rule(Name=self.name), _ABSENT)

    @property
    def _arn(self) -> str:
        return self.names.sweep_rule_arn.rsplit("/", 1)[0] + f"/{self.name}"

    def _put_rule(self) -> None:
        """Tags count only where this makes a new rule; AWS ignores them on one that is there."""
        wanted = self.desired()
        self.aws.client("events").put_rule(
            Name=self.name,
            ScheduleExpression=wanted["schedule"],
            State=wanted["state"],
            Description=wanted["description"],
            Tags=tag_list(self.tags),
        )

    def _target(self) -> dict[str, Any]:
        return {
            "Arn": self.names.function_arn(self.function),
            "Input": dict(self.payload),
            "RetryPolicy": {
                # The next call does what one that was given up would have done.
                "MaximumEventAgeInSeconds": max(_MIN_EVENT_AGE_S, int(self.rate_s)),
                "MaximumRetryAttempts": RETRIES,
            },
        }

    def _put_target(self) -> None:
        target = {**self._target(), "Id": TARGET, "Input": json.dumps(dict(self.payload))}
        answer = self.aws.client("events").put_targets(Rule=self.name, Targets=[target])
        self._check(answer)

    def _targets(self) -> list[dict[str, Any]]:
        pages = (
            self.aws.client("events").get_paginator("list_targets_by_rule").paginate(Rule=self.name)
        )
        found = absent_is_none(
            lambda: [dict(target) for page in pages for target in page["Targets"]], _ABSENT
        )
        return found or []

    def _check(self, answer: Mapping[str, Any]) -> None:
        """PutTargets and RemoveTargets report failures in an answer that succeeds."""
        if answer["FailedEntryCount"]:
            told = "; ".join(
                f"{one.get('TargetId')}: {one.get('ErrorMessage') or one.get('ErrorCode')}"
                for one in answer["FailedEntries"]
            )
            raise ProvisionError(
                f"rule {self.name}: {told}",
                hint="Run the same command again: it goes on from here.",
            )

    def _permission(self) -> dict[str, Any]:
        """The statement that AddPermission makes of :meth:`_grant`'s arguments."""
        return {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "lambda:InvokeFunction",
            "Resource": self.names.function_arn(self.function),
            "Condition": {
                "StringEquals": {"aws:sourceaccount": self.names.account},
                "ArnLike": {"aws:sourcearn": self._arn},
            },
        }

    def _granted(self) -> dict[str, Any] | None:
        """Our statement of the function's policy as it stands; None without policy or function."""
        functions = self.aws.client("lambda")
        answer = absent_is_none(lambda: functions.get_policy(FunctionName=self.function), _ABSENT)
        statements = json.loads(answer["Policy"])["Statement"] if answer else []
        for statement in statements:
            if statement.get("Sid") == STATEMENT:
                return {
                    name: _folded(value) if name == "Condition" else value
                    for name, value in statement.items()
                    if name != "Sid"
                }
        return None

    def _grant(self) -> None:
        """A statement cannot be changed, so one that is not as it should be makes way."""
        granted = self._granted()
        if granted == self._permission():
            return
        if granted is not None:
            self._revoke()
        self.aws.client("lambda").add_permission(
            FunctionName=self.function,
            StatementId=STATEMENT,
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=self._arn,
            SourceAccount=self.names.account,
        )

    def _revoke(self) -> None:
        functions = self.aws.client("lambda")
        absent_is_none(
            lambda: functions.remove_permission(FunctionName=self.function, StatementId=STATEMENT),
            _ABSENT,
        )


def rate(seconds: float) -> str:
    """EventBridge's rate expression; ``seconds`` are whole minutes, as the settings check."""
    minutes = round(seconds / 60)
    return f"rate({minutes} minute{'' if minutes == 1 else 's'})"


def _comparable(target: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A target with everything that is set on it, its input as data."""
    if target is None:
        return None
    found = {name: value for name, value in target.items() if name != "Id"}
    return {**found, "Input": json.loads(found["Input"])} if "Input" in found else found


def _folded(condition: Mapping[str, Any]) -> dict[str, Any]:
    """Condition keys in lower case: they have none of their own, and Lambda writes ``AWS:``."""
    return {
        operator: {key.lower(): value for key, value in tests.items()}
        for operator, tests in condition.items()
    }
