"""Names fixed per stage, and the ARNs that follow from them.

Stacks that would otherwise need each other (the API starts the machine, the machine runs functions that know the API)
meet in these names instead.
"""

from dataclasses import dataclass

from aws_cdk import ArnFormat, Stack

from infra_cdk.stages import Stage


@dataclass(frozen=True, slots=True)
class Names:
    """What things of one stage are called."""

    stage: Stage

    @property
    def prefix(self) -> str:
        return f"runyard-{self.stage.name}"

    def stack(self, part: str) -> str:
        return f"{self.prefix}-{part}"

    def function(self, function: str) -> str:
        return f"{self.prefix}-{function}"

    def secret(self, secret: str) -> str:
        return f"runyard/{self.stage.name}/{secret}"

    @property
    def provider_secrets(self) -> str:
        """Under this the keys are that orgs gave for their model providers: `…/org_…/prv_…`."""
        return self.secret("inference-providers")

    @property
    def event_bus(self) -> str:
        return self.prefix

    @property
    def mail_queue(self) -> str:
        return self.function("send-letters")

    @property
    def usage_queue(self) -> str:
        return self.function("record-usage")

    @property
    def run_machine(self) -> str:
        return f"{self.prefix}-agent-run"

    @property
    def usage_machine(self) -> str:
        return f"{self.prefix}-aggregate-usage"

    @property
    def sandbox_cluster(self) -> str:
        return f"{self.prefix}-sandboxes"

    @property
    def sandbox_task_family(self) -> str:
        return f"{self.prefix}-sandbox"

    @property
    def sandbox_task_role(self) -> str:
        return f"{self.prefix}-sandbox-task"

    @property
    def sandbox_execution_role(self) -> str:
        return f"{self.prefix}-sandbox-execution"

    def function_arn(self, stack: Stack, function: str) -> str:
        return _colon_arn(stack, "lambda", "function", self.function(function))

    def provider_secret_arns(self, stack: Stack) -> str:
        return _colon_arn(stack, "secretsmanager", "secret", f"{self.provider_secrets}/*")

    def event_bus_arn(self, stack: Stack) -> str:
        return stack.format_arn(service="events", resource="event-bus", resource_name=self.event_bus)

    def mail_queue_arn(self, stack: Stack) -> str:
        return stack.format_arn(service="sqs", resource=self.mail_queue)

    def usage_queue_arn(self, stack: Stack) -> str:
        return stack.format_arn(service="sqs", resource=self.usage_queue)

    def run_machine_arn(self, stack: Stack) -> str:
        return _colon_arn(stack, "states", "stateMachine", self.run_machine)

    def run_execution_arns(self, stack: Stack) -> str:
        return _colon_arn(stack, "states", "execution", f"{self.run_machine}:*")

    def usage_machine_arn(self, stack: Stack) -> str:
        return _colon_arn(stack, "states", "stateMachine", self.usage_machine)

    def sandbox_cluster_arn(self, stack: Stack) -> str:
        return stack.format_arn(service="ecs", resource="cluster", resource_name=self.sandbox_cluster)

    def sandbox_task_arns(self, stack: Stack) -> str:
        return stack.format_arn(service="ecs", resource="task", resource_name=f"{self.sandbox_cluster}/*")

    def sandbox_task_definition_arns(self, stack: Stack) -> str:
        family = f"{self.sandbox_task_family}:*"
        return stack.format_arn(service="ecs", resource="task-definition", resource_name=family)

    def role_arn(self, stack: Stack, role: str) -> str:
        return stack.format_arn(service="iam", region="", resource="role", resource_name=role)


def _colon_arn(stack: Stack, service: str, resource: str, name: str) -> str:
    return stack.format_arn(
        service=service, resource=resource, resource_name=name, arn_format=ArnFormat.COLON_RESOURCE_NAME
    )
