"""What a bucket promises beyond what every resource does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import copy_context
from copy import copy
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import cleaned
from resource_cases import CASES
from resource_world import REGION, Cloud, World, converge, refused, standing

from stockpipe.infra.apply import apply, is_eventual
from stockpipe.infra.plan import difference, plan_provision
from stockpipe.infra.resources.s3 import Bucket
from stockpipe.infra.waiting import Stopped, Watch, watch
from stockpipe.local import daemon

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cleaned(tmp_path_factory.mktemp("buckets")) as home:
        yield Cloud(daemon.ensure_running(home))


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    """A stack of its own; what AWS would refuse of the requests fails the test."""
    yield cloud.world()
    found, cloud.models.refused = cloud.models.refused, []
    assert found == []


def test_to_empty_it_tells_how_far_it_is_and_when_stopped_is_resumed_until_nothing_is_left(
    world: World,
) -> None:
    """More than S3 lists or deletes in one call: versions, markers, an unfinished upload."""
    bucket, s3 = Bucket(world, world.names.data_bucket, tags=world.tags), world.client("s3")
    bucket.create()
    s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket=bucket.name, Key="raw-data/a.json", Body=body)
    markers = [{"Key": f"k{number:04}"} for number in range(1000)]
    s3.delete_objects(Bucket=bucket.name, Delete={"Objects": markers})
    s3.create_multipart_upload(Bucket=bucket.name, Key="raw-data/b.json")
    stopping, told = threading.Event(), list[str]()

    def interrupt(what: str) -> None:
        told.append(what)
        stopping.set()

    def interrupted() -> None:
        watch.set(Watch(stopping, interrupt))
        bucket.delete()

    with pytest.raises(Stopped, match="1,002 objects deleted"):
        copy_context().run(interrupted)
    assert told == ["1,000 objects deleted"]
    bucket.delete()
    assert bucket.read() is None
    sent = [request.operation for request in world.sent()]
    assert sent.count("AbortMultipartUpload") == 1


def test_what_is_written_while_it_is_emptied_is_worth_another_try(world: World) -> None:
    bucket, s3 = Bucket(world, world.names.data_bucket, tags=world.tags), world.client("s3")
    bucket.create()

    def write(**_: Any) -> None:
        s3.meta.events.unregister("before-call.s3.DeleteBucket", write)
        s3.put_object(Bucket=bucket.name, Key="raw-data/late.json", Body=b"1")

    s3.meta.events.register("before-call.s3.DeleteBucket", write)
    with pytest.raises(ClientError) as still_full:
        bucket.delete()
    assert is_eventual(still_full.value)
    bucket.delete()
    assert bucket.read() is None


@pytest.mark.parametrize(
    "late",
    ["PutPublicAccessBlock", "PutBucketPolicy", "PutBucketLifecycleConfiguration"],
)
def test_just_made_it_may_be_unknown_to_s3_for_a_while(world: World, late: str) -> None:
    bucket = CASES["bucket"].make(world)
    with refused(world.client("s3"), late, "NoSuchBucket", times=2):
        bucket.create()
    assert difference(bucket, standing(bucket)) == {}


@pytest.mark.parametrize(
    ("late", "code"),
    [
        ("HeadBucket", "404"),
        ("GetBucketPolicy", "NoSuchBucket"),
        ("GetBucketTagging", "NoSuchBucket"),
    ],
)
def test_just_made_by_somebody_else_it_is_read_as_soon_as_s3_knows_it(
    world: World, late: str, code: str
) -> None:
    bucket = Bucket(world, world.names.results_bucket, expire_days=7, tags=world.tags)
    plan = plan_provision([bucket])
    faster = copy(bucket)
    faster.expire_days = 9
    faster.create()
    with refused(world.client("s3"), late, code, times=2):
        apply(plan, lambda step: None)
    assert difference(bucket, standing(bucket)) == {}


def test_an_empty_filter_in_its_lifecycle_rule_is_no_drift(world: World) -> None:
    """S3 and its console write such defaults; which ones: ``test_lifecycle_rule``."""
    bucket, s3 = CASES["bucket"].make(world), world.client("s3")
    bucket.create()
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket.name)["Rules"]
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket.name, LifecycleConfiguration={"Rules": [{**rule, "Filter": {}}]}
    )
    assert difference(bucket, standing(bucket)) == {}


def test_of_another_account_it_is_out_of_reach(cloud: Cloud, world: World) -> None:
    Bucket(world, world.names.data_bucket, tags=world.tags).create()
    stranger = World(cloud)
    stranger.account_id = "111111111111"
    bucket = Bucket(stranger, world.names.data_bucket, tags=world.tags)
    live = standing(bucket)
    assert not live.ours
    assert "another account" in (live.out_of_reach or "")


def test_in_another_region_it_is_out_of_reach(world: World) -> None:
    world.client("s3").create_bucket(
        Bucket=world.names.data_bucket,
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    elsewhere = World(world.cloud)
    elsewhere.region = "eu-west-1"
    live = standing(Bucket(elsewhere, world.names.data_bucket, tags=world.tags))
    assert not live.ours
    assert live.out_of_reach == "is in us-east-2"


def test_lifecycle_rules_and_tags_of_others_stay(world: World) -> None:
    bucket, s3 = CASES["bucket"].make(world), world.client("s3")
    bucket.create()
    other = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": "logs/"},
        "Expiration": {"Days": 1},
    }
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket.name, LifecycleConfiguration={"Rules": [other]}
    )
    s3.put_bucket_tagging(Bucket=bucket.name, Tagging={"TagSet": [{"Key": "theirs", "Value": "1"}]})
    converge(bucket)
    assert difference(bucket, standing(bucket)) == {}
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket.name)["Rules"]
    assert [rule["ID"] for rule in rules] == ["theirs", "stockpipe-expire"]
    tags = s3.get_bucket_tagging(Bucket=bucket.name)["TagSet"]
    assert {"Key": "theirs", "Value": "1"} in tags
