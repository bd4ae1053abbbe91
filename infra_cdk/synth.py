"""Synthesise a stage and check it: `python -m infra_cdk.synth --stage prod`. Needs no AWS account, no credentials.

Ends with `synth: <n> stacks, 0 errors`, or lists the errors of cdk-nag's AwsSolutions pack and fails.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from aws_cdk import App
from cdk_nag import AwsSolutionsChecks

from app import add_stacks
from infra_cdk.stages import STAGES, StageError, stage_of
from layers.build import LayerBuildError, build_all
from layers.catalogue import REPOSITORY


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra_cdk.synth", description=__doc__)
    parser.add_argument("--stage", choices=list(STAGES), default="prod")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "cdk.out", help="folder of the templates")
    arguments = parser.parse_args()
    try:
        build_all(STAGES[arguments.stage].layer_platform)
        app = synthesize(arguments.stage, output=arguments.output)
    except (StageError, LayerBuildError) as error:
        sys.exit(f"synth: {error}")
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):
            raise
        sys.exit("synth: CloudFormation would refuse these templates; CDK's findings stand above")
    stacks = app.synth().stacks
    errors = list(nag_errors(app))
    for finding in errors:
        print(finding, file=sys.stderr)
    print(f"synth: {len(stacks)} stacks, {len(errors)} errors")
    sys.exit(1 if errors else 0)


def synthesize(stage: str, *, output: Path, **context: str) -> App:
    """Return the app of a stage with its templates written to `output`. Raises `StageError`."""
    settings = json.loads((REPOSITORY / "cdk.json").read_text())["context"]
    app = App(
        outdir=str(output),
        context={**settings, "stage": stage, **context},
        analytics_reporting=False,
        tree_metadata=False,
    )
    add_stacks(app, stage_of(app.node))
    app.synth()
    return app


def nag_errors(app: App) -> Iterator[str]:
    """Yield what cdk-nag's AwsSolutions pack finds wrong and nobody has accepted with a reason."""
    for violation in AwsSolutionsChecks(app).validate_scope(app).violations or []:
        if violation.severity == "error":
            for resource in violation.violating_resources:
                yield f"{resource.construct_path}: {violation.rule_name}: {violation.description}"


if __name__ == "__main__":
    main()
