"""Every kind of resource, with every change by hand that must be seen and mended."""

from __future__ import annotations

import json

from resource_hands import (
    MANAGED,
    Case,
    arn_of,
    catalog_table,
    code,
    function,
    function_by_hand,
    mapping,
    name_of,
    named_queries,
    on,
    on_function,
    on_mapping,
    on_topic,
    on_workgroup,
    published_by,
    remade,
    role_again,
    subscription,
    table_input,
    trusting_anyone,
    twin,
    widened,
    workgroup,
)
from resource_world import REGION

from stockpipe.infra import policies
from stockpipe.infra.resource import tag_list
from stockpipe.infra.resources.athena import MARK
from stockpipe.infra.resources.dynamodb import EXPIRES_AT, Table
from stockpipe.infra.resources.glue import Database
from stockpipe.infra.resources.iam import Role
from stockpipe.infra.resources.kinesis import Stream
from stockpipe.infra.resources.logs import LogGroup
from stockpipe.infra.resources.s3 import Bucket
from stockpipe.infra.resources.sns import Topic, alarms_may_publish

CASES: dict[str, Case] = {
    "stream": Case(
        lambda aws: Stream(aws, aws.names.stream, tags=aws.tags),
        {
            "mode": on(
                "kinesis",
                "update_stream_mode",
                StreamARN=arn_of,
                StreamModeDetails={"StreamMode": "PROVISIONED"},
            ),
            "retention_hours": on(
                "kinesis",
                "increase_stream_retention_period",
                StreamName=name_of,
                RetentionPeriodHours=48,
            ),
            "encryption_key": on(
                "kinesis",
                "stop_stream_encryption",
                StreamName=name_of,
                EncryptionType="KMS",
                KeyId="alias/aws/kinesis",
            ),
            "tags": on("kinesis", "remove_tags_from_stream", StreamName=name_of, TagKeys=["team"]),
        },
        on("kinesis", "create_stream", StreamName=name_of, ShardCount=1),
    ),
    "table": Case(
        lambda aws: Table(aws, aws.names.table, stream=True, ttl=True, pitr=True, tags=aws.tags),
        {
            "billing": on(
                "dynamodb",
                "update_table",
                TableName=name_of,
                BillingMode="PROVISIONED",
                ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
            ),
            "stream": on(
                "dynamodb",
                "update_table",
                TableName=name_of,
                StreamSpecification={"StreamEnabled": False},
            ),
            "ttl": on(
                "dynamodb",
                "update_time_to_live",
                TableName=name_of,
                TimeToLiveSpecification={"Enabled": False, "AttributeName": EXPIRES_AT},
            ),
            "pitr": on(
                "dynamodb",
                "update_continuous_backups",
                TableName=name_of,
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False},
            ),
            "deletion_protection": on(
                "dynamodb", "update_table", TableName=name_of, DeletionProtectionEnabled=True
            ),
            "tags": on("dynamodb", "untag_resource", ResourceArn=arn_of, TagKeys=["team"]),
        },
        on(
            "dynamodb",
            "create_table",
            TableName=name_of,
            AttributeDefinitions=[{"AttributeName": "symbol", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "symbol", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        ),
    ),
    "bucket": Case(
        lambda aws: Bucket(aws, aws.names.results_bucket, expire_days=7, tags=aws.tags),
        {
            "public_access_block": on("s3", "delete_public_access_block", Bucket=name_of),
            "encryption": on(
                "s3",
                "put_bucket_encryption",
                Bucket=name_of,
                ServerSideEncryptionConfiguration={
                    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
                },
            ),
            "policy": on("s3", "delete_bucket_policy", Bucket=name_of),
            "expire_days": on(
                "s3",
                "put_bucket_lifecycle_configuration",
                Bucket=name_of,
                LifecycleConfiguration={
                    "Rules": [
                        {
                            "ID": "stockpipe-expire",
                            "Status": "Disabled",
                            "Filter": {"Prefix": ""},
                            "Expiration": {"Days": 7},
                        }
                    ]
                },
            ),
            "tags": on(
                "s3",
                "put_bucket_tagging",
                Bucket=name_of,
                Tagging=lambda r: {"TagSet": tag_list(r.names.tags)},
            ),
        },
        on(
            "s3",
            "create_bucket",
            Bucket=name_of,
            CreateBucketConfiguration={"LocationConstraint": REGION},
        ),
    ),
    "role": Case(
        lambda aws: Role(
            aws,
            aws.names.process_role,
            policy=policies.process_policy(aws.names),
            boundary="arn:aws:iam::aws:policy/PowerUserAccess",
            tags=aws.tags,
        ),
        {
            "trust": on(
                "iam", "update_assume_role_policy", RoleName=name_of, PolicyDocument=trusting_anyone
            ),
            "policy": on(
                "iam",
                "put_role_policy",
                RoleName=name_of,
                PolicyName="stockpipe",
                PolicyDocument=widened,
            ),
            "inline_policies": on(
                "iam",
                "put_role_policy",
                RoleName=name_of,
                PolicyName="more",
                PolicyDocument=widened,
            ),
            "attached_policies": on(
                "iam", "attach_role_policy", RoleName=name_of, PolicyArn=MANAGED
            ),
            "boundary": on("iam", "delete_role_permissions_boundary", RoleName=name_of),
            "tags": on("iam", "untag_role", RoleName=name_of, TagKeys=["team"]),
        },
        on("iam", "create_role", RoleName=name_of, AssumeRolePolicyDocument=trusting_anyone),
    ),
    "log-group": Case(
        lambda aws: LogGroup(aws, aws.names.process_log_group, tags=aws.tags),
        {
            "retention_days": on("logs", "delete_retention_policy", logGroupName=name_of),
            "tags": on("logs", "untag_resource", resourceArn=arn_of, tagKeys=["team"]),
        },
        on("logs", "create_log_group", logGroupName=name_of),
    ),
    "function": Case(
        function,
        {
            "code": on_function("update_function_code", ZipFile=lambda r: code("# changed").data),
            "architecture": on_function(
                "update_function_code",
                ZipFile=lambda r: r.bundle.data,
                Architectures=["x86_64"],
            ),
            "handler": on_function(Handler="other.handler"),
            "role": on_function(Role=lambda r: r.names.role_arn(f"{role_again(r)}")),
            "runtime": on_function(Runtime="python3.12"),
            "memory_mb": on_function(MemorySize=1024),
            "timeout_s": on_function(Timeout=3),
            "environment": on_function(Environment={"Variables": {"TABLE": "another"}}),
            "description": on_function(Description="changed by hand"),
            "reserved_concurrency": on_function("delete_function_concurrency"),
            "tags": on("lambda", "untag_resource", Resource=arn_of, TagKeys=["team"]),
        },
        function_by_hand,
    ),
    "mapping": Case(
        mapping,
        {
            "batch_size": on_mapping(BatchSize=10),
            "window_s": on_mapping(MaximumBatchingWindowInSeconds=5),
            "tumbling_s": on_mapping(TumblingWindowInSeconds=30),
            "parallelization": on_mapping(ParallelizationFactor=2),
            "bisect": on_mapping(BisectBatchOnFunctionError=False),
            "retries": on_mapping(MaximumRetryAttempts=3),
            "record_age_s": on_mapping(MaximumRecordAgeInSeconds=60),
            "responses": on_mapping(FunctionResponseTypes=[]),
            "on_failure": on_mapping(DestinationConfig={"OnFailure": {}}),
            "filters": on_mapping(
                FilterCriteria={"Filters": [{"Pattern": '{"data": {"a": [1]}}'}]}
            ),
            "metrics": on_mapping(MetricsConfig={"Metrics": []}),
            "enabled": on_mapping(Enabled=False),
            "tags": on("lambda", "untag_resource", Resource=arn_of, TagKeys=["team"]),
        },
        on(
            "lambda",
            "create_event_source_mapping",
            EventSourceArn=lambda r: r.source(),
            FunctionName=lambda r: r.function,
            StartingPosition="LATEST",
        ),
    ),
    "topic": Case(
        lambda aws: Topic(aws, aws.names.topic, tags=aws.tags),
        {
            "key": on_topic("KmsMasterKeyId", ""),
            "display_name": on_topic("DisplayName", "Other"),
            "tags": on("sns", "untag_resource", ResourceArn=arn_of, TagKeys=["team"]),
        },
        on("sns", "create_topic", Name=name_of),
    ),
    "operations-topic": Case(
        lambda aws: Topic(
            aws,
            aws.names.operations_topic,
            display_name="stockpipe",
            encrypted=False,
            policy=alarms_may_publish(aws.names, aws.names.operations_topic_arn),
            tags=aws.tags,
        ),
        {
            "key": on_topic("KmsMasterKeyId", "alias/aws/sns"),
            "display_name": on_topic("DisplayName", ""),
            "policy": on_topic(
                "Policy", lambda r: json.dumps(policies.policy(published_by(r.arn, {"AWS": "*"})))
            ),
            "tags": on("sns", "untag_resource", ResourceArn=arn_of, TagKeys=["team"]),
        },
        on("sns", "create_topic", Name=name_of),
    ),
    "subscription": Case(
        subscription,
        {
            "remembered": lambda r: r.aws.client("sns").untag_resource(
                ResourceArn=r.names.topic_arn, TagKeys=[r.remembered_by]
            )
        },
    ),
    "workgroup": Case(
        workgroup,
        {
            "output": on_workgroup(
                ResultConfigurationUpdates={"OutputLocation": "s3://elsewhere/"}
            ),
            "encryption": on_workgroup(
                ResultConfigurationUpdates={"RemoveEncryptionConfiguration": True}
            ),
            "bucket_owner": on_workgroup(
                ResultConfigurationUpdates={"RemoveExpectedBucketOwner": True}
            ),
            "cutoff_bytes": on_workgroup(RemoveBytesScannedCutoffPerQuery=True),
            "enforced": on_workgroup(EnforceWorkGroupConfiguration=False),
            "metrics": on_workgroup(PublishCloudWatchMetricsEnabled=False),
            "state": on("athena", "update_work_group", WorkGroup=name_of, State="DISABLED"),
            "tags": on("athena", "untag_resource", ResourceARN=arn_of, TagKeys=["team"]),
        },
        on("athena", "create_work_group", Name=name_of),
    ),
    "named-queries": Case(
        named_queries,
        {
            "queries": lambda r: remade(r, QueryString="SELECT 3"),
            "descriptions": lambda r: remade(r, Description=f"Another {MARK}"),
            "databases": lambda r: remade(r, Database="another"),
            "surplus": twin,
        },
    ),
    "database": Case(
        lambda aws: Database(aws, aws.names.database, tags=aws.tags),
        {"tags": on("glue", "untag_resource", ResourceArn=arn_of, TagsToRemove=["team"])},
        on("glue", "create_database", DatabaseInput=lambda r: {"Name": r.name}),
    ),
    "catalog-table": Case(
        catalog_table,
        {
            "location": lambda r: table_input(
                r, lambda t: t["StorageDescriptor"].update(Location="s3://elsewhere/")
            ),
            "columns": lambda r: table_input(
                r, lambda t: t["StorageDescriptor"]["Columns"][1].update(Type="double")
            ),
            "partition_keys": lambda r: table_input(r, lambda t: t.update(PartitionKeys=[])),
            "serde": lambda r: table_input(
                r,
                lambda t: t["StorageDescriptor"]["SerdeInfo"].update(
                    SerializationLibrary="org.openx.data.jsonserde.JsonSerDe"
                ),
            ),
            "parameters": lambda r: table_input(
                r, lambda t: t["Parameters"].pop("projection.enabled")
            ),
        },
        on(
            "glue",
            "create_table",
            DatabaseName=lambda r: r.database,
            TableInput=lambda r: {
                "Name": r.name,
                "StorageDescriptor": {
                    "Columns": [],
                    "Location": "",
                    "SerdeInfo": {"SerializationLibrary": "none"},
                },
                "PartitionKeys": [],
            },
        ),
    ),
}
