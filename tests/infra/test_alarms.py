"""Alarms on metrics of our own: a metric and its alarm have to name the same dimensions, or it never rings."""

from tests.infra.conftest import Templates


def test_a_settlement_that_comes_too_late_rings_an_alarm(templates: Templates) -> None:
    (alarm,) = (
        alarm.properties
        for alarm in templates.resources("AWS::CloudWatch::Alarm")
        if alarm.properties["MetricName"] == "LateSettlement"
    )
    stages = {
        function.properties["Environment"]["Variables"]["RUNYARD_STAGE"]
        for function in templates.resources("AWS::Lambda::Function")
        if "RUNYARD_STAGE" in function.properties.get("Environment", {}).get("Variables", {})
    }
    dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
    assert stages == {dimensions.pop("stage")}
    # As `shared/billing/ledger.py` measures it, in whichever function.
    assert dimensions == {"service": "credits"}
    assert (alarm["Namespace"], alarm["Threshold"], alarm["Statistic"]) == ("Runyard", 1, "Sum")
