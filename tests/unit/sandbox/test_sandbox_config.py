"""The program's environment, parsed."""

import pytest

from sandbox.config import Config, ConfigError

GIVEN = {
    "SANDBOX_ID": "sbx_1",
    "SANDBOX_REGISTRATION_TOKEN": "once",
    "RUNYARD_PLATFORM_URL": "https://platform.example/",
    "ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/abc",
}


def test_the_environment_of_a_task_is_enough() -> None:
    config = Config.from_environment(GIVEN)
    assert (config.sandbox_id, config.registration_token, config.port) == ("sbx_1", "once", 7100)
    assert config.platform_url == "https://platform.example"
    assert config.max_processes is None


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Config.from_environment({n: value for n, value in GIVEN.items() if n != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUNYARD_PLATFORM_URL", "platform.example"),
        ("RUNYARD_PLATFORM_URL", "file:///etc/passwd"),
        ("SANDBOX_PORT", "http"),
        ("SANDBOX_PORT", "70000"),
        ("SANDBOX_MAX_PROCESSES", "-1"),
    ],
)
def test_a_malformed_variable_is_named_and_its_value_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        Config.from_environment(GIVEN | {name: value})
    assert value not in str(caught.value)
