"""What ministack drops or allows in the calls of provisioning, although AWS would not.

Tags that a create call carries, settings that an update names, the owner that a request expects:
resuming, mending and refusing strangers are only tested here where the emulator keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stockpipe.local.emulator.parts import replace

Response = tuple[int, dict[str, Any], Any]


def install() -> None:
    """All of it, once, before the server starts. Raises LocalCloudError by :func:`replace`."""
    keep_stream_tags()
    refuse_other_owners()
    make_named_queries_once()
    keep_workgroup_updates()
    refuse_topic_twins()
    show_pending_subscriptions()
    be_active_soon()


def be_active_soon() -> None:
    """Lambda: a new function is Pending for 50 ms instead of 500: nothing is being set up here."""
    from ministack.services import lambda_svc

    replace(lambda_svc, "_LAMBDA_STATE_TRANSITION_DELAY", 0.05)


def keep_stream_tags() -> None:
    """Kinesis: CreateStream keeps its tags.

    https://docs.aws.amazon.com/kinesis/latest/APIReference/API_CreateStream.html
    """
    from ministack.services import kinesis

    def create(wanted: dict[str, Any]) -> Response:
        answer = original(wanted)
        if answer[0] == 200:
            kinesis._streams[wanted["StreamName"]]["tags"].update(wanted.get("Tags") or {})
        return answer

    original: Callable[..., Response] = replace(kinesis, "_create_stream", create)


def refuse_other_owners() -> None:
    """S3: a request that expects another owner of the bucket is refused.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
    """
    from ministack.services import s3

    def dispatch(
        method: str, bucket: str, key: str, headers: dict[str, str], *rest: Any
    ) -> Response:
        expected = headers.get("x-amz-expected-bucket-owner")
        owner = s3._bucket_owner_account(bucket) if expected else None
        if owner is not None and owner != expected:
            refused: Response = s3._error("AccessDenied", "Access Denied", 403, f"/{bucket}")
            return refused
        return original(method, bucket, key, headers, *rest)

    original: Callable[..., Response] = replace(s3, "_dispatch", dispatch)


def make_named_queries_once() -> None:
    """Athena: a repeated CreateNamedQuery makes no twin, and they go with their workgroup.

    https://docs.aws.amazon.com/athena/latest/APIReference/API_CreateNamedQuery.html
    """
    from ministack.core.responses import error_response_json, get_account_id, get_region
    from ministack.services import athena

    answered: dict[tuple[str, str, str], tuple[dict[str, Any], Response]] = {}

    def create(wanted: dict[str, Any]) -> Response:
        token = wanted.get("ClientRequestToken")
        if token is None:
            return original(wanted)
        known = (get_account_id(), get_region(), token)
        if known not in answered:
            answered[known] = (wanted, original(wanted))
        before, answer = answered[known]
        if before != wanted:
            refused: Response = error_response_json(
                "InvalidRequestException", "Idempotent parameters do not match", 400
            )
            return refused
        return answer

    def delete_workgroup(wanted: dict[str, Any]) -> Response:
        answer = delete(wanted)
        if answer[0] == 200:
            for query_id, query in list(athena._named_queries.items()):
                if query["WorkGroup"] == wanted.get("WorkGroup"):
                    del athena._named_queries[query_id]
        return answer

    original: Callable[..., Response] = replace(athena, "_create_named_query", create)
    delete: Callable[..., Response] = replace(athena, "_delete_workgroup", delete_workgroup)


def keep_workgroup_updates() -> None:
    """Athena: UpdateWorkGroup also sets and removes the owner of the result bucket, and removes
    the limit of bytes scanned."""
    from ministack.services import athena

    def update(wanted: dict[str, Any]) -> Response:
        answer = original(wanted)
        updates = wanted.get("ConfigurationUpdates") or {}
        if answer[0] == 200:
            configuration = athena._workgroups[wanted["WorkGroup"]]["Configuration"]
            if updates.get("RemoveBytesScannedCutoffPerQuery"):
                configuration.pop("BytesScannedCutoffPerQuery", None)
            results = updates.get("ResultConfigurationUpdates") or {}
            if "ExpectedBucketOwner" in results:
                configuration["ResultConfiguration"]["ExpectedBucketOwner"] = results[
                    "ExpectedBucketOwner"
                ]
            if results.get("RemoveExpectedBucketOwner"):
                configuration["ResultConfiguration"].pop("ExpectedBucketOwner", None)
        return answer

    original: Callable[..., Response] = replace(athena, "_update_workgroup", update)


def refuse_topic_twins() -> None:
    """SNS: CreateTopic for a topic that is there is refused where it names other tags."""
    from ministack.core.responses import get_account_id, get_region
    from ministack.services import sns

    def create(params: dict[str, Any]) -> Response:
        name = sns._p(params, "Name")
        found = sns._topics.get(f"arn:aws:sns:{get_region()}:{get_account_id()}:{name}")
        if found is not None and not sns._param_tags(params).items() <= found["tags"].items():
            refused: Response = sns._error(
                "InvalidParameter",
                "Invalid parameter: Tags Reason: Topic already exists with different tags",
                400,
            )
            return refused
        return original(params)

    original: Callable[..., Response] = replace(sns, "_create_topic", create)


def show_pending_subscriptions() -> None:
    """SNS: who has not confirmed has no ARN in a list, but the word PendingConfirmation.

    https://docs.aws.amazon.com/sns/latest/dg/sns-create-subscribe-endpoint-to-topic.html
    """
    from ministack.services import sns

    def listed(params: dict[str, Any]) -> Response:
        status, headers, body = original(params)
        topic = sns._topic_by_arn_any_scope(sns._normalize_arn(sns._p(params, "TopicArn")))
        for one in topic["subscriptions"] if topic else []:
            if not one["confirmed"]:
                body = body.replace(f">{one['arn']}<".encode(), b">PendingConfirmation<")
        return status, headers, body

    original: Callable[..., Response] = replace(sns, "_list_subscriptions_by_topic", listed)
