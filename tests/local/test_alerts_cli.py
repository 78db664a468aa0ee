"""`stockpipe alerts`: who is told, by which way and of what, all the way to the recipient."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest
from alert_subscribers import (
    SETTLED,
    attribute,
    changes,
    listed,
    mail,
    queue,
    received,
    rehearsed,
    subscribe,
    tell,
    told,
)
from embedded import cleaned
from stockpipe_cli import Cli
from webhook_receiver import Answer, Receiver

from awaited import until
from stockpipe.local import daemon

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A stack whose settings name one address."""
    with cleaned(tmp_path_factory.mktemp("subscribers")) as home:
        daemon.ensure_running(home)
        (home / "stockpipe.toml").write_text(
            f"emails = ['{SETTLED}']\nalarms = false\ndashboard = false\nsweep = 'off'\n"
        )
        found = Cli(home)
        found.make()
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@pytest.fixture(autouse=True)
def nobody_else(cli: Cli) -> Iterator[None]:
    """Each test leaves the topic with the address of the settings, and alerts with none."""
    yield
    sns, topic = cli.aws.client("sns"), cli.aws.names.topic_arn
    for one in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
        if one["SubscriptionArn"] != "PendingConfirmation" and one["Endpoint"] != SETTLED:
            sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])


def test_a_mail_and_an_sms_have_their_own_form_and_only_what_they_want(cli: Cli) -> None:
    address, number = mail(), "+15555550100"
    wanted = ("--symbol", "aapl", "--symbol", "MSFT", "--signal", "golden")
    cli("alerts", "subscribe", "--email", address, "--sms", "+1 555 555-0100", *wanted)
    said = json.loads(cli("alerts", "subscribers", "--json").out)["subscribers"]
    assert {one["endpoint"]: one["filter"] for one in said}[address] == {
        "symbol": ["AAPL", "MSFT"], "signal": ["golden"],
    }  # fmt: skip
    done = rehearsed(cli, "--symbol", "MSFT")
    found = told(cli, done["message_id"])
    assert set(found) == {SETTLED, address, number}
    assert found[address].subject == "TEST: Stock Alert: MSFT"
    assert found[address].text.startswith("TEST: MSFT is in an Uptrend!")
    assert "Fast average: 101" in found[address].text
    assert "TEST: MSFT is in an Uptrend at 103" in found[number].text
    assert found[address].attributes == {
        "symbol": "MSFT", "signal": "golden", "rule": "crossover-5-20",
    }  # fmt: skip
    for other in (("--symbol", "IBM"), ("--symbol", "MSFT", "--kind", "death")):
        assert set(told(cli, rehearsed(cli, *other)["message_id"])) == {SETTLED}


def test_a_rule_is_a_filter_too(cli: Cli) -> None:
    address = mail()
    cli("alerts", "subscribe", "--email", address, "--rule", "move-5")
    assert address in told(cli, rehearsed(cli, "--kind", "move")["message_id"])
    assert address not in told(cli, rehearsed(cli)["message_id"])


def test_a_rule_that_the_settings_do_not_know_is_pointed_out(cli: Cli) -> None:
    said = cli("alerts", "subscribe", "--email", mail(), "--rule", "move-50")
    assert "No rule of the settings is called move-50" in said.err


def test_a_webhook_that_visits_its_link_gets_the_document(cli: Cli, receiver: Receiver) -> None:
    made = subscribe(cli, "--webhook", receiver.url)
    assert (made["done"], made["status"]) == ("subscribed", "pending")
    tell(cli)
    [invitation] = until(lambda: receiver.of_type("SubscriptionConfirmation"))
    sns = cli.aws.client("sns")
    sns.confirm_subscription(TopicArn=cli.aws.names.topic_arn, Token=invitation.json["Token"])
    tell(cli, "MSFT")
    [request] = until(lambda: receiver.of_type("Notification"))  # and none from before
    envelope = request.json
    assert envelope["Subject"] == "TEST: Stock Alert: MSFT"
    document = json.loads(envelope["Message"])
    assert (document["symbol"], document["kind"], document["test"]) == ("MSFT", "golden", True)


def test_a_phone_that_never_visits_a_link_is_confirmed_for_it(cli: Cli, receiver: Receiver) -> None:
    made = subscribe(cli, "--webhook", f"{receiver.url}?key=1", "--raw", "--confirm")
    assert (made["status"], made["raw"], made["endpoint"]) == (
        "confirmed", True, f"{receiver.url}?...",
    )  # fmt: skip
    tell(cli)
    [request] = until(lambda: receiver.of_type("Notification"))
    assert request.path == "/hook?key=1"
    assert request.json["subject"] == "TEST: Stock Alert: AAPL"  # no envelope


def test_a_webhook_that_refuses_the_invitation_is_confirmed_all_the_same(
    cli: Cli, receiver: Receiver
) -> None:
    receiver.answer(Answer(400))
    said = cli("alerts", "subscribe", "--webhook", receiver.url, "--confirm")
    assert "did not take the invitation: HTTP status 400" in said.err
    assert listed(cli)[receiver.url]["status"] == "confirmed"


def test_who_is_pending_is_shown_with_what_to_do_and_is_asked_again(
    cli: Cli, receiver: Receiver
) -> None:
    told = cli("alerts", "subscribe", "--webhook", receiver.url, "--symbol", "AAPL")
    assert f"--webhook {receiver.url} --symbol AAPL --confirm" in told.err
    shown = cli("alerts", "subscribers")
    [line] = [line for line in shown.out.splitlines() if receiver.url in line]
    assert "pending" in line
    assert "visit the SubscribeURL" in shown.err
    assert "--confirm" in shown.err
    assert [one["endpoint"] for one in rehearsed(cli)["pending"]].count(receiver.url) == 1
    again = subscribe(cli, "--webhook", receiver.url, "--symbol", "MSFT", "--confirm")
    assert (again["done"], again["status"]) == ("widened", "confirmed")
    assert again["filter"] == {"symbol": ["AAPL", "MSFT"]}
    until(lambda: len(receiver.of_type("SubscriptionConfirmation")) == 2)


def test_a_queue_by_whichever_name_is_opened_to_the_topic_and_gets_the_document(cli: Cli) -> None:
    by_arn, by_url, by_name = queues = [queue(cli) for _ in range(3)]
    arns = [attribute(cli, name, "QueueArn") for name in queues]
    url = cli.aws.client("sqs").get_queue_url(QueueName=by_url)["QueueUrl"]
    forms = [word for form in (arns[0], url, by_name) for word in ("--sqs", form)]
    said = json.loads(cli("alerts", "subscribe", *forms, "--symbol", "AAPL", "--json").out)
    assert [(one["endpoint"], one["raw"]) for one in said["subscribed"]] == [
        (arn, True) for arn in arns
    ]
    tell(cli, "IBM")
    tell(cli)
    for name in (by_arn, by_url, by_name):
        [body] = until(partial(received, cli, name))
        assert (json.loads(body)["symbol"], json.loads(body)["rule"]) == ("AAPL", "crossover-5-20")


def test_what_stood_in_the_policy_of_a_queue_stays(cli: Cli) -> None:
    theirs = {"Sid": "theirs", "Effect": "Allow", "Principal": {"AWS": "*"}}
    theirs |= {"Action": "sqs:ReceiveMessage", "Resource": "*"}
    name = queue(cli, [theirs])
    for said in ("now lets this topic send", ""):
        done = cli("alerts", "subscribe", "--sqs", name)
        assert ("now lets this topic send" in done.err) == bool(said)
    [first, second] = json.loads(attribute(cli, name, "Policy"))["Statement"]
    assert first == theirs
    assert second["Condition"] == {"ArnEquals": {"aws:SourceArn": cli.aws.names.topic_arn}}
    assert second["Principal"] == {"Service": "sns.amazonaws.com"}


def test_a_queue_keeps_the_envelope_where_asked(cli: Cli) -> None:
    name = queue(cli)
    assert subscribe(cli, "--sqs", name, "--no-raw")["raw"] is False
    done = tell(cli)
    [body] = until(lambda: received(cli, name))
    assert json.loads(body)["MessageId"] == done.message_id
    assert subscribe(cli, "--sqs", name, "--raw")["raw"] is True
    assert subscribe(cli, "--sqs", name)["raw"] is True  # as it is


def test_the_queue_of_somebody_else_is_not_touched_but_explained(cli: Cli) -> None:
    theirs = "arn:aws:sqs:us-east-2:123456789012:theirs"
    said = cli("alerts", "subscribe", "--sqs", theirs)
    assert "Its owner has to add this" in said.err
    assert cli.aws.names.topic_arn in said.err


def test_subscribing_again_widens_each_list_and_only_starts_anew(cli: Cli) -> None:
    address = mail()
    first = subscribe(cli, "--email", address, "--symbol", "AAPL", "--signal", "golden")
    assert (first["done"], first["filter"]) == (
        "subscribed", {"symbol": ["AAPL"], "signal": ["golden"]},
    )  # fmt: skip
    wider = subscribe(cli, "--email", address.upper(), "--symbol", "MSFT", "--signal", "death")
    assert (wider["done"], wider["filter"]) == (
        "widened", {"symbol": ["AAPL", "MSFT"], "signal": ["death", "golden"]},
    )  # fmt: skip
    assert subscribe(cli, "--email", address, "--symbol", "MSFT", "--signal", "death")[
        "done"
    ] == "unchanged"  # fmt: skip
    anew = subscribe(cli, "--email", address, "--symbol", "IBM", "--only")
    assert (anew["done"], anew["filter"]) == ("replaced", {"symbol": ["IBM"]})
    everything = subscribe(cli, "--email", address)
    assert (everything["done"], everything["filter"]) == ("widened", {})
    assert subscribe(cli, "--email", address, "--symbol", "IBM")["done"] == "unchanged"
    found = [one for one in listed(cli) if one.casefold() == address]
    assert found == [address]
    assert address in told(cli, tell(cli, "GOOG").message_id)


def test_a_filter_made_elsewhere_is_replaced_only_when_asked(cli: Cli) -> None:
    address, sns = mail(), cli.aws.client("sns")
    sns.subscribe(
        TopicArn=cli.aws.names.topic_arn,
        Protocol="email",
        Endpoint=address,
        Attributes={"FilterPolicy": '{"price": [1]}', "FilterPolicyScope": "MessageBody"},
    )
    assert [one["endpoint"] for one in rehearsed(cli)["unknown"]] == [address]
    refused = cli("alerts", "subscribe", "--email", address, "--symbol", "AAPL", code=2)
    assert '{"price": [1]}' in refused.err
    assert "--only" in refused.err
    made = subscribe(cli, "--email", address, "--symbol", "AAPL", "--only")
    assert made["filter"] == {"symbol": ["AAPL"]}
    assert address in told(cli, tell(cli).message_id)


def test_provisioning_changes_nothing_after_people_came_and_went(cli: Cli) -> None:
    stays, goes = mail(), mail()
    cli("alerts", "subscribe", "--email", stays, "--email", goes, "--symbol", "AAPL")
    assert changes(cli) == 0
    cli("alerts", "unsubscribe", goes, SETTLED)
    assert changes(cli) == 0
    cli.make()
    assert SETTLED not in listed(cli)
    assert listed(cli)[stays]["filter"] == {"symbol": ["AAPL"]}
    again = subscribe(cli, "--email", SETTLED)
    assert again["done"] == "subscribed"
    assert again["asked"]
    assert changes(cli) == 0


def test_who_was_never_marked_as_asked_is_not_asked_after_leaving(cli: Cli) -> None:
    """A kill of provision between its two steps leaves a recipient without the mark."""
    sns, topic = cli.aws.client("sns"), cli.aws.names.topic_arn
    tags = sns.list_tags_for_resource(ResourceArn=topic)["Tags"]
    marks = [tag["Key"] for tag in tags if tag["Key"].startswith("stockpipe:asked:")]
    sns.untag_resource(ResourceArn=topic, TagKeys=marks)
    cli("alerts", "unsubscribe", SETTLED)
    assert changes(cli) == 0
    cli("alerts", "subscribe", "--email", SETTLED)


def test_who_is_unsubscribed_by_whichever_name_gets_nothing_more(
    cli: Cli, receiver: Receiver
) -> None:
    address, by_arn, name = mail(), mail(), queue(cli)
    url = f"{receiver.url}?key=1"
    cli("alerts", "subscribe", "--email", address, "--email", by_arn, "--sms", "+15555550100")
    cli("alerts", "subscribe", "--webhook", url, "--sqs", name, "--confirm")
    arn = listed(cli)[by_arn]["arn"]
    names = (address.upper(), arn, "+1 (555) 555-0100", f"{receiver.url}?...", name)
    said = cli("alerts", "unsubscribe", *names, "--json")
    assert {one["done"] for one in json.loads(said.out)["unsubscribed"]} == {"unsubscribed"}
    left = [name for name, one in listed(cli).items() if one["status"] == "confirmed"]
    assert left == [SETTLED]
    assert set(told(cli, tell(cli).message_id)) == {SETTLED}
    assert received(cli, name) == []


def test_an_unknown_address_ends_nothing_and_names_who_is_there(cli: Cli) -> None:
    address = mail()
    cli("alerts", "subscribe", "--email", address)
    said = cli("alerts", "unsubscribe", address, "nobody@example.com", code=2)
    assert "nobody@example.com is not subscribed" in said.err
    assert address in said.err
    assert address in listed(cli)


def test_who_is_pending_cannot_be_removed_and_it_is_said_why(cli: Cli, receiver: Receiver) -> None:
    cli("alerts", "subscribe", "--webhook", receiver.url)
    said = cli("alerts", "unsubscribe", receiver.url)
    assert "48 hours" in said.err
    assert listed(cli)[receiver.url]["status"] == "pending"


def test_a_short_form_that_means_two_is_refused(cli: Cli, receiver: Receiver) -> None:
    for key in ("1", "2"):
        cli("alerts", "subscribe", "--webhook", f"{receiver.url}?key={key}", "--confirm")
    said = cli("alerts", "unsubscribe", f"{receiver.url}?...", code=2)
    assert "means 2 subscriptions" in said.err
    cli("alerts", "unsubscribe", f"{receiver.url}?key=1")
    tell(cli)
    [request] = until(lambda: receiver.of_type("Notification"))
    assert request.path == "/hook?key=2"


def test_a_test_says_whom_it_reaches_and_leaves_no_alert(cli: Cli) -> None:
    address = mail()
    cli("alerts", "subscribe", "--email", address, "--symbol", "MSFT")
    done = rehearsed(cli)
    assert [one["endpoint"] for one in done["told"]] == [SETTLED]
    assert address in [one["endpoint"] for one in done["filtered"]]
    said = cli("alerts", "test", "--symbol", "MSFT", "--kind", "spike")
    assert [line.split() for line in said.out.splitlines() if address in line] == [
        ["told", "email", address]
    ]
    assert "local outbox" in said.err
    assert cli("alerts", "history").out == ""


def test_the_operations_topic_is_listed_and_marked(cli: Cli) -> None:
    sns, watcher = cli.aws.client("sns"), mail()
    made = sns.subscribe(
        TopicArn=cli.aws.names.operations_topic_arn, Protocol="email", Endpoint=watcher
    )
    try:
        said = json.loads(cli("alerts", "subscribers", "--json").out)["subscribers"]
        assert {one["endpoint"]: one for one in said} == listed(cli)
        assert listed(cli)[watcher]["topic"] == "operations"
        assert watcher not in told(cli, tell(cli).message_id)
    finally:
        sns.unsubscribe(SubscriptionArn=made["SubscriptionArn"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Whom?"),
        (("--email", "nobody"), "--email: "),
        (("--sms", "555"), "--sms: "),
        (("--email", "a@example.com", "--symbol", "A B"), "Not a symbol"),
        (("--email", "a@example.com", "--signal", "silver"), "silver"),
        (("--email", "a@example.com", "--raw"), "--raw"),
        (("--email", "a@example.com", "--confirm"), "--confirm"),
        (("--webhook", "http://example.com/"), "plain http"),
        (("--webhook", "example.com"), "Not the URL"),
        (("--sqs", "no such"), "Not the ARN"),
        (("--sqs", "none"), "There is no queue none"),
        (("--sqs", "q.fifo"), "FIFO"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(
    cli: Cli, arguments: tuple[str, ...], said: str
) -> None:
    sns, topic = cli.aws.client("sns"), cli.aws.names.topic_arn
    before = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert said in cli("alerts", "subscribe", *arguments, code=2).err
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] == before


def test_a_queue_under_a_key_that_sns_may_not_use_is_refused(cli: Cli) -> None:
    name = queue(cli)
    sqs = cli.aws.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "alias/aws/sqs"})
    assert "alias/aws/sqs" in cli("alerts", "subscribe", "--sqs", name, code=2).err


@pytest.mark.parametrize(
    "arguments", [("subscribers",), ("subscribe", "--email", SETTLED), ("unsubscribe", SETTLED),
                  ("test",)],
)  # fmt: skip
def test_without_a_stack_one_is_told_to_provision(cli: Cli, arguments: tuple[str, ...]) -> None:
    said = cli("alerts", *arguments, "--stack", "none", code=1)
    assert "provision" in said.err


def test_nobody_there_is_said_with_the_place_and_how_to_subscribe(cli: Cli) -> None:
    cli.aws.client("sns").create_topic(Name=f"{cli.aws.names.topic}-empty")
    found = cli("alerts", "subscribers", "--stack", "empty")
    assert found.out == ""
    assert "stack empty" in found.err
    assert "alerts subscribe --stack empty --email" in found.err
