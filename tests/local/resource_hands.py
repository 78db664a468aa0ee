"""Each kind of resource as the tests make it, and the hands that change it behind our back."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resource_world import World, converge

from stockpipe.infra import policies
from stockpipe.infra.bundle import Bundle
from stockpipe.infra.resource import Resource
from stockpipe.infra.resources.athena import MARK, NamedQueries, Workgroup
from stockpipe.infra.resources.glue import CatalogTable, Database
from stockpipe.infra.resources.kinesis import Stream
from stockpipe.infra.resources.lambda_ import Function
from stockpipe.infra.resources.mappings import EventSourceMapping
from stockpipe.infra.resources.sns import Subscription, Topic

MANAGED = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
QUERIES = {"highs": ("The highest price", "SELECT 1"), "lows": ("The lowest price", "SELECT 2")}

Hand = Callable[[Any], object]


@dataclass(frozen=True)
class Case:
    """``by_hand`` changes one setting each; ``stranger`` makes what has the name without tags."""

    make: Callable[[World], Resource]
    by_hand: Mapping[str, Hand]
    stranger: Hand | None = None


def code(text: str = "def handler(event, context): pass") -> Bundle:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("code.py"), text)
    return Bundle(packed.getvalue())


def role(aws: World) -> str:
    """A role by hand, for functions to have."""
    trust = json.dumps(policies.trust_policy())
    name = f"by-hand-{aws.stack}"
    aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    return name


def function(aws: World) -> Function:
    return Function(
        aws,
        aws.names.process_function,
        handler="code.handler",
        role=role(aws),
        bundle=code(),
        environment={"TABLE": "t"},
        reserved_concurrency=5,
        tags=aws.tags,
    )


def function_by_hand(r: Function) -> None:
    r.aws.client("lambda").create_function(
        FunctionName=r.name,
        Runtime="python3.13",
        Role=r.names.role_arn(r.role),
        Handler=r.handler,
        Code={"ZipFile": r.bundle.data},
    )


def mapping(aws: World) -> EventSourceMapping:
    function_by_hand(function(aws))
    converge(Stream(aws, aws.names.stream, tags=aws.tags))
    return EventSourceMapping(
        aws,
        "stream to function",
        function=aws.names.process_function,
        source=lambda: aws.names.stream_arn,
        failures=aws.names.bucket_arn(aws.names.data_bucket),
        tags=aws.tags,
    )


def subscription(aws: World, *, asked: bool = False) -> Subscription:
    converge(Topic(aws, aws.names.topic, tags=aws.tags))
    return Subscription(
        aws,
        "email you@example.com",
        topic=aws.names.topic,
        endpoint="you@example.com",
        asked=asked,
    )


def workgroup(aws: World) -> Workgroup:
    return Workgroup(aws, aws.names.workgroup, output="s3://somewhere/", tags=aws.tags)


def named_queries(aws: World) -> NamedQueries:
    converge(workgroup(aws))
    return NamedQueries(
        aws,
        aws.names.workgroup,
        workgroup=aws.names.workgroup,
        database=aws.names.database,
        queries=QUERIES,
    )


def catalog_table(aws: World) -> CatalogTable:
    converge(Database(aws, aws.names.database, tags=aws.tags))
    return CatalogTable(
        aws,
        aws.names.glue_table,
        database=aws.names.database,
        location="s3://somewhere/raw-data/",
        columns=(("symbol", "string"), ("price", "decimal(18,6)")),
    )


def remade(r: NamedQueries, **changed: str) -> None:
    """One named query replaced by another that differs."""
    athena = r.aws.client("athena")
    ids = athena.list_named_queries(WorkGroup=r.workgroup)["NamedQueryIds"]
    found = athena.batch_get_named_query(NamedQueryIds=ids)["NamedQueries"]
    query = next(one for one in found if one["Name"] == "highs")
    athena.delete_named_query(NamedQueryId=query.pop("NamedQueryId"))
    athena.create_named_query(**{**query, **changed})


def twin(r: NamedQueries) -> None:
    r.aws.client("athena").create_named_query(
        Name="highs",
        Description=f"The highest price {MARK}",
        Database=r.database,
        QueryString="SELECT 1",
        WorkGroup=r.workgroup,
    )


def table_input(r: CatalogTable, change: Callable[[dict[str, Any]], object]) -> None:
    """The Glue table with a change, as its console writes it."""
    glue = r.aws.client("glue")
    found = glue.get_table(DatabaseName=r.database, Name=r.name)["Table"]
    kept = ("Name", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor")
    wanted = {key: found[key] for key in kept}
    change(wanted)
    glue.update_table(DatabaseName=r.database, TableInput=wanted)


def on(service: str, operation: str, **fixed: Any) -> Hand:
    """Call an operation on the resource; a value that is callable is made from the resource."""

    def hand(r: Resource) -> object:
        given = {key: value(r) if callable(value) else value for key, value in fixed.items()}
        return getattr(r.aws.client(service), operation)(**given)

    return hand


def name_of(r: Resource) -> str:
    return r.name


def arn_of(r: Resource) -> str:
    live = r.read()
    assert live is not None
    return live.arn


def widened(r: Resource) -> str:
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    return json.dumps(policies.policy(statement))


def trusting_anyone(r: Resource) -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    return json.dumps(policies.policy(statement))


def on_function(operation: str = "update_function_configuration", **fixed: Any) -> Hand:
    return on("lambda", operation, FunctionName=name_of, **fixed)


def on_mapping(**fixed: Any) -> Hand:
    return on("lambda", "update_event_source_mapping", UUID=lambda r: r.uuid(), **fixed)


def on_workgroup(**updates: Any) -> Hand:
    return on("athena", "update_work_group", WorkGroup=name_of, ConfigurationUpdates=updates)


def on_topic(attribute: str, value: Any) -> Hand:
    return on(
        "sns",
        "set_topic_attributes",
        TopicArn=lambda r: r.arn,
        AttributeName=attribute,
        AttributeValue=value,
    )


def role_again(r: Function) -> str:
    """A second role of that stack."""
    name = f"{r.role}-2"
    r.aws.client("iam").create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps(policies.trust_policy())
    )
    return name


def published_by(topic: str, principal: Mapping[str, str]) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": dict(principal),
        "Action": "sns:Publish",
        "Resource": topic,
    }
