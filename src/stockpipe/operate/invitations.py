"""Webhooks: which there may be, and how one that cannot visit its link itself is confirmed."""

from __future__ import annotations

import http.client
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from stockpipe.aws import Aws
from stockpipe.domain.clock import Clock
from stockpipe.errors import StockpipeError, UsageError
from stockpipe.local.outbox import INVITATION, Outbox
from stockpipe.local.webhooks import shown
from stockpipe.operate.subscribers import WEB, Subscriber, described

CONFIRM_BUDGET_S = 90.0
"""A webhook that does not answer is given up after four times 15 s and what lies between."""
_LINK = re.compile(r"visit http://(127\.0\.0\.1:\d+)(/\?\S+)")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def webhook(url: str, *, local: bool) -> str:
    """The protocol of a webhook's URL; raises :class:`UsageError`.

    Plain http tells everybody on the way what is said: it may only stay on this machine.
    """
    try:
        parts = urlsplit(url)
        sound = parts.hostname and parts.port != 0 and url.isascii() and url.isprintable()
    except ValueError:
        sound = False
    if not sound or " " in url or parts.scheme not in WEB:
        raise UsageError(f"Not the URL of a webhook: {url!r}.", hint="It begins with https://.")
    if parts.scheme == "http" and not (local and parts.hostname in _LOOPBACK):
        raise UsageError(
            f"{shown(url)} is plain http.",
            hint="Use https; http is for 127.0.0.1 with --target local.",
        )
    return parts.scheme


@dataclass(frozen=True, slots=True)
class Confirmation:
    """``failure``: why the webhook did not take its invitation, though it is confirmed."""

    subscriber: Subscriber
    failure: str | None = None


def confirm(
    aws: Aws, outbox: Outbox, pending: Subscriber, before: Collection[str], clock: Clock
) -> Confirmation:
    """Visit the link of a webhook's invitation for it, where it does not do so itself.

    For the embedded cloud alone: the link is in its outbox once the webhook has answered, or has
    been given up. ``before`` holds the ids of the messages that were there before it was invited.
    Raises :class:`StockpipeError` where none comes within CONFIRM_BUDGET_S.
    """
    deadline = clock.monotonic() + CONFIRM_BUDGET_S
    for messages in outbox.follow(clock):
        now = described(aws, pending, {})
        if now is not None and now.confirmed:
            return Confirmation(now)
        for message in messages:
            link = _LINK.search(message.text)
            if (
                link
                and (message.type, message.topic) == (INVITATION, aws.names.topic_arn)
                and message.to == pending.address
                and message.message_id not in before
            ):
                _visit(link[1], link[2])
                now = described(aws, pending, {})
                if now is not None and now.confirmed:
                    return Confirmation(now, message.error)
        if clock.monotonic() > deadline:
            break
    raise StockpipeError(
        f"{pending.address} has not been invited within {CONFIRM_BUDGET_S:.0f} s.",
        hint="See `stockpipe local outbox` and `stockpipe local logs`, and run it again.",
    )


def _visit(place: str, target: str) -> None:
    """Open a link of the embedded cloud. What it answers does not matter: one that was visited
    already is refused, and whether it has worked stands in the subscription."""
    connection = http.client.HTTPConnection(place, timeout=10)
    try:
        connection.request("GET", target)
        connection.getresponse().read()
    finally:
        connection.close()
