"""Accepting a cdk-nag finding: beside the resource, with the reason."""

from aws_cdk import Acknowledgment, Validations
from constructs import IConstruct

# AWS offers no narrower resource for these actions; each is named with the reason where it is granted.
ANY_RESOURCE = "AwsSolutions-IAM5[Resource::*]"


def accept(construct: IConstruct, *rules: str, because: str) -> None:
    """Accept `rules` for the construct and everything in it."""
    Validations.of(construct).acknowledge(*(Acknowledgment(id=rule, reason=because) for rule in rules))
