"""Where a resource is seen in the AWS console, for target aws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from stockpipe.domain.names import Names

_PATHS: Mapping[str, Callable[[str, Names], str]] = {
    "stream": lambda name, at: (
        f"kinesis/home?region={at.region}#/streams/details/{name}/monitoring"
    ),
    "table": lambda name, at: f"dynamodbv2/home?region={at.region}#table?name={name}",
    "bucket": lambda name, at: f"s3/buckets/{name}?region={at.region}",
    "function": lambda name, at: f"lambda/home?region={at.region}#/functions/{name}",
    "topic": lambda name, at: (
        f"sns/v3/home?region={at.region}#/topic/{at.topic_arn.rsplit(':', 1)[0]}:{name}"
    ),
    "role": lambda name, at: f"iam/home#/roles/details/{name}",
    "log-group": lambda name, at: (
        # The console escapes a name twice, and writes its % as $.
        f"cloudwatch/home?region={at.region}#logsV2:log-groups/log-group/"
        + quote(quote(name, safe=""), safe="").replace("%", "$")
    ),
    "alarm": lambda name, at: f"cloudwatch/home?region={at.region}#alarmsV2:alarm/{name}",
    "dashboard": lambda name, at: f"cloudwatch/home?region={at.region}#dashboards/dashboard/{name}",
    "rule": lambda name, at: f"events/home?region={at.region}#/eventbus/default/rules/{name}",
    "workgroup": lambda name, at: f"athena/home?region={at.region}#/workgroups/details/{name}",
    "database": lambda name, at: (
        f"glue/home?region={at.region}#/v2/data-catalog/databases/view/{name}"
    ),
    "catalog-table": lambda name, at: (
        f"glue/home?region={at.region}#/v2/data-catalog/tables/view/{name}?database={at.database}"
    ),
}


def console_url(kind: str, name: str, names: Names) -> str | None:
    """The page of one resource, or None for what has no page of its own (a mapping)."""
    path = _PATHS.get(kind)
    if path is None:
        return None
    host = "console.aws.amazon.com"
    if names.region.startswith("cn-"):
        host = "console.amazonaws.cn"
    elif names.region.startswith("us-gov-"):
        host = "console.amazonaws-us-gov.com"
    return f"https://{host}/{path(name, names)}"
