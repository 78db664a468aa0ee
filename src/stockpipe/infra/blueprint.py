"""The whole pipeline on one page: every resource, and what it needs.

stream --mapping--> ProcessStockData --> table + archive bucket <-- Athena (Glue, workgroup)
                                           |
topic <-- StockTrendAnalysis <--mapping----+  (alerts table: each alert once)
              ^-- rule: what was left unsent       alarms --> operations topic
"""

from __future__ import annotations

from collections.abc import Sequence

from stockpipe import __version__
from stockpipe.aws import Aws
from stockpipe.domain.names import RAW_PREFIX, VERSION_TAG
from stockpipe.domain.sweep_event import LookBack, payload
from stockpipe.infra import bundle, policies
from stockpipe.infra.dashboard import dashboard
from stockpipe.infra.monitoring import alarms
from stockpipe.infra.resource import Resource
from stockpipe.infra.resources.athena import NamedQueries, Workgroup
from stockpipe.infra.resources.dynamodb import Table
from stockpipe.infra.resources.events import Schedule
from stockpipe.infra.resources.glue import CatalogTable, Database
from stockpipe.infra.resources.iam import Role
from stockpipe.infra.resources.kinesis import Stream
from stockpipe.infra.resources.lambda_ import Function
from stockpipe.infra.resources.logs import LogGroup
from stockpipe.infra.resources.mappings import EventSourceMapping
from stockpipe.infra.resources.s3 import Bucket
from stockpipe.infra.resources.sns import (
    Subscription,
    Topic,
    alarms_may_publish,
    publish_over_tls,
)
from stockpipe.queries.bind import console_sql
from stockpipe.queries.catalog import catalog
from stockpipe.queries.schema import COLUMNS
from stockpipe.settings import Settings

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
    table = Table(
        aws,
        names.table,
        stream=True,
        ttl=settings.ttl_days is not None,
        pitr=settings.point_in_time_recovery,
        deletion_protection=settings.deletion_protection,
        tags=tags,
    )
    alerts = Table(aws, names.alerts_table, range_key="id", tags=tags)
    data_bucket = Bucket(aws, names.data_bucket, tags=tags)
    results_bucket = Bucket(aws, names.results_bucket, expire_days=RESULTS_EXPIRE_DAYS, tags=tags)
    topic = Topic(aws, names.topic, policy=publish_over_tls(names.topic_arn), tags=tags)
    operations = Topic(
        aws,
        names.operations_topic,
        display_name="Stock Operations",
        encrypted=False,
        policy=alarms_may_publish(names, names.operations_topic_arn),
        tags=tags,
    )

    boundary, days = settings.permissions_boundary, settings.log_retention_days
    process_role = Role(
        aws, names.process_role, policy=policies.process_policy(names), boundary=boundary, tags=tags
    )
    trend_role = Role(
        aws, names.trend_role, policy=policies.trend_policy(names), boundary=boundary, tags=tags
    )
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
        reserved_concurrency=settings.reserved_concurrency,
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
            "NOTIFY_MAX_AGE_S": "off" if max_age == "off" else f"{max_age:.0f}",
        },
        reserved_concurrency=settings.reserved_concurrency,
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
    sweep = Schedule(
        aws,
        names.sweep_rule,
        rate_s=300.0 if settings.sweep == "off" else settings.sweep,
        function=trend.name,
        payload=payload(_look_back(settings)),
        wanted=settings.sweep != "off",
        needs=(trend.id, alerts.id, topic.id),
        tags=tags,
    )

    database = Database(aws, names.database, tags=tags)
    catalog_table = CatalogTable(
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
    queries = NamedQueries(
        aws,
        f"of {names.workgroup}",
        workgroup=names.workgroup,
        database=names.database,
        queries={one.name: (one.description, console_sql(one, names)) for one in catalog()},
        needs=(workgroup.id,),
    )

    wanted = [("email", one) for one in settings.emails] + [("sms", one) for one in settings.sms]
    # Two spellings of one address are one mailbox, and must not be invited twice.
    recipients = [
        Subscription(
            aws,
            f"{protocol} {endpoint}",
            topic=names.topic,
            protocol=protocol,
            endpoint=endpoint,
            asked=(protocol, endpoint) in asked,
            needs=(topic.id,),
        )
        for protocol, endpoint in {
            endpoint.casefold(): (protocol, endpoint) for protocol, endpoint in [*wanted, *asked]
        }.values()
    ]
    return [
        stream, process, table, trend, alerts, topic, *recipients, data_bucket,
        quotes, changes, sweep,
        results_bucket, database, catalog_table, workgroup, queries,
        process_role, trend_role, process_logs, trend_logs,
        operations, *alarms(aws, settings, quotes=quotes, changes=changes, tags=tags),
        dashboard(aws, settings, tags),
    ]  # fmt: skip


def _look_back(settings: Settings) -> LookBack | None:
    seconds = settings.sweep_look_back
    return None if seconds == "off" else LookBack(settings.symbols, seconds)
