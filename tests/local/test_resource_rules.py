"""What a stream, a table, and what feeds from them promise beyond what every resource does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import cleaned
from resource_cases import CASES
from resource_hands import mapping
from resource_world import Cloud, World, converge, refused, standing

from stockpipe.errors import ProvisionError
from stockpipe.infra import policies
from stockpipe.infra.apply import is_eventual
from stockpipe.infra.plan import Action, change_for, difference, plan_teardown
from stockpipe.infra.resources.dynamodb import Table
from stockpipe.infra.resources.kinesis import Stream
from stockpipe.infra.resources.mappings import EventSourceMapping
from stockpipe.infra.resources.sns import alarms_may_publish
from stockpipe.local import daemon

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cleaned(tmp_path_factory.mktemp("rules")) as home:
        yield Cloud(daemon.ensure_running(home))


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    """A stack of its own; what AWS would refuse of the requests fails the test."""
    yield cloud.world()
    found, cloud.models.refused = cloud.models.refused, []
    assert found == []


class TestStream:
    def test_its_retention_goes_up_and_down(self, world: World) -> None:
        stream = Stream(world, world.names.stream, retention_hours=48, tags=world.tags)
        stream.create()
        for hours in (48, 168, 24):
            stream.retention_hours = hours
            converge(stream)
            assert standing(stream).settings["retention_hours"] == hours

    def test_its_mode_is_switched_in_place_both_ways(self, world: World) -> None:
        stream = Stream(world, world.names.stream, tags=world.tags)
        stream.create()
        for mode in ("provisioned", "on-demand"):
            stream.mode = mode
            assert change_for(stream, stream.read()).action is Action.UPDATE
            converge(stream)
            assert standing(stream).settings["mode"] == mode

    def test_a_third_switch_of_its_mode_in_a_day_says_so(self, world: World) -> None:
        stream = Stream(world, world.names.stream, tags=world.tags)
        stream.create()
        stream.mode = "provisioned"
        kinesis = world.client("kinesis")
        with (
            refused(kinesis, "UpdateStreamMode", "LimitExceededException", "at most 2 times"),
            pytest.raises(ProvisionError, match="twice in 24 hours"),
        ):
            converge(stream)
        with (
            refused(kinesis, "UpdateStreamMode", "LimitExceededException", "Rate exceeded"),
            pytest.raises(ClientError) as throttled,
        ):
            converge(stream)
        assert is_eventual(throttled.value)


class TestTable:
    def test_it_is_protected_from_its_deletion(self, world: World) -> None:
        table = Table(world, world.names.table, deletion_protection=True, tags=world.tags)
        table.create()
        assert table.protection(standing(table)) == "its deletion protection is on"
        with pytest.raises(ProvisionError, match="deletion protection is on"):
            plan_teardown([table])
        table.deletion_protection = False
        converge(table)
        assert table.protection(standing(table)) is None

    def test_other_keys_are_another_table(self, world: World) -> None:
        table = Table(world, world.names.table, tags=world.tags)
        table.create()
        table.range_key = "id"
        change = change_for(table, table.read())
        assert (change.action, change.loses_data) == (Action.REPLACE, True)

    def test_a_second_change_of_its_ttl_within_an_hour_says_so(self, world: World) -> None:
        table = Table(world, world.names.table, tags=world.tags)
        table.create()
        table.ttl = True
        said = "Time to live has been modified multiple times within a fixed interval"
        with (
            refused(world.client("dynamodb"), "UpdateTimeToLive", "ValidationException", said),
            pytest.raises(ProvisionError, match="less than an hour ago"),
        ):
            converge(table)

    def test_a_ttl_on_another_attribute_is_switched_off_before_ours_is_on(
        self, world: World
    ) -> None:
        """DynamoDB refuses another attribute while one is active; the embedded cloud does not."""
        table = Table(world, world.names.table, tags=world.tags)
        table.create()
        theirs = {"Enabled": True, "AttributeName": "gone_at"}
        world.client("dynamodb").update_time_to_live(
            TableName=table.name, TimeToLiveSpecification=theirs
        )
        world.sent()
        table.ttl = True
        converge(table)
        assert [
            request.params["TimeToLiveSpecification"]
            for request in world.sent()
            if request.operation == "UpdateTimeToLive"
        ] == [
            {"Enabled": False, "AttributeName": "gone_at"},
            {"Enabled": True, "AttributeName": "expires_at"},
        ]
        assert standing(table).settings["ttl"] == "expires_at"

    def test_its_stream_switched_off_and_on_is_another_and_takes_its_mapping_along(
        self, world: World
    ) -> None:
        table = Table(world, world.names.table, stream=True, tags=world.tags)
        table.create()
        reader = copy(mapping(world))
        reader.source = table.stream_arn
        reader.create()
        was = table.stream_arn()
        world.client("dynamodb").update_table(
            TableName=table.name, StreamSpecification={"StreamEnabled": False}
        )
        change = change_for(reader, reader.read())
        assert change.action is Action.REPLACE
        converge(table)
        assert table.stream_arn() not in (was, None)
        reader.delete()
        reader.create()
        assert standing(reader).settings["source"] == table.stream_arn()


class TestRole:
    def test_just_made_it_may_be_unknown_to_iam_for_a_while(self, world: World) -> None:
        role = CASES["role"].make(world)
        with refused(world.client("iam"), "PutRolePolicy", "NoSuchEntity", times=2):
            role.create()
        assert difference(role, standing(role)) == {}

    def test_it_comes_within_its_boundary_before_anything_else_of_it_is_changed(
        self, world: World
    ) -> None:
        """Operators may write what a role is and does only within the boundary."""
        role = CASES["role"].make(world)
        role.create()
        for setting in ("trust", "policy", "inline_policies", "attached_policies", "boundary"):
            CASES["role"].by_hand[setting](role)
        changes = difference(role, standing(role))
        world.sent()
        role.update(changes)
        written = [request.operation for request in world.sent() if request.writes]
        assert written[0] == "PutRolePermissionsBoundary"
        assert "UpdateAssumeRolePolicy" in written
        assert difference(role, standing(role)) == {}


def rewritten(policy: dict[str, Any]) -> str:
    """The same policy as a service may give it back: other order, no lists of one."""

    def several(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: several(one) for key, one in value.items()}
        if isinstance(value, list):
            found = [several(one) for one in reversed(value)]
            return found[0] if len(found) == 1 else found
        return {"AWS": "*"} if value == "*" else value

    return json.dumps(several(policy))


class TestPolicies:
    """Of a bucket: https://github.com/hashicorp/terraform/issues/2432."""

    def test_a_bucket_s_may_come_back_in_another_order(self, world: World) -> None:
        bucket = CASES["bucket"].make(world)
        bucket.create()
        world.client("s3").put_bucket_policy(
            Bucket=bucket.name,
            Policy=rewritten(policies.tls_only(world.names.bucket_arn(bucket.name))),
        )
        assert difference(bucket, standing(bucket)) == {}

    def test_a_role_s_may_come_back_in_another_order(self, world: World) -> None:
        role, iam = CASES["role"].make(world), world.client("iam")
        role.create()
        document = rewritten(policies.process_policy(world.names))
        iam.put_role_policy(RoleName=role.name, PolicyName="stockpipe", PolicyDocument=document)
        iam.update_assume_role_policy(
            RoleName=role.name, PolicyDocument=rewritten(policies.trust_policy())
        )
        assert difference(role, standing(role)) == {}

    def test_a_topic_s_may_come_back_in_another_order(self, world: World) -> None:
        topic = CASES["operations-topic"].make(world)
        topic.create()
        arn = world.names.operations_topic_arn
        world.client("sns").set_topic_attributes(
            TopicArn=arn,
            AttributeName="Policy",
            AttributeValue=rewritten(alarms_may_publish(world.names, arn)),
        )
        assert difference(topic, standing(topic)) == {}


class TestMapping:
    def test_deleted_by_hand_it_is_made_anew(self, world: World) -> None:
        reader = mapping(world)
        reader.create()
        first = reader.uuid()
        world.client("lambda").delete_event_source_mapping(UUID=first)
        assert reader.read() is None
        assert reader.uuid() is None
        converge(reader)
        assert reader.uuid() not in (first, None)

    def test_it_survives_its_function_and_is_still_deleted(self, world: World) -> None:
        reader = mapping(world)
        reader.create()
        world.client("lambda").delete_function(FunctionName=reader.function)
        assert standing(reader).ours
        reader.delete()
        assert reader.read() is None

    @pytest.mark.parametrize("source", ["ours", "another"])
    def test_a_twin_is_seen_and_removed(self, world: World, source: str) -> None:
        """One that reads our source again through a version, or one from a stream of old."""
        reader = mapping(world)
        reader.create()
        first, twin = reader.uuid(), copy(reader)
        if source == "ours":
            lambda_ = world.client("lambda")
            version = lambda_.publish_version(FunctionName=reader.function)["Version"]
            lambda_.create_event_source_mapping(
                EventSourceArn=reader.source(),
                FunctionName=f"{reader.function}:{version}",
                StartingPosition="TRIM_HORIZON",
                Tags=dict(reader.tags),
            )
        else:
            old = Stream(world, f"{world.names.stream}-old", tags=world.tags)
            old.create()
            twin.source = lambda: world.names.stream_arn + "-old"
            twin.create()
        changes = difference(reader, standing(reader))
        assert changes["mappings"] == (2, 1)
        converge(reader)
        converge(reader)
        assert difference(reader, standing(reader)) == {}
        assert len(listed(reader)) == 1
        assert source == "ours" or reader.uuid() == first

    def test_from_a_source_that_is_no_longer_ours_it_is_replaced(self, world: World) -> None:
        reader = mapping(world)
        reader.create()
        Stream(world, f"{world.names.stream}-new", tags=world.tags).create()
        reader.source = lambda: world.names.stream_arn + "-new"
        change = change_for(reader, reader.read())
        assert (change.action, change.reason) == (
            Action.REPLACE,
            "a mapping keeps its source for life",
        )

    def test_others_may_read_with_our_function_too(self, world: World) -> None:
        """A stranger's mapping from a source of his own is his business."""
        reader = mapping(world)
        world.client("kinesis").create_stream(
            StreamName=f"{world.names.stream}-theirs", ShardCount=1
        )
        theirs = world.client("lambda").create_event_source_mapping(
            EventSourceArn=f"{world.names.stream_arn}-theirs",
            FunctionName=reader.function,
            StartingPosition="LATEST",
        )["UUID"]
        assert reader.read() is None
        reader.create()
        reader.delete()
        assert [one["UUID"] for one in listed(reader)] == [theirs]


def listed(reader: EventSourceMapping) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = reader.aws.client("lambda").list_event_source_mappings(
        FunctionName=reader.function
    )["EventSourceMappings"]
    return found
