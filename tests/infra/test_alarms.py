"""Alarms on metrics of our own: a metric and its alarm have to name the same dimensions, or it never rings."""

import pytest

from tests.infra.conftest import Templates


# `service` is as the metric is measured with it, in whichever function.
@pytest.mark.parametrize(
    ("metric", "service"),
    [
        pytest.param("LateSettlement", "credits", id="late-settlement"),
        pytest.param("ApiCallNotCounted", "counting", id="call-not-counted"),
    ],
)
def test_what_loses_money_or_counts_rings_an_alarm(templates: Templates, metric: str, service: str) -> None:
    (alarm,) = (
        alarm.properties
        for alarm in templates.resources("AWS::CloudWatch::Alarm")
        if alarm.properties["MetricName"] == metric
    )
    stages = {
        function.properties["Environment"]["Variables"]["RUNYARD_STAGE"]
        for function in templates.resources("AWS::Lambda::Function")
        if "RUNYARD_STAGE" in function.properties.get("Environment", {}).get("Variables", {})
    }
    dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
    assert stages == {dimensions.pop("stage")}
    assert dimensions == {"service": service}
    assert (alarm["Namespace"], alarm["Threshold"], alarm["Statistic"]) == ("Runyard", 1, "Sum")
