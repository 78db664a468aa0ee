"""What holds the data, or finds it: stream, tables, buckets, catalog, workgroup."""

from __future__ import annotations

from stockpipe.domain.names import RAW_PREFIX, Names
from stockpipe.infra.areas.area import Area, beside
from stockpipe.infra.permissions import ANY

_IN_BUCKET = ("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads")
_IN_OBJECT = (
    "s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject",
)  # fmt: skip


def areas(names: Names) -> list[Area]:
    return [
        *_stream(names),
        *_tables(names),
        *_buckets(names),
        *_catalog(names),
        _workgroup(names),
    ]


def _stream(names: Names) -> list[Area]:
    return [
        Area(
            "Stream",
            "kinesis",
            (names.stream_arn,),
            read="DescribeStreamSummary ListTagsForStream",
            write="AddTagsToStream CreateStream DecreaseStreamRetentionPeriod "
            "IncreaseStreamRetentionPeriod",
            delete="DeleteStream",
            produce="PutRecords",
        ),
        # Checked on the key as well; that of alias/aws/kinesis has an id which AWS drew.
        Area(
            "StreamKey",
            "kinesis",
            (names.stream_arn, beside(names.stream_arn, "key/*", service="kms")),
            write="StartStreamEncryption",
        ),
        # No resource types.
        Area("StreamCapacity", "kinesis", (ANY,), write="UpdateShardCount UpdateStreamMode"),
    ]


def _tables(names: Names) -> list[Area]:
    return [
        Area(
            "Tables",
            "dynamodb",
            (names.table_arn, names.alerts_table_arn),
            read="DescribeContinuousBackups DescribeTable DescribeTimeToLive ListTagsOfResource",
            write="CreateTable TagResource UpdateContinuousBackups UpdateTable UpdateTimeToLive",
            delete="DeleteTable",
            ask="Query Scan",
        ),
        # Whether a symbol has live quotes, before a replay is let in.
        Area("Newest", "dynamodb", (names.table_arn,), produce="Query"),
    ]


def _buckets(names: Names) -> list[Area]:
    archive, results = (
        names.bucket_arn(name) for name in (names.data_bucket, names.results_bucket)
    )
    reads, keeps = ("Athena reads the archive",), ("Athena keeps results",)
    return [
        Area(
            "Buckets",
            "s3",
            (archive, results),
            read="GetBucketEncryption GetBucketLifecycleConfiguration GetBucketPolicy "
            "GetBucketTagging GetPublicAccessBlock HeadBucket",
            write="CreateBucket DeleteBucketLifecycle PutBucketEncryption "
            "PutBucketLifecycleConfiguration PutBucketPolicy PutBucketTagging "
            "PutPublicAccessBlock",
            delete="DeleteBucket ListMultipartUploads ListObjectVersions",
        ),
        Area(
            "Objects",
            "s3",
            (f"{archive}/*", f"{results}/*"),
            delete="AbortMultipartUpload DeleteObjects",
        ),
        Area("Archive", "s3", (archive,), ask="ListObjectsV2", through=reads, only=_IN_BUCKET),
        Area("ArchiveObjects", "s3", (f"{archive}/{RAW_PREFIX}*",), through=reads, only=_IN_OBJECT),
        # stream --source archive:..., which sends it once more.
        Area("ArchiveAgain", "s3", (archive,), produce="ListObjectsV2"),
        Area("ArchiveObjectsAgain", "s3", (f"{archive}/{RAW_PREFIX}*",), produce="GetObject"),
        Area("Results", "s3", (results,), through=keeps, only=_IN_BUCKET),
        Area("ResultObjects", "s3", (f"{results}/*",), through=keeps, only=_IN_OBJECT),
    ]


def _catalog(names: Names) -> list[Area]:
    """Glue checks every level: catalog, database, table; to delete, also whatever is inside.

    https://docs.aws.amazon.com/glue/latest/dg/glue-specifying-resource-arns.html
    """
    database = names.database_arn
    catalog = beside(database, "catalog")
    inside = (f"table/{names.database}/*", f"userDefinedFunction/{names.database}/*")
    return [
        # Tags are of the database alone.
        Area(
            "DatabaseTags",
            "glue",
            (database,),
            read="GetTags",
            write="CreateDatabase TagResource",
            only=("glue:GetTags", "glue:TagResource"),
        ),
        Area(
            "Database",
            "glue",
            (catalog, database),
            read="GetDatabase",
            write="CreateDatabase",
            only=("glue:CreateDatabase", "glue:GetDatabase"),
        ),
        Area(
            "DatabaseAndAll",
            "glue",
            (catalog, database, *(beside(database, one) for one in inside)),
            delete="DeleteDatabase",
        ),
        # Whether something is in it that is not ours.
        Area(
            "TablesOfDatabase",
            "glue",
            (catalog, database, beside(database, inside[0])),
            delete="GetTables",
            ask="GetTables",
        ),
        Area(
            "CatalogTable",
            "glue",
            (catalog, database, names.glue_table_arn),
            read="GetTable",
            write="CreateTable UpdateTable",
            delete="DeleteTable",
            through=("Athena reads the catalog",),
        ),
        # Athena looks at the database "default" before any other.
        Area(
            "DefaultDatabase",
            "glue",
            (catalog, beside(database, "database/default")),
            through=("Athena opens the catalog",),
        ),
    ]


def _workgroup(names: Names) -> Area:
    return Area(
        "Workgroup",
        "athena",
        (names.workgroup_arn,),
        read="BatchGetNamedQuery GetWorkGroup ListNamedQueries ListTagsForResource",
        write="CreateNamedQuery CreateWorkGroup DeleteNamedQuery TagResource UpdateWorkGroup",
        delete="DeleteNamedQuery DeleteWorkGroup",
        ask="GetQueryExecution GetQueryResults StartQueryExecution StopQueryExecution",
    )
