"""Alarms, dashboard and the sweep's rule, in the embedded cloud: made, at work, kept, deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from embedded import REGION, function, inbox
from monitoring_cloud import (
    ECHO,
    FUNCTION,
    KINDS,
    PATTERN,
    Cloud,
    Make,
    a_rule,
    an_alarm,
    drop_permission,
    monitored,
    put_rule,
    standing,
)
from resource_world import refused
from stock_emulator import flaws

from awaited import until
from stockpipe.domain.sweep_event import EVENT
from stockpipe.infra.plan import difference
from stockpipe.infra.resource import tag_list
from stockpipe.infra.resources.cloudwatch import Alarm, Dashboard
from stockpipe.infra.resources.events import TARGET
from stockpipe.local import daemon

pytest.importorskip("ministack")


ELSEWHERE = "arn:aws:lambda:us-east-2:000000000000:function:elsewhere"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with monitored(tmp_path_factory.mktemp("monitoring") / "home") as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def _one_statement(cloud: Cloud) -> Iterator[None]:
    """The function's policy has room for the statement of one rule; the rules are many here."""
    yield
    drop_permission(cloud)


@pytest.mark.parametrize("make", KINDS)
def test_what_is_made_is_ours_and_as_it_should_be(cloud: Cloud, make: Make) -> None:
    resource = make(cloud.aws("dev"))
    assert resource.read() is None

    resource.create()

    live = standing(resource)
    assert live.ours
    assert difference(resource, live) == {}
    assert live.arn.endswith(resource.name)


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
