"""Foundation: the stage's encryption key and its secrets."""

from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra_cdk.constructs.nag import accept
from infra_cdk.constructs.platform import Secrets
from infra_cdk.names import Names
from infra_cdk.stacks.base import PlatformStack
from infra_cdk.stages import Stage


class FoundationStack(PlatformStack):
    """One key for all data at rest, the operator's API key, the model provider's API key."""

    def __init__(self, scope: Construct, *, stage: Stage) -> None:
        super().__init__(scope, "foundation", stage=stage, description="Runyard: encryption key and secrets")
        self.key = kms.Key(
            self,
            "Key",
            alias=f"alias/{Names(stage).prefix}",
            description=f"Runyard {stage.name}: data at rest",
            enable_key_rotation=True,
            removal_policy=stage.removal_policy,
        )
        operator = self._secret("operator", "API key of the operator, made by the first migration", stage=stage)
        model_provider = self._secret(
            "model-provider", "API key of the platform's own model provider: put yours here", stage=stage
        )
        self.secrets = Secrets(
            key_arn=self.key.key_arn,
            operator_arn=operator.secret_arn,
            model_provider_arn=model_provider.secret_arn,
        )

    def _secret(self, name: str, description: str, *, stage: Stage) -> secretsmanager.Secret:
        secret = secretsmanager.Secret(
            self,
            name,
            secret_name=Names(stage).secret(name),
            description=description,
            encryption_key=self.key,
            removal_policy=stage.removal_policy,
        )
        accept(
            secret,
            "AwsSolutions-SMG4",
            because="a key issued to a person or by another company; it is replaced through the API or by hand",
        )
        return secret
