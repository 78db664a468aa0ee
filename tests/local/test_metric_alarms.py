"""Alarms of the embedded cloud: when they go off, when they end, and who is told."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from metrics_cloud import MINUTE_S, Cloud, metered, of_function
from stockpipe_cli import Cli

from awaited import until
from stockpipe.local import daemon
from stockpipe.local.emulator import alarms
from stockpipe.local.home import Places
from stockpipe.local.outbox import Outbox

pytest.importorskip("ministack")


RAISE = "def handle(event, context):\n    raise ValueError('a bug')\n"
RETURN = "def handle(event, context):\n    return 'fine'\n"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with metered(tmp_path_factory.mktemp("alarms") / "home") as cloud:
        yield cloud


@pytest.fixture
def clock(cloud: Cloud) -> Iterator[Callable[[float], None]]:
    """Moves the alarms' clock, which starts and ends in the present."""
    yield cloud.later
    cloud.later(0)


def test_an_alarm_goes_off_when_its_own_function_fails_and_ends_in_silence(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    bad, good = cloud.function(RAISE), cloud.function(RETURN)
    failing, other = (cloud.alarm(**of_function("Errors", name)) for name in (bad, good))
    clock(MINUTE_S)
    until(lambda: failing.told() == ["OK"] and other.told() == ["OK"])

    cloud.call(bad)
    cloud.call(good)
    clock(2 * MINUTE_S)
    until(lambda: failing.told() == ["OK", "ALARM"])
    assert failing.state == "ALARM"
    assert failing.reason == (
        "Threshold Crossed: of the last 1, 1 datapoint was greater than the threshold (0.0): [1.0]."
    )

    cloud.call(bad)  # it goes on, and nobody is told again
    witness = cloud.alarm(**of_function("Errors", good))
    clock(3 * MINUTE_S)
    until(witness.told)
    assert failing.told() == ["OK", "ALARM"]

    clock(9 * MINUTE_S)
    until(lambda: failing.told()[2:])
    assert (failing.told(), failing.state) == (["OK", "ALARM", "OK"], "OK")
    assert failing.reason == (
        "Threshold Crossed: 1 missing datapoint was treated as [NonBreaching]."
    )
    assert other.told() == ["OK"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # In the minute before the last one a 10, in the last one a 1 and a 4.
        ({"Statistic": "Sum", "Threshold": 14.5}, "ALARM"),
        ({"Statistic": "Sum", "Threshold": 15}, "OK"),
        ({"Statistic": "Average", "Threshold": 4.9}, "ALARM"),
        ({"Statistic": "Average", "Threshold": 5}, "OK"),
        ({"Statistic": "Maximum", "Threshold": 9.5}, "ALARM"),
        ({"Statistic": "SampleCount", "Threshold": 2.5}, "ALARM"),
        ({"Statistic": "Minimum", "Threshold": 1}, "OK"),
        ({"ExtendedStatistic": "p50", "Threshold": 3.9}, "ALARM"),
        ({"ExtendedStatistic": "p50", "Threshold": 4}, "OK"),
        ({"Statistic": "Sum", "Threshold": 1, "Unit": "Seconds"}, "OK"),
        ({"Statistic": "Sum", "Threshold": 1, "Unit": "Count"}, "ALARM"),
        ({"Statistic": "Sum", "Threshold": 5, "Period": MINUTE_S}, "OK"),
        ({"Statistic": "Sum", "Threshold": 4.5, "Period": MINUTE_S, "N": 3, "M": 2}, "ALARM"),
        ({"Statistic": "Sum", "Threshold": 5.5, "Period": MINUTE_S, "N": 3, "M": 2}, "OK"),
        ({"Statistic": "Sum", "Threshold": 4.5, "Period": MINUTE_S, "N": 3}, "OK"),
    ],
    ids=str,
)
def test_an_alarm_follows_its_statistic_and_its_periods(
    cloud: Cloud, clock: Callable[[float], None], settings: dict[str, Any], expected: str
) -> None:
    dimensions = [{"Name": "test", "Value": uuid.uuid4().hex}]
    # Ahead of the clock on the wall, so that no minute of that one can end in between.
    now = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
    clock(MINUTE_S + (now.timestamp() - datetime.now(UTC).timestamp()))
    data = [
        {"MetricName": "put", "Dimensions": dimensions, "Unit": "Count", "Value": value,
         "Timestamp": now - timedelta(seconds=ago)}
        for ago, value in ((60, 10), (0, 1), (0, 4))
    ]  # fmt: skip
    cloud.client("cloudwatch").put_metric_data(Namespace="test", MetricData=data)
    given = dict(settings)
    needed = {"DatapointsToAlarm": given.pop("M")} if "M" in given else {}
    alarm = cloud.alarm(
        Namespace="test",
        MetricName="put",
        Dimensions=dimensions,
        **{"EvaluationPeriods": given.pop("N", 1), **needed, **given},
    )
    assert until(alarm.told) == [expected]


def test_who_cannot_be_told_of_an_alarm_now_is_told_at_the_next_evaluation(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    bad = cloud.function(RAISE)
    alarm = cloud.alarm(**of_function("Errors", bad))
    sns, outbox = cloud.client("sns"), Outbox(Places(cloud.home).local)
    topic = sns.create_topic(Name=alarm.name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="reader@example.com")
    clock(MINUTE_S)
    until(lambda: alarm.told() == ["OK"])

    def mails() -> list[str]:
        """The states that stand in the subjects."""
        return [mail.subject.split(":")[0] for mail in outbox.read() if mail.topic == topic]

    assert mails()[-1] == "OK"
    # Before the call: the alarm is evaluated at any moment after it.
    outbox.path.unlink()
    outbox.path.mkdir()
    try:
        cloud.call(bad)
        said = f"alarm {alarm.name}: nobody is told: Is a directory"
        until(lambda: said in Places(cloud.home).log.read_text())
        assert (alarm.state, alarm.told()) == ("OK", ["OK"])
    finally:
        outbox.path.rmdir()
    until(lambda: alarm.state == "ALARM")
    assert alarm.told() == ["OK", "ALARM"]
    assert mails() == ["ALARM"]


def test_metrics_are_dropped_when_they_are_too_old_in_every_region(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    """By the clock alone: nobody need ask for a metric."""
    import boto3

    endpoint, name = cloud.endpoint, f"stream-{uuid.uuid4().hex[:8]}"
    regions = ("us-east-2", "eu-west-1")

    def there(service: str, region: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service, endpoint_url=endpoint.url, region_name=region,
            aws_access_key_id=endpoint.access_key_id,
            aws_secret_access_key=endpoint.secret_access_key,
        )  # fmt: skip

    def known() -> list[str]:
        wanted = [{"Name": "StreamName", "Value": name}]
        found = [
            there("cloudwatch", region).list_metrics(Dimensions=wanted)["Metrics"]
            for region in regions
        ]
        return [metric["MetricName"] for metrics in found for metric in metrics]

    for region in regions:
        kinesis = there("kinesis", region)
        kinesis.create_stream(StreamName=name, ShardCount=1)
        kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="p")
    assert sorted(known()) == ["IncomingBytes"] * 2 + ["IncomingRecords"] * 2
    clock(23 * 3600)
    sleeping = cloud.alarm(**of_function("Errors", "nobody"))
    until(sleeping.told)
    assert len(known()) == 4
    clock(24 * 3600 + 2 * MINUTE_S)
    until(lambda: not known())


@pytest.mark.parametrize(
    ("period", "due"), [(10, True), (30, True), (60, False), (300, False)], ids=str
)
def test_alarms_of_less_than_a_minute_are_evaluated_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, period: int, due: bool
) -> None:
    from ministack.services import cloudwatch

    alarm = {
        "AlarmName": "a", "Namespace": "nobody's", "MetricName": "m", "Statistic": "Sum",
        "Period": period, "EvaluationPeriods": 1, "Threshold": 0.0, "StateValue": "ALARM",
        "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
    }  # fmt: skip
    alarms_kept = type(cloudwatch._alarms)()
    alarms_kept["a"] = alarm
    monkeypatch.setattr(cloudwatch, "_alarms", alarms_kept)
    noon = 1_637_496_000.0
    assert alarms.evaluate(noon + 20, since=noon + 10) is due
    assert alarm["StateValue"] == ("OK" if due else "ALARM")


def test_metrics_and_states_survive_a_clean_stop(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    name = cloud.function(RAISE)
    cloud.call(name)
    before = cloud.figures("AWS/Lambda", {"FunctionName": name})
    alarm = cloud.alarm(**of_function("Errors", name))
    clock(MINUTE_S)
    until(lambda: alarm.state == "ALARM")
    daemon.stop(cloud.home)
    assert daemon.ensure_running(cloud.home) == cloud.endpoint
    assert alarm.state == "ALARM"
    cloud.call(name)
    after = cloud.figures("AWS/Lambda", {"FunctionName": name})
    assert (before["Errors"], after["Errors"]) == (1, 2)


def test_each_of_the_pipeline_s_alarms_has_its_own_cause_and_status_shows_it(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    cli = Cli(cloud.home)
    (cloud.home / "stockpipe.toml").write_text('dashboard = false\nsweep = "off"\n')
    cli.make()
    names = cli.aws.names
    errors, quarantine = names.alarm("process-errors"), names.alarm("quarantine")
    queue = cloud.inbox(names.operations_topic_arn)

    def alarming() -> list[str]:
        """Of what was told since the last time."""
        return [name for name, state in cloud.heard(queue) if state == "ALARM"]

    def alarms() -> dict[str, str]:
        cloudwatch = cloud.client("cloudwatch")
        ours = cloudwatch.describe_alarms(AlarmNamePrefix="stockpipe-")["MetricAlarms"]
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in ours}

    nothing = {"invocations": 0, "errors": 0, "lag_s": None}
    assert json.loads(cli("status", "--json").out)["functions"] == [
        {"name": names.process_function, **nothing},
        {"name": names.trend_function, **nothing},
    ]

    # A bug in a function.
    clock(MINUTE_S)
    until(lambda: set(alarms().values()) == {"OK"})
    cloud.call(names.process_function, {"no": "Records"})
    assert until(alarming) == [errors]
    until(lambda: alarms()[errors] == "ALARM")
    assert {name for name, state in alarms().items() if state != "OK"} == {errors}

    # What is no quote.
    cloud.client("kinesis").put_record(StreamName=names.stream, Data=b"no quote", PartitionKey="X")
    assert until(alarming) == [quarantine]
    cli.settle()
    document = json.loads(cli("status", "--json", code=1).out)
    states = {one["name"]: one["state"] for one in document["resources"]}
    assert (states[errors], states[quarantine]) == ("alarm", "alarm")
    assert document["healthy"] is False
    process, trend = document["functions"]
    assert (process["name"], process["invocations"]) == (names.process_function, 2)
    assert (process["errors"], trend["errors"]) == (1, 0)
    assert 0 <= process["lag_s"] < 60
    shown = [line.split() for line in cli("status", code=1).out.splitlines()]
    assert ["alarm", quarantine, "alarm"] in shown
    assert [names.process_function, "2", "1"] in [words[:3] for words in shown]

    # Both are over.
    clock(10 * MINUTE_S)
    until(lambda: set(alarms().values()) == {"OK"})
    cli("status")
