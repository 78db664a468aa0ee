"""Only the keys of this installation open the embedded cloud: one refusal a way in."""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import ClientError
from embedded import REGION, bucket, cleaned, client, function, table

from stockpipe.aws import Endpoint
from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon
from stockpipe.local.emulator import parts as emulator
from stockpipe.local.home import Credentials, Places

pytest.importorskip("ministack")

CALLS = {
    "athena": lambda c: c.list_work_groups(),
    "cloudwatch": lambda c: c.list_metrics(),
    "dynamodb": lambda c: c.list_tables(),
    "dynamodbstreams": lambda c: c.list_streams(),
    "events": lambda c: c.list_rules(),
    "glue": lambda c: c.get_databases(),
    "iam": lambda c: c.list_roles(),
    "kinesis": lambda c: c.list_streams(),
    "lambda": lambda c: c.list_functions(),
    "logs": lambda c: c.describe_log_groups(),
    "s3": lambda c: c.list_buckets(),
    "sns": lambda c: c.list_topics(),
    "sts": lambda c: c.get_caller_identity(),
}
UNKNOWN = {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"}
WRONG = {"InvalidSignatureException", "SignatureDoesNotMatch"}
MISSING = {"MissingAuthenticationToken", "MissingAuthenticationTokenException", "AccessDenied"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cleaned(tmp_path_factory.mktemp("access")) as home:
        yield home


@pytest.fixture(scope="module")
def cloud(home: Path) -> Endpoint:
    return daemon.ensure_running(home)


def refused(call: Any) -> tuple[str, int]:
    """The code and status of a call that must fail in a way that its SDK understands."""
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def http_call(
    cloud: Endpoint, method: str, path: str, headers: dict[str, str] | None = None, body: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(cloud.url).netloc, timeout=10)
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def signed(cloud: Endpoint, method: str, path: str, service: str = "s3") -> dict[str, str]:
    request = AWSRequest(method, cloud.url + path, data=b"")
    keys = BotoCredentials(cloud.access_key_id, cloud.secret_access_key)
    SigV4Auth(keys, service, REGION).add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("service", sorted(CALLS))
def test_our_keys_are_let_in(cloud: Endpoint, service: str) -> None:
    CALLS[service](client(service, cloud))


@pytest.mark.parametrize("service", sorted(CALLS))
@pytest.mark.parametrize("key", ["test", "123456789012", "000000000000", "AKIAIOSFODNN7EXAMPLE"])
def test_a_key_that_is_not_ours_is_refused(cloud: Endpoint, service: str, key: str) -> None:
    code, status = refused(lambda: CALLS[service](client(service, cloud, key=key, secret="test")))
    assert code in UNKNOWN
    assert status in (400, 403)


@pytest.mark.parametrize("service", sorted(CALLS))
def test_a_wrong_secret_is_refused(cloud: Endpoint, service: str) -> None:
    wrong = cloud.secret_access_key[:-1] + "!"
    code, status = refused(lambda: CALLS[service](client(service, cloud, secret=wrong)))
    assert code in WRONG
    assert status in (400, 403)


@pytest.mark.parametrize("service", sorted(CALLS))
def test_a_call_without_a_signature_is_refused(cloud: Endpoint, service: str) -> None:
    anonymous = client(service, cloud, signature_version=UNSIGNED)
    code, status = refused(lambda: CALLS[service](anonymous))
    assert code in MISSING
    assert status in (400, 403)


def test_our_key_with_a_session_token_is_refused(cloud: Endpoint) -> None:
    code, _ = refused(lambda: client("dynamodb", cloud, token="made-up").list_tables())
    assert code in UNKNOWN


def test_unsigned_s3_reads_and_writes_are_refused(cloud: Endpoint) -> None:
    s3 = bucket(cloud, "private-1")
    s3.put_object(Bucket="private-1", Key="a", Body=b"secret")
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        status, body = http_call(cloud, method, "/private-1/a")
        assert status == 403
        assert b"secret" not in body
    assert s3.get_object(Bucket="private-1", Key="a")["Body"].read() == b"secret"


def test_a_presigned_link_works_until_it_is_changed(cloud: Endpoint) -> None:
    s3 = bucket(cloud, "shared-1")
    s3.put_object(Bucket="shared-1", Key="a b", Body=b"shown")
    s3.put_object(Bucket="shared-1", Key="other", Body=b"hidden")
    v4 = client("s3", cloud, signature_version="s3v4", s3={"addressing_style": "path"})
    link = v4.generate_presigned_url(
        "get_object", Params={"Bucket": "shared-1", "Key": "a b"}, ExpiresIn=60
    )
    with urllib.request.urlopen(link) as answer:  # noqa: S310 - http to ourselves
        assert answer.read() == b"shown"
    for changed in (link.replace("a%20b", "other"), link[:-1] + "x", link.replace("=60", "=6000")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(changed)  # noqa: S310
        assert caught.value.code == 403
        caught.value.close()
    foreign = client("s3", cloud, key="test", secret="test", signature_version="s3v4")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(  # noqa: S310
            foreign.generate_presigned_url(
                "get_object", Params={"Bucket": "shared-1", "Key": "other"}
            )
        )
    assert caught.value.code == 403
    caught.value.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_ministack/reset"),
        ("POST", "/_ministack/config"),
        ("PUT", "/_ministack/cfn-response/x"),
        ("POST", "/_ministack/rds/iam-auth"),
        ("GET", "/_ministack/sns/sms-messages"),
        ("GET", "/_ministack/lambda-code/f"),
        ("GET", "/_localstack/info"),
        ("POST", "/_ministack/ready"),
    ],
)
def test_the_emulators_own_routes_are_closed(cloud: Endpoint, method: str, path: str) -> None:
    table_name = f"kept-{hashlib.md5((method + path).encode()).hexdigest()}"  # noqa: S324
    dynamodb = table(cloud, table_name)
    status, _ = http_call(cloud, method, path, body="{}")
    assert status == 403
    assert table_name in dynamodb.list_tables()["TableNames"]


def test_even_our_signature_does_not_wipe(cloud: Endpoint) -> None:
    for path in ("/_ministack/reset", "/_ministack/config"):
        status, _ = http_call(cloud, "POST", path, headers=signed(cloud, "POST", path))
        assert status == 403


def test_reading_the_emulators_list_of_sms_takes_our_signature(cloud: Endpoint) -> None:
    path = "/_ministack/sns/sms-messages"
    status, _ = http_call(cloud, "GET", path, headers=signed(cloud, "GET", path))
    assert status == 200


def test_readiness_is_open_and_says_nothing_else(cloud: Endpoint) -> None:
    assert http_call(cloud, "GET", "/_ministack/ready")[0] == 200
    assert cloud.access_key_id.encode() not in http_call(cloud, "GET", "/_ministack/health")[1]


def test_guessed_role_credentials_are_refused(cloud: Endpoint) -> None:
    source = "import boto3\ndef handle(event, context): return 'ok'\n"
    functions = function(cloud, "guessed", source)
    functions.invoke(FunctionName="guessed")
    config = functions.get_function_configuration(FunctionName="guessed")
    digest = hashlib.sha256(f"{config['FunctionArn']}:{config['Role']}".encode()).hexdigest()
    guess = client(
        "sts",
        cloud,
        key=f"ASIA{digest[:16].upper()}",
        secret=hashlib.sha256(f"secret:{digest}".encode()).hexdigest(),
        token=hashlib.sha256(f"token:{digest}".encode()).hexdigest(),
    )
    code, _ = refused(guess.get_caller_identity)
    assert code in UNKNOWN


def test_a_function_acts_as_its_role_and_only_as_that(cloud: Endpoint) -> None:
    source = """
import boto3
from botocore.exceptions import ClientError

def handle(event, context):
    who = boto3.client("sts").get_caller_identity()["Arn"]
    try:
        boto3.client("dynamodb").list_tables()
    except ClientError as error:
        return [who, error.response["Error"]["Code"]]
    return [who, "let in"]
"""
    answer = function(cloud, "actor", source).invoke(FunctionName="actor")
    who, code = json.loads(answer["Payload"].read())
    assert who == "arn:aws:sts::000000000000:assumed-role/actor-role/actor"
    assert code == "AccessDeniedException"


def test_keys_made_with_iam_and_sts_work_and_are_checked(cloud: Endpoint) -> None:
    iam = client("iam", cloud)
    iam.create_user(UserName="reader")
    iam.put_user_policy(
        UserName="reader",
        PolicyName="p",
        PolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
        '"Action":"dynamodb:ListTables","Resource":"*"}]}',
    )
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    key, secret = made["AccessKeyId"], made["SecretAccessKey"]
    client("dynamodb", cloud, key=key, secret=secret).list_tables()
    code, _ = refused(client("kinesis", cloud, key=key, secret=secret).list_streams)
    assert code == "AccessDeniedException"
    code, _ = refused(client("dynamodb", cloud, key=key, secret="x" * 40).list_tables)
    assert code in WRONG

    session = client("sts", cloud).get_session_token()["Credentials"]
    with_token = {
        "key": session["AccessKeyId"],
        "secret": session["SecretAccessKey"],
        "token": session["SessionToken"],
    }
    client("dynamodb", cloud, **with_token).list_tables()
    code, _ = refused(client("dynamodb", cloud, **{**with_token, "token": "no"}).list_tables)
    assert code in UNKNOWN


def test_the_keys_are_ours_alone(home: Path, cloud: Endpoint) -> None:
    places = Places(home)
    assert places.local.stat().st_mode & 0o777 == 0o700
    assert places.credentials.stat().st_mode & 0o777 == 0o600
    assert cloud.access_key_id.startswith("AKIA")
    assert len(cloud.access_key_id) == 20
    keys = Credentials.load(places.credentials)
    assert keys is not None
    assert keys.secret_access_key not in repr(keys)
    assert keys.seed not in repr(keys)


def test_a_name_that_the_emulator_no_longer_has_is_refused_at_start() -> None:
    with pytest.raises(LocalCloudError, match=r"json\.gone"):
        emulator.replace(json, "gone", None)
