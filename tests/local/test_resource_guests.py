"""Resources that people, or things of others, are part of: who is asked, and what is not ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from copy import copy

import pytest
from botocore.exceptions import ClientError
from embedded import cleaned
from resource_cases import CASES
from resource_hands import QUERIES, catalog_table, named_queries, subscription, workgroup
from resource_world import Cloud, Killed, World, converge, refused, standing

from stockpipe.errors import ForeignResource, ProvisionError
from stockpipe.infra.plan import Action, change_for, difference, plan_provision, plan_teardown
from stockpipe.infra.resource import together
from stockpipe.infra.resources.glue import Database
from stockpipe.infra.resources.sns import Subscription
from stockpipe.local import daemon

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cleaned(tmp_path_factory.mktemp("guests")) as home:
        yield Cloud(daemon.ensure_running(home))


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    """A stack of its own; what AWS would refuse of the requests fails the test."""
    yield cloud.world()
    found, cloud.models.refused = cloud.models.refused, []
    assert found == []


class TestSubscription:
    def test_whoever_unsubscribes_is_left_in_peace(self, world: World) -> None:
        recipient = subscription(world)
        recipient.create()
        live = standing(recipient)
        assert live.state == "confirmed"
        world.client("sns").unsubscribe(SubscriptionArn=live.arn)
        live = standing(recipient)
        assert (live.state, live.ours) == ("unsubscribed", True)
        assert change_for(recipient, live).action is Action.KEEP

    def test_asked_for_again_by_a_flag_he_is_subscribed_again(self, world: World) -> None:
        recipient = subscription(world, asked=True)
        recipient.create()
        world.client("sns").unsubscribe(SubscriptionArn=standing(recipient).arn)
        changes = difference(recipient, standing(recipient))
        assert changes == {"subscribed": (False, True)}
        recipient.update(changes)
        assert change_for(recipient, recipient.read()).action is Action.KEEP

    def test_nobody_is_invited_twice(self, world: World) -> None:
        recipient = subscription(world)
        recipient.create()
        world.sent()
        shouting = copy(recipient)
        shouting.endpoint = "You@Example.COM"
        assert change_for(shouting, shouting.read()).action is Action.KEEP
        shouting.create()
        assert "Subscribe" not in [request.operation for request in world.sent()]

    def test_killed_after_any_call_nobody_is_lost(self, cloud: Cloud) -> None:
        """Remembered but not subscribed he would look like one who has unsubscribed."""
        for calls in (1, 2, 3):
            recipient = subscription(cloud.world())
            cloud.calls_left = calls
            with pytest.raises(Killed):
                recipient.create()
            cloud.calls_left = None
            converge(recipient)
            assert standing(recipient).state == "confirmed"

    def test_who_has_not_confirmed_is_no_drift(self, world: World) -> None:
        recipient = silent(world)
        recipient.create()
        live = standing(recipient)
        assert live.state == "pending"
        assert change_for(recipient, live).action is Action.KEEP

    @pytest.mark.parametrize("state", ["confirmed", "pending"])
    def test_he_goes_with_the_topic(self, world: World, state: str) -> None:
        """A teardown that is killed before that must not look as if he had left by himself."""
        recipient = subscription(world) if state == "confirmed" else silent(world)
        recipient.create()
        recipient.delete()
        live = standing(recipient)
        assert (live.state, change_for(recipient, live).action) == (state, Action.KEEP)
        CASES["topic"].make(world).delete()
        assert recipient.read() is None
        listed = world.client("sns").list_subscriptions()["Subscriptions"]
        assert world.names.topic_arn not in [one["TopicArn"] for one in listed]

    def test_of_a_topic_that_is_not_ours_he_is_not_ours_either(self, world: World) -> None:
        sns = world.client("sns")
        sns.create_topic(Name=world.names.topic)
        recipient = Subscription(
            world, "email you@example.com", topic=world.names.topic, endpoint="you@example.com"
        )
        sns.subscribe(TopicArn=world.names.topic_arn, Protocol="email", Endpoint=recipient.endpoint)
        assert not standing(recipient).ours
        assert plan_teardown([recipient]).changes == ()

    def test_the_topic_knows_no_addresses_and_sees_no_drift(self, world: World) -> None:
        recipient = subscription(world)
        recipient.create()
        tags = world.client("sns").list_tags_for_resource(ResourceArn=world.names.topic_arn)
        assert "example" not in str(tags["Tags"])
        topic = CASES["topic"].make(world)
        assert difference(topic, standing(topic)) == {}

    def test_a_topic_full_of_tags_says_what_to_do(self, world: World) -> None:
        recipient = subscription(world)
        with (
            refused(world.client("sns"), "TagResource", "TagLimitExceeded", "too many"),
            pytest.raises(ProvisionError, match="as many tags as it may have"),
        ):
            recipient.create()


def silent(world: World) -> Subscription:
    """A recipient whose confirmation never comes: nothing listens at his end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipient = subscription(world)
    recipient.protocol, recipient.endpoint = "http", f"http://127.0.0.1:{port}/"
    return recipient


class TestNamedQueries:
    def test_others_in_the_same_workgroup_are_let_alone(self, world: World) -> None:
        queries = named_queries(world)
        theirs = world.client("athena").create_named_query(
            Name="highs", Database="d", QueryString="SELECT 9", WorkGroup=queries.workgroup
        )["NamedQueryId"]
        assert queries.read() is None
        queries.create()
        assert difference(queries, standing(queries)) == {}
        queries.delete()
        left = world.client("athena").list_named_queries(WorkGroup=queries.workgroup)
        assert left["NamedQueryIds"] == [theirs]

    def test_they_keep_a_workgroup_that_holds_them_from_being_deleted(self, world: World) -> None:
        group = workgroup(world)
        group.create()
        world.client("athena").create_named_query(
            Name="mine", Database="d", QueryString="SELECT 9", WorkGroup=group.name
        )
        (kept,) = plan_teardown([group]).changes
        assert kept.action is Action.KEEP
        assert "not ours: mine" in kept.reason
        with pytest.raises(ProvisionError, match="not ours: mine"):
            group.delete()
        assert group.read() is not None

    def test_two_runs_at_once_end_in_one_of_each(self, world: World) -> None:
        queries = named_queries(world)
        together(*[queries.create] * 4)
        assert difference(queries, standing(queries)) == {}

    def test_only_what_changed_is_made_anew(self, world: World) -> None:
        queries = named_queries(world)
        queries.create()
        world.sent()
        queries.queries = {**QUERIES, "lows": ("The lowest price", "SELECT min(price)")}
        converge(queries)
        made = [one for one in world.sent() if one.operation == "CreateNamedQuery"]
        assert [one.params["Name"] for one in made] == ["lows"]
        assert difference(queries, standing(queries)) == {}

    def test_one_that_the_catalog_no_longer_has_goes(self, world: World) -> None:
        queries = named_queries(world)
        queries.create()
        queries.queries = {"highs": QUERIES["highs"]}
        assert set(difference(queries, standing(queries))) == {"queries", "descriptions"}
        converge(queries)
        assert difference(queries, standing(queries)) == {}

    def test_there_may_be_more_than_one_page_of_them(self, world: World) -> None:
        queries = named_queries(world)
        queries.queries = {f"q{number}": ("", f"SELECT {number}") for number in range(51)}
        queries.create()
        assert len(standing(queries).settings["queries"]) == 51

    def test_all_that_were_deleted_come_back(self, world: World) -> None:
        queries = named_queries(world)
        for _ in range(2):
            queries.create()
            assert difference(queries, standing(queries)) == {}
            queries.delete()
        assert queries.read() is None


def test_an_error_of_athena_is_not_taken_for_an_absence(world: World) -> None:
    group = workgroup(world)
    group.create()
    athena = world.client("athena")
    with refused(athena, "GetWorkGroup", "InvalidRequestException", "WorkGroup is not found."):
        assert group.read() is None
    with (
        refused(athena, "GetWorkGroup", "InvalidRequestException", "Something else is wrong"),
        pytest.raises(ClientError),
    ):
        group.read()


def test_a_database_with_tables_of_others_is_not_deleted(world: World) -> None:
    ours = catalog_table(world)
    ours.create()
    database = Database(world, world.names.database, tags=world.tags)
    assert database.guests() is None
    world.client("glue").create_table(DatabaseName=database.name, TableInput={"Name": "theirs"})
    (kept,) = plan_teardown([database]).changes
    assert kept.action is Action.KEEP
    assert "not ours: theirs" in kept.reason
    with pytest.raises(ProvisionError, match="not ours: theirs"):
        database.delete()
    assert ours.read() is not None


def test_a_view_of_the_table_s_name_is_a_collision(world: World) -> None:
    """It is stored nowhere: no columns, no location, no SerDe."""
    table = catalog_table(world)
    view = {"Name": table.name, "TableType": "VIRTUAL_VIEW", "ViewOriginalText": "SELECT 1"}
    world.client("glue").create_table(DatabaseName=table.database, TableInput=view)
    with pytest.raises(ForeignResource, match=f"catalog-table {table.name}"):
        plan_provision([table])


def test_only_alarms_of_this_account_may_publish_to_the_operations_topic(world: World) -> None:
    topic = CASES["operations-topic"].make(world)
    topic.create()
    attributes = world.client("sns").get_topic_attributes(TopicArn=standing(topic).arn)
    statements = json.loads(attributes["Attributes"]["Policy"])["Statement"]
    allowed = [one for one in statements if one["Effect"] == "Allow"]
    assert [one["Principal"] for one in allowed] == [{"Service": "cloudwatch.amazonaws.com"}]
    assert allowed[0]["Condition"]["StringEquals"] == {"aws:SourceAccount": world.account_id}
