"""Alarms, dashboard and the sweep's rule, in the embedded cloud: made, seen, mended, deleted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import REGION, cleaned, client, function, inbox, until
from resource_world import refused
from stock_emulator import flaws

from stockpipe.aws import Aws, Endpoint
from stockpipe.domain.names import VERSION_TAG
from stockpipe.domain.sweep_event import EVENT
from stockpipe.infra.dashboard import dashboard
from stockpipe.infra.plan import difference
from stockpipe.infra.resource import Live, Resource, tag_list
from stockpipe.infra.resources.cloudwatch import Alarm, Dashboard
from stockpipe.infra.resources.events import STATEMENT, TARGET, Schedule
from stockpipe.local import daemon
from stockpipe.settings import Settings

pytest.importorskip("ministack")

FUNCTION = "swept"
ECHO = "def handle(event, context):\n    print('GOT', event)\n"
PATTERN = json.dumps({"source": ["test"]})


@dataclass(frozen=True)
class Cloud:
    """A running embedded cloud with one function, ``FUNCTION``, that prints what it is sent."""

    home: Path
    endpoint: Endpoint

    def aws(self, stack: str = "default") -> Aws:
        return clients(self.endpoint, stack)

    def client(self, service: str) -> Any:
        return client(service, self.endpoint)

    def printed(self) -> list[str]:
        events = self.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{FUNCTION}")
        return [one["message"] for one in events["events"] if one["message"].startswith("GOT")]


@cache
def clients(endpoint: Endpoint, stack: str) -> Aws:
    """Made once: a boto3 session and its clients cost a tenth of a second."""
    return Aws(region=REGION, stack=stack, endpoint=endpoint)


def started(home: Path) -> Cloud:
    endpoint = daemon.ensure_running(home)
    function(endpoint, FUNCTION, ECHO)
    client("logs", endpoint).create_log_group(logGroupName=f"/aws/lambda/{FUNCTION}")
    return Cloud(home, endpoint)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cleaned(tmp_path_factory.mktemp("monitoring") / "home") as home:
        yield started(home)


def tags(aws: Aws) -> dict[str, str]:
    return {"team": "data", **aws.names.tags, VERSION_TAG: "1"}


def an_alarm(aws: Aws) -> Alarm:
    return Alarm(
        aws,
        f"alarm-{uuid.uuid4().hex[:8]}",
        metric="IteratorAge",
        dimensions=lambda: {"FunctionName": FUNCTION},
        statistic="Maximum",
        threshold=600_000.0,
        periods=3,
        description="It is behind.",
        alarm_actions=(aws.names.operations_topic_arn,),
        ok_actions=(aws.names.operations_topic_arn,),
        tags=tags(aws),
    )


def a_dashboard(aws: Aws) -> Dashboard:
    body = dashboard(aws, Settings(), {}).body
    return Dashboard(aws, f"dashboard-{uuid.uuid4().hex[:8]}", body=body, tags=tags(aws))


def a_rule(aws: Aws) -> Schedule:
    name = f"rule-{uuid.uuid4().hex[:8]}"
    return Schedule(aws, name, function=FUNCTION, payload=EVENT, tags=tags(aws))


Make = Callable[[Aws], Resource]
KINDS: list[Make] = [an_alarm, a_dashboard, a_rule]


@pytest.fixture(autouse=True)
def _one_statement(cloud: Cloud) -> Iterator[None]:
    """The function's policy has room for the statement of one rule; the rules are many here."""
    yield
    drop_permission(cloud)


def drop_permission(cloud: Cloud) -> None:
    functions = cloud.client("lambda")
    policy = json.loads(functions.get_policy(FunctionName=FUNCTION)["Policy"])
    for statement in policy["Statement"]:
        functions.remove_permission(FunctionName=FUNCTION, StatementId=statement["Sid"])


def standing(resource: Resource) -> Live:
    live = resource.read()
    assert live
    return live


@pytest.mark.parametrize("make", KINDS)
def test_what_is_made_is_ours_and_as_it_should_be(cloud: Cloud, make: Make) -> None:
    resource = make(cloud.aws("dev"))
    assert resource.read() is None

    resource.create()

    live = standing(resource)
    assert live.ours
    assert difference(resource, live) == {}
    assert live.arn.endswith(resource.name)


def put_alarm(**changed: Any) -> Callable[[Cloud, str], None]:
    """The alarm as it stands, but for what a person changes in the console."""

    def put(cloud: Cloud, name: str) -> None:
        cloudwatch = cloud.client("cloudwatch")
        (found,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        members = cloudwatch.meta.service_model.operation_model("PutMetricAlarm").input_shape
        kept = {key: value for key, value in found.items() if key in members.members}
        cloudwatch.put_metric_alarm(**{**kept, **changed})

    return put


def retag(service: str) -> Callable[[Cloud, str], None]:
    """Someone overwrites a tag of ours that is not the identity."""

    def put(cloud: Cloud, name: str) -> None:
        at = cloud.client(service)
        if service == "events":
            arn = at.describe_rule(Name=name)["Arn"]
        elif name.startswith("alarm"):
            arn = at.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"]
        else:
            arn = at.get_dashboard(DashboardName=name)["DashboardArn"]
        at.tag_resource(ResourceARN=arn, Tags=[{"Key": "team", "Value": "other"}])

    return put


def put_dashboard(cloud: Cloud, name: str) -> None:
    body = json.dumps({"widgets": []})
    cloud.client("cloudwatch").put_dashboard(DashboardName=name, DashboardBody=body)


def put_rule(**changed: Any) -> Callable[[Cloud, str], None]:
    def put(cloud: Cloud, name: str) -> None:
        events = cloud.client("events")
        found = events.describe_rule(Name=name)
        kept = {key: found[key] for key in ("ScheduleExpression", "State", "Description")}
        events.put_rule(Name=name, **{**kept, **changed})

    return put


def put_target(**changed: Any) -> Callable[[Cloud, str], None]:
    def put(cloud: Cloud, name: str) -> None:
        events = cloud.client("events")
        (found,) = events.list_targets_by_rule(Rule=name)["Targets"]
        events.put_targets(Rule=name, Targets=[{**found, **changed}])

    return put


def put_statement(**changed: Any) -> Callable[[Cloud, str], None]:
    """None takes a condition away, which lets in more than our rule."""

    def put(cloud: Cloud, name: str) -> None:
        drop_permission(cloud)
        arguments = {
            "FunctionName": FUNCTION,
            "StatementId": STATEMENT,
            "Action": "lambda:InvokeFunction",
            "Principal": "events.amazonaws.com",
            "SourceArn": cloud.client("events").describe_rule(Name=name)["Arn"],
            "SourceAccount": "000000000000",
            **changed,
        }
        given = {key: value for key, value in arguments.items() if value is not None}
        cloud.client("lambda").add_permission(**given)

    return put


SOMEWHERE = "arn:aws:sns:us-east-2:000000000000:somewhere"
ELSEWHERE = "arn:aws:lambda:us-east-2:000000000000:function:elsewhere"

BY_HAND: list[tuple[Make, str, Callable[[Cloud, str], object]]] = [
    (an_alarm, "namespace", put_alarm(Namespace="AWS/Other")),
    (an_alarm, "metric", put_alarm(MetricName="Errors")),
    (an_alarm, "dimensions", put_alarm(Dimensions=[])),
    (an_alarm, "dimensions", put_alarm(Dimensions=[{"Name": "FunctionName", "Value": "other"}])),
    (an_alarm, "statistic", put_alarm(Statistic="Sum")),
    (an_alarm, "unit", put_alarm(Unit="Seconds")),
    (an_alarm, "period_s", put_alarm(Period=60)),
    (an_alarm, "periods", put_alarm(EvaluationPeriods=4)),
    (an_alarm, "datapoints", put_alarm(DatapointsToAlarm=1)),
    (an_alarm, "threshold", put_alarm(Threshold=1e9)),
    (an_alarm, "comparison", put_alarm(ComparisonOperator="LessThanThreshold")),
    (an_alarm, "missing_data", put_alarm(TreatMissingData="ignore")),
    (an_alarm, "alarm_actions", put_alarm(AlarmActions=[])),
    (an_alarm, "ok_actions", put_alarm(OKActions=[SOMEWHERE])),
    (an_alarm, "insufficient_data_actions", put_alarm(InsufficientDataActions=[SOMEWHERE])),
    (an_alarm, "description", put_alarm(AlarmDescription="")),
    (
        an_alarm,
        "actions_enabled",
        lambda cloud, name: cloud.client("cloudwatch").disable_alarm_actions(AlarmNames=[name]),
    ),
    (an_alarm, "tags", retag("cloudwatch")),
    (a_dashboard, "body", put_dashboard),
    (a_dashboard, "tags", retag("cloudwatch")),
    (a_rule, "schedule", put_rule(ScheduleExpression="rate(1 day)")),
    (a_rule, "description", put_rule(Description="mine")),
    (a_rule, "state", lambda cloud, name: cloud.client("events").disable_rule(Name=name)),
    (a_rule, "tags", retag("events")),
    (
        a_rule,
        "target",
        lambda cloud, name: cloud.client("events").remove_targets(Rule=name, Ids=[TARGET]),
    ),
    (a_rule, "target", put_target(Arn=ELSEWHERE)),
    (a_rule, "target", put_target(Input="{}")),
    (a_rule, "target", put_target(RetryPolicy={"MaximumRetryAttempts": 185})),
    (a_rule, "target", put_target(DeadLetterConfig={"Arn": "arn:aws:sqs:us-east-2:0:q"})),
    (a_rule, "permission", lambda cloud, name: drop_permission(cloud)),
    (a_rule, "permission", put_statement(Principal="*")),
    (a_rule, "permission", put_statement(Action="lambda:*")),
    (a_rule, "permission", put_statement(SourceArn=None)),
    (a_rule, "permission", put_statement(SourceAccount=None)),
    (a_rule, "permission", put_statement(SourceArn="arn:aws:events:us-east-2:*:rule/*")),
]


@pytest.mark.parametrize(("make", "setting", "change"), BY_HAND)
def test_what_is_changed_by_hand_is_seen_and_put_back(
    cloud: Cloud, make: Make, setting: str, change: Callable[[Cloud, str], object]
) -> None:
    resource = make(cloud.aws())
    resource.create()

    change(cloud, resource.name)

    live = standing(resource)
    found = difference(resource, live)
    assert live.ours
    assert list(found) == [setting]
    resource.update(found)
    assert difference(resource, standing(resource)) == {}


def test_every_setting_is_among_those_that_are_changed_by_hand(cloud: Cloud) -> None:
    for make in KINDS:
        changed = {setting for one, setting, _ in BY_HAND if one is make}
        assert changed == set(make(cloud.aws()).desired())


@pytest.mark.parametrize("make", KINDS)
def test_tags_that_others_add_stay(cloud: Cloud, make: Make) -> None:
    resource = make(cloud.aws())
    resource.create()
    service = "events" if make is a_rule else "cloudwatch"
    at, arn = cloud.client(service), standing(resource).arn
    at.tag_resource(ResourceARN=arn, Tags=[{"Key": "theirs", "Value": "1"}])

    assert difference(resource, standing(resource)) == {}
    resource.update({name: (None, value) for name, value in resource.desired().items()})

    assert {"Key": "theirs", "Value": "1"} in at.list_tags_for_resource(ResourceARN=arn)["Tags"]


@pytest.mark.parametrize("make", KINDS)
def test_what_is_deleted_while_it_is_updated_does_not_come_back_as_a_stranger(
    cloud: Cloud, make: Make
) -> None:
    resource = make(cloud.aws())
    resource.create()
    planned = {name: (None, value) for name, value in resource.desired().items()}
    planned.pop("tags")
    resource.delete()

    resource.update(planned)

    live = standing(resource)
    assert live.ours
    assert difference(resource, live) == {}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("owner", [{}, {"stockpipe:stack": "dev", "stockpipe:region": REGION}])
def test_a_stranger_of_the_same_name_is_not_ours(
    cloud: Cloud, make: Make, owner: dict[str, str]
) -> None:
    resource = make(cloud.aws())
    name, cloudwatch = resource.name, cloud.client("cloudwatch")
    if isinstance(resource, Alarm):
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SQS",
            MetricName="NumberOfMessagesSent",
            ComparisonOperator="GreaterThanThreshold",
            EvaluationPeriods=1,
            Tags=tag_list(owner),
        )
    elif isinstance(resource, Dashboard):
        cloudwatch.put_dashboard(
            DashboardName=name, DashboardBody='{"widgets":[]}', Tags=tag_list(owner)
        )
    else:
        pattern = {"Name": name, "EventPattern": PATTERN}
        cloud.client("events").put_rule(**pattern, Tags=tag_list(owner))

    live = standing(resource)
    assert not live.ours
    assert difference(resource, live)  # and to read it is no error, whatever it lacks


def remains(cloud: Cloud, name: str) -> list[str]:
    """What services list, each by its own call, that has the name."""
    cloudwatch, events = cloud.client("cloudwatch"), cloud.client("events")
    policy = json.loads(cloud.client("lambda").get_policy(FunctionName=FUNCTION)["Policy"])
    listed = [
        *(one["AlarmName"] for one in cloudwatch.describe_alarms()["MetricAlarms"]),
        *(one["DashboardName"] for one in cloudwatch.list_dashboards()["DashboardEntries"]),
        *(one["Name"] for one in events.list_rules()["Rules"]),
        *map(json.dumps, policy["Statement"]),
    ]
    return [one for one in listed if name in one]


@pytest.mark.parametrize("make", KINDS)
def test_deleting_leaves_nothing_and_deleting_again_is_no_error(cloud: Cloud, make: Make) -> None:
    resource = make(cloud.aws())
    resource.create()
    assert remains(cloud, resource.name)

    for _ in range(2):
        resource.delete()
        assert remains(cloud, resource.name) == []
        assert resource.read() is None


def test_an_alarm_that_another_teardown_deletes_meanwhile_is_no_error(cloud: Cloud) -> None:
    alarm = an_alarm(cloud.aws())
    alarm.create()
    cloudwatch = alarm.aws.client("cloudwatch")
    with refused(cloudwatch, "DeleteAlarms", "ResourceNotFound", times=1):
        alarm.delete()


def test_deleting_leaves_statements_of_others_in_the_function_s_policy(cloud: Cloud) -> None:
    functions, rule = cloud.client("lambda"), a_rule(cloud.aws())
    rule.create()
    functions.add_permission(
        FunctionName=FUNCTION,
        StatementId="theirs",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
    )

    rule.delete()

    policy = json.loads(functions.get_policy(FunctionName=FUNCTION)["Policy"])
    assert [one["Sid"] for one in policy["Statement"]] == ["theirs"]


def test_a_rule_whose_function_is_gone_can_be_read_and_deleted(cloud: Cloud) -> None:
    function(cloud.endpoint, "short-lived", ECHO)
    rule = a_rule(cloud.aws())
    rule.function = "short-lived"
    rule.create()
    cloud.client("lambda").delete_function(FunctionName="short-lived")

    assert list(difference(rule, standing(rule))) == ["permission"]
    rule.delete()

    assert remains(cloud, rule.name) == []


def test_a_target_of_others_stays_with_the_rule_and_goes_with_it(cloud: Cloud) -> None:
    events, rule = cloud.client("events"), a_rule(cloud.aws())
    rule.create()
    events.put_targets(Rule=rule.name, Targets=[{"Id": "theirs", "Arn": ELSEWHERE}])

    assert difference(rule, standing(rule)) == {}
    rule.update({"target": (None, rule.desired()["target"])})
    ids = {one["Id"] for one in events.list_targets_by_rule(Rule=rule.name)["Targets"]}
    assert ids == {TARGET, "theirs"}

    rule.delete()
    assert remains(cloud, rule.name) == []


def test_two_that_make_the_same_rule_at_once_end_in_one(cloud: Cloud) -> None:
    rule = a_rule(cloud.aws())
    rule.create()
    rule.create()

    assert difference(rule, standing(rule)) == {}
    policy = json.loads(cloud.client("lambda").get_policy(FunctionName=FUNCTION)["Policy"])
    assert len(policy["Statement"]) == 1


def test_all_of_it_survives_a_restart(cloud: Cloud) -> None:
    resources = [make(cloud.aws()) for make in KINDS]
    for resource in resources:
        resource.create()
    daemon.stop(cloud.home)
    assert daemon.ensure_running(cloud.home) == cloud.endpoint
    for resource in resources:
        live = standing(resource)
        assert live.ours
        assert difference(resource, live) == {}


def test_an_alarm_tells_its_topic(cloud: Cloud) -> None:
    sns, aws = cloud.client("sns"), cloud.aws()
    topic = sns.create_topic(Name=aws.names.operations_topic)["TopicArn"]
    receive = inbox(cloud.endpoint, topic)
    alarm = an_alarm(aws)
    alarm.create()

    for state in ("ALARM", "OK"):
        cloud.client("cloudwatch").set_alarm_state(
            AlarmName=alarm.name, StateValue=state, StateReason="a test"
        )

        def told(state: str = state) -> bool:  # an evaluation may say OK in between
            message = receive()
            return bool(message) and json.loads(message)["NewStateValue"] == state

        assert until(told)


def test_a_rule_sends_its_payload_to_the_function_that_lets_it(cloud: Cloud) -> None:
    """By an event, as a minute is long: what follows is the same for a rule of both kinds."""
    events, rule = cloud.client("events"), a_rule(cloud.aws())
    rule.create()
    put_rule(EventPattern=PATTERN)(cloud, rule.name)
    event = {"Source": "test", "DetailType": "a test", "Detail": "{}"}

    drop_permission(cloud)
    events.put_events(Entries=[event])
    rule.update(difference(rule, standing(rule)))
    events.put_events(Entries=[event])

    assert until(cloud.printed) == [f"GOT {EVENT}"]


STOCK = """
import json

import ministack.app as app
from ministack.services import cloudwatch, eventbridge, lambda_svc

found = {}

# monitoring.tag_dashboards
tags = [{"Key": "k", "Value": "v"}]
cloudwatch._put_dashboard(
    {}, {"DashboardName": "d", "DashboardBody": "{}", "Tags": tags}, False, True
)
arn = cloudwatch._dashboards["d"]["DashboardArn"]
found["a dashboard has no tags"] = arn not in cloudwatch._resource_tags
found["nobody can tag a dashboard"] = cloudwatch._validate_alarm_tag_arn(arn) is not None

# monitoring.ignore_tags_of_known_rules
eventbridge._ensure_default_bus()
rule = {"Name": "r", "ScheduleExpression": "rate(1 minute)", "Tags": tags}
eventbridge._put_rule(rule)
eventbridge._put_rule({**rule, "Tags": [{"Key": "k", "Value": "other"}]})
found["PutRule changes tags"] = list(eventbridge._tags.values()) == [{"k": "other"}]

# monitoring.ask_functions_for_permission; and a rule comes round when it is due, not before
function = "arn:aws:lambda:us-east-1:000000000000:function:f"
eventbridge._put_targets({"Rule": "r", "Targets": [{"Id": "t", "Arn": function, "Input": "{}"}]})
called = []
eventbridge._dispatch_to_lambda = lambda arn, payload: called.append(arn)
made = eventbridge._rules["default|r"]["CreationTime"]
rounds = []
for passed in (1, 59, 61, 62, 119, 122):
    eventbridge._now_ts = lambda: made + passed
    eventbridge._tick_scheduled_rules()
    rounds.append(len(called))
found["a rule needs no permission"] = bool(called)
found["a rule comes round"] = rounds == [0, 0, 1, 1, 1, 2]

# monitoring.keep_rules_with_targets
found["a rule with targets can be deleted"] = eventbridge._delete_rule({"Name": "r"})[0] == 200
print(json.dumps(found))
"""


def test_every_flaw_that_we_mend_is_still_there() -> None:
    found = flaws(STOCK, AUTH="false")
    assert len(found) == 6
    assert [flaw for flaw, there in found.items() if not there] == []


def test_what_we_mend_is_as_on_aws(cloud: Cloud) -> None:
    events, rule = cloud.client("events"), a_rule(cloud.aws())
    rule.create()
    other = [{"Key": "team", "Value": "other"}]
    events.put_rule(Name=rule.name, ScheduleExpression="rate(1 day)", Tags=other)
    assert "tags" not in difference(rule, standing(rule))

    with pytest.raises(ClientError, match="since it has targets"):
        events.delete_rule(Name=rule.name)
