"""What a function is made of: our code (one asset for all functions) and layers of third-party code."""

from pathlib import Path

from aws_cdk import IgnoreMode, Stack
from aws_cdk.aws_lambda import Code, LayerVersion, Runtime

from infra_cdk.stages import Stage, StageError
from layers.catalogue import LAYERS

REPOSITORY = Path(__file__).parents[2]
RUNTIME = Runtime.PYTHON_3_13

# Everything but these folders stays out. One asset for all functions: a code change is one upload.
_CODE_FOLDERS = ("functions", "shared", "migrations")


def our_code() -> Code:
    """Return our code: `functions/` and all that it imports."""
    included = [pattern for folder in _CODE_FOLDERS for pattern in (f"!/{folder}", f"!/{folder}/**")]
    return Code.from_asset(
        str(REPOSITORY),
        exclude=["/*", *included, "__pycache__", "*.pyc"],
        ignore_mode=IgnoreMode.GIT,
    )


def layer_of(stack: Stack, name: str, *, stage: Stage) -> LayerVersion:
    """Return the layer's version in this stack, made on first use.

    Each stack has its own: a version's ARN changes with its content, and a stack that only refers to another's layer
    would not notice.
    """
    made = stack.node.try_find_child(f"Layer-{name}")
    if isinstance(made, LayerVersion):
        return made
    layer = LAYERS[name]
    built = layer.built_at(stage.layer_platform, cache=stage.layers_cache)
    if not built.is_file():
        raise StageError(
            f"The layer `{name}` is not built for {stage.layer_platform}: run `make layers`"
            f" (or `python -m layers.build --platform {stage.layer_platform}`)."
        )
    return LayerVersion(
        stack,
        f"Layer-{name}",
        layer_version_name=f"runyard-{stage.name}-{name}",
        # The hash of all that decides the content: no need to read it all again.
        code=Code.from_asset(str(built), asset_hash=layer.content_hash(stage.layer_platform)),
        compatible_runtimes=[RUNTIME],
        compatible_architectures=[stage.architecture],
        description=f"Third-party code of Runyard's functions: {name}",
    )
