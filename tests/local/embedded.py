"""What the tests of the embedded cloud's process share: a home of their own, and its clean-up."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import uuid
import weakref
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.local import daemon, processes
from stockpipe.local.home import Places, ServerRecord

T = TypeVar("T")
REGION = "us-east-2"
_clients: weakref.WeakSet[Any] = weakref.WeakSet()


@contextlib.contextmanager
def cleaned(home: Path) -> Iterator[Path]:
    """A home whose processes are gone afterwards, whatever the test did."""
    try:
        yield home
    finally:
        kill(home)


def servers(home: Path) -> list[int]:
    """The servers of a home; not what one forks to write a snapshot, which looks the same."""
    found = processes.naming(f"stockpipe.local.server {home}")
    return [pid for pid in found if _leads_a_session(pid)]


def _leads_a_session(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid) == pid
    return False


def kill(home: Path) -> None:
    """End the server at once, and its functions, as a crash of the machine would."""
    functions = processes.functions(Places(home).tmp)
    for pid in servers(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not daemon.status(home).running)
    for pid in functions:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _close_clients(home)


def _close_clients(home: Path) -> None:
    """Or their sockets pile up, until a process may have no more; who is used again reconnects."""
    record = ServerRecord.load(Places(home).server)
    for one in list(_clients):
        if record and one.meta.endpoint_url.endswith(f":{record.port}"):
            one.close()


def client(
    service: str,
    endpoint: Endpoint,
    *,
    key: str | None = None,
    secret: str | None = None,
    token: str | None = None,
    **config: Any,
) -> Any:
    """A client of a running cloud that does not retry; by default with its own keys."""
    made = boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=endpoint.url,
        region_name=REGION,
        aws_access_key_id=endpoint.access_key_id if key is None else key,
        aws_secret_access_key=endpoint.secret_access_key if secret is None else secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, **config),
    )
    _clients.add(made)
    return made


def bucket(endpoint: Endpoint, name: str) -> Any:
    """The S3 client, after making a bucket."""
    s3 = client("s3", endpoint)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return s3


def table(endpoint: Endpoint, name: str) -> Any:
    """The DynamoDB client, after making a table with a stream."""
    dynamodb = client("dynamodb", endpoint)
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    return dynamodb


def function(endpoint: Endpoint, name: str, source: str) -> Any:
    """The Lambda client, after deploying ``source`` with a role that may do nothing."""
    iam = client("iam", endpoint)
    role = iam.create_role(
        RoleName=f"{name}-role",
        AssumeRolePolicyDocument=(
            '{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
            '"Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}'
        ),
    )["Role"]["Arn"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("handler.py", source)
    functions = client("lambda", endpoint, read_timeout=90)
    functions.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=role,
        Handler="handler.handle",
        Code={"ZipFile": packed.getvalue()},
        Timeout=60,
    )
    return functions


def inbox(endpoint: Endpoint, topic: str) -> Callable[[], str]:
    """A queue that the topic may send to; out: what takes its next message, if there is one."""
    sqs = client("sqs", endpoint)
    url = sqs.create_queue(QueueName=f"inbox-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn["QueueArn"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    client("sns", endpoint).subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])

    def receive() -> str:
        for message in sqs.receive_message(QueueUrl=url).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return str(json.loads(message["Body"])["Message"])
        return ""

    return receive
