"""Which IAM actions an AWS operation needs: one table, kept by hand, and policies written from it.

A :class:`Grant` names operations and resources, never actions; the actions follow from here. That
the table is right, complete and without a spare line is proved by running everything under IAM
enforcement (``tests/local/test_least_privilege.py``); what cannot be proved there is reviewed in
``docs/permissions.md``.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/ (as of 2026-09).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANY = "*"

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "athena.BatchGetNamedQuery": ("athena:BatchGetNamedQuery",),
    "athena.CreateNamedQuery": ("athena:CreateNamedQuery",),
    "athena.CreateWorkGroup": ("athena:CreateWorkGroup", "athena:TagResource"),
    "athena.DeleteNamedQuery": ("athena:DeleteNamedQuery",),
    "athena.DeleteWorkGroup": ("athena:DeleteWorkGroup",),
    "athena.GetQueryExecution": ("athena:GetQueryExecution",),
    "athena.GetQueryResults": ("athena:GetQueryResults",),
    "athena.GetWorkGroup": ("athena:GetWorkGroup",),
    "athena.ListNamedQueries": ("athena:ListNamedQueries",),
    "athena.ListTagsForResource": ("athena:ListTagsForResource",),
    "athena.StartQueryExecution": ("athena:StartQueryExecution",),
    "athena.StopQueryExecution": ("athena:StopQueryExecution",),
    "athena.TagResource": ("athena:TagResource",),
    "athena.UpdateWorkGroup": ("athena:UpdateWorkGroup",),
    "cloudwatch.DeleteAlarms": ("cloudwatch:DeleteAlarms",),
    "cloudwatch.DeleteDashboards": ("cloudwatch:DeleteDashboards",),
    "cloudwatch.DescribeAlarms": ("cloudwatch:DescribeAlarms",),
    "cloudwatch.GetDashboard": ("cloudwatch:GetDashboard",),
    "cloudwatch.GetMetricData": ("cloudwatch:GetMetricData",),
    "cloudwatch.ListTagsForResource": ("cloudwatch:ListTagsForResource",),
    "cloudwatch.PutDashboard": ("cloudwatch:PutDashboard", "cloudwatch:TagResource"),
    "cloudwatch.PutMetricAlarm": ("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"),
    "cloudwatch.TagResource": ("cloudwatch:TagResource",),
    "dynamodb.BatchWriteItem": ("dynamodb:BatchWriteItem",),
    "dynamodb.CreateTable": ("dynamodb:CreateTable", "dynamodb:TagResource"),
    "dynamodb.GetItem": ("dynamodb:GetItem",),
    "dynamodb.DeleteTable": ("dynamodb:DeleteTable",),
    "dynamodb.DescribeContinuousBackups": ("dynamodb:DescribeContinuousBackups",),
    "dynamodb.DescribeTable": ("dynamodb:DescribeTable",),
    "dynamodb.DescribeTimeToLive": ("dynamodb:DescribeTimeToLive",),
    "dynamodb.ListTagsOfResource": ("dynamodb:ListTagsOfResource",),
    "dynamodb.PutItem": ("dynamodb:PutItem",),
    "dynamodb.Query": ("dynamodb:Query",),
    "dynamodb.Scan": ("dynamodb:Scan",),
    "dynamodb.TagResource": ("dynamodb:TagResource",),
    "dynamodb.UpdateContinuousBackups": ("dynamodb:UpdateContinuousBackups",),
    "dynamodb.UpdateItem": ("dynamodb:UpdateItem",),
    "dynamodb.UpdateTable": ("dynamodb:UpdateTable",),
    "dynamodb.UpdateTimeToLive": ("dynamodb:UpdateTimeToLive",),
    "events.DeleteRule": ("events:DeleteRule",),
    "events.DescribeRule": ("events:DescribeRule",),
    "events.ListTagsForResource": ("events:ListTagsForResource",),
    "events.ListTargetsByRule": ("events:ListTargetsByRule",),
    "events.PutRule": ("events:PutRule", "events:TagResource"),
    "events.PutTargets": ("events:PutTargets",),
    "events.RemoveTargets": ("events:RemoveTargets",),
    "events.TagResource": ("events:TagResource",),
    "glue.CreateDatabase": ("glue:CreateDatabase", "glue:TagResource"),
    "glue.CreateTable": ("glue:CreateTable",),
    "glue.DeleteDatabase": ("glue:DeleteDatabase",),
    "glue.DeleteTable": ("glue:DeleteTable",),
    "glue.GetDatabase": ("glue:GetDatabase",),
    "glue.GetTable": ("glue:GetTable",),
    "glue.GetTables": ("glue:GetTables",),
    "glue.GetTags": ("glue:GetTags",),
    "glue.TagResource": ("glue:TagResource",),
    "glue.UpdateTable": ("glue:UpdateTable",),
    "iam.CreateRole": ("iam:CreateRole", "iam:TagRole"),
    "iam.DeleteRole": ("iam:DeleteRole",),
    "iam.DeleteRolePermissionsBoundary": ("iam:DeleteRolePermissionsBoundary",),
    "iam.DeleteRolePolicy": ("iam:DeleteRolePolicy",),
    "iam.DetachRolePolicy": ("iam:DetachRolePolicy",),
    "iam.GetRole": ("iam:GetRole",),
    "iam.GetRolePolicy": ("iam:GetRolePolicy",),
    "iam.ListAttachedRolePolicies": ("iam:ListAttachedRolePolicies",),
    "iam.ListRolePolicies": ("iam:ListRolePolicies",),
    "iam.PutRolePermissionsBoundary": ("iam:PutRolePermissionsBoundary",),
    "iam.PutRolePolicy": ("iam:PutRolePolicy",),
    "iam.TagRole": ("iam:TagRole",),
    "iam.UpdateAssumeRolePolicy": ("iam:UpdateAssumeRolePolicy",),
    "kinesis.AddTagsToStream": ("kinesis:AddTagsToStream",),
    "kinesis.CreateStream": ("kinesis:CreateStream", "kinesis:AddTagsToStream"),
    "kinesis.DecreaseStreamRetentionPeriod": ("kinesis:DecreaseStreamRetentionPeriod",),
    "kinesis.DeleteStream": ("kinesis:DeleteStream",),
    "kinesis.DescribeStreamSummary": ("kinesis:DescribeStreamSummary",),
    "kinesis.IncreaseStreamRetentionPeriod": ("kinesis:IncreaseStreamRetentionPeriod",),
    "kinesis.ListTagsForStream": ("kinesis:ListTagsForStream",),
    "kinesis.PutRecords": ("kinesis:PutRecords",),
    "kinesis.StartStreamEncryption": ("kinesis:StartStreamEncryption",),
    "kinesis.UpdateShardCount": ("kinesis:UpdateShardCount",),
    "kinesis.UpdateStreamMode": ("kinesis:UpdateStreamMode",),
    "lambda.AddPermission": ("lambda:AddPermission",),
    "lambda.CreateEventSourceMapping": ("lambda:CreateEventSourceMapping", "lambda:TagResource"),
    "lambda.CreateFunction": ("lambda:CreateFunction", "lambda:TagResource", "iam:PassRole"),
    "lambda.DeleteEventSourceMapping": ("lambda:DeleteEventSourceMapping",),
    "lambda.DeleteFunction": ("lambda:DeleteFunction",),
    "lambda.DeleteFunctionConcurrency": ("lambda:DeleteFunctionConcurrency",),
    "lambda.GetAccountSettings": ("lambda:GetAccountSettings",),
    "lambda.GetEventSourceMapping": ("lambda:GetEventSourceMapping",),
    "lambda.GetFunction": ("lambda:GetFunction", "lambda:ListTags"),  # its answer has the tags
    "lambda.GetFunctionConfiguration": ("lambda:GetFunctionConfiguration",),
    "lambda.GetPolicy": ("lambda:GetPolicy",),
    "lambda.ListEventSourceMappings": ("lambda:ListEventSourceMappings",),
    "lambda.ListTags": ("lambda:ListTags",),
    "lambda.PutFunctionConcurrency": ("lambda:PutFunctionConcurrency",),
    "lambda.RemovePermission": ("lambda:RemovePermission",),
    "lambda.TagResource": ("lambda:TagResource",),
    "lambda.UpdateEventSourceMapping": ("lambda:UpdateEventSourceMapping",),
    "lambda.UpdateFunctionCode": ("lambda:UpdateFunctionCode",),
    "lambda.UpdateFunctionConfiguration": ("lambda:UpdateFunctionConfiguration", "iam:PassRole"),
    "logs.CreateLogGroup": ("logs:CreateLogGroup", "logs:TagResource"),
    "logs.DeleteLogGroup": ("logs:DeleteLogGroup",),
    "logs.DescribeLogGroups": ("logs:DescribeLogGroups",),
    "logs.ListTagsForResource": ("logs:ListTagsForResource",),
    "logs.PutRetentionPolicy": ("logs:PutRetentionPolicy",),
    "logs.TagResource": ("logs:TagResource",),
    "s3.AbortMultipartUpload": ("s3:AbortMultipartUpload",),
    "s3.CreateBucket": ("s3:CreateBucket", "s3:TagResource"),
    "s3.DeleteBucket": ("s3:DeleteBucket",),
    "s3.DeleteBucketLifecycle": ("s3:PutLifecycleConfiguration",),
    "s3.DeleteObjects": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    "s3.GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "s3.GetBucketLifecycleConfiguration": ("s3:GetLifecycleConfiguration",),
    "s3.GetBucketPolicy": ("s3:GetBucketPolicy",),
    "s3.GetBucketTagging": ("s3:GetBucketTagging",),
    "s3.GetObject": ("s3:GetObject",),
    "s3.GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock",),
    "s3.HeadBucket": ("s3:ListBucket",),
    "s3.ListMultipartUploads": ("s3:ListBucketMultipartUploads",),
    "s3.ListObjectVersions": ("s3:ListBucketVersions",),
    "s3.ListObjectsV2": ("s3:ListBucket",),
    "s3.PutBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "s3.PutBucketLifecycleConfiguration": ("s3:PutLifecycleConfiguration",),
    "s3.PutBucketPolicy": ("s3:PutBucketPolicy",),
    "s3.PutBucketTagging": ("s3:PutBucketTagging",),
    "s3.PutObject": ("s3:PutObject",),
    "s3.PutPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "sns.CreateTopic": ("sns:CreateTopic", "sns:TagResource"),
    "sns.DeleteTopic": ("sns:DeleteTopic",),
    "sns.GetSubscriptionAttributes": ("sns:GetSubscriptionAttributes",),
    "sns.GetTopicAttributes": ("sns:GetTopicAttributes",),
    "sns.ListSubscriptionsByTopic": ("sns:ListSubscriptionsByTopic",),
    "sns.ListTagsForResource": ("sns:ListTagsForResource",),
    "sns.Publish": ("sns:Publish",),
    "sns.SetSubscriptionAttributes": ("sns:SetSubscriptionAttributes",),
    "sns.SetTopicAttributes": ("sns:SetTopicAttributes",),
    "sns.Subscribe": ("sns:Subscribe",),
    "sns.TagResource": ("sns:TagResource",),
    "sns.Unsubscribe": ("sns:Unsubscribe",),
    "sqs.GetQueueAttributes": ("sqs:GetQueueAttributes",),
    "sqs.GetQueueUrl": ("sqs:GetQueueUrl",),
    "sqs.SetQueueAttributes": ("sqs:SetQueueAttributes",),
    "sts.GetCallerIdentity": (),  # needs no permission, and cannot be denied
}
"""Operation as boto3 names it (``service.Operation``) to actions. Tags that go in the create call
need the tagging action too."""

ON_BEHALF: Mapping[str, tuple[str, ...]] = {
    # https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html
    "Lambda polls Kinesis": (
        "kinesis:DescribeStream",
        "kinesis:DescribeStreamSummary",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
    ),
    # https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html
    "Lambda polls DynamoDB Streams": (
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
    ),
    # https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    "Lambda keeps failed batches": ("s3:ListBucket", "s3:PutObject"),
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
    "Lambda writes logs": ("logs:CreateLogStream", "logs:PutLogEvents"),
    # https://docs.aws.amazon.com/athena/latest/ug/fine-grained-access-to-glue-resources.html
    "Athena opens the catalog": ("glue:GetDatabase",),
    "Athena reads the catalog": ("glue:GetPartitions", "glue:GetTable"),
    # https://docs.aws.amazon.com/athena/latest/ug/s3-permissions.html
    "Athena reads the archive": ("s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket"),
    "Athena keeps results": (
        "s3:AbortMultipartUpload",
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
    ),
}
"""What an AWS service does with the rights of a function's role or of the caller."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations (of either table) on resources, as one statement of a policy.

    Of their actions it takes those of the service that the resources belong to: creating a
    function needs ``lambda:CreateFunction`` on the function and ``iam:PassRole`` on its role.
    ``only`` narrows that to some of them, where they need different resources or conditions.
    """

    sid: str
    operations: tuple[str, ...]
    resources: tuple[str, ...]
    only: tuple[str, ...] = ()
    condition: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def actions(self) -> list[str]:
        """Sorted; raises KeyError for an operation that is in neither table."""
        needed = {action for operation in self.operations for action in actions_of(operation)}
        if self.only:
            return sorted(needed & set(self.only))
        service = self.resources[0].split(":")[2] if self.resources[0] != ANY else None
        return sorted(a for a in needed if service is None or a.split(":")[0] == service)

    def statement(self) -> dict[str, Any]:
        return {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": self.actions,
            "Resource": list(self.resources),
            **({"Condition": dict(self.condition)} if self.condition else {}),
        }


def actions_of(operation: str) -> tuple[str, ...]:
    found = ACTIONS.get(operation)
    return ON_BEHALF[operation] if found is None else found
