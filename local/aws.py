"""What the home asks of its own emulator: which stacks there are, and the secrets it shares with its owner."""

from collections.abc import Callable
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local.errors import HomeError
from local.settings import ACCOUNT, REGION, STACK_PREFIX, Home

_OPERATOR_KEY: Final = "runyard/local/operator"
_MODEL_KEY: Final = "runyard/local/model-provider"
# Kept in the emulator itself: when it loses its state, it loses this too, and the next `up` deploys again.
_DIGEST_PARAMETER: Final = "/runyard/local/deployed-digest"
# As the CDK's bootstrap template names it.
_ASSETS: Final = f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
_MISSING: Final = frozenset({"ParameterNotFound", "ResourceNotFoundException", "ValidationError"})


def client_of(home: Home, service: str) -> Any:
    """Return a boto3 client of one of the emulator's services."""
    given = home.aws_environment()
    # Typed by name, boto3-stubs know a few services only.
    make: Callable[..., Any] = boto3.client
    return make(
        service,
        endpoint_url=home.emulator_url,
        region_name=REGION,
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 2}, connect_timeout=2, read_timeout=30, proxies={}),
    )


def _is_missing(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in _MISSING


def deployed_digest(home: Home) -> str | None:
    """Return the digest of the sources that were deployed last, or None when nothing is deployed."""
    try:
        return str(client_of(home, "ssm").get_parameter(Name=_DIGEST_PARAMETER)["Parameter"]["Value"])
    except ClientError as error:
        if _is_missing(error):
            return None
        raise


def remember_digest(home: Home, digest: str) -> None:
    """Note in the emulator which sources were deployed."""
    client_of(home, "ssm").put_parameter(Name=_DIGEST_PARAMETER, Value=digest, Type="String", Overwrite=True)


def forget_digest(home: Home) -> None:
    """Take the note back, so that a deploy that breaks off half-way is done again."""
    try:
        client_of(home, "ssm").delete_parameter(Name=_DIGEST_PARAMETER)
    except ClientError as error:
        if not _is_missing(error):
            raise


def stack_outputs(home: Home) -> dict[str, dict[str, str]]:
    """Return the outputs of each of our stacks, by stack name."""
    stacks = client_of(home, "cloudformation").get_paginator("describe_stacks").paginate().search("Stacks[]")
    return {
        stack["StackName"]: {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        for stack in stacks
        if stack["StackName"].startswith(STACK_PREFIX) and stack["StackStatus"] != "DELETE_COMPLETE"
    }


def is_bootstrapped(home: Home) -> bool:
    """Tell whether `cdk bootstrap` has left its stack."""
    try:
        stacks = client_of(home, "cloudformation").describe_stacks(StackName="CDKToolkit")["Stacks"]
    except ClientError as error:
        if _is_missing(error):
            return False
        raise
    return bool(stacks) and str(stacks[0]["StackStatus"]) in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}


def delete_orphaned_assets(home: Home) -> None:
    """Delete the bucket of a bootstrap that the emulator has forgotten.

    Objects are on disk at once, stacks only after a graceful stop: a hard kill in between leaves a bucket that belongs
    to no stack and that no new bootstrap could make.
    """
    client = client_of(home, "s3")
    if _ASSETS not in {bucket["Name"] for bucket in client.list_buckets().get("Buckets", [])}:
        return
    versions = client.get_paginator("list_object_versions").paginate(Bucket=_ASSETS)
    for version in versions.search("[Versions, DeleteMarkers][][]"):
        client.delete_object(Bucket=_ASSETS, Key=version["Key"], VersionId=version["VersionId"])
    client.delete_bucket(Bucket=_ASSETS)


def put_model_key(home: Home, key: str) -> bool:
    """Hand the model provider's key to the functions; return whether that changed anything."""
    client = client_of(home, "secretsmanager")
    try:
        if client.get_secret_value(SecretId=_MODEL_KEY)["SecretString"] == key:
            return False
    except (ClientError, KeyError) as error:
        if isinstance(error, ClientError) and not _is_missing(error):
            raise
    client.put_secret_value(SecretId=_MODEL_KEY, SecretString=key)
    return True


def function_settings(home: Home, function: str) -> dict[str, Any]:
    """Return the variables and the names of the layers that a deployed function of ours has."""
    found = client_of(home, "lambda").get_function_configuration(FunctionName=f"{STACK_PREFIX}{function}")
    names = [layer["Arn"].split(":")[6].removeprefix(STACK_PREFIX) for layer in found.get("Layers", [])]
    return {"layers": names, "variables": found["Environment"]["Variables"]}


def operator_key(home: Home) -> str:
    """Return the operator's API key, which the migration stored. Raises `HomeError` before the first deploy."""
    try:
        return str(client_of(home, "secretsmanager").get_secret_value(SecretId=_OPERATOR_KEY)["SecretString"])
    except ClientError as error:
        if not _is_missing(error):
            raise
        raise HomeError("There is no operator's key: the home is not deployed.", hint="Run `make up`.") from None
