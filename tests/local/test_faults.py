"""AWS throttles, fails, drops connections and settles late: provisioning gets there all the same.

Every test says how often its faults must have hit: a fault that hit nothing has proved nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import cleaned
from fault_proxy import Faults, Rule, error, fault_proxy, operations
from inventory import difference, inventory
from provision_child import Job, Outcome
from provision_here import Here
from stockpipe_cli import Cli

from stockpipe.aws import Aws
from stockpipe.infra.apply import is_eventual
from stockpipe.local import daemon

pytest.importorskip("ministack")
pytest.importorskip("microburst")

BOTOCORE_ATTEMPTS = 6
"""Of one call, the first included, with ``max_attempts`` 5."""
_NOT_ASSUMABLE = "The role defined for the function cannot be assumed by Lambda."
_NO_ACCESS = (
    "Cannot access stream. Please ensure the role can perform the GetRecords, GetShardIterator, "
    "DescribeStream, ListShards, and ListStreams Actions on your stream in IAM."
)
_UPDATING = "The operation cannot be performed at this time. An update is in progress."
_MAPPING_BUSY = "Cannot delete the event source mapping because it is in use."
_TOO_MANY_TABLES = (
    "Subscriber limit exceeded: Only 10 tables can be created, updated, or deleted simultaneously"
)
_CONFLICTING = (
    "A conflicting conditional operation is currently in progress against this resource. "
    "Please try again."
)
_SHARD_LIMIT = "This request would exceed the shard limit for the account 000000000000 in us-east-2"
_QUOTA = "Cannot exceed quota for RolesPerAccount: 1000"

SETTLING_AT_PROVISION = (
    error("lambda", "CreateFunction", "InvalidParameterValueException", _NOT_ASSUMABLE, times=5),
    error(
        "lambda", "CreateEventSourceMapping", "InvalidParameterValueException", _NO_ACCESS, times=3
    ),
    error("dynamodb", "CreateTable", "LimitExceededException", _TOO_MANY_TABLES, times=3),
    error("kinesis", "StartStreamEncryption", "ResourceInUseException", "CREATING", times=2),
    error("kinesis", "CreateStream", "LimitExceededException", "Rate exceeded", times=2),
    error("s3", "CreateBucket", "OperationAborted", _CONFLICTING, times=2, status=409),
    error("s3", "PutBucketPolicy", "OperationAborted", _CONFLICTING, times=2, status=409),
    error("logs", "CreateLogGroup", "OperationAbortedException", _CONFLICTING, times=2),
    error("glue", "CreateTable", "ConcurrentModificationException", "Being changed", times=2),
    error("iam", "PutRolePolicy", "ConcurrentModification", "Try again", times=2, status=409),
)
SETTLING_AT_TEARDOWN = (
    error("lambda", "DeleteEventSourceMapping", "ResourceInUseException", _MAPPING_BUSY, times=3),
    error("lambda", "DeleteFunction", "ResourceConflictException", _UPDATING, times=2, status=409),
    error("dynamodb", "DeleteTable", "ResourceInUseException", "Being created", times=3),
    error("kinesis", "DeleteStream", "ResourceInUseException", "Being updated", times=2),
    error("s3", "DeleteBucket", "BucketNotEmpty", "Not empty", times=2, status=409),
    error("iam", "DeleteRole", "DeleteConflict", "Delete policies first", times=2, status=409),
)
THROTTLES = {
    "athena": ("ThrottlingException", 400),
    "cloudwatch": ("Throttling", 400),
    "dynamodb": ("ThrottlingException", 400),
    "events": ("ThrottlingException", 400),
    "glue": ("ThrottlingException", 400),
    "iam": ("Throttling", 400),
    "kinesis": ("ThrottlingException", 400),
    "lambda": ("TooManyRequestsException", 429),
    "logs": ("ThrottlingException", 400),
    "s3": ("SlowDown", 503),
    "sns": ("Throttling", 400),
    "sts": ("Throttling", 400),
}
"""What each service says, and with which status."""


@dataclass
class World:
    """Provisioning through the proxy; looking past it."""

    home: Path
    faults: Faults
    here: Here
    aws: Aws
    empty: list[str]
    whole: list[str] = field(default_factory=list)
    provision_calls: set[str] = field(default_factory=set)
    teardown_calls: set[str] = field(default_factory=set)
    """``service:Operation`` of everything that is called."""
    left: bool | None = None
    """Whether a whole stack stands; None: the test has not come to look."""

    def __call__(self, do: str, **job: Any) -> Outcome:
        self.left = None
        return self.here.one(do, **job)

    def done(self, do: str, **job: Any) -> Outcome:
        outcome = self(do, **job)
        assert (outcome.code, outcome.said) == (0, "")
        return outcome

    def stands(self) -> None:
        """The stack is whole, and a plan without faults is empty."""
        self.faults.set()
        assert self("plan").pending == []
        assert difference(inventory(self.aws.client), self.whole) == []
        self.left = True

    def gone(self) -> None:
        assert difference(inventory(self.aws.client), self.empty) == []
        self.left = False

    def cli(self, *arguments: str, code: int = 0) -> str:
        """The command itself on target aws, led through the proxy by the environment alone."""
        self.left = None
        endpoint = self.faults.endpoint
        environment = {
            "AWS_ENDPOINT_URL": endpoint.url,
            "AWS_ACCESS_KEY_ID": endpoint.access_key_id,
            "AWS_SECRET_ACCESS_KEY": endpoint.secret_access_key,
        }
        return Cli(self.home)("--target", "aws", *arguments, code=code, env=environment).err


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cleaned(tmp_path_factory.mktemp("faults")) as home:
        cloud = daemon.ensure_running(home)
        aws = Here(cloud).aws()
        with fault_proxy(cloud, home / "microburst.log") as faults:
            yield World(home, faults, Here(faults.endpoint), aws, inventory(aws.client))


@pytest.fixture(scope="module")
def slow(world: World) -> dict[str, Outcome]:
    """The first provisioning and teardown, from which the other tests know all the calls."""
    world.faults.set({"service": "*", "latency": {"min": 50, "max": 200}})
    made = world.done("provision")
    world.provision_calls = operations(made.calls)
    assert set(world.faults.hits()) == world.provision_calls
    planned = world.done("plan")
    world.whole = inventory(world.aws.client)
    world.faults.set({"service": "*", "latency": {"min": 50, "max": 200}})
    removed = world.done("teardown")
    world.teardown_calls = operations(removed.calls)
    assert set(world.faults.hits()) == world.teardown_calls
    world.gone()
    return {"provision": made, "plan": planned, "teardown": removed}


@pytest.fixture
def empty(world: World, slow: object) -> World:
    """No faults, and no stack; mostly the test before has left it so."""
    world.faults.set()
    if world.left is not False:
        world.done("teardown")
        world.gone()
    return world


@pytest.fixture
def stack(world: World, slow: object) -> World:
    """No faults, and a whole stack; mostly the test before has left it so."""
    world.faults.set()
    if world.left is not True:
        world.done("provision")
        world.stands()
    return world


def once(calls: set[str], *effects: Callable[[str], Rule]) -> list[Rule]:
    """One rule per operation, in force for the first call of it, with the effects in turn."""
    rules = []
    for call, effect in zip(sorted(calls), cycle(effects), strict=False):
        service, _, operation = call.partition(":")
        rules.append({"service": service, "operation": operation, "times": 1, **effect(service)})
    return rules


def throttled(service: str) -> Rule:
    code, status = THROTTLES[service]
    return {"error": {"code": code, "status": status, "message": "Rate exceeded"}}


def broken(service: str) -> Rule:
    return {"error": {"code": "InternalFailure", "status": 500, "message": "We have a problem."}}


def cut_off(service: str) -> Rule:
    """The connection is reset, and the call never arrives."""
    return {"reset": True}


def unanswered(service: str) -> Rule:
    """The work is done, and the connection is reset before its answer."""
    return {"response": {"abort_bytes": 0}}


@pytest.mark.parametrize(
    ("code", "message", "passes"),
    [
        ("LimitExceededException", "Rate exceeded for stream s under account 1", True),
        ("LimitExceededException", _TOO_MANY_TABLES, True),
        ("LimitExceededException", _SHARD_LIMIT, False),
        ("LimitExceededException", _QUOTA, False),
        ("InvalidParameterValueException", _NOT_ASSUMABLE, True),
        ("InvalidParameterValueException", "Unsupported runtime", False),
        ("AccessDeniedException", "User is not authorized to perform: x", False),
    ],
)
def test_what_passes_by_itself_is_told_from_what_does_not_by_code_and_message(
    code: str, message: str, passes: bool
) -> None:
    refusal = ClientError({"Error": {"Code": code, "Message": message}}, "Operation")
    assert is_eventual(refusal) is passes


def test_slow_services_only_take_longer(slow: dict[str, Outcome]) -> None:
    assert slow["provision"].writes
    assert slow["plan"].pending == []
    assert slow["teardown"].writes


def test_an_answer_that_is_lost_after_the_work_was_done_makes_nothing_twice(empty: World) -> None:
    empty.faults.set(*once(empty.provision_calls, unanswered))
    empty.done("provision")
    assert empty.faults.hits() == dict.fromkeys(empty.provision_calls, 1)
    empty.stands()


def test_an_answer_that_is_lost_after_something_was_deleted_deletes_the_rest_all_the_same(
    stack: World,
) -> None:
    stack.faults.set(*once(stack.teardown_calls, unanswered))
    stack.done("teardown")
    assert stack.faults.hits() == dict.fromkeys(stack.teardown_calls, 1)
    stack.gone()


def test_what_still_settles_at_provisioning_is_waited_for(empty: World) -> None:
    empty.faults.set(*SETTLING_AT_PROVISION)
    empty.done("provision")
    assert empty.faults.hits() == _times(SETTLING_AT_PROVISION)
    empty.stands()


def test_throttles_that_outlast_botocore_are_outlasted_in_reading_and_in_making(
    stack: World,
) -> None:
    """Two stacks at the same time, because botocore alone takes its 15 seconds to give up."""
    times, dev = BOTOCORE_ATTEMPTS + 1, stack.here.aws("dev").names
    stack.aws.client("sns").delete_topic(TopicArn=stack.aws.names.topic_arn)
    making = error("sns", "CreateTopic", "Throttling", "Rate exceeded", times=times)
    reading = error("iam", "GetRole", "Throttling", "Rate exceeded", times=times)
    stack.faults.set(making, reading | {"body": f"RoleName == '{dev.trend_role}'"})
    made, looked = stack.here(Job("provision"), Job("plan", stack="dev"))
    assert (made.code, made.said, looked.code, looked.said) == (0, "", 0, "")
    assert stack.faults.hits() == {"sns:CreateTopic": times, "iam:GetRole": times}
    stack.stands()


def test_a_function_that_is_still_updated_is_waited_for(stack: World) -> None:
    busy = error(
        "lambda",
        "UpdateFunctionConfiguration",
        "ResourceConflictException",
        _UPDATING,
        times=3,
        status=409,
    )
    function = stack.aws.names.process_function
    stack.aws.client("lambda").update_function_configuration(FunctionName=function, Timeout=1)
    stack.faults.set(busy)
    stack.done("provision")
    assert stack.faults.hits() == _times((busy,))
    stack.stands()


def test_what_still_settles_at_teardown_is_waited_for(stack: World) -> None:
    stack.faults.set(*SETTLING_AT_TEARDOWN)
    stack.done("teardown")
    assert stack.faults.hits() == _times(SETTLING_AT_TEARDOWN)
    stack.gone()


def test_what_is_refused_is_named_at_once_the_rest_is_done_and_the_next_run_resumes(
    empty: World,
) -> None:
    names = empty.aws.names
    reason = "User: arn:aws:iam::000000000000:user/u is not authorized: dynamodb:CreateTable"
    refused = error("dynamodb", "CreateTable", "AccessDeniedException", reason, times=99)
    empty.faults.set(refused)
    said = empty.cli("provision", "--yes", code=1)
    assert f"table {names.table}" in said
    assert f"table {names.alerts_table}" in said
    assert reason in said
    assert empty.faults.hits() == {"dynamodb:CreateTable": 2}
    empty.faults.set()
    resumed = empty.done("provision")
    left = {line.split()[1] for line in resumed.pending}
    assert {"table", "mapping"} <= left
    assert left.isdisjoint({"stream", "bucket", "topic", "function", "role", "workgroup"})
    empty.stands()


def test_the_command_gets_there_though_every_operation_is_throttled_fails_or_is_cut_off_once(
    stack: World,
) -> None:
    stack.faults.set(*once(stack.teardown_calls, cut_off, throttled, broken))
    stack.cli("teardown", "--confirm", "default")
    hits = stack.faults.hits()
    assert {call: hits[call] for call in stack.teardown_calls if hits[call] != 1} == {}
    stack.gone()
    stack.faults.set(*once(stack.provision_calls, throttled, broken, cut_off))
    assert "Provisioned aws" in stack.cli("provision", "--yes")
    hits = stack.faults.hits()
    assert {call: hits[call] for call in stack.provision_calls if hits[call] != 1} == {}
    stack.stands()


def _times(rules: tuple[Rule, ...]) -> dict[str, int]:
    return {f"{rule['service']}:{rule['operation']}": rule["times"] for rule in rules}
