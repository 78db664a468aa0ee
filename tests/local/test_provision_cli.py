"""``provision`` and ``teardown`` as a user calls them, on the embedded cloud."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned
from stockpipe_cli import Cli

from stockpipe.infra.plan import Action, Change, plan_provision, plan_teardown
from stockpipe.local import daemon

pytest.importorskip("ministack")

SMALL = 'alarms = false\ndashboard = false\nsweep = "off"'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cleaned(tmp_path_factory.mktemp("provision")) as home:
        daemon.ensure_running(home)
        yield home


@pytest.fixture(scope="module")
def document(home: Path) -> dict[str, Any]:
    """What the first ``provision`` of the shared stack said."""
    said: dict[str, Any] = json.loads(Cli(home, stack="shared")("provision", "--json").out)
    return said


@pytest.fixture
def shared(home: Path, document: dict[str, Any]) -> Iterator[Cli]:
    """The stack that the tests share: each finds it as it was made, and may change it."""
    cli = Cli(home, stack="shared")
    yield cli
    settings(cli, "")
    cli.make()


@pytest.fixture
def cli(home: Path, document: dict[str, Any], request: pytest.FixtureRequest) -> Iterator[Cli]:
    """A stack of the test's own, not made; the shared one keeps the cloud alive."""
    cli = Cli(home, stack=f"t{zlib.crc32(request.node.name.encode()) % 10**6}")
    yield cli
    settings(cli, "")


def settings(cli: Cli, text: str) -> None:
    (cli.home / "stockpipe.toml").write_text(text)


def pending(cli: Cli) -> list[Change]:
    """What another ``provision`` would do, asked without starting the program."""
    return plan_provision(cli.resources()).pending


def left(cli: Cli) -> list[str]:
    return [change.resource.id for change in pending(cli)]


def test_a_plan_changes_nothing_and_its_exit_code_tells_whether_there_are_changes(
    cli: Cli, shared: Cli
) -> None:
    before = cli("provision", "--plan", "--json", "--detailed-exitcode", code=3).out
    assert json.loads(before)["summary"]["keep"] == 0
    cli("teardown", "--plan", "--detailed-exitcode", code=0)
    assert cli("provision", "--plan", "--json").out == before
    shared("teardown", "--plan", "--detailed-exitcode", code=3)
    shared("provision", "--plan", "--detailed-exitcode", code=0)


def test_it_ends_with_what_other_tools_need(home: Path, document: dict[str, Any]) -> None:
    arns = {one["name"]: one["arn"] for one in document["outputs"]}
    names = Cli(home, stack="shared").aws.names
    assert arns[names.topic] == names.topic_arn
    assert arns[names.stream] == names.stream_arn
    assert document["summary"]["create"] > 0


CHANGED_SETTINGS: list[dict[str, dict[str, set[str]]]] = [
    {
        "batch_size = 100": {"mapping": {"batch_size"}},
        "log_retention_days = 30": {"log-group": {"retention_days"}},
        "stream_retention_hours = 48": {"stream": {"retention_hours"}},
        "ttl_days = 30": {"table": {"ttl"}, "function": {"environment"}},
        "query_limit_mb = 50": {"workgroup": {"cutoff_bytes"}},
    },
    {
        "stream_mode = 'provisioned'\nshards = 1": {"stream": {"mode"}},
        "point_in_time_recovery = true": {"table": {"pitr"}},
        "reserved_concurrency = 2": {"function": {"reserved_concurrency"}},
        "sweep = '10m'": {"rule": {"schedule", "target"}, "alarm": {"period_s"}},
    },
    {
        "deletion_protection = true": {"table": {"deletion_protection"}},
        "anomaly_percent = 3": {"function": {"environment"}},
    },
    {"notify_max_age = 'off'": {"function": {"environment"}}},
    {"[[rules]]\nkind = 'crossover'\nfast = 3\nslow = 9": {"function": {"code"}}},
]
"""What each changes, in groups of which no two change the same."""


def test_each_setting_changes_just_what_it_concerns_in_place_and_is_converged(shared: Cli) -> None:
    for group in CHANGED_SETTINGS:
        settings(shared, "\n".join(group))
        expected = {kind: names for one in group.values() for kind, names in one.items()}
        found = pending(shared)
        assert {change.action for change in found} == {Action.UPDATE}, group
        assert {change.resource.kind for change in found} == set(expected), group
        for change in found:
            assert set(change.settings) == expected[change.resource.kind], group
    for wanted in ("\n".join(text for group in CHANGED_SETTINGS for text in group), ""):
        settings(shared, wanted)
        shared.make()
        assert left(shared) == []


def test_what_is_switched_off_is_deleted(shared: Cli) -> None:
    settings(shared, SMALL)
    found = pending(shared)
    assert {change.action for change in found} == {Action.DELETE}
    assert {change.resource.kind for change in found} == {"alarm", "dashboard", "rule"}
    shared("provision")
    assert left(shared) == []
    healthy = json.loads(shared("status", "--json").out)
    assert healthy["healthy"]


def test_too_much_reserved_concurrency_is_refused_before_anything_is_done(cli: Cli) -> None:
    settings(cli, "reserved_concurrency = 500")
    refused = cli("provision", code=1)
    assert "would leave" in refused.err
    settings(cli, "")
    assert {change.action for change in plan_provision(cli.resources()).changes} == {Action.CREATE}


def test_recipients_are_added_by_flags_and_settings_and_never_removed(shared: Cli) -> None:
    settings(shared, 'emails = ["first@example.com"]')
    told = shared("provision", "--sms", "+1 555 010 0199")
    assert "outbox" in told.err
    settings(shared, "")
    shared("provision", "--email", "second@example.com")
    sns = shared.aws.client("sns")
    found = sns.list_subscriptions_by_topic(TopicArn=shared.aws.names.topic_arn)
    assert sorted(one["Endpoint"] for one in found["Subscriptions"]) == [
        "+15550100199",
        "first@example.com",
        "second@example.com",
    ]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--email", "nobody"), "--email: must be an e-mail address"),
        (("--sms", "555"), "--sms: must be a number with its country's code"),
    ],
)
def test_a_malformed_recipient_is_refused(cli: Cli, flags: tuple[str, str], says: str) -> None:
    assert says in cli("provision", *flags, code=2).err


def test_foreign_things_are_named_adopted_and_then_kept_unless_included(cli: Cli) -> None:
    aws, names = cli.aws, cli.aws.names
    s3, bucket = aws.client("s3"), names.results_bucket
    settings(cli, SMALL)
    aws.client("logs").create_log_group(logGroupName=names.process_log_group)
    aws.client("dynamodb").create_table(
        TableName=names.table,
        KeySchema=[
            {"AttributeName": "symbol", "KeyType": "HASH"},
            {"AttributeName": "timestamp", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "symbol", "AttributeType": "S"},
            {"AttributeName": "timestamp", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    place = {"LocationConstraint": names.region}
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
    s3.put_object(Bucket=bucket, Key="mine", Body=b"x")
    refused = cli("provision", code=1)
    for foreign in (f"table {names.table}", f"log-group {names.process_log_group}", bucket):
        assert foreign in refused.err
    assert "--adopt" in refused.err
    assert "--stack" in refused.err
    assert plan_teardown(cli.resources()).changes == ()
    assert names.stream not in aws.client("kinesis").list_streams()["StreamNames"]

    refused = cli("provision", "--adopt", code=1)
    assert "it holds objects, which would expire in 7 days" in refused.err
    s3.delete_object(Bucket=bucket, Key="mine")
    cli("provision", "--adopt")
    assert left(cli) == []

    s3.put_object(Bucket=bucket, Key="mine", Body=b"x")
    _, _, kept = cli("teardown").err.partition("Kept:")
    assert f"table {names.table}" in kept
    assert f"bucket {bucket}" in kept
    assert s3.head_object(Bucket=bucket, Key="mine")

    cli.make()  # picks it up again
    cli("teardown", "--include", "nothing", code=2)
    included = [f"--include={name}" for name in (names.table, names.process_log_group, bucket)]
    assert "Kept" not in cli("teardown", *included).err


def test_kept_data_are_picked_up_by_the_next_provision(shared: Cli) -> None:
    s3, bucket = shared.aws.client("s3"), shared.aws.names.data_bucket
    s3.put_object(Bucket=bucket, Key="raw-data/kept", Body=b"x")
    told = shared("teardown", "--keep-data")
    assert f"bucket {bucket}" in told.err
    shared.make()
    found = s3.list_objects_v2(Bucket=bucket, Prefix="raw-data/kept")
    assert [entry["Key"] for entry in found["Contents"]] == ["raw-data/kept"]


def test_what_is_protected_stops_the_teardown(shared: Cli) -> None:
    settings(shared, "deletion_protection = true")
    shared.make()
    refused = shared("teardown", code=1)
    assert "Nothing was deleted" in refused.err
    assert left(shared) == []
    settings(shared, "")
    shared.make()
    assert {change.action for change in plan_teardown(shared.resources()).changes} == {
        Action.DELETE
    }


def test_an_interrupt_says_what_stands_and_the_next_run_goes_on(cli: Cli) -> None:
    settings(cli, SMALL)
    for end in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            cli.command("provision"),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=cli.environment(),
            cwd=cli.home,
            text=True,
        ) as running:
            assert running.stderr is not None
            for line in running.stderr:
                if "done" in line:
                    os.kill(running.pid, end)
                    break
            rest = running.stderr.read()
        assert running.returncode in (0, 130), rest  # it may have been through before the signal
        if running.returncode == 130:
            assert "Interrupted:" in rest
            assert "goes on from here" in rest
    cli("provision")
    assert left(cli) == []


def test_a_role_made_anew_takes_its_function_along_and_records_flow_on(
    shared: Cli, tmp_path: Path
) -> None:
    """On AWS a function cannot read its environment under another role of the same name."""
    iam, names = shared.aws.client("iam"), shared.aws.names
    iam.delete_role_policy(RoleName=names.process_role, PolicyName="stockpipe")
    iam.delete_role(RoleName=names.process_role)
    found = {(change.resource.kind, change.resource.name): change for change in pending(shared)}
    assert found["role", names.process_role].action is Action.CREATE
    replaced = found["function", names.process_function]
    assert (replaced.action, list(replaced.settings)) == (Action.REPLACE, ["role_as_made"])
    assert "made anew" in replaced.reason
    shared("provision")
    assert left(shared) == []
    file = tmp_path / "one.csv"
    file.write_text(
        "symbol,timestamp,open,high,low,close,volume\nAAPL,2022-03-14T13:30:00Z,1,2,1,2,100\n"
    )
    shared("stream", "--source", f"replay:{file}", "--speed", "max")
    shared.settle()
    assert [item["timestamp"]["S"] for item in shared.items()] == ["2022-03-14T13:30:00.000Z"]
