"""Alarms, and the dashboard.

Both are upserts: the calls that create also replace. Tags count at creation only; AWS ignores them
afterwards, so they are sent always (what was deleted meanwhile must not come back as a stranger),
and changed by TagResource.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stockpipe.errors import ProvisionError
from stockpipe.infra.resource import Live, Resource, absent_is_none, tag_list, tag_map, together
from stockpipe.infra.waiting import await_known

_ABSENT = ("ResourceNotFound", "ResourceNotFoundException", "DashboardNotFoundError")


@dataclass
class Alarm(Resource):
    """An alarm that goes off when ``statistic`` of ``metric`` exceeds ``threshold``.

    It does so in each of ``periods`` periods of ``period_s`` seconds; no data is no trouble.
    ``dimensions`` is asked when it is needed, and says None as long as they cannot be known: a
    mapping's UUID exists only after the mapping.
    """

    kind = "alarm"
    upserts = True

    namespace: str = "AWS/Lambda"
    metric: str = ""
    dimensions: Callable[[], Mapping[str, str] | None] = field(default=lambda: None)
    statistic: str = "Sum"
    threshold: float = 0.0
    period_s: int = 300
    periods: int = 1
    description: str = ""
    alarm_actions: tuple[str, ...] = ()
    ok_actions: tuple[str, ...] = ()

    def desired(self) -> dict[str, Any]:
        return self._settings(self.dimensions())

    def _settings(self, dimensions: Mapping[str, str] | None) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "metric": self.metric,
            "dimensions": None if dimensions is None else dict(dimensions),
            "statistic": self.statistic,
            "unit": None,
            "period_s": self.period_s,
            "periods": self.periods,
            "datapoints": self.periods,
            "threshold": self.threshold,
            "comparison": "GreaterThanThreshold",
            "missing_data": "notBreaching",
            "actions_enabled": True,
            "alarm_actions": list(self.alarm_actions),
            "ok_actions": list(self.ok_actions),
            "insufficient_data_actions": [],
            "description": self.description,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        cloudwatch = self.aws.client("cloudwatch")
        found, answer = together(
            lambda: cloudwatch.describe_alarms(AlarmNames=[self.name], AlarmTypes=["MetricAlarm"]),
            lambda: absent_is_none(
                lambda: cloudwatch.list_tags_for_resource(ResourceARN=self._arn), *_ABSENT
            ),
        )
        if not found["MetricAlarms"] or answer is None:
            return None
        alarm = found["MetricAlarms"][0]
        settings = {
            "namespace": alarm.get("Namespace"),
            "metric": alarm.get("MetricName"),
            "dimensions": {one["Name"]: one["Value"] for one in alarm.get("Dimensions", [])},
            "statistic": alarm.get("Statistic"),
            "unit": alarm.get("Unit"),
            "period_s": alarm.get("Period"),
            "periods": alarm.get("EvaluationPeriods"),
            "datapoints": alarm.get("DatapointsToAlarm"),
            "threshold": alarm.get("Threshold"),
            "comparison": alarm.get("ComparisonOperator"),
            "missing_data": alarm.get("TreatMissingData"),
            "actions_enabled": alarm.get("ActionsEnabled"),
            "alarm_actions": alarm.get("AlarmActions", []),
            "ok_actions": alarm.get("OKActions", []),
            "insufficient_data_actions": alarm.get("InsufficientDataActions", []),
            "description": alarm.get("AlarmDescription", ""),
        }
        return self.standing(settings, tag_map(answer["Tags"]), self._arn, alarm["StateValue"])

    def create(self) -> None:
        self._put()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        if set(changes) - {"tags"}:
            self._put()
        if "tags" in changes:
            self.aws.client("cloudwatch").tag_resource(
                ResourceARN=self._arn, Tags=tag_list(self.tags)
            )

    def delete(self) -> None:
        cloudwatch = self.aws.client("cloudwatch")
        absent_is_none(lambda: cloudwatch.delete_alarms(AlarmNames=[self.name]), *_ABSENT)

    @property
    def _arn(self) -> str:
        return self.names.alarm_arn(self.name)

    def _put(self) -> None:
        # Lambda's listing of mappings lags behind: one that was just made may be missing in it.
        wanted = self._settings(await_known(f"what {self.name} watches", self.dimensions))
        self.aws.client("cloudwatch").put_metric_alarm(
            AlarmName=self.name,
            AlarmDescription=wanted["description"],
            Namespace=wanted["namespace"],
            MetricName=wanted["metric"],
            Dimensions=[
                {"Name": name, "Value": value} for name, value in wanted["dimensions"].items()
            ],
            Statistic=wanted["statistic"],
            Period=wanted["period_s"],
            EvaluationPeriods=wanted["periods"],
            DatapointsToAlarm=wanted["datapoints"],
            Threshold=wanted["threshold"],
            ComparisonOperator=wanted["comparison"],
            TreatMissingData=wanted["missing_data"],
            ActionsEnabled=wanted["actions_enabled"],
            AlarmActions=wanted["alarm_actions"],
            OKActions=wanted["ok_actions"],
            InsufficientDataActions=wanted["insufficient_data_actions"],
            Tags=tag_list(self.tags),
        )


@dataclass
class Dashboard(Resource):
    """A dashboard; ``body`` as CloudWatch's Dashboard Body Structure, as data."""

    kind = "dashboard"
    upserts = True

    body: Mapping[str, Any] = field(default_factory=dict)

    def desired(self) -> dict[str, Any]:
        return {"body": dict(self.body), "tags": self.stable_tags}

    def read(self) -> Live | None:
        cloudwatch = self.aws.client("cloudwatch")
        found = absent_is_none(lambda: cloudwatch.get_dashboard(DashboardName=self.name), *_ABSENT)
        answer = found and absent_is_none(
            lambda: cloudwatch.list_tags_for_resource(ResourceARN=self._arn), *_ABSENT
        )
        if answer is None:
            return None
        settings = {"body": json.loads(found["DashboardBody"])}
        return self.standing(settings, tag_map(answer["Tags"]), self._arn)

    def create(self) -> None:
        self._put()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        if "body" in changes:
            self._put()
        if "tags" in changes:
            self.aws.client("cloudwatch").tag_resource(
                ResourceARN=self._arn, Tags=tag_list(self.tags)
            )

    def delete(self) -> None:
        cloudwatch = self.aws.client("cloudwatch")
        absent_is_none(lambda: cloudwatch.delete_dashboards(DashboardNames=[self.name]), *_ABSENT)

    @property
    def _arn(self) -> str:
        return self.names.dashboard_arn.rsplit("/", 1)[0] + f"/{self.name}"

    def _put(self) -> None:
        answer = self.aws.client("cloudwatch").put_dashboard(
            DashboardName=self.name,
            DashboardBody=json.dumps(self.body),
            Tags=tag_list(self.tags),
        )
        # CloudWatch takes a dashboard that it finds fault with; the body is ours, so is the fault.
        if messages := answer.get("DashboardValidationMessages"):
            told = "; ".join(f"{one.get('DataPath')}: {one.get('Message')}" for one in messages)
            raise ProvisionError(f"dashboard {self.name}: CloudWatch finds fault with it: {told}")
