"""Foundation: the stage's encryption key and its secrets."""

from aws_cdk import SecretValue
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra_cdk.constructs.nag import accept
from infra_cdk.constructs.platform import Secrets
from infra_cdk.names import Names
from infra_cdk.stacks.base import PlatformStack
from infra_cdk.stages import Stage

# CloudFront is configured from this region only.
CLOUDFRONT_REGION = "us-east-1"


def edge_secret(stage: Stage) -> str:
    """Return a reference by name to the edge's secret, resolved by CloudFormation in whichever region it is used."""
    return SecretValue.secrets_manager(Names(stage).secret("edge")).unsafe_unwrap()


class FoundationStack(PlatformStack):
    """One key for all data at rest and one for identity; the API keys and client secrets the platform itself holds."""

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
        oauth_clients = self._secret(
            "oauth-clients", "Client ids and secrets of sign-in with Google and GitHub, as JSON", stage=stage
        )
        self._secret(
            "edge", "What the edge in front of the API proves itself with", stage=stage, also_in=CLOUDFRONT_REGION
        )
        # A key of its own: who may sign tokens can't decrypt data at rest, and the other way round.
        identity_key = kms.Key(
            self,
            "IdentityKey",
            alias=f"alias/{Names(stage).prefix}-identity",
            description=f"Runyard {stage.name}: wraps signing keys and second factors",
            enable_key_rotation=True,
            removal_policy=stage.removal_policy,
        )
        self.secrets = Secrets(
            key_arn=self.key.key_arn,
            operator_arn=operator.secret_arn,
            model_provider_arn=model_provider.secret_arn,
            oauth_clients_arn=oauth_clients.secret_arn,
            identity_key_arn=identity_key.key_arn,
            edge=stage.home.edge_secret if stage.home else edge_secret(stage),
        )

    def _secret(
        self, name: str, description: str, *, stage: Stage, also_in: str | None = None
    ) -> secretsmanager.Secret:
        replicas = [secretsmanager.ReplicaRegion(region=also_in)] if also_in and also_in != stage.region else None
        secret = secretsmanager.Secret(
            self,
            name,
            secret_name=Names(stage).secret(name),
            description=description,
            encryption_key=self.key,
            replica_regions=replicas,
            removal_policy=stage.removal_policy,
        )
        accept(
            secret,
            "AwsSolutions-SMG4",
            because="a key issued to a person or by another company; it is replaced through the API or by hand",
        )
        return secret
