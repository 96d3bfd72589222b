"""The pages of accounts in chromium, before there is one, before the login and after it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from server.accounts.office import Office, opened
from server.accounts.people import NewAccount
from server.accounts.roles import Role
from server.api.access import ALL_TENANTS
from server.settings import Settings
from server.state import State
from tests.browser.harness import faults, tab_of
from tests.browser.pages import BEFORE_LOGIN, FIRST_RUN, LOGGED_IN
from tests.unit.web.fleet import FixtureCore, serve

pytestmark = pytest.mark.browser

NAME, PASSWORD = "ada", "four words and nothing else"


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Office]]:
    """A server that knows who people are."""
    settings = Settings.load(data=folder)
    with closing(State.open(folder)), opened(settings) as office, serve(FixtureCore(), office=office) as url:
        yield url, office


def test_the_pages_before_the_first_account_fit_and_have_no_barrier(browser: Browser, tmp_path: Path) -> None:
    with served(tmp_path) as (url, _), tab_of(browser) as tab:
        assert [faults(tab, url + path) for path in FIRST_RUN.values()] == [[]] * len(FIRST_RUN)


def test_the_pages_of_accounts_fit_and_have_no_barrier(browser: Browser, tmp_path: Path) -> None:
    with served(tmp_path) as (url, office), tab_of(browser) as tab:
        new = NewAccount(name=NAME, password=PASSWORD, role=Role.ADMIN, tenant=ALL_TENANTS)
        office.people.add(new, by="tests")
        office.known.forget()
        assert [faults(tab, url + path) for path in BEFORE_LOGIN.values()] == [[]] * len(BEFORE_LOGIN)
        page = tab.open(f"{url}/login?next=/account")
        page.get_by_label("Name").fill(NAME)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{url}/account")
        assert [faults(tab, url + path) for path in LOGGED_IN.values()] == [[]] * len(LOGGED_IN)
