"""Things of other people: one of every kind that stockpipe makes, under names close to ours.

None carries our tags. Whoever deletes by prefix, by listing or by guess deletes one of these.
"""

from __future__ import annotations

import json

from embedded import bucket, client, function, table

from stockpipe.aws import Endpoint
from stockpipe.domain.names import Names

NEAR = "-old"


def arrive(endpoint: Endpoint, names: Names) -> None:
    """Make them all, in the region of the tests."""
    topic = _messaging(endpoint, names)
    _compute(endpoint, names)
    _storage(endpoint, names)
    _catalog(endpoint, names)
    _watching(endpoint, names, topic)


def _messaging(endpoint: Endpoint, names: Names) -> str:
    sns = client("sns", endpoint)
    topic = str(sns.create_topic(Name=names.topic + NEAR)["TopicArn"])
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="someone@example.com")
    client("logs", endpoint).create_log_group(logGroupName=names.process_log_group + NEAR)
    return topic


def _compute(endpoint: Endpoint, names: Names) -> None:
    """A function that its own stream feeds, that an own rule may call, and a bare role."""
    stream, name = names.stream + NEAR, names.process_function + NEAR
    client("kinesis", endpoint).create_stream(StreamName=stream, ShardCount=1)
    functions = function(endpoint, name, "def handle(event, context): return None\n")
    functions.get_waiter("function_active_v2").wait(FunctionName=name)
    functions.create_event_source_mapping(
        FunctionName=name,
        EventSourceArn=names.stream_arn + NEAR,
        StartingPosition="LATEST",
        Enabled=False,
    )
    functions.add_permission(
        FunctionName=name,
        StatementId="theirs",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
    )
    iam = client("iam", endpoint)
    role = {"RoleName": names.trend_role + NEAR}
    iam.create_role(AssumeRolePolicyDocument=_policy("sts:AssumeRole", principal=True), **role)
    iam.put_role_policy(PolicyName="stockpipe", PolicyDocument=_policy("s3:GetObject"), **role)


def _storage(endpoint: Endpoint, names: Names) -> None:
    dynamodb = table(endpoint, names.table + NEAR)
    dynamodb.put_item(TableName=names.table + NEAR, Item={"k": {"S": "kept"}})
    s3 = bucket(endpoint, names.data_bucket + NEAR)
    s3.put_object(Bucket=names.data_bucket + NEAR, Key="raw-data/kept.json", Body=b"{}")


def _catalog(endpoint: Endpoint, names: Names) -> None:
    glue, athena = client("glue", endpoint), client("athena", endpoint)
    database = names.database + "_old"
    glue.create_database(DatabaseInput={"Name": database})
    glue.create_table(DatabaseName=database, TableInput={"Name": names.glue_table})
    athena.create_work_group(Name=names.workgroup + NEAR)
    for workgroup in (names.workgroup + NEAR, "primary"):
        athena.create_named_query(
            Name="daily-summary", Database=database, QueryString="SELECT 1", WorkGroup=workgroup
        )


def _watching(endpoint: Endpoint, names: Names, topic: str) -> None:
    cloudwatch, events = client("cloudwatch", endpoint), client("events", endpoint)
    cloudwatch.put_metric_alarm(
        AlarmName=f"{names.workgroup}{NEAR}",
        Namespace="Theirs",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[topic],
    )
    widget = {"type": "text", "x": 0, "y": 0, "width": 3, "height": 3}
    body = {"widgets": [widget | {"properties": {"markdown": "theirs"}}]}
    cloudwatch.put_dashboard(DashboardName=names.workgroup + NEAR, DashboardBody=json.dumps(body))
    rule = names.workgroup + NEAR
    events.put_rule(Name=rule, ScheduleExpression="rate(1 day)", State="DISABLED")
    events.put_targets(Rule=rule, Targets=[{"Id": "theirs", "Arn": topic}])


def _policy(action: str, *, principal: bool = False) -> str:
    who = {"Principal": {"Service": "lambda.amazonaws.com"}} if principal else {"Resource": "*"}
    statement = {"Effect": "Allow", "Action": action, **who}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
