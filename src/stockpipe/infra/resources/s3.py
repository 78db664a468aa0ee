"""The two buckets: archive and query results. Private, encrypted, TLS only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.errors import ProvisionError
from stockpipe.functions.faults import error_code
from stockpipe.infra.policies import tls_only
from stockpipe.infra.resource import (
    Live,
    Resource,
    absent_is_none,
    comparable_policy,
    tag_list,
    tag_map,
    together,
)
from stockpipe.infra.waiting import await_gone, once_visible, watch

PAGE = 1000
"""As many objects as one DeleteObjects takes, and one page of ListObjectVersions holds."""

_PRIVATE = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
_RULE = "stockpipe-expire"
_ABORT_DAYS = 1
_GONE = ("404", "NoSuchBucket")


@dataclass
class Bucket(Resource):
    """A bucket; ``expire_days`` deletes its objects after so many days.

    Another encryption than SSE-S3 is undone: under a key of KMS the functions could not write.
    Versioning is not compared, and what it keeps goes with the bucket. Lifecycle rules of others
    stay as they are.
    """

    kind = "bucket"
    precious = True

    expire_days: int | None = None

    @property
    def holds_data(self) -> bool:  # type: ignore[override]
        """What expires by itself is nothing to keep."""
        return self.expire_days is None

    def desired(self) -> dict[str, Any]:
        return {
            "public_access_block": _PRIVATE,
            "encryption": "AES256",
            "policy": comparable_policy(tls_only(self._arn)),
            "expire_days": self.expire_days,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        # S3 does not know everywhere at once that a bucket was made, or is gone.
        return once_visible(self._read, "NoSuchBucket")

    def _read(self) -> Live | None:
        s3, owner = self.aws.client("s3"), self._owner
        try:
            region = s3.head_bucket(**owner).get("BucketRegion", self.names.region)
        except ClientError as error:
            if error_code(error) in _GONE:
                return None
            if error_code(error) == "403":
                # HEAD has no body, so a right that we lack looks the same.
                return self._out_of_reach("belongs to another account, or may not be looked at")
            if error_code(error) in ("301", "400"):
                return self._out_of_reach("is in another region")
            raise
        if region != self.names.region:  # botocore follows S3's redirects
            return self._out_of_reach(f"is in {region}")
        block, rules, policy, lifecycle, tagging = together(
            lambda: absent_is_none(
                lambda: s3.get_public_access_block(**owner), "NoSuchPublicAccessBlockConfiguration"
            ),
            lambda: absent_is_none(
                lambda: s3.get_bucket_encryption(**owner),
                "ServerSideEncryptionConfigurationNotFoundError",
            ),
            lambda: absent_is_none(lambda: s3.get_bucket_policy(**owner), "NoSuchBucketPolicy"),
            self._lifecycle,
            self._tagging,
        )
        encryption = rules and rules["ServerSideEncryptionConfiguration"]["Rules"][0]
        settings = {
            "public_access_block": block and block["PublicAccessBlockConfiguration"],
            "encryption": encryption
            and encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"],
            "policy": policy and comparable_policy(policy["Policy"]),
            "expire_days": expires_after(lifecycle),
        }
        return self.standing(settings, tagging, self._arn)

    def against_adoption(self) -> str | None:
        if self.expire_days is None:
            return None
        held = self.aws.client("s3").list_objects_v2(MaxKeys=1, **self._owner)["KeyCount"]
        return f"it holds objects, which would expire in {self.expire_days} days" if held else None

    def create(self) -> None:
        """A new bucket is encrypted under SSE-S3, and nobody can switch that off.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/default-encryption-faq.html

        For seconds S3 may answer NoSuchBucket to who has just made it:
        https://github.com/hashicorp/terraform-provider-aws/issues/372
        """
        s3, region = self.aws.client("s3"), self.names.region
        configuration: dict[str, Any] = {"Tags": tag_list(self.tags)}
        if region != "us-east-1":  # the one region that must not be named
            configuration["LocationConstraint"] = region
        try:
            s3.create_bucket(Bucket=self.name, CreateBucketConfiguration=configuration)
        except ClientError as error:
            if error_code(error) == "BucketAlreadyOwnedByYou":  # whoever reads it now must find it
                once_visible(lambda: s3.head_bucket(**self._owner), *_GONE)
            raise
        # One after the other: S3 refuses two changes of one bucket at the same time.
        once_visible(self._block_public_access, "NoSuchBucket")
        once_visible(self._put_policy, "NoSuchBucket")
        if self.expire_days is not None:
            once_visible(lambda: self._put_expiration([]), "NoSuchBucket")

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        s3, owner = self.aws.client("s3"), self._owner
        if "tags" in changes:  # first of all: by them the bucket is known as ours
            merged = self._tagging() | dict(self.tags)
            s3.put_bucket_tagging(Tagging={"TagSet": tag_list(merged)}, **owner)
        if "public_access_block" in changes:
            self._block_public_access()
        if "encryption" in changes:
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
            s3.put_bucket_encryption(ServerSideEncryptionConfiguration={"Rules": [rule]}, **owner)
        if "policy" in changes:
            self._put_policy()
        if "expire_days" in changes:
            self._put_expiration(self._lifecycle())

    def delete(self) -> None:
        """Empty it, old versions and unfinished uploads included, and delete it.

        Full ones take hours, so it tells how far it is, and can be stopped after each page. Raises
        :class:`ProvisionError` for an object that S3 does not delete. One that is written meanwhile
        makes it BucketNotEmpty, which is worth another try.
        """
        s3, owner = self.aws.client("s3"), self._owner
        absent_is_none(self._empty, *_GONE)  # another teardown may be faster, at any point
        absent_is_none(lambda: s3.delete_bucket(**owner), *_GONE)
        await_gone(self.id, self._status)

    def _empty(self) -> None:
        s3, owner, deleted = self.aws.client("s3"), self._owner, 0
        for page in s3.get_paginator("list_object_versions").paginate(**owner):
            found = page.get("Versions", []) + page.get("DeleteMarkers", [])
            for start in range(0, len(found), PAGE):
                self._delete_versions(found[start : start + PAGE])
            deleted += len(found)
            watch.get().waiting(f"{deleted:,} objects deleted")
        for page in s3.get_paginator("list_multipart_uploads").paginate(**owner):
            for upload in page.get("Uploads", []):
                self._abort(upload["Key"], upload["UploadId"])
                watch.get().waiting("unfinished uploads aborted")

    @property
    def _arn(self) -> str:
        return self.names.bucket_arn(self.name)

    @property
    def _owner(self) -> dict[str, str]:
        """Every call names the owner: a bucket of the same name elsewhere is refused by S3."""
        return {"Bucket": self.name, "ExpectedBucketOwner": self.names.account}

    def _out_of_reach(self, why: str) -> Live:
        return Live({}, ours=False, arn=self._arn, state="unknown", out_of_reach=why)

    def _status(self) -> str | None:
        s3 = self.aws.client("s3")
        found = absent_is_none(lambda: s3.head_bucket(**self._owner), *_GONE)
        return found and "deleting"

    def _tagging(self) -> dict[str, str]:
        s3 = self.aws.client("s3")
        found = absent_is_none(lambda: s3.get_bucket_tagging(**self._owner), "NoSuchTagSet")
        return tag_map(found["TagSet"]) if found else {}

    def _lifecycle(self) -> list[dict[str, Any]]:
        s3 = self.aws.client("s3")
        found = absent_is_none(
            lambda: s3.get_bucket_lifecycle_configuration(**self._owner),
            "NoSuchLifecycleConfiguration",
        )
        return list(found["Rules"]) if found else []

    def _block_public_access(self) -> None:
        self.aws.client("s3").put_public_access_block(
            PublicAccessBlockConfiguration=_PRIVATE, **self._owner
        )

    def _put_policy(self) -> None:
        self.aws.client("s3").put_bucket_policy(
            Policy=json.dumps(tls_only(self._arn)), **self._owner
        )

    def _put_expiration(self, rules: list[dict[str, Any]]) -> None:
        """Put our rule beside those of others among ``rules``, or take it away."""
        s3, owner = self.aws.client("s3"), self._owner
        kept = [rule for rule in rules if rule.get("ID") != _RULE]
        if self.expire_days is not None:
            kept.append(expiring(self.expire_days))
        if kept:
            s3.put_bucket_lifecycle_configuration(LifecycleConfiguration={"Rules": kept}, **owner)
        else:
            s3.delete_bucket_lifecycle(**owner)

    def _delete_versions(self, found: list[dict[str, Any]]) -> None:
        keys = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        answer = self.aws.client("s3").delete_objects(
            Delete={"Objects": keys, "Quiet": True}, **self._owner
        )
        for error in answer.get("Errors", []):
            raise ProvisionError(
                f"bucket {self.name}: {error['Key']} cannot be deleted: {error['Message']}",
                hint="Correct the cause and run the same command again.",
            )

    def _abort(self, key: str, upload: str) -> None:
        s3 = self.aws.client("s3")
        absent_is_none(
            lambda: s3.abort_multipart_upload(Key=key, UploadId=upload, **self._owner),
            "NoSuchUpload",
        )


def expiring(days: int) -> dict[str, Any]:
    """The lifecycle rule by which everything in a bucket is deleted after so many days."""
    return {
        "ID": _RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": days},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _ABORT_DAYS},
    }


def expires_after(rules: list[dict[str, Any]]) -> int | None:
    """The days of our rule, as long as it is switched on and for the whole bucket.

    Nothing else of it is compared: S3 and its console write defaults into rules.
    """
    for rule in rules:
        days = rule.get("Expiration", {}).get("Days")
        aborts = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
        as_ours = (rule.get("ID"), rule["Status"], aborts) == (_RULE, "Enabled", _ABORT_DAYS)
        if days is not None and as_ours and _is_for_all(rule):
            return int(days)
    return None


def _is_for_all(rule: dict[str, Any]) -> bool:
    """No filter, an empty one, or one of an empty prefix, in the old place too."""
    return not rule.get("Prefix") and rule.get("Filter", {}) in ({}, {"Prefix": ""})
