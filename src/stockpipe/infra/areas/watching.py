"""What watches over it, and tells people: topics, alarms, dashboard, the sweep of unsent alerts."""

from __future__ import annotations

from stockpipe.domain.names import Names
from stockpipe.infra.areas.area import Area, beside
from stockpipe.infra.monitoring import watches
from stockpipe.infra.permissions import ANY
from stockpipe.settings import Settings


def areas(names: Names, settings: Settings) -> list[Area]:
    alarms = [names.alarm_arn(names.alarm(watch.what)) for watch in watches(names, settings)]
    return [
        Area(
            "Topics",
            "sns",
            (names.topic_arn, names.operations_topic_arn),
            read="GetTopicAttributes ListTagsForResource",
            write="CreateTopic SetTopicAttributes TagResource",
            delete="DeleteTopic",
        ),
        Area(
            "Recipients",
            "sns",
            (names.topic_arn,),
            read="ListSubscriptionsByTopic",
            write="Subscribe",
            notify="ListSubscriptionsByTopic ListTagsForResource Publish Subscribe TagResource",
        ),
        Area(
            "OperationsRecipients",
            "sns",
            (names.operations_topic_arn,),
            ask="ListSubscriptionsByTopic",
        ),
        # No resource types.
        Area(
            "Subscriptions",
            "sns",
            (ANY,),
            ask="GetSubscriptionAttributes",
            notify="GetSubscriptionAttributes SetSubscriptionAttributes Unsubscribe",
        ),
        # Which queue alerts go to, is not known before somebody names it.
        Area(
            "Queues",
            "sqs",
            (beside(names.topic_arn, "*", service="sqs"),),
            notify="GetQueueAttributes GetQueueUrl SetQueueAttributes",
        ),
        # A listing, whatever it is narrowed to.
        Area(
            "FindAlarms",
            "cloudwatch",
            (beside(alarms[0], "alarm:*"),),
            read="DescribeAlarms",
        ),
        Area(
            "Alarms",
            "cloudwatch",
            tuple(alarms),
            read="ListTagsForResource",
            write="DeleteAlarms PutMetricAlarm TagResource",
            delete="DeleteAlarms",
        ),
        Area(
            "Dashboard",
            "cloudwatch",
            (names.dashboard_arn,),
            read="GetDashboard ListTagsForResource",
            write="DeleteDashboards PutDashboard TagResource",
            delete="DeleteDashboards",
        ),
        Area("Metrics", "cloudwatch", (ANY,), ask="GetMetricData"),
        Area(
            "Sweep",
            "events",
            (names.sweep_rule_arn,),
            read="DescribeRule ListTagsForResource ListTargetsByRule",
            write="DeleteRule PutRule PutTargets RemoveTargets TagResource",
            delete="DeleteRule RemoveTargets",
        ),
        Area(
            "SweepPermission",
            "lambda",
            (names.function_arn(names.trend_function),),
            read="GetPolicy",
            write="AddPermission RemovePermission",
            delete="RemovePermission",
        ),
    ]
