"""What is wrong with ministack's metrics and alarms: what we mend is still to be mended."""

from __future__ import annotations

import pytest
from stock_emulator import flaws

from stockpipe.errors import LocalCloudError
from stockpipe.local.emulator import alarms

pytest.importorskip("ministack")


STOCK = """
import json, time

import ministack.app
from ministack.services import cloudwatch, cloudwatch_logs, dynamodb, kinesis, lambda_svc

found = {}


def points(namespace, name):
    return [point for key, kept in cloudwatch._metrics.items() if key[:2] == (namespace, name)
            for point in kept]


# alarms.install
def alarm(**changed):
    made = {"AlarmName": "a", "Namespace": "n", "MetricName": "m", "Statistic": "Sum",
            "Period": 60, "EvaluationPeriods": 1, "Threshold": 0.0, "StateValue": "OK",
            "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
            "Dimensions": [{"Name": "of", "Value": "a"}], **changed}
    cloudwatch._alarms["a"] = made
    cloudwatch._evaluate_all_alarms()
    return made["StateValue"]


cloudwatch.record_metric("n", "m", 1, "Count", {"of": "b"})
found["an alarm takes another's metric"] = alarm() == "ALARM"
cloudwatch._metrics.clear()
found["an alarm does not end in silence"] = alarm(StateValue="ALARM") == "ALARM"
cloudwatch.record_metric("n", "m", 1, "Count", {"of": "a"})
several = {"EvaluationPeriods": 3, "DatapointsToAlarm": 3}
found["one bad period is as bad as three"] = alarm(**several) == "ALARM"

# feeds.keep_statistic_sets
sets = [{"_stat": {"SampleCount": 2, "Sum": 3, "Minimum": 1, "Maximum": 2}}]
found["statistic sets have no percentiles"] = cloudwatch._percentile_samples(sets) is None
cloudwatch._metrics["k"] = kept = [{"Timestamp": time.time()}]
cloudwatch._evict_old_metrics()
found["evicting loses what is being counted"] = cloudwatch._metrics["k"] is not kept
del cloudwatch._metrics["k"]

# feeds.measure_functions
config = {"FunctionName": "f", "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f"}
lambda_svc._execute_function_dispatch = lambda *call: {"error": True}
lambda_svc._execute_function({"config": config}, {})
found["a call that a service makes is not counted"] = not points("AWS/Lambda", "Errors")
for _ in range(2):
    lambda_svc._emit_lambda_metrics("f", 1.0, False, False)
found["every call is a point"] = len(points("AWS/Lambda", "Invocations")) == 2
lambda_svc._emit_lambda_metrics("f", 0.0, True, True)
found["a throttled call is an invocation"] = len(points("AWS/Lambda", "Invocations")) == 3

# feeds.measure_streams, feeds.measure_tables
kinesis._create_stream({"StreamName": "s", "ShardCount": 1})
kinesis._streams["s"]["StreamStatus"] = "ACTIVE"
status, _, _ = kinesis._put_record({"StreamName": "s", "PartitionKey": "k", "Data": "eA=="})
found["nobody counts records"] = status == 200 and not points("AWS/Kinesis", "IncomingRecords")
dynamodb._create_table({"TableName": "table", "BillingMode": "PAY_PER_REQUEST",
                        "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
                        "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}]})
dynamodb._tables["table"]["TableStatus"] = "ACTIVE"
status, _, _ = dynamodb._get_item({"TableName": "table", "Key": {"k": {"S": "a"}}})
latency = points("AWS/DynamoDB", "SuccessfulRequestLatency")
found["nobody measures latency"] = status == 200 and not latency

# feeds.read_log_lines
line = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
    {"Namespace": "n", "Dimensions": [[]], "Metrics": [{"Name": "emf"}]}]}, "emf": 1}
now = int(time.time() * 1000)
cloudwatch_logs._append_log_events(
    {"events": [], "firstEventTimestamp": None, "lastEventTimestamp": None},
    [{"timestamp": now, "message": json.dumps(line), "ingestionTime": now}])
found["metrics stay in their log lines"] = not points("n", "emf")
print(json.dumps(found))
"""


def test_every_flaw_of_metrics_and_alarms_that_we_mend_is_still_there() -> None:
    found = flaws(STOCK, AUTH="false")
    assert len(found) == 11
    assert [flaw for flaw, there in found.items() if not there] == []


@pytest.mark.parametrize("name", ["_evaluate_alarm", "_stat_value"])
def test_an_emulator_whose_alarms_are_not_as_we_know_them_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from ministack.services import cloudwatch

    for attribute in ("_evaluate_alarm", "_evaluate_all_alarms"):
        monkeypatch.setattr(cloudwatch, attribute, getattr(cloudwatch, attribute))
    monkeypatch.delattr(cloudwatch, name)
    with pytest.raises(LocalCloudError, match=name):
        alarms.install()
