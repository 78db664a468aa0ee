"""Who is subscribed to a stack's alerts, what everybody is told, and what arrives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import Any

from stockpipe_cli import Cli

from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.domain.exact import moment_text
from stockpipe.infra.plan import plan_provision
from stockpipe.infra.policies import policy
from stockpipe.local.home import Places
from stockpipe.local.outbox import Message, Outbox
from stockpipe.operate.alerts import Rehearsal, rehearse, sample
from stockpipe.operate.subscribers import subscribers

SETTLED = "settled@example.com"
_numbers = count()


def mail() -> str:
    return f"person{next(_numbers)}@example.com"


def subscribe(cli: Cli, *arguments: str) -> dict[str, Any]:
    """What is said of the one that was subscribed."""
    said = json.loads(cli("alerts", "subscribe", *arguments, "--json").out)
    [one] = said["subscribed"]
    return dict(one)


def listed(cli: Cli) -> dict[str, dict[str, Any]]:
    """Everybody as ``alerts subscribers --json`` shows them, by address."""
    return {one.address: one.document() for one in subscribers(cli.aws)}


def tell(cli: Cli, symbol: str = "AAPL") -> Rehearsal:
    """What ``alerts test`` does, without starting it: a crossover of this symbol."""
    now = moment_text(SYSTEM_CLOCK.now())
    return rehearse(cli.aws, sample(symbol, "golden", "crossover-5-20", now))


def rehearsed(cli: Cli, *arguments: str) -> dict[str, Any]:
    """What ``alerts test`` says that it did."""
    return dict(json.loads(cli("alerts", "test", *arguments, "--json").out))


def told(cli: Cli, message_id: str) -> dict[str, Message]:
    """Who got a message, of the outbox."""
    found = Outbox(Places(cli.home).local).read()
    return {one.to: one for one in found if one.message_id == message_id}


def changes(cli: Cli) -> int:
    """What provisioning would have to do."""
    return len(plan_provision(cli.resources()).pending)


def queue(cli: Cli, statements: Sequence[dict[str, Any]] = ()) -> str:
    """A queue's name, after making it with a policy."""
    name = f"queue-{next(_numbers)}"
    attributes = {"Policy": json.dumps(policy(*statements))} if statements else {}
    cli.aws.client("sqs").create_queue(QueueName=name, Attributes=attributes)
    return name


def attribute(cli: Cli, name: str, what: str) -> str:
    sqs = cli.aws.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[what])
    return str(found["Attributes"][what])


def received(cli: Cli, name: str) -> list[str]:
    """The bodies that wait in a queue."""
    sqs = cli.aws.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    return [one["Body"] for one in sqs.receive_message(QueueUrl=url).get("Messages", [])]
