"""Rules about what holds data: kept in production, encrypted everywhere, lost nowhere."""

from infra_cdk.stages import PROD, STAGES
from tests.infra.conftest import Templates, statements

_STATEFUL = (
    "AWS::KMS::Key",
    "AWS::RDS::DBCluster",
    "AWS::S3::Bucket",
    "AWS::SecretsManager::Secret",
)


def test_production_keeps_its_data_when_a_stack_is_deleted_or_a_resource_replaced(prod: Templates) -> None:
    stateful = prod.resources(*_STATEFUL)
    assert {resource.type for resource in stateful} == set(_STATEFUL)
    for resource in stateful:
        assert resource.body["DeletionPolicy"] == "Retain", resource
        assert resource.body["UpdateReplacePolicy"] == "Retain", resource


def test_productions_stacks_and_database_refuse_to_be_deleted(prod: Templates) -> None:
    (cluster,) = prod.resources("AWS::RDS::DBCluster")
    assert cluster.properties["DeletionProtection"] is True
    assert PROD.keeps_data
    for artifact in prod.app.synth().stacks:
        assert artifact.termination_protection, artifact.stack_name


def test_the_database_is_encrypted_backed_up_and_has_no_password_of_ours(aws_templates: Templates) -> None:
    (cluster,) = aws_templates.resources("AWS::RDS::DBCluster")
    assert cluster.properties["StorageEncrypted"] is True
    assert cluster.properties["KmsKeyId"]
    assert cluster.properties["ManageMasterUserPassword"] is True
    assert cluster.properties["EnableIAMDatabaseAuthentication"] is True
    assert cluster.properties["BackupRetentionPeriod"] == STAGES[aws_templates.stage].backup_days
    assert "MasterUserPassword" not in cluster.properties


def test_the_database_is_reached_through_a_proxy_that_asks_for_iam_and_tls(aws_templates: Templates) -> None:
    (proxy,) = aws_templates.resources("AWS::RDS::DBProxy")
    assert proxy.properties["DefaultAuthScheme"] == "IAM_AUTH"
    assert proxy.properties["RequireTLS"] is True
    assert "Auth" not in proxy.properties
    role_id = proxy.properties["RoleArn"]["Fn::GetAtt"][0]
    granted = [
        statement["Action"]
        for policy in aws_templates.resources("AWS::IAM::Policy")
        if {"Ref": role_id} in policy.properties["Roles"]
        for statement in statements(policy)
    ]
    assert granted == ["rds-db:connect"]


def test_every_secret_is_encrypted_with_the_stages_own_key(templates: Templates) -> None:
    secrets = templates.resources("AWS::SecretsManager::Secret")
    assert {secret.properties["Name"] for secret in secrets} == {
        f"runyard/{templates.stage}/operator",
        f"runyard/{templates.stage}/model-provider",
        f"runyard/{templates.stage}/oauth-clients",
        f"runyard/{templates.stage}/edge",
    }
    assert all(secret.properties["KmsKeyId"] for secret in secrets)


def test_the_keys_are_changed_every_year(templates: Templates) -> None:
    keys = templates.resources("AWS::KMS::Key")
    assert [key.properties["EnableKeyRotation"] for key in keys] == [True, True]


def test_every_queue_is_encrypted_and_has_a_dead_letter_queue_or_is_one(templates: Templates) -> None:
    queues = templates.resources("AWS::SQS::Queue")
    dead_letter_queues = {
        queue.properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        for queue in queues
        if "RedrivePolicy" in queue.properties
    } | {
        schedule.properties["Target"]["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0]
        for schedule in templates.resources("AWS::Scheduler::Schedule")
    }
    assert queues
    for queue in queues:
        assert queue.properties["SqsManagedSseEnabled"] is True, queue
        assert "RedrivePolicy" in queue.properties or queue.logical_id in dead_letter_queues, queue


def test_queues_take_no_unencrypted_connection(templates: Templates) -> None:
    refused = {
        queue["Ref"]
        for policy in templates.resources("AWS::SQS::QueuePolicy")
        for queue in policy.properties["Queues"]
        if any(
            statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            for statement in statements(policy)
        )
    }
    assert refused == {queue.logical_id for queue in templates.resources("AWS::SQS::Queue")}


def test_an_alarm_watches_every_dead_letter_queue(templates: Templates) -> None:
    watched = {
        dimension["Value"]
        for alarm in templates.resources("AWS::CloudWatch::Alarm")
        for dimension in alarm.properties["Dimensions"]
        if dimension["Name"] == "QueueName"
    }
    dead = {
        queue.properties["QueueName"]
        for queue in templates.resources("AWS::SQS::Queue")
        if "RedrivePolicy" not in queue.properties
    }
    assert watched == dead


def test_every_alarm_tells_someone(templates: Templates) -> None:
    (topic,) = templates.resources("AWS::SNS::Topic")
    for alarm in templates.resources("AWS::CloudWatch::Alarm"):
        assert alarm.properties["AlarmActions"] == [{"Ref": topic.logical_id}], alarm
        assert alarm.properties["AlarmDescription"], alarm


def test_no_bucket_is_public(aws_templates: Templates) -> None:
    buckets = aws_templates.resources("AWS::S3::Bucket")
    assert buckets
    for bucket in buckets:
        assert set(bucket.properties["PublicAccessBlockConfiguration"].values()) == {True}, bucket
        assert bucket.properties["BucketEncryption"], bucket
