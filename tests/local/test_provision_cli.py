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

from stockpipe.infra.plan import plan_provision

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cleaned(tmp_path_factory.mktemp("provision")) as home:
        yield home


@pytest.fixture(scope="module", autouse=True)
def running(home: Path) -> None:
    Cli(home, stack="anchor")("provision", cold=True)


@pytest.fixture
def cli(home: Path, request: pytest.FixtureRequest) -> Iterator[Cli]:
    """A stack of its own per test, on one embedded cloud that another stack keeps alive."""
    cli = Cli(home, stack=f"t{zlib.crc32(request.node.name.encode()) % 10**6}")
    try:
        yield cli
    finally:
        (home / "stockpipe.toml").unlink(missing_ok=True)


@pytest.fixture
def made(cli: Cli) -> Cli:
    """As ``cli``, with its stack made."""
    cli.make()
    return cli


def settings(cli: Cli, text: str) -> None:
    (cli.home / "stockpipe.toml").write_text(text)


def planned(cli: Cli, *flags: str) -> dict[str, Any]:
    """The pending changes by kind and name."""
    plan = json.loads(cli("provision", "--plan", "--json", *flags).out)
    return {
        f"{change['kind']} {change['name']}": change
        for change in plan["changes"]
        if change["action"] != "keep"
    }


def left(cli: Cli) -> list[str]:
    """What another ``provision`` would do, asked without starting the program."""
    return [change.resource.id for change in plan_provision(cli.resources()).pending]


def test_the_exit_code_tells_whether_there_are_changes(cli: Cli) -> None:
    cli("provision", "--plan", "--detailed-exitcode", code=3)
    cli.make()
    cli("provision", "--plan", "--detailed-exitcode", code=0)
    cli("teardown", "--plan", "--detailed-exitcode", code=3)
    cli.remove()
    cli("teardown", "--plan", "--detailed-exitcode", code=0)


def test_a_plan_changes_nothing(cli: Cli) -> None:
    before = cli("provision", "--plan", "--json").out
    assert cli("provision", "--plan", "--json").out == before
    assert json.loads(before)["summary"]["keep"] == 0


def test_it_ends_with_what_other_tools_need(cli: Cli) -> None:
    document = json.loads(cli("provision", "--json").out)
    arns = {one["name"]: one["arn"] for one in document["outputs"]}
    names = cli.aws.names
    assert arns[names.topic] == names.topic_arn
    assert arns[names.stream] == names.stream_arn
    assert document["summary"]["create"] > 0


CHANGED_SETTINGS: list[tuple[str, dict[str, set[str]]]] = [
    ("batch_size = 100", {"mapping": {"batch_size"}}),
    ("log_retention_days = 30", {"log-group": {"retention_days"}}),
    ("stream_retention_hours = 48", {"stream": {"retention_hours"}}),
    ("ttl_days = 30", {"table": {"ttl"}, "function": {"environment"}}),
    ("point_in_time_recovery = true", {"table": {"pitr"}}),
    ("deletion_protection = true", {"table": {"deletion_protection"}}),
    ("reserved_concurrency = 2", {"function": {"reserved_concurrency"}}),
    ("query_limit_mb = 50", {"workgroup": {"cutoff_bytes"}}),
    ("anomaly_percent = 3", {"function": {"environment"}}),
    ("notify_max_age = 'off'", {"function": {"environment"}}),
    ("sweep = '10m'", {"rule": {"schedule", "target"}, "alarm": {"period_s"}}),
    ("[[rules]]\nkind = 'crossover'\nfast = 3\nslow = 9", {"function": {"code"}}),
]


def test_each_setting_changes_just_what_it_concerns_and_is_converged(made: Cli) -> None:
    for text, expected in CHANGED_SETTINGS:
        settings(made, text)
        pending = plan_provision(made.resources()).pending
        assert {change.resource.kind for change in pending} == set(expected), text
        for change in pending:
            assert set(change.settings) == expected[change.resource.kind], text
    for wanted in ("\n".join(text for text, _ in CHANGED_SETTINGS), ""):
        settings(made, wanted)
        made.make()
        assert left(made) == []
    assert planned(made) == {}


def test_the_stream_changes_its_mode_in_place(made: Cli) -> None:
    settings(made, 'stream_mode = "provisioned"\nshards = 1')
    found = planned(made)
    assert [change["action"] for change in found.values()] == ["update"]
    made("provision")
    assert left(made) == []


def test_what_is_switched_off_is_deleted(made: Cli) -> None:
    settings(made, 'alarms = false\ndashboard = false\nsweep = "off"')
    found = planned(made)
    assert {change["action"] for change in found.values()} == {"delete"}
    assert {change["kind"] for change in found.values()} == {"alarm", "dashboard", "rule"}
    made("provision")
    assert left(made) == []
    healthy = json.loads(made("status", "--json").out)
    assert healthy["healthy"]


def test_too_much_reserved_concurrency_is_refused_before_anything_is_done(cli: Cli) -> None:
    settings(cli, "reserved_concurrency = 500")
    refused = cli("provision", code=1)
    assert "would leave" in refused.err
    assert json.loads(cli("provision", "--plan", "--json", env=off()).out)["summary"]["keep"] == 0


def off() -> dict[str, str]:
    return {"STOCKPIPE_RESERVED_CONCURRENCY": "1"}


def test_recipients_are_added_by_flags_and_settings_and_never_removed(cli: Cli) -> None:
    settings(cli, 'emails = ["first@example.com"]')
    told = cli("provision", "--sms", "+1 555 010 0199")
    assert "outbox" in told.err
    settings(cli, "")
    cli("provision", "--email", "second@example.com")
    found = cli.aws.client("sns").list_subscriptions_by_topic(TopicArn=cli.aws.names.topic_arn)
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


def test_all_foreign_things_are_named_and_adopting_takes_them_over(cli: Cli) -> None:
    aws, names = cli.aws, cli.aws.names
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
    refused = cli("provision", code=1)
    assert f"table {names.table}" in refused.err
    assert f"log-group {names.process_log_group}" in refused.err
    assert "--adopt" in refused.err
    assert cli("teardown", "--plan", "--json").out.count('"delete"') == 1  # the summary's key

    cli("provision", "--adopt")
    assert left(cli) == []
    kept = cli("teardown")
    assert f"Kept: table {names.table}" in kept.err
    cli.make()  # picks it up again
    cli("teardown", "--include", "nothing", code=2)
    both = ("--include", names.table, "--include", names.process_log_group)
    assert "Kept" not in cli("teardown", *both).err


def test_a_bucket_with_objects_is_not_adopted_where_they_would_expire(cli: Cli) -> None:
    s3, names = cli.aws.client("s3"), cli.aws.names
    place = {"LocationConstraint": names.region}
    s3.create_bucket(Bucket=names.results_bucket, CreateBucketConfiguration=place)
    s3.put_object(Bucket=names.results_bucket, Key="mine", Body=b"x")
    refused = cli("provision", "--adopt", code=1)
    assert "it holds objects, which would expire in 7 days" in refused.err
    s3.delete_object(Bucket=names.results_bucket, Key="mine")
    cli("provision", "--adopt")
    s3.put_object(Bucket=names.results_bucket, Key="mine", Body=b"x")
    assert f"bucket {names.results_bucket}" in cli("teardown").err.partition("Kept:")[2]
    assert s3.head_object(Bucket=names.results_bucket, Key="mine")


def test_kept_data_are_picked_up_by_the_next_provision(made: Cli) -> None:
    names = made.aws.names
    made.aws.client("s3").put_object(Bucket=names.data_bucket, Key="raw-data/kept", Body=b"x")
    told = made("teardown", "--keep-data")
    assert f"bucket {names.data_bucket}" in told.err
    made.make()
    found = made.aws.client("s3").list_objects_v2(Bucket=names.data_bucket)
    assert [entry["Key"] for entry in found["Contents"]] == ["raw-data/kept"]


def test_what_is_protected_stops_the_teardown(cli: Cli) -> None:
    settings(cli, "deletion_protection = true")
    cli.make()
    refused = cli("teardown", code=1)
    assert "Nothing was deleted" in refused.err
    assert left(cli) == []
    settings(cli, "")
    cli.make()
    cli("teardown")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_what_stands_and_the_next_run_goes_on(cli: Cli, end: int) -> None:
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


def test_a_role_made_anew_takes_its_function_along_and_records_flow_on(made: Cli) -> None:
    """On AWS a function cannot read its environment under another role of the same name."""
    iam, names = made.aws.client("iam"), made.aws.names
    iam.delete_role_policy(RoleName=names.process_role, PolicyName="stockpipe")
    iam.delete_role(RoleName=names.process_role)
    found = planned(made)
    assert found[f"role {names.process_role}"]["action"] == "create"
    replaced = found[f"function {names.process_function}"]
    assert (replaced["action"], list(replaced["settings"])) == ("replace", ["role_as_made"])
    assert "made anew" in replaced["reason"]
    made("provision")
    assert left(made) == []
    made("stream", "AAPL", "--source", "replay:sample", "--speed", "max")
    made.settle()
    assert len(made.items()) == 252
