"""The whole pipeline on one page: every resource, and what it needs.

stream --mapping--> ProcessStockData --> table + archive bucket <-- Athena (Glue, workgroup)
                                           |
topic <-- StockTrendAnalysis <--mapping----+  (alerts table: each alert once)
"""

from __future__ import annotations

from collections.abc import Sequence

from stockpipe import __version__
from stockpipe.aws import Aws
from stockpipe.config import Settings
from stockpipe.domain.names import RAW_PREFIX, VERSION_TAG
from stockpipe.infra import bundle, policies
from stockpipe.infra.resource import Resource
from stockpipe.infra.resources.athena import Workgroup
from stockpipe.infra.resources.dynamodb import Table
from stockpipe.infra.resources.glue import CatalogTable, Database
from stockpipe.infra.resources.iam import Role
from stockpipe.infra.resources.kinesis import Stream
from stockpipe.infra.resources.lambda_ import EventSourceMapping, Function
from stockpipe.infra.resources.logs import LogGroup
from stockpipe.infra.resources.s3 import Bucket
from stockpipe.infra.resources.sns import Topic
from stockpipe.queries.schema import COLUMNS

RESULTS_EXPIRE_DAYS = 7


def blueprint(
    aws: Aws, settings: Settings, *, asked: Sequence[tuple[str, str]] = ()
) -> list[Resource]:
    """Every resource of one stack, in the order that people read it.

    ``asked`` holds further recipients of alerts as (protocol, endpoint), named in this very call.
    """
    names = aws.names
    tags = {**settings.tags, **names.tags, VERSION_TAG: __version__}
    code = bundle.build(settings.rules)
    archive = names.bucket_arn(names.data_bucket)
    max_age = settings.notify_max_age

    stream = Stream(
        aws,
        names.stream,
        mode=settings.stream_mode,
        shards=settings.shards,
        retention_hours=settings.stream_retention_hours,
        tags=tags,
    )
    table = Table(aws, names.table, stream=True, ttl=settings.ttl_days is not None, tags=tags)
    alerts = Table(aws, names.alerts_table, range_key="id", tags=tags)
    data_bucket = Bucket(aws, names.data_bucket, tags=tags)
    results_bucket = Bucket(aws, names.results_bucket, expire_days=RESULTS_EXPIRE_DAYS, tags=tags)
    topic = Topic(aws, names.topic, tags=tags)

    process_role = Role(
        aws,
        names.process_role,
        policy=policies.process_policy(names),
        boundary=settings.permissions_boundary,
        tags=tags,
    )
    trend_role = Role(
        aws,
        names.trend_role,
        policy=policies.trend_policy(names),
        boundary=settings.permissions_boundary,
        tags=tags,
    )
    days = settings.log_retention_days
    process_logs = LogGroup(aws, names.process_log_group, retention_days=days, tags=tags)
    trend_logs = LogGroup(aws, names.trend_log_group, retention_days=days, tags=tags)

    process = Function(
        aws,
        names.process_function,
        handler="stockpipe.functions.process.handler",
        role=names.process_role,
        bundle=code,
        environment={
            "STACK": names.stack,
            "TABLE": names.table,
            "BUCKET": names.data_bucket,
            "ANOMALY_PERCENT": str(settings.anomaly_percent),
            **({"TTL_DAYS": str(settings.ttl_days)} if settings.ttl_days else {}),
        },
        needs=(process_role.id, process_logs.id),
        tags=tags,
    )
    trend = Function(
        aws,
        names.trend_function,
        handler="stockpipe.functions.trend.handler",
        role=names.trend_role,
        bundle=code,
        environment={
            "STACK": names.stack,
            "TABLE": names.table,
            "ALERTS_TABLE": names.alerts_table,
            "TOPIC_ARN": names.topic_arn,
            "NOTIFY_MAX_AGE_S": "off" if max_age == "off" else f"{max_age:g}",
        },
        needs=(trend_role.id, trend_logs.id),
        tags=tags,
    )
    quotes = EventSourceMapping(
        aws,
        f"{stream.name} to {process.name}",
        function=process.name,
        source=lambda: names.stream_arn,
        batch_size=settings.batch_size,
        failures=archive,
        needs=(stream.id, process.id, table.id, data_bucket.id),
        tags=tags,
    )
    changes = EventSourceMapping(
        aws,
        f"{table.name} to {trend.name}",
        function=trend.name,
        source=table.stream_arn,
        batch_size=settings.batch_size,
        failures=archive,
        needs=(table.id, trend.id, alerts.id, topic.id, data_bucket.id),
        tags=tags,
    )
    database = Database(aws, names.database, tags=tags)
    catalog = CatalogTable(
        aws,
        names.glue_table,
        database=names.database,
        location=f"s3://{names.data_bucket}/{RAW_PREFIX}",
        columns=tuple(COLUMNS),
        needs=(database.id,),
    )
    workgroup = Workgroup(
        aws,
        names.workgroup,
        output=f"s3://{names.results_bucket}/",
        cutoff_bytes=settings.query_limit_mb * 1024 * 1024,
        needs=(results_bucket.id,),
        tags=tags,
    )
    return [
        stream, process, table, trend, alerts, topic, data_bucket, quotes, changes,
        results_bucket, database, catalog, workgroup,
        process_role, trend_role, process_logs, trend_logs,
    ]  # fmt: skip
