"""The pages beside the API, in a real browser: drawn from this home alone, without an error."""

import shutil
from collections.abc import Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.deployed import Deployed
from tests.e2e.person import letter_to


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
    page.locator(".opblock").first.wait_for()
    # Of a long document only what is in view is drawn.
    seen: set[tuple[str, str]] = set()
    while True:
        shown = page.locator(".opblock-summary").evaluate_all(
            """blocks => blocks.map(block => [
                block.querySelector(".opblock-summary-method").textContent.toLowerCase(),
                block.querySelector(".opblock-summary-path").dataset.path,
            ])"""
        )
        seen |= {(method, path) for method, path in shown}
        at = page.evaluate("window.scrollY")
        page.evaluate("window.scrollBy(0, 300)")
        page.wait_for_timeout(50)
        if page.evaluate("window.scrollY") == at:
            break
    assert seen == set(operations)
    assert len(operations) > 30
    page.evaluate("window.scrollTo(0, 0)")
    runs = page.locator(".opblock", has=page.locator('[data-path="/v1/agents/{agent_id}/runs"]')).first
    while not runs.count():
        page.evaluate("window.scrollBy(0, 300)")
        page.wait_for_timeout(50)
    runs.locator("button").first.click()
    page.locator(".opblock.is-open .opblock-body").first.wait_for()
    assert noted == []


@pytest.mark.parametrize("path", ["/", "/errors", "/account"])
def test_the_other_pages_are_drawn_from_this_home_alone(
    home: Deployed, complaints: tuple[Page, list[str]], path: str
) -> None:
    page, noted = complaints
    page.goto(home.home.public_url + path)
    page.locator("h1:visible").first.wait_for()
    assert noted == []


def test_the_home_page_leads_to_the_api_docs(home: Deployed, complaints: tuple[Page, list[str]]) -> None:
    page, _ = complaints
    page.goto(home.home.public_url)
    page.locator("a[href='/docs']").first.click()
    page.locator(".opblock").first.wait_for()


def test_a_person_registers_confirms_by_the_letters_link_and_signs_in_again(
    home: Deployed, complaints: tuple[Page, list[str]]
) -> None:
    page, noted = complaints
    email, password = f"page-{uuid4().hex[:8]}@people.test", "correct horse battery staple 7"
    page.goto(f"{home.home.public_url}/account#register")
    page.get_by_label("Your name").fill("Paige")
    page.locator("#register").get_by_label("E-mail address").fill(email)
    page.locator("#register").get_by_label("Password").fill(password)
    page.get_by_role("button", name="Register").click()
    page.get_by_role("status").wait_for()
    purpose, token = letter_to(home, email)
    page.goto("about:blank")
    page.goto(f"{home.home.public_url}/account#{purpose}={token}")
    page.get_by_label("The password you chose").fill(password)
    page.get_by_role("button", name="Confirm").click()
    page.locator("#my-email", has_text=email).wait_for()
    assert page.locator("#my-role").inner_text() == "owner"
    # The token is no longer in the address, and so neither in the history nor on anybody's screen.
    assert token not in page.url
    page.get_by_role("button", name="Sign out").click()
    page.locator("#sign-in").get_by_label("E-mail address").fill(email)
    page.locator("#sign-in").get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.locator("#my-email", has_text=email).wait_for()
    assert noted == []


def test_every_error_of_the_api_is_explained_where_its_doc_url_points(
    home: Deployed, complaints: tuple[Page, list[str]]
) -> None:
    page, _ = complaints
    answer = home.tenant().http.get("/v1/agents/agent_00000000000000000000000000")
    error = answer.json()["error"]
    page.goto(error["doc_url"])
    assert page.url.endswith("#not_found")
    assert page.locator(f"#{error['code']}").is_visible()
