"""Everything that stands in an account, listed service by service with each one's own API.

Nothing here knows tags or names of ours: two listings are compared as a whole, so a thing too
many, a thing too few and a thing changed all show. What differs from one making to the next by
its nature (ids, times, labels of streams) is left out, so that a stack that was made in pieces can
be compared with one that was made in one go; two things that are alike stay two lines.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

Client = Callable[[str], Any]
"""A boto3 client of one region, by service."""
Found = Iterator[tuple[str, str, Any]]
"""Kind, name, and everything else that is known of it."""

_MADE_ANEW = frozenset(
    {
        "CreationTime",
        "EventSourceMappingArn",
        "LastModified",
        "LatestStreamArn",
        "LatestStreamLabel",
        "NamedQueryId",
        "NextToken",
        "ResponseMetadata",
        "RevisionId",
        "RoleId",
        "StateReason",
        "StateReasonData",
        "StateUpdatedTimestamp",
        "StateValue",
        "SubscriptionArn",
        "TableId",
        "UUID",
        "VersionId",
        "creationTime",
    }
)
_STREAM_LABEL = re.compile(r"/stream/\d{4}-.*$")
_ID = re.compile(r"\b([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|AROA[0-9A-Z]+)\b")
"""A UUID, or a role's unique id."""


def inventory(client: Client) -> list[str]:
    """One line per thing of the region, and of the services that have no regions; sorted."""
    lines = []
    for listing in _LISTINGS:
        for kind, name, details in listing(client):
            text = json.dumps(_plain(details), sort_keys=True, default=str)
            lines.append(f"{kind} {name} {text}")
    return sorted(lines)


def difference(found: list[str], expected: list[str]) -> list[str]:
    """What is there and should not be (``+``), and what should be there and is not (``-``)."""
    extra, missing = Counter(found), Counter(expected)
    return sorted(
        [f"+ {line}" for line in (extra - missing).elements()]
        + [f"- {line}" for line in (missing - extra).elements()],
        key=lambda line: line[2:],
    )


def kinds(lines: list[str]) -> set[str]:
    """Which kinds of things a listing has."""
    return {line.split(" ", 1)[0] for line in lines}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _plain(one)
            for key, one in value.items()
            if key not in _MADE_ANEW and not isinstance(one, datetime)
        }
    if isinstance(value, (list, tuple)):
        listed = [_plain(one) for one in value]
        return sorted(listed, key=lambda one: json.dumps(one, sort_keys=True, default=str))
    return _named(value) if isinstance(value, str) else value


def _named(text: str) -> str:
    """Without the parts of a name or ARN that are made anew."""
    return _ID.sub("*", _STREAM_LABEL.sub("/stream/*", text))


def _all(client: Any, operation: str, key: str, **arguments: Any) -> list[Any]:
    """All pages of a listing; ``key`` names what is listed."""
    if client.can_paginate(operation):
        pages = client.get_paginator(operation).paginate(**arguments)
        return [one for page in pages for one in page.get(key, [])]
    return list(getattr(client, operation)(**arguments).get(key, []))


def _or_none(call: Callable[[], Any]) -> Any:
    """The answer, or the error code: a bucket without a policy is an error on AWS."""
    try:
        return call()
    except ClientError as error:
        return error.response["Error"]["Code"]


def _streams(client: Client) -> Found:
    kinesis = client("kinesis")
    for name in _all(kinesis, "list_streams", "StreamNames"):
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        yield "stream", name, (summary, kinesis.list_tags_for_stream(StreamName=name)["Tags"])


def _tables(client: Client) -> Found:
    dynamodb = client("dynamodb")
    for name in _all(dynamodb, "list_tables", "TableNames"):
        table = dynamodb.describe_table(TableName=name)["Table"]
        tags = dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"]
        ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        backups = dynamodb.describe_continuous_backups(TableName=name)
        recovery = backups["ContinuousBackupsDescription"]
        yield "table", name, (table, tags, ttl, recovery)


def _buckets(client: Client) -> Found:
    s3 = client("s3")
    settings = (
        s3.get_bucket_tagging,
        s3.get_bucket_policy,
        s3.get_bucket_encryption,
        s3.get_bucket_lifecycle_configuration,
        s3.get_bucket_versioning,
        s3.get_public_access_block,
    )
    for bucket in s3.list_buckets()["Buckets"]:
        name = bucket["Name"]
        yield (
            "bucket",
            name,
            {ask.__name__: _or_none(partial(ask, Bucket=name)) for ask in settings},
        )
        for kind in ("Versions", "DeleteMarkers"):
            for version in _all(s3, "list_object_versions", kind, Bucket=name):
                yield "object", f"{name}/{version['Key']}", version


def _functions(client: Client) -> Found:
    functions = client("lambda")
    for function in _all(functions, "list_functions", "Functions"):
        name = function["FunctionName"]
        found = functions.get_function(FunctionName=name)
        permissions = _or_none(partial(functions.get_policy, FunctionName=name))
        yield (
            "function",
            name,
            (found["Configuration"], found.get("Tags"), found.get("Concurrency"), permissions),
        )
    for mapping in _all(functions, "list_event_source_mappings", "EventSourceMappings"):
        name = f"{mapping['EventSourceArn']} to {mapping['FunctionArn']}"
        tags = functions.list_tags(Resource=mapping["EventSourceMappingArn"])["Tags"]
        yield "mapping", _named(name), (mapping, tags)


def _roles(client: Client) -> Found:
    iam = client("iam")
    for role in _all(iam, "list_roles", "Roles"):
        one = {"RoleName": role["RoleName"]}
        policies = [
            iam.get_role_policy(PolicyName=name, **one)["PolicyDocument"]
            for name in _all(iam, "list_role_policies", "PolicyNames", **one)
        ]
        attached = _all(iam, "list_attached_role_policies", "AttachedPolicies", **one)
        yield "role", role["RoleName"], (iam.get_role(**one)["Role"], policies, attached)


def _topics(client: Client) -> Found:
    sns = client("sns")
    for topic in _all(sns, "list_topics", "Topics"):
        arn = topic["TopicArn"]
        tags = sns.list_tags_for_resource(ResourceArn=arn)["Tags"]
        yield "topic", arn, (sns.get_topic_attributes(TopicArn=arn)["Attributes"], tags)
    for one in _all(sns, "list_subscriptions", "Subscriptions"):
        name = f"{one['TopicArn']} to {one['Protocol']}:{one['Endpoint']}"
        ask = partial(sns.get_subscription_attributes, SubscriptionArn=one["SubscriptionArn"])
        yield "subscription", name, (one, _or_none(ask))


def _log_groups(client: Client) -> Found:
    logs = client("logs")
    for group in _all(logs, "describe_log_groups", "logGroups"):
        arn = group["arn"].removesuffix(":*")
        tags = logs.list_tags_for_resource(resourceArn=arn)["tags"]
        yield "log-group", group["logGroupName"], (group.get("retentionInDays"), tags)


def _catalog(client: Client) -> Found:
    glue = client("glue")
    for database in _all(glue, "get_databases", "DatabaseList"):
        arn = f"arn:aws:glue:{glue.meta.region_name}:{database['CatalogId']}:database/"
        tags = glue.get_tags(ResourceArn=arn + database["Name"])["Tags"]
        yield "database", database["Name"], (database, tags)
        for table in _all(glue, "get_tables", "TableList", DatabaseName=database["Name"]):
            yield "catalog-table", f"{database['Name']}.{table['Name']}", table


def _workgroups(client: Client) -> Found:
    athena = client("athena")
    for listed in _all(athena, "list_work_groups", "WorkGroups"):
        name = listed["Name"]
        yield "workgroup", name, athena.get_work_group(WorkGroup=name)["WorkGroup"]
        for query_id in _all(athena, "list_named_queries", "NamedQueryIds", WorkGroup=name):
            query = athena.get_named_query(NamedQueryId=query_id)["NamedQuery"]
            yield "named-query", f"{name}/{query['Name']}", query


def _monitoring(client: Client) -> Found:
    cloudwatch = client("cloudwatch")
    for alarm in _all(cloudwatch, "describe_alarms", "MetricAlarms"):
        tags = cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]
        yield "alarm", alarm["AlarmName"], (alarm, tags)
    for listed in _all(cloudwatch, "list_dashboards", "DashboardEntries"):
        dashboard = cloudwatch.get_dashboard(DashboardName=listed["DashboardName"])
        yield "dashboard", listed["DashboardName"], dashboard["DashboardBody"]


def _rules(client: Client) -> Found:
    events = client("events")
    for rule in _all(events, "list_rules", "Rules"):
        tags = events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]
        yield "rule", rule["Name"], (rule, tags)
        for target in _all(events, "list_targets_by_rule", "Targets", Rule=rule["Name"]):
            yield "target", f"{rule['Name']}/{target['Id']}", target


_LISTINGS: tuple[Callable[[Client], Found], ...] = (
    _streams,
    _tables,
    _buckets,
    _functions,
    _roles,
    _topics,
    _log_groups,
    _catalog,
    _workgroups,
    _monitoring,
    _rules,
)
