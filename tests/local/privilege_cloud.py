"""A cloud that writes down what it judges, and the life of a stack in it, by its operators."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import recorded_calls
from embedded import REGION, cleaned, client
from stockpipe_cli import Cli, Result

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.domain.alerts import SENT, Alert
from stockpipe.domain.names import Names
from stockpipe.domain.rules.crossover import crossings
from stockpipe.domain.signals import Reading
from stockpipe.domain.sweep_event import EVENT
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.functions.alert_items import values_of
from stockpipe.infra.operators import OPERATORS
from stockpipe.infra.policies import policy
from stockpipe.local import daemon
from stockpipe.local.emulator import ledger
from stockpipe.local.emulator.ledger import Entry
from stockpipe.local.home import Places

ACCOUNT = "000000000000"
NAMES = Names("default", REGION, ACCOUNT)
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
FUNCTIONS = {NAMES.process_role: NAMES.process_function, NAMES.trend_role: NAMES.trend_function}
"""Roles, and the functions that run under them."""

PLAIN = "notify_max_age = 'off'\nemails = ['one@example.com']\nsms = ['+15555550100']\n"
CHANGED = """
batch_size = 400
anomaly_percent = 4
notify_max_age = "300d"
stream_mode = "provisioned"
stream_retention_hours = 48
log_retention_days = 30
ttl_days = 3650
query_limit_mb = 512
point_in_time_recovery = true
deletion_protection = true
reserved_concurrency = 2
emails = ["one@example.com", "two@example.com"]
[tags]
team = "blue"
[[rules]]
kind = "crossover"
fast = 3
slow = 20
"""
LESS = """
alarms = false
dashboard = false
sweep = "off"
"""
BOUNDED = f"{PLAIN}permissions_boundary = '{BOUNDARY}'\n"

KMS = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}


ENDLESS = (
    "SELECT count(*) FROM stock_data_table a, stock_data_table b, stock_data_table c, "
    "stock_data_table d"
)


REPLAY = ("AAPL", "--source", "replay:sample", "--speed", "max")
QUOTES = 60
"""Of the replay: two crossings are among them, and four moves."""


@dataclass(frozen=True)
class Cloud:
    """An embedded cloud that writes down, and its operators."""

    cli: Cli
    endpoint: Endpoint

    def root(self, service: str) -> Any:
        return client(service, self.endpoint)

    def configure(self, text: str) -> None:
        """The settings of everybody, from now on."""
        (self.cli.home / "stockpipe.toml").write_text(text)

    def policies(self) -> dict[str, Any]:
        """What the command prints for these settings."""
        printed = self.cli("config", "policy", env={"STOCKPIPE_ACCOUNT": ACCOUNT})
        documents: dict[str, Any] = json.loads(printed.out)
        return documents

    def grant(self, documents: Mapping[str, Any]) -> None:
        """Every operator gets exactly these documents, as managed policies."""
        iam = self.root("iam")
        for operator in OPERATORS:
            for found in iam.list_attached_role_policies(RoleName=operator)["AttachedPolicies"]:
                iam.detach_role_policy(RoleName=operator, PolicyArn=found["PolicyArn"])
                iam.delete_policy(PolicyArn=found["PolicyArn"])
        for name, document in documents.items():
            made = iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(document))
            arn = made["Policy"]["Arn"]
            iam.attach_role_policy(RoleName=name.split("-")[0], PolicyArn=arn)

    def environment(self, operator: str) -> dict[str, str]:
        role = f"arn:aws:iam::{ACCOUNT}:role/{operator}"
        keys = self.root("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        return {
            "AWS_ENDPOINT_URL": self.endpoint.url,
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
            "STOCKPIPE_TARGET": "aws",
            "STOCKPIPE_REGION": REGION,
            "PYTHONPATH": before_all_others(self.cli.home),
            recorded_calls.CALLER: operator,
        }

    def client_of(self, operator: str, service: str) -> Any:
        keys = self.environment(operator)
        return client(
            service,
            self.endpoint,
            key=keys["AWS_ACCESS_KEY_ID"],
            secret=keys["AWS_SECRET_ACCESS_KEY"],
            token=keys["AWS_SESSION_TOKEN"],
        )

    def run(self, operator: str, *arguments: str, code: int | None = 0) -> Result:
        """The command as this operator, as if this were AWS."""
        return self.cli(*arguments, env=self.environment(operator), code=code)

    def judged(self) -> set[Entry]:
        """What was judged, with the role's name for its session's ARN."""
        found = ledger.read(Places(self.cli.home).ledger)
        return {
            entry._replace(principal=entry.principal.split("/")[1])
            for entry in found
            if entry.action != "sts:GetCallerIdentity"  # cannot be denied
        }

    def called(self) -> set[tuple[str, str]]:
        roles = {function: role for role, function in FUNCTIONS.items()}
        found = recorded_calls.read(self.cli.home / recorded_calls.FILE)
        return {(roles.get(caller, caller), operation) for caller, operation in found}


def before_all_others(directory: Path) -> str:
    """PYTHONPATH with this directory first; it stays as it is where it has it already."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(
        [str(directory), *(one for one in others if one and one != str(directory))]
    )


@contextlib.contextmanager
def recording(home: Path) -> Iterator[Cloud]:
    """A cloud with its operators, who may do nothing yet."""
    with cleaned(home), pytest.MonkeyPatch.context() as environment:
        shutil.copy(recorded_calls.__file__, home / "sitecustomize.py")
        environment.setenv("PYTHONPATH", before_all_others(home))  # of server and functions
        places = Places(home)
        places.make()
        places.ledger.touch()
        cloud = Cloud(Cli(home), daemon.ensure_running(home))
        make_operators(cloud.root("iam"))
        yield cloud


def make_operators(iam: Any) -> None:
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": ACCOUNT}}
    for operator in OPERATORS:
        iam.create_role(RoleName=operator, AssumeRolePolicyDocument=json.dumps(policy(trust)))
    anything = policy({"Effect": "Allow", "Action": "*", "Resource": "*"})
    iam.create_policy(PolicyName="boundary", PolicyDocument=json.dumps(anything))


def live(cloud: Cloud) -> None:
    """A stack is made, used, looked at, spoiled by hand, mended, and changed."""
    cloud.run("provision", "provision", "--yes")
    leave_an_alert_that_turns_around(cloud)
    cloud.run("produce", "stream", *REPLAY, "--count", str(QUOTES))
    cloud.cli.settle()  # the archive is written by then
    cloud.run("produce", "stream", "--source", "archive:2008-07-01..2008-07-10")
    cloud.root("kinesis").put_record(StreamName=NAMES.stream, Data=b"no quote", PartitionKey="X")
    cloud.cli.settle()
    cloud.root("lambda").invoke(FunctionName=NAMES.trend_function, Payload=json.dumps(EVENT))
    interrupt_a_query(cloud)
    let_people_come_and_go(cloud)
    for arguments in (
        ("tail", "--no-follow"),
        ("tail", "AAPL", "--no-follow", "--anomalies"),
        ("query", "sample"),
        ("query", "--sql", "SELECT count(*) FROM stock_data_table WHERE day > '2009-01-01'"),
        ("alerts", "history"),
        ("alerts", "history", "AAPL"),
        ("alerts", "subscribers"),
        ("teardown", "--plan"),
    ):
        cloud.run("read", *arguments)
    cloud.run("read", "status", code=None)  # the alarm on quarantine may be on by now
    spoil(cloud)
    cloud.configure(CHANGED)
    cloud.run("read", "provision", "--plan")
    cloud.run("provision", "provision", "--yes")
    cloud.configure(f"shards = 2\n{CHANGED}")
    refused = cloud.run("provision", "provision", "--yes", code=1)
    assert "cannot reshard" in refused.err
    cloud.configure(LESS)
    cloud.run("provision", "provision", "--yes")
    for role in FUNCTIONS:  # their functions are replaced with them
        cloud.root("iam").delete_role_policy(RoleName=role, PolicyName="stockpipe")
        cloud.root("iam").delete_role(RoleName=role)
    cloud.run("provision", "provision", "--yes")


def end(cloud: Cloud) -> None:
    """It comes under a permissions boundary, and is removed.

    Roles that do not have it yet may be changed only after they were brought under it.
    """
    for role in FUNCTIONS:
        spoil_trust(cloud.root("iam"), role)
    cloud.run("provision", "provision", "--yes")
    clutter(cloud)
    cloud.run("teardown", "teardown", "--confirm", "default")


def leave_an_alert_that_turns_around(cloud: Cloud) -> None:
    """One of another kind where the sample's first crossing is, as if a late reading had come."""
    quotes = [quote for quote in read_csv("sample") if quote.symbol == "AAPL"]
    first, *_ = crossings([Reading(one.timestamp, one.price) for one in quotes], 5, 20)
    other = "death" if first.kind == "golden" else "golden"
    alert = Alert("AAPL", "crossover-5-20", replace(first, kind=other))
    key = {"symbol": {"S": alert.symbol}, "id": {"S": alert.id}}
    item = {**key, **values_of(alert), "status": {"S": SENT}}
    cloud.root("dynamodb").put_item(TableName=NAMES.alerts_table, Item=item)


def let_people_come_and_go(cloud: Cloud) -> None:
    """Somebody is told, of more, and no more; a queue as well; and all are sent a test."""
    cloud.root("sqs").create_queue(QueueName="alerts")
    person = ("--email", "three@example.com")
    for arguments in (
        ("subscribe", *person, "--symbol", "AAPL"),
        ("subscribe", *person, "--symbol", "MSFT"),
        ("subscribe", "--sqs", "alerts"),
        ("test",),
        ("unsubscribe", "three@example.com", "alerts"),
    ):
        cloud.run("alerts", "alerts", *arguments)


def interrupt_a_query(cloud: Cloud) -> None:
    """Ctrl-C while Athena works: the command stops the query."""
    running = subprocess.Popen(
        cloud.cli.command("query", "--sql", ENDLESS),
        env={**cloud.cli.environment(), **cloud.environment("read")},
        cwd=cloud.cli.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: ("read", "athena.GetQueryExecution") in cloud.called(), within_s=60)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said


def spoil(cloud: Cloud) -> None:
    """Everything that a hand can change, is changed by hand."""
    dynamodb, iam, s3 = (cloud.root(name) for name in ("dynamodb", "iam", "s3"))
    athena, lambda_, sns = (cloud.root(name) for name in ("athena", "lambda", "sns"))
    cloud.root("kinesis").stop_stream_encryption(
        StreamName=NAMES.stream, EncryptionType="KMS", KeyId="alias/aws/kinesis"
    )
    dynamodb.update_time_to_live(
        TableName=NAMES.alerts_table,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": "other"},
    )
    dynamodb.update_table(TableName=NAMES.alerts_table, DeletionProtectionEnabled=True)
    # Switched on again it is another stream, and needs another mapping.
    off = {"StreamEnabled": False}
    dynamodb.update_table(TableName=NAMES.table, StreamSpecification=off)
    dynamodb.update_continuous_backups(
        TableName=NAMES.alerts_table,
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
    )
    rules = s3.get_bucket_lifecycle_configuration(Bucket=NAMES.results_bucket)["Rules"]
    for rule in rules:
        rule["Expiration"]["Days"] += 1
    for bucket in (NAMES.data_bucket, NAMES.results_bucket):
        s3.delete_public_access_block(Bucket=bucket)
        s3.delete_bucket_policy(Bucket=bucket)
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=KMS)
        s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": rules}
        )
    for role in FUNCTIONS:
        spoil_role(iam, role)
    for mapping in lambda_.list_event_source_mappings()["EventSourceMappings"]:
        lambda_.update_event_source_mapping(UUID=mapping["UUID"], BatchSize=7)
    for topic in (NAMES.topic_arn, NAMES.operations_topic_arn):
        sns.set_topic_attributes(
            TopicArn=topic, AttributeName="DisplayName", AttributeValue="spoiled"
        )
    first, second, *_ = athena.list_named_queries(WorkGroup=NAMES.workgroup)["NamedQueryIds"]
    query = athena.get_named_query(NamedQueryId=first)["NamedQuery"]
    athena.create_named_query(**{n: v for n, v in query.items() if n != "NamedQueryId"})
    athena.delete_named_query(NamedQueryId=second)
    table = cloud.root("glue").get_table(DatabaseName=NAMES.database, Name=NAMES.glue_table)
    described = {
        name: table["Table"][name]
        for name in ("Name", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor")
    }
    described["StorageDescriptor"]["Location"] = "s3://elsewhere/"
    cloud.root("glue").update_table(DatabaseName=NAMES.database, TableInput=described)


def clutter(cloud: Cloud) -> None:
    """What a teardown finds in the way."""
    for bucket in (NAMES.data_bucket, NAMES.results_bucket):
        cloud.root("s3").create_multipart_upload(Bucket=bucket, Key="unfinished")
    for role in FUNCTIONS:
        cloud.root("iam").attach_role_policy(RoleName=role, PolicyArn=BOUNDARY)


def spoil_trust(iam: Any, role: str) -> None:
    nobody = {"Effect": "Deny", "Action": "sts:AssumeRole", "Principal": {"AWS": ACCOUNT}}
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(policy(nobody)))


def spoil_role(iam: Any, role: str) -> None:
    spoil_trust(iam, role)
    more = policy({"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"})
    iam.put_role_policy(RoleName=role, PolicyName="more", PolicyDocument=json.dumps(more))
    iam.attach_role_policy(RoleName=role, PolicyArn=BOUNDARY)
    iam.put_role_permissions_boundary(RoleName=role, PermissionsBoundary=BOUNDARY)
