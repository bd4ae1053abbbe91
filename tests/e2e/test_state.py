"""What a home remembers over `make down` and `make up`."""

from tests.e2e.deployed import Deployed
from tests.e2e.tenant import Tenant


def test_down_and_up_again_keep_everything(home: Deployed, tenant: Tenant) -> None:
    run_id = tenant.start_run("exec echo kept", "say done")
    before = (tenant.ended_run(run_id), tenant.get(f"/v1/runs/{run_id}/steps"), tenant.events(run_id))
    balance = tenant.balance()

    down = home.command("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert home.command("status").returncode == 3
    up = home.command("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "deploying" not in up.stdout

    assert (tenant.run(run_id), tenant.get(f"/v1/runs/{run_id}/steps"), tenant.events(run_id)) == before
    assert tenant.balance() == balance
    another = tenant.start_run("exec echo again", "say again")
    assert tenant.ended_run(another)["output"] == {"text": "again"}
    home.assert_ended_once(tenant, another)
