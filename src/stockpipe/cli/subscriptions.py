"""``stockpipe alerts subscribers``, ``subscribe`` and ``unsubscribe``: who is told of alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.choices import Kind
from stockpipe.cli.context import Session, configuration, connect, symbols_of
from stockpipe.errors import UsageError

if TYPE_CHECKING:
    from stockpipe.operate.filters import Filter
    from stockpipe.operate.queues import Queue
    from stockpipe.operate.subscribers import Outcome, Subscriber


def register(group: typer.Typer) -> None:
    group.command(epilog="stockpipe alerts subscribers; stockpipe alerts subscribers --json")(
        subscribers
    )
    group.command(
        epilog="stockpipe alerts subscribe --email me@example.com --symbol AAPL --signal golden; "
        "stockpipe alerts subscribe --webhook https://ntfy.sh/my-secret-topic --raw --confirm"
    )(subscribe)
    group.command(epilog="stockpipe alerts unsubscribe me@example.com +15550100")(unsubscribe)


def subscribers(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
) -> None:
    """Who is told, by which way and of what; and who watches over the pipeline itself."""
    from stockpipe.operate.subscribers import subscribers as everybody

    session = connect(ctx)
    found = everybody(session.aws)
    if json:
        ui.json_line({"subscribers": [one.document() for one in found]})
    elif found:
        ui.table(
            ("topic", "protocol", "endpoint", "told of", "status", "raw", "asked"),
            (
                [one.topic, one.protocol, one.address, _told_of(one), _status(one), one.raw,
                 one.asked]
                for one in found
            ),
            styles=[None if one.confirmed else "yellow" for one in found],
        )  # fmt: skip
        for one in found:
            if not one.confirmed:
                ui.note(_what_to_do(one, session), "yellow")
    if not found:
        ui.note(
            f"Nobody is told of alerts in {session.place}. Subscribe: {ui.program()} alerts"
            f" subscribe{session.flags} --email you@example.com",
            "yellow",
        )


def subscribe(
    ctx: typer.Context,
    email: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="By mail.")] = None,
    sms: Annotated[list[str] | None, typer.Option(metavar="NUMBER", help="By SMS.")] = None,
    webhook: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A POST to https (on local also to http://127.0.0.1)."),
    ] = None,
    sqs: Annotated[
        list[str] | None, typer.Option(metavar="QUEUE", help="A queue: its name, URL or ARN.")
    ] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="Only of this symbol.")] = None,
    signal: Annotated[list[Kind] | None, typer.Option(help="Only of this kind.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Only by this rule.")] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Instead of what they are told so far.")
    ] = False,
    raw: Annotated[
        bool | None,
        typer.Option("--raw/--no-raw", help="Without SNS's envelope (queues: unless told else)."),
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Local: visit the webhook's link in its name.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
) -> None:
    """Tell somebody of alerts. All options can be repeated.

    Symbols, signals and rules are combined: --symbol AAPL --signal golden means the golden crosses
    of AAPL. Subscribing again widens each of the three lists by itself, so adding
    --symbol MSFT --signal death also brings AAPL's death crosses; --only starts anew.
    """
    from stockpipe.operate import subscribers as people
    from stockpipe.operate.filters import Filter
    from stockpipe.operate.invitations import webhook as protocol_of
    from stockpipe.operate.queues import queue as queue_of

    checked = configuration(ctx, emails=email or None, sms=sms or None).settings
    wanted = Filter(
        symbols=tuple(symbols_of(checked, None, symbol, default=False)),
        signals=tuple(one.value for one in signal or ()),
        rules=tuple(rule or ()),
    )
    local = checked.target == "local"
    urls = [(protocol_of(url, local=local), url) for url in webhook or []]
    if not (email or sms or urls or sqs):
        raise UsageError("Whom? Name --email, --sms, --webhook or --sqs.")
    if raw is not None and not (urls or sqs):
        raise UsageError("--raw is for webhooks and queues: mail and SMS have no envelope.")
    if confirm and not (urls and local):
        raise UsageError(
            "--confirm is for a --webhook of the embedded cloud.",
            hint="On aws the endpoint itself visits the SubscribeURL that SNS posts to it.",
        )
    session = connect(ctx)
    for one in sorted({*wanted.rules} - {known.name for known in session.settings.rules}):
        ui.note(f"No rule of the settings is called {one}.", "yellow")
    queues = [queue_of(session.aws, one) for one in sqs or []]
    places: list[tuple[str, str, Queue | None]] = [
        *(("email", one, None) for one in checked.emails if email),
        *(("sms", one, None) for one in checked.sms if sms),
        *((protocol, url, None) for protocol, url in urls),
        *(("sqs", one.arn, one) for one in queues),
    ]
    outcomes = []
    for protocol, endpoint, queue in places:
        form = raw if protocol in people.RAW_PROTOCOLS else None
        invited = _invited() if confirm and protocol in people.WEB else None
        outcome = people.subscribe(session.aws, protocol, endpoint, wanted, only=only, raw=form)
        if invited is not None and not outcome.subscriber.confirmed:
            outcome = _confirmed(session, outcome, invited)
        if not json:
            _tell(outcome)
        if queue:
            _open(session, queue)
        outcomes.append(outcome)
    if json:
        ui.json_line({"subscribed": [one.document() for one in outcomes]})
    _tell_what_follows(session, [one.subscriber for one in outcomes], filtered=bool(wanted.policy))


def unsubscribe(
    ctx: typer.Context,
    addresses: Annotated[list[str], typer.Argument(help="Address, number, URL, queue or ARN.")],
    json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
) -> None:
    """Stop telling somebody. Who stands in the settings is not asked again either."""
    from stockpipe.operate.subscribers import unsubscribe as end

    session = connect(ctx)
    found = end(session.aws, addresses)
    if json:
        done = [{"done": _ended(one)} | one.document() for one in found]
        ui.json_line({"unsubscribed": done})
    for one in found:
        if one.confirmed:
            ui.note(f"{one.address} is told no more.", "green")
        else:
            ui.note(
                f"{one.address} has not confirmed, and cannot be removed before it does: it is "
                "told nothing, and SNS forgets it after 48 hours"
                + (" (the embedded cloud does not)." if session.aws.endpoint else "."),
                "yellow",
            )


def _invited() -> frozenset[str]:
    """The messages of the outbox, before somebody is invited."""
    from stockpipe.local.home import Places, home
    from stockpipe.local.outbox import Outbox

    return frozenset(one.message_id for one in Outbox(Places(home()).local).read())


def _confirmed(session: Session, outcome: Outcome, before: frozenset[str]) -> Outcome:
    from dataclasses import replace

    from stockpipe.domain.clock import SYSTEM_CLOCK
    from stockpipe.local.home import Places, home
    from stockpipe.local.outbox import Outbox
    from stockpipe.operate.invitations import confirm

    outbox = Outbox(Places(home()).local)
    with ui.waiting("Waiting for the invitation to go out"):
        found = confirm(session.aws, outbox, outcome.subscriber, before, SYSTEM_CLOCK)
    if found.failure:
        ui.note(f"It did not take the invitation: {found.failure}.", "yellow")
    return replace(outcome, subscriber=found.subscriber)


def _open(session: Session, queue: Queue) -> None:
    """Let the topic send to a queue, or say what its owner has to do."""
    from stockpipe.operate.queues import let_in, sender

    if queue.url is None:
        statement = ui.plain(sender(session.aws.names.topic_arn, queue.arn))
        ui.note(f"Its owner has to add this to the policy of the queue: {statement}", "yellow")
    elif let_in(session.aws, queue):
        ui.note("The policy of the queue now lets this topic send to it.")
    if queue.key:
        ui.note(
            f"The queue is encrypted with {queue.key}, whose policy has to let sns.amazonaws.com "
            "use it (kms:GenerateDataKey and kms:Decrypt).",
            "yellow",
        )


def _tell(outcome: Outcome) -> None:
    one = outcome.subscriber
    state = "" if one.confirmed else "; pending"
    style = "green" if one.confirmed else "yellow"
    ui.note(f"{one.protocol} {one.address}: {outcome.done}, told of {_told_of(one)}{state}.", style)
    if outcome.done == "widened" and one.filter is not None and not one.filter.policy:
        ui.note("The same call with --only tells of nothing but what it names.", "yellow")


def _tell_what_follows(session: Session, found: list[Subscriber], *, filtered: bool) -> None:
    """What becomes of it: nobody should wait for mail that is not sent."""
    if session.aws.endpoint:
        if any(one.protocol in ("email", "sms") for one in found):
            link = any(one.protocol == "email" for one in found)
            ui.note(
                f"No mail and no SMS leaves this machine: read them with {ui.program()} local "
                f"outbox.{' On AWS each address must first click a link.' if link else ''}",
                "yellow",
            )
    elif filtered:
        ui.note("A filter takes up to 15 minutes to take effect.")
    if not session.aws.endpoint and any(one.protocol == "sms" for one in found):
        ui.note("In the SMS sandbox of an account only numbers verified there get any.")
    for one in found:
        if not one.confirmed:
            ui.note(_what_to_do(one, session), "yellow")


def _what_to_do(one: Subscriber, session: Session) -> str:
    """How somebody who is pending is told at last."""
    asked = f" (asked on {one.asked})" if one.asked else ""
    if one.protocol.startswith("email"):
        return f"{one.address} has to click the link in its mail within 48 hours{asked}."
    how = f"{one.address} has to visit the SubscribeURL that was posted to it, within 48 hours"
    if one.protocol == "sqs":
        how = f"The owner of {one.address} has to confirm within 48 hours"
    elif session.aws.endpoint:
        url = "URL" if one.address.endswith("?...") else one.address  # a query may be a secret
        how += (
            f"; for one that cannot: {ui.program()} alerts subscribe{session.flags} --webhook"
            f" {url}{_options(one.filter)} --confirm"
        )
    return f"{how}{asked}."


def _options(chosen: Filter | None) -> str:
    """The options that ask for this filter: without them the recipient would be told everything."""
    if chosen is None:
        return " (and its filters)"
    lists = (("symbol", chosen.symbols), ("signal", chosen.signals), ("rule", chosen.rules))
    return "".join(f" --{name} {one}" for name, values in lists for one in values)


def _status(one: Subscriber) -> str:
    return "confirmed" if one.confirmed else "pending"


def _ended(one: Subscriber) -> str:
    return "unsubscribed" if one.confirmed else "pending"


def _told_of(one: Subscriber) -> str:
    if one.filter is None:
        return one.policy or "not known yet"
    return _words(one.filter)


def _words(chosen: Filter) -> str:
    lists = (chosen.symbols, chosen.signals, chosen.rules)
    return "; ".join(", ".join(one) for one in lists if one) or "everything"
