"""The pages beside the API, in a real browser: drawn from this home alone, without an error."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.deployed import Deployed


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's own Chromium; no sandbox of its own, as it may run as root here."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found is not None, "These tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def complaints(browser: Browser, home: Deployed) -> Iterator[tuple[Page, list[str]]]:
    """A page, and everything that went wrong on it: errors, warnings, failed requests, requests to elsewhere."""
    page = browser.new_page()
    noted: list[str] = []
    page.on("pageerror", lambda error: noted.append(f"error {error}"))
    page.on("console", lambda said: noted.append(f"{said.type} {said.text}") if said.type != "log" else None)
    page.on("requestfailed", lambda request: noted.append(f"failed {request.url}"))
    page.on("response", lambda answer: noted.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    page.on("request", lambda request: noted.append(f"outside {request.url}") if is_outside(request.url) else None)

    def is_outside(url: str) -> bool:
        return not url.startswith((f"{home.home.public_url}/", "data:", "blob:"))

    yield page, noted
    page.close()


def test_the_api_docs_show_every_operation_and_can_be_opened(
    home: Deployed, complaints: tuple[Page, list[str]]
) -> None:
    page, noted = complaints
    document = home.client().get("/openapi.json").json()
    operations = [(method, path) for path, item in document["paths"].items() for method in item]
    page.goto(f"{home.home.public_url}/docs")
    blocks = page.locator(".opblock")
    blocks.first.wait_for()
    assert blocks.count() == len(operations) > 30
    page.locator(".opblock", has_text="/v1/agents/{agent_id}/runs").first.locator("button").first.click()
    page.locator(".opblock.is-open .opblock-body").first.wait_for()
    assert noted == []


@pytest.mark.parametrize("path", ["/", "/errors"])
def test_the_other_pages_are_drawn_from_this_home_alone(
    home: Deployed, complaints: tuple[Page, list[str]], path: str
) -> None:
    page, noted = complaints
    page.goto(home.home.public_url + path)
    assert page.locator("h1").first.is_visible()
    assert noted == []


def test_the_home_page_leads_to_the_api_docs(home: Deployed, complaints: tuple[Page, list[str]]) -> None:
    page, _ = complaints
    page.goto(home.home.public_url)
    page.locator("a[href='/docs']").first.click()
    page.locator(".opblock").first.wait_for()


def test_every_error_of_the_api_is_explained_where_its_doc_url_points(
    home: Deployed, complaints: tuple[Page, list[str]]
) -> None:
    page, _ = complaints
    answer = home.tenant().http.get("/v1/agents/agent_00000000000000000000000000")
    error = answer.json()["error"]
    page.goto(error["doc_url"])
    assert page.url.endswith("#not_found")
    assert page.locator(f"#{error['code']}").is_visible()
