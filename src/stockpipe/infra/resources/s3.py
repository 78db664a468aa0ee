"""The two buckets: archive and query results. Private, encrypted, TLS only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpipe.errors import ProvisionError
from stockpipe.infra.policies import tls_only
from stockpipe.infra.resource import (
    Live,
    Resource,
    absent_is_none,
    document,
    tag_list,
    tag_map,
)

PAGE = 1000
_PRIVATE = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


@dataclass
class Bucket(Resource):
    """A bucket; ``expire_days`` deletes its objects after so many days."""

    kind = "bucket"

    expire_days: int | None = None

    @property
    def holds_data(self) -> bool:  # type: ignore[override]
        """What expires by itself is nothing to keep."""
        return self.expire_days is None

    def desired(self) -> dict[str, Any]:
        return {
            "public_access_block": _PRIVATE,
            "encryption": "AES256",
            "policy": tls_only(self._arn),
            "expire_days": self.expire_days,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        s3, owner = self.aws.client("s3"), self._owner
        if absent_is_none(lambda: s3.head_bucket(**owner), "404", "NoSuchBucket") is None:
            return None
        block = absent_is_none(
            lambda: s3.get_public_access_block(**owner), "NoSuchPublicAccessBlockConfiguration"
        )
        rules = absent_is_none(
            lambda: s3.get_bucket_encryption(**owner),
            "ServerSideEncryptionConfigurationNotFoundError",
        )
        policy = absent_is_none(lambda: s3.get_bucket_policy(**owner), "NoSuchBucketPolicy")
        lifecycle = absent_is_none(
            lambda: s3.get_bucket_lifecycle_configuration(**owner),
            "NoSuchLifecycleConfiguration",
        )
        tagging = absent_is_none(lambda: s3.get_bucket_tagging(**owner), "NoSuchTagSet")
        tags = tag_map(tagging["TagSet"]) if tagging else {}
        encryption = rules and rules["ServerSideEncryptionConfiguration"]["Rules"][0]
        settings = {
            "public_access_block": block and block["PublicAccessBlockConfiguration"],
            "encryption": encryption
            and encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"],
            "policy": policy and document(policy["Policy"]),
            "expire_days": lifecycle and _expire_days(lifecycle["Rules"]),
        }
        return self.standing(settings, tags, self._arn)

    def create(self) -> None:
        region = self.names.region
        configuration: dict[str, Any] = {"Tags": tag_list(self.tags)}
        if region != "us-east-1":  # the one region that must not be named
            configuration["LocationConstraint"] = region
        self.aws.client("s3").create_bucket(
            Bucket=self.name, CreateBucketConfiguration=configuration
        )
        live = self.read()
        settings = live.settings if live else {}
        self.update(
            {
                name: (settings.get(name), wanted)
                for name, wanted in self.desired().items()
                if settings.get(name) != wanted
            }
        )

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        s3, owner = self.aws.client("s3"), self._owner
        if "tags" in changes:  # first of all: by them the bucket is known as ours
            found = absent_is_none(lambda: s3.get_bucket_tagging(**owner), "NoSuchTagSet")
            merged = (tag_map(found["TagSet"]) if found else {}) | dict(self.tags)
            s3.put_bucket_tagging(Tagging={"TagSet": tag_list(merged)}, **owner)
        if "public_access_block" in changes:
            s3.put_public_access_block(PublicAccessBlockConfiguration=_PRIVATE, **owner)
        if "encryption" in changes:
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
            s3.put_bucket_encryption(ServerSideEncryptionConfiguration={"Rules": [rule]}, **owner)
        if "policy" in changes:
            s3.put_bucket_policy(Policy=json.dumps(tls_only(self._arn)), **owner)
        if "expire_days" in changes:
            if self.expire_days is None:
                s3.delete_bucket_lifecycle(**owner)
            else:
                s3.put_bucket_lifecycle_configuration(
                    LifecycleConfiguration={"Rules": [_expiration(self.expire_days)]}, **owner
                )

    def delete(self) -> None:
        s3, owner = self.aws.client("s3"), self._owner
        if absent_is_none(lambda: s3.head_bucket(**owner), "404", "NoSuchBucket") is None:
            return
        for page in s3.get_paginator("list_object_versions").paginate(**owner):
            found = page.get("Versions", []) + page.get("DeleteMarkers", [])
            for start in range(0, len(found), PAGE):
                keys = [
                    {"Key": one["Key"], "VersionId": one["VersionId"]}
                    for one in found[start : start + PAGE]
                ]
                answer = s3.delete_objects(Delete={"Objects": keys, "Quiet": True}, **owner)
                for error in answer.get("Errors", []):
                    raise ProvisionError(
                        f"bucket {self.name}: {error['Key']} cannot be deleted: {error['Message']}",
                        hint="Correct the cause and run the same command again.",
                    )
        absent_is_none(lambda: s3.delete_bucket(**owner), "NoSuchBucket")

    @property
    def _arn(self) -> str:
        return self.names.bucket_arn(self.name)

    @property
    def _owner(self) -> dict[str, str]:
        """Every call names the owner: a bucket of the same name elsewhere is refused by S3."""
        return {"Bucket": self.name, "ExpectedBucketOwner": self.names.account}


def _expiration(days: int) -> dict[str, Any]:
    return {
        "ID": "stockpipe-expire",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": days},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }


def _expire_days(rules: list[dict[str, Any]]) -> int | None:
    ours = [rule for rule in rules if rule.get("ID") == "stockpipe-expire"]
    return int(ours[0]["Expiration"]["Days"]) if ours else None
