"""The page: files that load nothing from elsewhere, and what a person does on it, in a browser."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import shared_core
from shared_core import Feedback, ResponseCache, Verified
from shared_core.advice import REASONS
from shared_core.controls import RewriteEvent
from shared_core.learning.tuning import read_rows
from shared_core.service.access import new_key
from shared_core.service.activity import Activity
from shared_core.service.app import create_app
from shared_core.service.settings import Settings
from tests.fakes import FakeEmbedder
from tests.service.serving import served

HOSTILE = (
    'Tell me <img src=x onerror="window.hacked=1"> more about '
    "<script>window.hacked=1</script> it \"><svg onload=window.hacked=1> '&amp; please"
)
QUESTIONS = (
    "How do I reset my password?",
    "How do I export all invoices as a file?",
    "What is the refund policy for annual plans?",
)

FEEDBACK = Feedback(initial=0.8, minimum=0.7)


@dataclass
class Site:
    """A running service over a cache in memory, and what asks it."""

    url: str
    http: httpx.Client
    app: Any = None

    @property
    def upstream(self) -> Any:
        return self.app.state.service.upstreams.only

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def stats(self) -> Any:
        (namespace,) = self.get("/v1/cache/activity")["namespaces"]
        return self.get(f"/v1/cache/stats?namespace={namespace}")

    def ask(self, question: str, model: str = "gpt-4o-mini") -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        return self.http.post("/v1/cache/get", json=body).raise_for_status().json()

    def keep(self, question: str, answer: str = "Thus.", **more: Any) -> None:
        body = {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": question}],
            "answer": {
                "content": answer,
                "usage": {"input_tokens": 4_000, "output_tokens": 1_500},
            },
            **more,
        }
        self.http.post("/v1/cache/set", json=body).raise_for_status()


Open = Callable[..., Site]


@pytest.fixture
def open_site() -> Iterator[Open]:
    """Give a function of settings that starts a service.

    ``key=`` is what its client sends, ``guard=`` and ``threshold=`` are the cache's.
    """
    with ExitStack() as stack:

        def start(
            key: str | None = None, guard: bool = True, threshold: Any = FEEDBACK, **settings: Any
        ) -> Site:
            activity = Activity()
            cache = stack.enter_context(
                ResponseCache.open(
                    "memory://",
                    embedder=FakeEmbedder(max_tokens=200),
                    threshold=threshold,
                    guard=guard,
                    hooks=(activity,),
                )
            )
            app = create_app(Settings(**settings), cache=cache)
            url = stack.enter_context(served(app))
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            http = stack.enter_context(httpx.Client(base_url=url, headers=headers))
            return Site(url, http, app)

        yield start


@pytest.fixture
def site(open_site: Open) -> Site:
    return open_site()


@pytest.fixture
def busy(site: Site) -> Site:
    """Give a service that saw exact hits, hits by meaning and misses."""
    for number, question in enumerate(QUESTIONS):
        site.keep(question, f"Answer {number}.", tags=["faq" if number else "login"])
        site.ask(question)
        site.ask(f"Please: {question}")
    site.ask("Where on Earth is Timbuktu?")
    site.ask("How do I reset the clock of a car, of all things?")
    assert site.stats()["hits_by_tier"] == {"exact": 3, "semantic": 3}
    return site


# ------------------------------------------------------------------------------ without browser


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css"])
def test_the_files_come_with_headers_that_let_nothing_else_in(site: Site, path: str) -> None:
    response = site.http.get(path)
    policy = response.headers["content-security-policy"]
    assert response.status_code == 200
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


def test_no_file_names_another_host_or_holds_a_script_or_style_of_its_own(site: Site) -> None:
    html, script, style = (
        site.http.get(path).text for path in ("/", "/page/app.js", "/page/style.css")
    )
    for text in (html, script, style):
        assert set(re.findall(r"https?://[^\s\"'`)]*", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


def test_what_the_page_asks_is_for_administrators_alone(open_site: Open) -> None:
    use, use_entry = new_key("app")
    admin, admin_entry = new_key("boss", "admin")
    site = open_site(keys=[str(use_entry), str(admin_entry)])

    def status(path: str, key: str | None) -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return site.http.get(path, headers=headers).status_code

    for path in ("/v1/cache/activity", "/v1/cache/entries?query=a", "/v1/cache/stats"):
        assert [status(path, key) for key in (None, "wrong", use, admin)] == [401, 401, 403, 200]
    assert status("/", None) == 200


def test_entries_are_found_over_http_in_the_namespace_that_is_named(busy: Site) -> None:
    (own,) = busy.get("/v1/cache/activity")["namespaces"]
    found = busy.get("/v1/cache/entries?query=password")
    assert [one["question"] for one in found["entries"]] == [QUESTIONS[0]]
    assert busy.get(f"/v1/cache/entries?query=password&namespace={own}") == found
    part = busy.get("/v1/cache/entries?query=password&namespace=default:part")
    assert part == {"entries": [], "seen": 0, "complete": True}
    for other in ("other", "default2", "default2:part"):
        path = f"/v1/cache/entries?query=password&namespace={other}"
        assert busy.http.get(path).status_code == 403
    assert busy.http.get("/v1/cache/entries?query=a&limit=0").status_code == 422


def test_hits_by_meaning_are_listed_over_http_with_both_questions(busy: Site) -> None:
    recent = busy.get("/v1/cache/activity")["recent"]
    assert [(one["asked"], one["stored"]) for one in recent] == [
        (f"Please: {question}", question) for question in reversed(QUESTIONS)
    ]
    body = {"entry_id": recent[0]["entry_id"], "correct": True}
    busy.http.post("/v1/cache/feedback", json=body).raise_for_status()
    recent = busy.get("/v1/cache/activity")["recent"]
    assert [one["verdict"] for one in recent] == ["right", None, None]


def test_a_service_that_opens_its_cache_listens_to_it_and_keeps_questions_out_if_told(
    tmp_path: Path,
) -> None:
    told = {"cache": f"sqlite:///{tmp_path}/a.db", "semantic": False, "record_questions": False}
    for run in (1, 2):  # a restart goes on where the last run ended
        with served(create_app(Settings(**told))) as url, httpx.Client(base_url=url) as http:
            site = Site(url, http)
            site.ask(QUESTIONS[0])
            minutes = site.get("/v1/cache/activity")["minutes"]
            assert sum(one["miss"] for one in minutes) == run


# --------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="session")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.service import chromium

    reason = chromium.why_not()
    if reason is not None:
        pytest.skip(reason)
    with chromium.chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


class Page:
    """The page in a browser, as a person has it before them."""

    def __init__(self, browser: Any, url: str, width: int = 1280, scheme: str = "light") -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        from tests.service.chromium import emulate

        self.browser, self._wait = browser, WebDriverWait(browser, 15, poll_frequency=0.05)
        emulate(browser, width, scheme)
        browser.get_log("browser")
        browser.get(url)
        self.until(lambda: self.run("return document.readyState") == "complete")

    def run(self, script: str, *args: Any) -> Any:
        return self.browser.execute_script(script, *args)

    def until(self, condition: Callable[[], Any]) -> Any:
        return self._wait.until(lambda _: condition())

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.browser.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> Any:
        return self.until(lambda: next(iter(self.all(selector)), None))

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def loaded(self) -> Page:
        self.until(lambda: self.one("#content").is_displayed())
        return self

    def click(self, selector: str) -> None:
        element = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self) -> str:
        script = """const one = document.activeElement; return one === document.body ? 'body' :
            one.id || one.getAttribute('aria-label') || one.textContent.trim() || one.tagName"""
        return str(self.run(script))

    def complaints(self) -> list[Any]:
        return [one for one in self.browser.get_log("browser") if one["level"] == "SEVERE"]


browser_test = pytest.mark.browser


@pytest.fixture
def show(one_browser: Any) -> Iterator[Callable[..., Page]]:
    """Give a function that opens a URL; whatever the page complains of fails the test."""
    pages: list[Page] = []

    def open_page(url: str, **how: Any) -> Page:
        pages.append(Page(one_browser, url, **how))
        return pages[-1]

    yield open_page
    assert pages[-1].complaints() == []
    one_browser.execute_script("sessionStorage.clear()")
    one_browser.get("about:blank")


Show = Callable[..., Page]


def whole(value: float) -> str:
    return f"{round(value):,}"


def percent(share: float) -> str:
    return f"{100 * share:.{2 if share < 0.1 else 1}f}\u00a0%"


def as_shown(path: str, value: Any) -> str:
    """Spell a number of the statistics as a person reads it."""
    if value is None:
        return {"money_saved": "–", "error_per_hit": "—"}.get(path, "0")
    if path == "error_per_hit":
        return "—"  # of three labels nothing can be said
    if path == "policy.policy":
        return str(value)
    if path == "money_saved":
        return f"${value:.{4 if 0 < value < 1 else 2}f}"
    if "rate" in path or path.startswith("error"):
        return percent(value)
    return whole(value)


def at(stats: Any, path: str) -> Any:
    for name in path.split("."):
        if stats is None:
            return None
        stats = stats[int(name)] if isinstance(stats, list) else stats.get(name)
    return stats


@browser_test
def test_every_number_is_that_of_the_statistics(busy: Site, show: Show) -> None:
    first = busy.get("/v1/cache/activity")["recent"]
    for hit, correct in zip(first, (True, True, False), strict=True):
        body = {"entry_id": hit["entry_id"], "correct": correct}
        busy.http.post("/v1/cache/feedback", json=body).raise_for_status()
    stats, page = busy.stats(), show(busy.url).loaded()
    script = """return [...document.querySelectorAll('[data-stat]')].map(
        (one) => [one.dataset.stat, JSON.parse(one.dataset.value), one.textContent])"""
    shown = {path: (value, text) for path, value, text in page.run(script)}
    assert shown == {path: (at(stats, path), as_shown(path, at(stats, path))) for path in shown}
    assert len(shown) == 17
    assert stats["money_saved"] > 0
    assert stats["labels"] == 3

    def named(id: str) -> dict[str, str]:
        script = """return [...document.querySelectorAll(`#${arguments[0]} [data-name]`)].map(
            (one) => [one.dataset.name, one.textContent])"""
        return dict(page.run(script, id))

    assert named("policy")["threshold"] == str(stats["policy"]["threshold"])
    assert named("breakers") == {f"{part} breaker": how for part, how in stats["breakers"].items()}
    assert named("errors") == {part: whole(n) for part, n in stats["errors"].items()}
    assert page.text("#errors-total") == whole(sum(stats["errors"].values()))
    misses = """return [...document.querySelectorAll('#misses tbody tr[data-reason]')].map(
        (row) => [row.dataset.reason, row.cells[1].textContent])"""
    assert dict(page.run(misses)) == {why: whole(n) for why, n in stats["misses"].items()}
    latency = """return [...document.querySelectorAll('#latency tbody tr')].map(
        (row) => [row.dataset.part, [1, 2, 3].map((n) => Number(row.cells[n].dataset.value))])"""
    assert dict(page.run(latency)) == {
        tier: [times["p50"], times["p90"], times["p99"]] for tier, times in stats["latency"].items()
    }
    sums = [page.text(f"#similarity-{outcome}") for outcome in ("hit", "explore", "miss")]
    missed = sum(stats["misses"].values())
    assert sums == [whole(n) for n in (stats["hits_by_tier"]["semantic"], 0, missed)]
    hits = percent(stats["hits"] / stats["lookups"])
    rate = f"{stats['lookups']} lookups in 15 minutes, {hits} of them hits"
    assert page.text("#rate-note") == rate
    assert page.one("#rate svg").get_attribute("aria-label") == f"Hit rate by tier: {rate}"


@browser_test
def test_a_policy_that_learns_says_how_far_it_is(open_site: Open, show: Show) -> None:
    site = open_site(threshold=Verified(max_error=0.05))
    for question in QUESTIONS:
        site.keep(question)
        assert site.ask(f"Please: {question}")["outcome"] == "explore"
        site.keep(f"Please: {question}")
    stats, page = site.stats(), show(site.url).loaded()
    assert stats["policy"]["right"] == len(QUESTIONS)
    assert stats["progress"]
    assert page.text("#progress") == f"learning: {stats['progress']}"
    assert page.text("#policy") == f"at most wrong {percent(0.05)} per hitright 3wrong 0"
    assert page.text("[data-stat='explores']") == page.text("#similarity-explore") == "3"
    assert page.text("[data-stat='error_per_hit']") == "—"
    assert page.text("#wrong-note") == "judge 17 to know"


@browser_test
def test_the_chart_draws_the_share_of_each_tier(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()
    stats = busy.stats()
    heights = page.run("""return Object.fromEntries(['exact', 'semantic'].map((tier) => [tier,
        [...document.querySelectorAll(`#rate .fill-${tier}`)].map(
            (one) => one.height.baseVal.value)]))""")
    minutes = [one for one in busy.get("/v1/cache/activity")["minutes"]]
    for tier in ("exact", "semantic"):
        drawn = [
            one[tier] / sum(one[name] for name in ("exact", "semantic", "explore", "miss")) * 142
            for one in minutes
            if one[tier]
        ]
        assert heights[tier] == pytest.approx(drawn)
    assert sum(one["exact"] for one in minutes) == stats["hits_by_tier"]["exact"]
    page.click("[data-hours='24']")
    assert page.text("#rate-note").startswith(f"{stats['lookups']} lookups in 24 hours")
    assert page.one("[data-hours='24']").get_attribute("aria-pressed") == "true"


@browser_test
def test_verdicts_reach_the_policy_and_are_shown(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()
    rows = page.all("#recent tbody tr")
    assert len(rows) == 3
    asked = [f"Please: {question}" for question in riskiest(busy)]
    assert [row.find_elements("css selector", "td")[0].text for row in rows] == asked
    stored = [row.find_element("css selector", ".stored").text for row in rows]
    assert stored == riskiest(busy)
    assert [one.text for one in rows[0].find_elements("css selector", "mark")] == ["Please"]
    before = busy.stats()
    rows[0].find_elements("css selector", ".verdict button")[0].click()
    page.until(lambda: "There are 1 label" in page.text("#status"))
    rows[2].find_elements("css selector", ".verdict button")[1].click()
    page.until(lambda: "There are 2 labels" in page.text("#status"))
    stats = busy.stats()
    assert before["labels"] == 0
    assert (stats["labels"], stats["policy"]["labels"]) == (2, 2)
    assert stats["feedback"] == {"page": 2}
    assert stats["error_per_hit"] == 0.5
    said = [row.find_element("css selector", ".said").text for row in rows]
    assert said == ["judged right", "", "judged wrong"]
    assert page.text("[data-stat='labels']") == "2"
    assert busy.ask(asked[2])["outcome"] == "miss"
    rows[0].find_elements("css selector", ".verdict button")[1].click()
    page.click("#refresh")
    assert busy.stats()["labels"] == 2, "what was judged is not judged again"
    again = show(busy.url).loaded()
    assert [one.text for one in again.all("#recent .said")] == ["", "judged right", "judged wrong"]


def riskiest(site: Site) -> list[str]:
    """Return the stored questions that were served by meaning, the least alike first."""
    recent = site.get("/v1/cache/activity")["recent"]
    return [one["stored"] for one in sorted(recent, key=lambda one: one["similarity"])]


def found(page: Page) -> list[str]:
    script = """return [...document.querySelectorAll('#found tbody tr')].map(
        (row) => row.cells[0].firstChild.textContent)"""
    return [str(one) for one in page.run(script)]


@browser_test
def test_policy_and_entries_are_those_of_the_namespace_chosen(busy: Site, show: Show) -> None:
    part = {"x-tiered-cache-namespace": "part"}
    body = {"model": "m", "messages": [{"role": "user", "content": QUESTIONS[0]}]}
    busy.http.post("/v1/cache/get", json=body, headers=part).raise_for_status()
    hit = busy.get("/v1/cache/activity")["recent"][0]
    body = {"entry_id": hit["entry_id"], "correct": True}
    busy.http.post("/v1/cache/feedback", json=body).raise_for_status()
    page = show(busy.url).loaded()
    options = [one.get_attribute("value") for one in page.all("#namespace option")]
    assert len(options) == 2
    assert ":part:" in options[0], "that which was used last comes first"
    assert options[1] == hit["namespace"]
    labels = {name: busy.get(f"/v1/cache/stats?namespace={name}")["policy"] for name in options}
    assert [labels[name]["right"] for name in options] == [0, 1]
    page.one("#query").send_keys("password")
    page.click("#search button")
    page.until(lambda: page.text("#found-note") == "0 entries shown, 0 looked at.")
    shown = [one.text for one in page.all("#namespace option")]
    assert shown == ["default:part, no credential", "default, no credential"]
    page.one("#namespace").send_keys(shown[1])
    page.until(lambda: page.text("#policy [data-name='right']") == "1")
    page.click("#search button")
    page.until(lambda: found(page) == [QUESTIONS[0]])


@browser_test
def test_entries_are_searched_and_deleted_after_a_question_back(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()
    page.one("#query").send_keys("do HOW")
    page.click("#search button")
    page.until(lambda: found(page) == [QUESTIONS[1], QUESTIONS[0]])
    assert page.text("#found-note") == "2 entries shown, 3 looked at."
    page.click("#search input[value='meaning']")
    page.one("#query").clear()
    page.one("#query").send_keys("reset my password")
    page.click("#search button")
    page.until(lambda: found(page) == [QUESTIONS[0]])
    assert "similarity 0.7" in page.text("#found tbody td")
    page.click("#found button")
    assert page.one("#confirm").is_displayed()
    assert QUESTIONS[0] in page.text("#confirm-text")
    page.click("#confirm button[value='no']")
    assert busy.ask(QUESTIONS[0])["outcome"] == "hit"
    page.click("#found button")
    page.click("#confirm button[value='yes']")
    page.until(lambda: page.text("#found-note") == "Deleted.")
    assert found(page) == []
    assert busy.ask(QUESTIONS[0])["outcome"] == "miss"
    assert busy.ask(QUESTIONS[1])["outcome"] == "hit"


@browser_test
def test_entries_are_invalidated_by_tag_model_and_age(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()

    def invalidate(**fields: str) -> str:
        for name in ("tag", "model", "age"):
            page.one(f"#{name}").clear()
            page.one(f"#{name}").send_keys(fields.get(name, ""))
        page.run("document.getElementById('invalidate-note').textContent = ''")
        page.click("#invalidate button")
        if fields:
            page.click("#confirm button[value='yes']")
        return str(page.until(lambda: page.text("#invalidate-note")))

    assert invalidate() == "Give a tag, a model or an age."
    assert invalidate(tag="login") == "1 deleted."
    assert busy.ask(QUESTIONS[0])["outcome"] == "miss"
    assert invalidate(tag="faq", model="another") == "0 deleted."
    assert invalidate(age="1", model="gpt-4o-mini") == "0 deleted."
    assert invalidate(age="0") == "2 deleted."
    assert busy.ask(QUESTIONS[1])["outcome"] == "miss"


@browser_test
def test_all_can_be_done_by_keyboard_and_the_focus_is_seen(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()
    met: list[str] = []
    while (not met or met[-1] != "body") and len(met) < 60:
        page.press("\ue004")  # Tab
        met.append(page.focused())
        if met[-1] != "body":
            outline = "return getComputedStyle(document.activeElement).outlineStyle"
            assert page.run(outline) != "none", f"the focus on {met[-1]} is not seen"
            assert page.run("return document.activeElement.matches(':focus-visible')")
    assert met[-1] == "body", "the focus leaves the page in the end"
    assert met[0] == "Skip to content"
    expected = ["namespace", "refresh", "15 min", "1 h", "6 h", "24 h"]
    expected.append("export")
    for question in riskiest(busy):
        expected += ["Answer", f"Right: Please: {question}", f"Wrong: Please: {question}"]
    expected += ["query", "Search", "tag", "model", "age", "unit", "Invalidate…"]
    assert [one for one in met if one in expected] == expected

    def walk_to(name: str) -> None:
        for _ in range(60):
            page.press("\ue004")
            if page.focused() == name:
                return
        pytest.fail(f"{name} is not reached")

    walk_to(f"Right: Please: {QUESTIONS[2]}")
    page.press("\ue007")  # Enter
    page.until(lambda: busy.stats()["labels"] == 1)
    page.until(lambda: page.text("#status").startswith("Judged right"))
    assert page.focused() == f"Right: Please: {QUESTIONS[2]}", "the focus stays where it was"
    walk_to("query")
    page.press("password", "\ue007")
    page.until(lambda: found(page) == [QUESTIONS[0]])
    walk_to(f"Delete: {QUESTIONS[0]}")
    page.press(" ")
    page.until(lambda: page.one("#confirm").is_displayed())
    page.press("\ue00c")  # Escape
    page.until(lambda: not page.one("#confirm").is_displayed())
    assert page.focused() == f"Delete: {QUESTIONS[0]}"
    page.press(" ")
    page.until(lambda: page.focused() == "Keep")
    page.press("\ue004", "\ue007")
    page.until(lambda: page.text("#found-note") == "Deleted.")
    assert page.focused() == "query"


@browser_test
def test_a_refresh_leaves_the_focus_and_open_answers_alone(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()
    page.click("#recent tbody tr:nth-child(2) summary")
    assert page.focused() == "Answer"
    second = QUESTIONS.index(riskiest(busy)[1])
    busy.ask(f"Please: {QUESTIONS[0]}")
    busy.ask(f"Please, do tell: {QUESTIONS[1]}")
    page.run("document.getElementById('refresh').dispatchEvent(new Event('click'))")
    page.until(lambda: len(page.all("#recent tbody tr")) == 4)
    assert page.focused() == "Answer"
    opened = page.all("#recent details[open] .answer")
    assert [one.text for one in opened] == [f"Answer {second}."]


@browser_test
def test_answers_are_judged_by_single_keys(busy: Site, show: Show) -> None:
    page, asked = show(busy.url).loaded(), riskiest(busy)
    page.press("s")
    assert page.text("#recent .said") == "skipped"
    assert page.focused() == f"Right: Please: {asked[1]}"
    page.press("y")
    page.until(lambda: busy.stats()["labels"] == 1)
    page.until(lambda: page.focused() == f"Right: Please: {asked[2]}")
    page.press("n")
    page.until(lambda: busy.stats()["labels"] == 2)
    said = {one["stored"]: one["verdict"] for one in busy.get("/v1/cache/activity")["recent"]}
    assert said == {asked[0]: None, asked[1]: "right", asked[2]: "wrong"}
    page.one("#query").send_keys("yns")
    assert busy.stats()["labels"] == 2, "what is typed into a field judges nothing"
    again = show(busy.url).loaded()
    assert [one.text for one in again.all("#recent .said")] == [
        "skipped",
        "judged right",
        "judged wrong",
    ]
    again.press("n")
    assert again.focused() == "body", "neither is judged by a key that found none that is open"
    assert busy.stats()["labels"] == 2
    again.run("sessionStorage.clear()")


@browser_test
def test_failures_of_the_upstream_are_in_sight(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()
    assert (page.text("#health"), page.text("#upstream")) == ("all parts work", "not asked yet")
    upstream = busy.upstream
    upstream.responded(200, 0.5)
    for kind in ("timeout", "server_error"):
        upstream.ended(kind)
    page.click("#refresh")
    page.until(lambda: page.text("#health") == "the upstream fails")
    assert page.text("#upstream") == "fails"
    assert page.text("#upstream-calls") == "calls 3server error 1timeout 1"
    assert page.text("#upstream-latency") == "p50 1.00 s, p90 1.00 s, p99 1.00 s"


def judge_all(site: Site, *, wrong: int = 0, of: int = 0) -> None:
    """Give ``of`` labels more, of which ``wrong`` are bad."""
    for number in range(of):
        site.keep(f"What is the price of item {number} in euros?")
        hit = site.ask(f"Please: What is the price of item {number} in euros?")
        assert hit["tier"] == "semantic"
        body = {"entry_id": hit["entry_id"], "correct": number >= wrong}
        site.http.post("/v1/cache/feedback", json=body).raise_for_status()


@browser_test
@pytest.mark.parametrize(
    ("wrong", "of", "kind", "note"),
    [
        (0, 25, "unsure", "not sure yet whether at most 5.00\u00a0%"),
        (12, 25, "bad", "more than 5.00\u00a0%, 95\u00a0% sure"),
        (0, 90, "good", "at most 5.00\u00a0%, 95\u00a0% sure"),
    ],
)
def test_the_share_of_wrong_hits_is_grey_until_it_is_certain(
    site: Site, show: Show, wrong: int, of: int, kind: str, note: str
) -> None:
    judge_all(site, wrong=wrong, of=of)
    stats, page = site.stats(), show(site.url).loaded()
    assert stats["labels"] == of
    figure = page.one("[data-stat='error_per_hit']")
    assert figure.get_property("textContent") == percent(wrong / of)
    assert set(figure.get_attribute("class").split()) == {"big", kind}
    assert page.text("#wrong-note") == note
    assert page.one("a[href='#recent-title']").is_displayed()


@browser_test
def test_money_is_told_in_a_sentence_with_its_trend_and_split(busy: Site, show: Show) -> None:
    usage = {"input_tokens": 3_000_000, "output_tokens": 1_000_000}
    busy.app.state.service.activity.answered("gpt-4o", usage)
    busy.app.state.service.activity.rewritten(
        RewriteEvent("rewritten", "gpt-4o-mini", "default", 0.5, usage)
    )
    busy.app.state.service.cache._path.counters.add("standalone:asked")
    stats, page = busy.stats(), show(busy.url).loaded()
    (rewriting,) = (one for one in stats["side_calls"].values() if one["asked"])
    spent = sum(stats["spent"].values()) + rewriting["spent"]
    saved = stats["money_saved"]
    assert stats["spent"].keys() == {"gpt-4o"}
    assert rewriting["spent"] > 0
    assert sum(stats["saved_by_tier"].values()) == pytest.approx(saved)
    share = percent(saved / (saved + spent))
    sentence = f"Spent ${spent:.2f}, saved ${saved:.4f} ({share})"
    shown = re.sub(r"[ \n]+", " ", page.text(".sentence"))
    assert shown.strip() == sentence
    tiers = {tier: f"saved ${n:.4f}" for tier, n in stats["saved_by_tier"].items()}
    names = """return Object.fromEntries([...document.querySelectorAll(arguments[0])].map(
        (one) => [one.dataset.name, one.textContent]))"""
    assert page.run(names, "#by-tier [data-name]") == tiers
    assert set(page.run(names, "#by-model [data-name]")) == {"gpt-4o", "gpt-4o-mini"}
    cost = f"1, cost ${rewriting['spent']:.2f}, served 0"
    assert page.run(names, "#side-calls [data-name]") == {"follow-ups rewritten": cost}
    minutes = busy.get("/v1/cache/activity")["minutes"]
    sums = [sum(one[what] for one in minutes) for what in ("spent", "saved")]
    assert sums == pytest.approx([spent, saved])
    label = page.one("#money-trend svg").get_attribute("aria-label")
    assert label == f"In the last 15 minutes: spent ${spent:.2f}, saved ${saved:.4f}"
    page.click("[data-hours='24']")
    assert page.all("#money-trend rect.fill-semantic")


@browser_test
def test_several_upstreams_are_each_in_sight(open_site: Open, show: Show) -> None:
    local = {"name": "local", "url": "http://127.0.0.1:9/v1", "models": ["llama*"]}
    other = {"name": "other", "url": "https://api.openai.com/v1"}
    site = open_site(upstream=[local, other])
    site.keep(QUESTIONS[0])
    named = {one.name: one for one in site.app.state.service.upstreams.all}
    named["local"].ended("timeout")
    stats, page = site.stats(), show(site.url).loaded()
    assert stats["upstreams"].keys() == {"local", "other"}
    shown = {one.get_attribute("data-upstream"): one.text for one in page.all("#upstreams li")}
    assert shown == {
        "local": "local fails, 1 call, timeout 1",
        "other": "other not asked yet, 0 calls",
    }
    assert page.text("#upstream") == "fails"


@browser_test
def test_a_pair_is_one_row_for_each_model(site: Site, show: Show) -> None:
    for model in ("gpt-4o-mini", "gpt-4o"):
        for system in ("Be short.", "Be kind."):
            said = [{"role": "system", "content": system}]
            for asked in (QUESTIONS[0], f"Please: {QUESTIONS[0]}"):
                messages = [*said, {"role": "user", "content": asked}]
                body = {"model": model, "messages": messages}
                if asked == QUESTIONS[0]:
                    body["answer"] = {"content": system}
                    site.http.post("/v1/cache/set", json=body).raise_for_status()
                else:
                    site.http.post("/v1/cache/get", json=body).raise_for_status()
    assert len(site.get("/v1/cache/activity")["recent"]) == 4
    page = show(site.url).loaded()
    rows = page.all("#recent tbody tr")
    models = [row.find_element("css selector", ".model").text for row in rows]
    assert sorted(models) == ["gpt-4o", "gpt-4o-mini"]
    assert [one.text for one in page.all("#recent .times")] == ["2 times", "2 times"]


def test_every_reason_that_the_code_gives_is_explained() -> None:
    given = set(reasons_in_code())
    assert {"absent", "guard", "agent_turn", "multimodal", "unstable", "policy"} <= given
    assert given - REASONS.keys() == set()
    assert REASONS.keys() - given == {"learning", "risk"}, "of policies that a name says"
    docs = (Path(shared_core.__file__).parents[1] / "docs" / "matching.md").read_text()
    for reason, text in REASONS.items():
        assert f"`{reason}`" in docs
        assert len(text.split()) >= 4, reason
        assert text.endswith("."), reason


def reasons_in_code() -> Iterator[str]:
    """Yield what is a reason in the code: of a miss, of what is matched exactly, of a rest."""
    root = Path(shared_core.__file__).parents[1]
    for package in ("shared_core", "langchain_tiered_cache", "llamaindex_tiered_cache"):
        for path in (root / package).rglob("*.py"):
            if "testing" not in path.parts:
                yield from _reasons_of(ast.parse(path.read_text()), path.name == "request.py")


NAMES = {"exact_only", "uncacheable"}
"""What holds a reason, as a keyword or a name."""


def _reasons_of(tree: ast.AST, of_requests: bool) -> Iterator[str]:
    held = {*NAMES, "reason"} if of_requests else NAMES
    for node in ast.walk(tree):
        places: list[ast.AST] = []
        match node:
            case ast.Call(func=ast.Name("Miss" | "Skip"), args=[first, *_]):
                places.append(first)
            case ast.Call(func=ast.Name("CircuitBreaker"), args=[ast.Constant(str(part)), *_]):
                if part in ("store", "embedder", "policy", "guard"):
                    yield part
            case ast.Call(func=ast.Name("replace"), keywords=keywords):
                places += [one.value for one in keywords if one.arg == "reason"]
        if isinstance(node, ast.Call):
            places += [one.value for one in node.keywords if one.arg in NAMES]
        if isinstance(node, ast.Assign):
            names = [one.id for one in node.targets if isinstance(one, ast.Name)]
            if held & set(names):
                places.append(node.value)
        if isinstance(node, ast.FunctionDef) and node.name == "why_exact_only":
            returns = [one for one in ast.walk(node) if isinstance(one, ast.Return)]
            places += [one.value for one in returns if one.value is not None]
        for place in places:
            yield from _texts(place)


def _texts(place: ast.AST) -> Iterator[str]:
    """Yield the texts that an expression may give, not those that it compares or calls with."""
    match place:
        case ast.Constant(str(text)):
            yield text
        case ast.BoolOp(values=values):
            for value in values:
                yield from _texts(value)
        case ast.IfExp(body=body, orelse=other):
            yield from _texts(body)
            yield from _texts(other)


AXE = Path(str(importlib.util.find_spec("axe_core_python").origin)).with_name("axe.min.js")

VIOLATIONS = """
const done = arguments[0];
axe.run().then((found) => done(found.violations.flatMap(
    (one) => one.nodes.map((node) => [one.id, node.html.slice(0, 200), node.failureSummary]))));
"""


def violations(page: Page) -> list[Any]:
    """Return what axe-core finds; AXE_CORE may name another release's axe.min.js."""
    page.run(Path(os.environ.get("AXE_CORE", AXE)).read_text())
    found: list[Any] = page.browser.execute_async_script(VIOLATIONS)
    return found


@browser_test
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(
    open_site: Open, busy: Site, show: Show, width: int, scheme: str
) -> None:
    how: dict[str, Any] = {"width": width, "scheme": scheme}
    empty, locked = open_site(), open_site(keys=[str(new_key("boss", "admin")[1])])
    page = show(empty.url, **how)
    page.until(lambda: page.one("#empty").is_displayed())
    assert violations(page) == [], "empty"
    page = show(locked.url, **how)
    page.until(lambda: page.one("#key-section").is_displayed())
    assert violations(page) == [], "locked"
    page.complaints()  # of the request without a key
    judge_all(busy, wrong=12, of=25)
    busy.upstream.responded(200, 0.5)
    busy.upstream.ended("timeout")
    page = show(busy.url, **how).loaded()
    page.one("#query").send_keys("password")
    page.click("#search button")
    page.until(lambda: found(page))
    page.click("#recent summary")
    page.run("document.getElementById('error').hidden = false")
    page.run("document.getElementById('error').textContent = 'The service does not answer.'")
    assert violations(page) == [], "busy, with failures"
    page.click("#found button")
    page.until(lambda: page.one("#confirm").is_displayed())
    assert violations(page) == [], "with a question back"


@browser_test
@pytest.mark.parametrize("width", [360, 760, 1000])
def test_a_narrow_window_needs_no_sideways_scrolling(busy: Site, show: Show, width: int) -> None:
    busy.keep(f"Is {'x' * 400} long?", "y" * 400, tags=["z" * 200])
    busy.ask(f"Please: Is {'x' * 400} long?")
    page = show(busy.url, width=width).loaded()
    page.one("#query").send_keys("is")
    page.click("#search button")
    page.until(lambda: found(page))
    assert page.run("return document.documentElement.scrollWidth") <= width
    wide = """return [...document.querySelectorAll('main *')].filter((one) => one.checkVisibility()
        && !one.closest('.unseen, thead') && one.getBoundingClientRect().right > innerWidth + 1)
        .map((one) => one.outerHTML.slice(0, 80))"""
    assert page.run(wide) == []
    page.click("#recent tbody tr:last-child .verdict button")
    page.until(lambda: busy.stats()["labels"] == 1)


CONTRAST = """
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
  const v = c[i] / 255;
  return sum + weight * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); }, 0);
const ground = (one) => { for (; one; one = one.parentElement) {
  const c = parts(getComputedStyle(one).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
  return [255, 255, 255]; };
const texts = 'h1, h2, dt, dd, th, td, p, label, button, mark, summary, b, span';
return [...document.querySelectorAll(texts)]
  .filter((one) => one.checkVisibility() && one.textContent.trim() && !one.closest('.unseen'))
  .map((one) => { const [a, b] = [light(parts(getComputedStyle(one).color)), light(ground(one))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.outerHTML.slice(0, 80)]; })
  .filter(([ratio]) => ratio < 4.5)
"""


@browser_test
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_either_colours(busy: Site, show: Show, scheme: str) -> None:
    page = show(busy.url, scheme=scheme).loaded()
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    dark = sum(map(int, re.findall(r"\d+", ground))) < 3 * 128
    assert dark == (scheme == "dark")
    assert page.run(CONTRAST) == []


@browser_test
def test_a_hostile_question_is_text_and_nothing_else(open_site: Open, show: Show) -> None:
    site = open_site(guard=False)
    site.keep(HOSTILE, HOSTILE, tags=["<b>tag</b>"], model="<i>model</i>")
    site.ask(f"Well, {HOSTILE}", model="<i>model</i>")
    page = show(site.url).loaded()
    assert page.text("#recent .stored") == HOSTILE
    assert page.text("#recent td") == f"Well, {HOSTILE}"
    assert page.text("#recent .answer") == HOSTILE
    page.click("#recent summary")
    page.one("#query").send_keys("<script>")
    page.click("#search button")
    page.until(lambda: found(page) == [HOSTILE])
    page.click("#found button")
    assert HOSTILE in page.text("#confirm-text")
    page.click("#confirm button[value='no']")
    assert page.run("return window.hacked") is None
    assert page.all("main img, main script, main i, #recent svg, #found svg, #recent td b") == []


@browser_test
def test_an_empty_service_says_what_to_do_first(site: Site, show: Show) -> None:
    page = show(site.url)
    page.until(lambda: page.one("#empty").is_displayed())
    assert not page.one("#content").is_displayed()
    lines = [f'OpenAI(base_url="{site.url}/v1")', f'Anthropic(base_url="{site.url}")']
    assert [one.text for one in page.all("#empty code")] == lines
    assert [one.accessible_name for one in page.all(".copy")] == [f"Copy {one}" for one in lines]
    site.keep(QUESTIONS[0])
    site.ask(QUESTIONS[0])
    page.click("#refresh")
    page.loaded()
    assert not page.one("#empty").is_displayed()
    assert page.one("#recent-empty").is_displayed()


@browser_test
def test_what_is_empty_yet_says_what_will_appear(site: Site, show: Show) -> None:
    site.keep(QUESTIONS[0])
    site.ask(QUESTIONS[0])
    page = show(site.url).loaded()
    places = ["similarity", "misses", "recent"]
    empty = [page.one(f"#{place}-empty") for place in places]
    assert [one.is_displayed() for one in empty] == [True, True, True]
    assert all("here" in one.text for one in empty)
    site.ask(f"Please: {QUESTIONS[0]}")
    site.ask("Where on Earth is Timbuktu?")
    page.click("#refresh")
    page.until(lambda: not any(one.is_displayed() for one in empty))
    assert all(page.one(f"#{place}").is_displayed() for place in places)


@browser_test
def test_a_question_without_labels_is_judged_first(site: Site, show: Show) -> None:
    for asked in (QUESTIONS[0], QUESTIONS[1]):
        site.keep(asked)
    for asked in (f"Hi there! {QUESTIONS[0]}", f"Please: {QUESTIONS[0]}"):
        assert site.ask(asked)["tier"] == "semantic"
    site.ask(f"Please: {QUESTIONS[1]}")
    first = riskiest(site)
    assert first[0] == QUESTIONS[0], "which is less alike"
    (judged,) = (
        one
        for one in site.get("/v1/cache/activity")["recent"]
        if one["asked"] == f"Please: {QUESTIONS[0]}"
    )
    body = {"entry_id": judged["entry_id"], "correct": True}
    site.http.post("/v1/cache/feedback", json=body).raise_for_status()
    page = show(site.url).loaded()
    stored = [one.text for one in page.all("#recent .stored")]
    assert stored == [QUESTIONS[1], QUESTIONS[0], QUESTIONS[0]]
    assert [one.text for one in page.all("#recent .said")] == ["", "", "judged right"]


@browser_test
def test_judged_pairs_are_downloaded_as_tune_reads_them(
    busy: Site, show: Show, tmp_path: Path
) -> None:
    asked = riskiest(busy)
    busy.keep(asked[1], model="gpt-4o")
    other = busy.ask(f"Please: {asked[1]}", model="gpt-4o")
    body = {"entry_id": other["entry_id"], "correct": True}
    busy.http.post("/v1/cache/feedback", json=body).raise_for_status()
    page = show(busy.url).loaded()
    page.run("""const make = URL.createObjectURL; URL.createObjectURL = (blob) => {
        blob.text().then((text) => { window.downloaded = text; }); return make(blob); };""")
    page.press("y")
    page.until(lambda: busy.stats()["labels"] == 2)
    page.press("n")
    page.until(lambda: busy.stats()["labels"] == 3)
    page.until(lambda: page.text("#status").startswith("Judged wrong"))
    page.click("#export")
    page.until(lambda: page.text("#status") == "2 pairs for tiered-cache tune.")
    file = tmp_path / "pairs.jsonl"
    file.write_text(page.until(lambda: page.run("return window.downloaded")))
    pairs = read_rows(file)
    assert {(one.question, one.cached, one.same) for one in pairs} == {
        (f"Please: {asked[0]}", asked[0], True),
        (f"Please: {asked[1]}", asked[1], False),
    }
    assert len(pairs) == 2


@browser_test
def test_a_service_that_does_not_answer_is_told_and_asked_again(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/cache/stats*"]})
    try:
        page.click("#refresh")
        page.until(lambda: "does not answer" in page.one("#error").text)
        assert page.one("#content").is_displayed(), "what was known stays"
    finally:
        page.browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.until(lambda: not page.one("#error").is_displayed())
    page.complaints()  # of the blocked request


@browser_test
def test_a_key_is_asked_for_and_kept_in_the_tab_alone(open_site: Open, show: Show) -> None:
    use, use_entry = new_key("app")
    admin, admin_entry = new_key("boss", "admin")
    site = open_site(admin, keys=[str(use_entry), str(admin_entry)])
    site.keep(QUESTIONS[0])
    site.ask(QUESTIONS[0])
    page = show(site.url)
    page.until(lambda: page.one("#key-section").is_displayed())
    assert page.focused() == "key"
    assert not page.one("#content").is_displayed()
    assert not page.one("#namespace").is_displayed(), "there is none to choose"
    for wrong, why in (("wrong", "no such key"), (use, "role use")):
        page.one("#key").send_keys(wrong, "\ue007")
        page.until(lambda why=why: why in page.text("#key-note"))
        assert page.run("return sessionStorage.length") == 0
    page.one("#key").send_keys(admin)
    page.click("#key-form button")
    page.loaded()
    assert not page.one("#key-section").is_displayed()
    kept = "return [localStorage.length, document.cookie, sessionStorage.length, location.href]"
    assert page.run(kept) == [0, "", 1, f"{site.url}/"]
    assert admin not in page.browser.page_source
    page.click("#forget-key")
    page.until(lambda: page.one("#key-section").is_displayed())
    assert page.run("return sessionStorage.length") == 0
    assert not page.one("#content").is_displayed()
    page.complaints()  # of the refused keys


INTERACTIVE = """
const done = arguments[0];
const look = () => document.getElementById('content').hidden ? setTimeout(look, 2)
    : requestAnimationFrame(() => setTimeout(() => done(performance.now())));
look();
"""


@browser_test
@pytest.mark.slow
def test_the_page_is_usable_within_a_second_with_ten_thousand_answers(
    busy: Site, show: Show
) -> None:
    rows = [
        {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": f"What is the price of item {number}?"}],
            "answer": {"content": f"It costs {number} euros."},
        }
        for number in range(10_000)
    ]
    for start in range(0, len(rows), 2_000):
        body = {"rows": rows[start : start + 2_000]}
        busy.http.post("/v1/cache/warm", json=body, timeout=60).raise_for_status()
    assert busy.stats()["stores"] == 10_000 + len(QUESTIONS)
    took = [show(busy.url).browser.execute_async_script(INTERACTIVE) for _ in range(5)]
    assert min(took) < 1_000, "milliseconds; the least, as other things run here too"


@browser_test
def test_nothing_is_loaded_from_another_host(busy: Site, show: Show) -> None:
    page = show(busy.url).loaded()
    loaded = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert len(loaded) >= 4
    assert [one for one in loaded if not one.startswith((busy.url, "data:"))] == []
