"""What we mend in the emulator's answers to provisioning is still broken without us.

A failure here is good news: the mend named in the comment can go.
"""

from __future__ import annotations

import pytest
from stock_emulator import flaws

pytest.importorskip("ministack")

STOCK = """
import json

import ministack.app
from ministack.services import athena, kinesis, lambda_svc, s3, sns

found = {}

# provisioning.keep_stream_tags
kinesis._create_stream({"StreamName": "s", "Tags": {"a": "b"}})
found["CreateStream drops its tags"] = not kinesis._streams["s"]["tags"]

# provisioning.refuse_other_owners
s3._create_bucket("a-bucket", b"")
other = {"x-amz-expected-bucket-owner": "111111111111"}
status = s3._dispatch("HEAD", "a-bucket", "", other, b"", {})[0]
found["any owner is the expected one"] = status == 200

# provisioning.make_named_queries_once
query = {"Name": "q", "Database": "d", "QueryString": "SELECT 1", "WorkGroup": "w"}
for _ in range(2):
    athena._create_named_query({**query, "ClientRequestToken": "t" * 32})
found["a repeated CreateNamedQuery makes a twin"] = len(athena._named_queries) == 2
athena._create_workgroup({"Name": "w", "Configuration": {"ResultConfiguration": {}}})
athena._delete_workgroup({"WorkGroup": "w", "RecursiveDeleteOption": True})
found["named queries outlive their workgroup"] = len(athena._named_queries) == 2

# provisioning.keep_workgroup_updates
owner, limit = {"ExpectedBucketOwner": "0" * 12}, {"BytesScannedCutoffPerQuery": 10**7}
athena._create_workgroup({"Name": "w", "Configuration": {"ResultConfiguration": {}, **limit}})
athena._update_workgroup({"WorkGroup": "w", "ConfigurationUpdates": {
    "ResultConfigurationUpdates": owner, "RemoveBytesScannedCutoffPerQuery": True}})
kept = athena._workgroups["w"]["Configuration"]
found["a workgroup's bucket owner is not updated"] = not kept["ResultConfiguration"]
found["a workgroup's limit is not removed"] = "BytesScannedCutoffPerQuery" in kept

# provisioning.refuse_topic_twins
def topic(value):
    return sns._create_topic({"Name": "t", "Tags.member.1.Key": "k", "Tags.member.1.Value": value})
found["a topic is made twice with other tags"] = [topic("1")[0], topic("2")[0]] == [200, 200]

# provisioning.show_pending_subscriptions
(arn,) = sns._topics
waiting = {"arn": arn + ":1", "confirmed": False, "protocol": "https", "endpoint": "e"}
sns._topics[arn]["subscriptions"].append(waiting)
listed = sns._list_subscriptions_by_topic({"TopicArn": arn})[2]
found["a pending subscription has an ARN"] = b"PendingConfirmation" not in listed

# provisioning.be_active_soon
found["a function is pending for long"] = lambda_svc._LAMBDA_STATE_TRANSITION_DELAY > 0.05

# hooks.install
lambda_svc._esms["u"] = {"UUID": "u", "EventSourceArn": "arn:aws:kinesis:::stream/s"}
metrics = {"MetricsConfig": {"Metrics": ["EventCount"]}, "TumblingWindowInSeconds": 3}
lambda_svc._update_esm("u", metrics)
found["a mapping's metrics are dropped"] = "MetricsConfig" not in lambda_svc._esms["u"]
found["a mapping's window is dropped"] = "TumblingWindowInSeconds" not in lambda_svc._esms["u"]

print(json.dumps(found))
"""


def test_every_flaw_that_we_mend_is_still_there() -> None:
    found = flaws(STOCK)
    assert len(found) == 11
    assert [flaw for flaw, there in found.items() if not there] == []
