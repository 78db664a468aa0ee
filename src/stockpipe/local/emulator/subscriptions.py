"""How a recipient becomes a subscriber of an SNS topic: invitation, link, confirmation.

A webhook has to visit the link that it is sent, as on AWS. A mail address is confirmed at once,
for nobody reads mail here: the outbox shows the mail that AWS would send first.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.domain.exact import moment_text
from stockpipe.local.emulator.notifications import AGENT, MAIL, WEB, Response, is_there, note
from stockpipe.local.emulator.parts import replace
from stockpipe.local.emulator.wire import App, Query, Receive, Scope, Send, answer, query_of
from stockpipe.local.outbox import INVITATION, Message, Outbox
from stockpipe.local.webhooks import Post, Webhooks, shown

SUBJECT = "AWS Notification - Subscription Confirmation"
_CONFIRM = "ConfirmSubscription"


def install(outbox: Outbox, webhooks: Webhooks, url: str) -> None:
    """All of it, once, before the server starts; ``url``: the embedded cloud's own.

    Raises LocalCloudError by :func:`replace`.
    """
    refuse_other_schemes()
    invite(outbox, Invitations(outbox, webhooks, url))


class Invitations:
    """Asks webhooks to confirm."""

    def __init__(self, outbox: Outbox, webhooks: Webhooks, url: str) -> None:
        self._outbox, self._webhooks, self._url = outbox, webhooks, url

    def send(self, subscription: Mapping[str, Any]) -> None:
        """Post the request to confirm; its end, with the link, goes to the outbox."""
        from ministack.core.responses import new_uuid

        topic, token, number = subscription["topic_arn"], subscription["token"], new_uuid()
        query = urlencode({"Action": _CONFIRM, "TopicArn": topic, "Token": token}, safe=":")
        link = f"{self._url}/?{query}"
        text = (
            f"You have chosen to subscribe to the topic {topic}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message."
        )
        now = moment_text(SYSTEM_CLOCK.now())
        body = {
            "Type": INVITATION,
            "MessageId": number,
            "Token": token,
            "TopicArn": topic,
            "Message": text,
            "SubscribeURL": link,
            "Timestamp": now,
            "SignatureVersion": "1",
            "Signature": "FAKE",
            "SigningCertURL": (
                "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-fake.pem"
            ),
        }
        headers = {
            **AGENT,
            "x-amz-sns-message-type": INVITATION,
            "x-amz-sns-message-id": number,
            "x-amz-sns-topic-arn": topic,
        }
        protocol, to = subscription["protocol"], shown(subscription["endpoint"])
        kept = f"To confirm the subscription, visit {link}"
        message = _invitation(subscription, number, to, protocol, kept)
        self._webhooks.post(
            Post(
                subscription["endpoint"],
                headers,
                json.dumps(body),
                wanted=lambda: not subscription["confirmed"] and is_there(subscription),
                done=lambda outcome: note(self._outbox, message, outcome),
            )
        )


def invite(outbox: Outbox, invitations: Invitations) -> None:
    """Subscribe: the invitation goes out, again for a webhook that has not confirmed yet, and
    ReturnSubscriptionArn is honoured.

    https://docs.aws.amazon.com/sns/latest/api/API_Subscribe.html
    """
    from ministack.services import sns

    def subscribe(params: dict[str, Any]) -> Response:
        before = find(params)
        answer = original(params)
        found = find(params)
        if answer[0] != 200 or found is None:
            return answer
        if before is None and found["protocol"] in MAIL:
            try:
                outbox.append(_mail(found))
            except OSError:  # the next attempt is then a new subscription again, with its mail
                sns._unsubscribe({"SubscriptionArn": found["arn"]})
                raise
        if found["confirmed"]:
            return answer
        if before is not None:
            invitations.send(found)
        with_arn = sns._p(params, "ReturnSubscriptionArn") == "true"
        result = found["arn"] if with_arn else "pending confirmation"
        inner = f"<SubscriptionArn>{result}</SubscriptionArn>"
        pending: Response = sns._xml(
            200, "SubscribeResponse", f"<SubscribeResult>{inner}</SubscribeResult>"
        )
        return pending

    def find(params: dict[str, Any]) -> dict[str, Any] | None:
        wanted = sns._p(params, "Protocol"), sns._p(params, "Endpoint")
        topic = sns._topic_by_arn_any_scope(sns._normalize_arn(sns._p(params, "TopicArn")))
        subscriptions = topic["subscriptions"] if topic else []
        same = (one for one in subscriptions if (one["protocol"], one["endpoint"]) == wanted)
        return next(same, None)

    async def send(topic_arn: str, subscription: dict[str, Any]) -> None:
        invitations.send(subscription)

    original: Callable[..., Response] = replace(sns, "_subscribe", subscribe)
    replace(sns, "_send_subscription_confirmation", send)


def refuse_other_schemes() -> None:
    """A webhook's endpoint is a URL of its protocol and nothing else, say a ``file:``."""
    from ministack.services import sns

    def validate(protocol: str, endpoint: str) -> Response | None:
        if protocol in WEB and not _is_url(endpoint, protocol):
            refused: Response = sns._error(
                "InvalidParameter",
                "Invalid parameter: Endpoint must match the specified protocol",
                400,
            )
            return refused
        return original(protocol, endpoint)

    original: Callable[..., Response | None] = replace(
        sns, "_validate_subscription_endpoint", validate
    )


def _is_url(endpoint: str, scheme: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme == scheme and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is never closed, a port that is no number
        return False


class ConfirmationLink:
    """ASGI: lets in, without a signature, who visits the link of an invitation.

    A GET of ConfirmSubscription with the token of a subscription that waits for it, and nothing
    besides, confirms it; whatever else goes on to the guard behind. ``confirmed`` is called then.
    """

    def __init__(self, app: App, confirmed: Callable[[], None]) -> None:
        self._app, self._confirmed = app, confirmed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        link = _link(scope)
        subscription = _waiting(*link) if link else None
        if subscription is None:
            await self._app(scope, receive, send)
            return
        status, headers, body = _confirm(subscription)
        self._confirmed()
        await answer(send, status, headers, body)


def _link(scope: Scope) -> tuple[str, str] | None:
    """Topic and token, when a request is the visit of a link and nothing more."""
    if scope["type"] != "http" or (scope["method"], scope["path"]) != ("GET", "/"):
        return None
    query: Query = query_of(scope)
    if query.keys() != {"Action", "TopicArn", "Token"} or query["Action"] != [_CONFIRM]:
        return None
    topics, tokens = query["TopicArn"], query["Token"]
    return (topics[0], tokens[0]) if len(topics) == len(tokens) == 1 else None


def _waiting(topic_arn: str, token: str) -> dict[str, Any] | None:
    """The subscription that waits for this token."""
    from ministack.services import sns

    parts = topic_arn.split(":")
    topic = sns._topics.get_scoped(parts[4], parts[3], topic_arn) if len(parts) == 6 else None
    for one in topic["subscriptions"] if topic else []:
        if one["token"] and hmac.compare_digest(one["token"].encode(), token.encode()):
            found: dict[str, Any] = one
            return found
    return None


def _confirm(subscription: dict[str, Any]) -> Response:
    from ministack.core.responses import request_scope
    from ministack.services import sns

    topic = subscription["topic_arn"]
    region, account = topic.split(":")[3:5]
    with request_scope(account, region):
        answer: Response = sns._confirm_subscription(
            {"TopicArn": topic, "Token": subscription["token"]}
        )
    subscription["attributes"]["ConfirmationWasAuthenticated"] = "false"
    return answer


def _mail(subscription: Mapping[str, Any]) -> Message:
    from ministack.core.responses import new_uuid

    text = (
        "Confirmed for you; on AWS, no alert comes before you click the link in this mail, within "
        f"48 hours.\n\nYou have chosen to subscribe to the topic:\n{subscription['topic_arn']}"
    )
    return _invitation(
        subscription, new_uuid(), subscription["endpoint"], subscription["protocol"], text
    )


def _invitation(
    subscription: Mapping[str, Any], number: str, to: str, protocol: str, text: str
) -> Message:
    return Message(
        time=moment_text(SYSTEM_CLOCK.now()),
        type=INVITATION,
        protocol=protocol,
        to=to,
        subject=SUBJECT,
        text=text,
        topic=subscription["topic_arn"],
        attributes={},
        message_id=number,
        status="kept",
    )
