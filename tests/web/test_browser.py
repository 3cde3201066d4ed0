"""The pages in a real browser: by mouse, by keyboard, on a phone, with and without script."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Page, expect

from ledger import Lease, Ledger
from records import Caption
from tests.fixtures.browser import SIZES, Browse
from tests.store.images import image
from tests.web.conftest import Land, Open, street
from tests.web.test_letters import bury
from tests.web.test_watches import bury as bury_post
from tests.web.test_watches import watch_of

pytestmark = pytest.mark.debian("chromium")

ADMIN = "the admin's word"


HOOK = "https://8.8.8.8/token"


def photo(path: Path) -> bytes:
    """A thumbnail as processors make it."""
    with Image.open(path) as opened:
        made = opened.convert("RGB")
        made.thumbnail((512, 512))
        data = BytesIO()
        made.save(data, "JPEG")
        return data.getvalue()


@pytest.fixture
def pictures(land: Land, photos: Path) -> None:
    """Four photos, and the same view nine times."""
    from dataclasses import replace

    def item(number: int, file: str, caption: str, camera: str = "top", same: int | None = None):  # type: ignore[no-untyped-def]
        made = street(number, camera=camera, vector=street(number if same is None else same).vector)
        return replace(made, caption=Caption(caption), thumbnail=photo(photos / file))

    land(
        item(0, "coffee.png", "a cup of coffee on a table"),
        item(1, "rocket.jpg", "a rocket on its pad", "left"),
        item(2, "chelsea.png", "a cat looks into the camera"),
        item(3, "china.jpg", "a temple with a red roof", "left"),
        *(item(number, "astronaut.png", "an astronaut", "fixed", same=4) for number in range(4, 13)),
    )


async def no_wider_than_the_screen(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
async def test_somebody_searches_narrows_and_looks(
    open_page: Open, pictures: None, browse: Browse, size: str, script: bool
) -> None:
    page = await browse(str(open_page().base_url), size, script)
    await page.get_by_role("searchbox").fill("a cup of coffee")
    await page.get_by_role("button", name="Search", exact=True).click()
    first = page.get_by_role("article").first
    await expect(first).to_contain_text("a cup of coffee")
    await expect(first.locator("mark").first).to_have_text("cup")
    if script:
        assert await page.evaluate("[...document.images].filter(i => i.complete).every(i => i.naturalWidth > 0)")
        assert await no_wider_than_the_screen(page)
    await page.get_by_text("Filters and order").click()
    await page.get_by_label("Camera").select_option("left")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.get_by_role("article")).to_have_count(2)
    await page.get_by_role("article").filter(has_text="a rocket").get_by_role("link").first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("a rocket on its pad")
    await page.get_by_role("link", name="Find similar").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Pictures like this one")


async def test_near_identical_pictures_open_from_their_card(open_page: Open, pictures: None, browse: Browse) -> None:
    page = await browse(str(open_page().base_url))
    await page.goto("/?q=astronaut")
    card = page.get_by_role("article").filter(has_text="8 near-identical")
    await expect(card).to_have_count(1)
    await card.get_by_text("8 near-identical").click()
    await expect(card.get_by_role("listitem")).to_have_count(8)


async def test_a_bar_of_the_histogram_is_a_link(open_page: Open, pictures: None, browse: Browse) -> None:
    page = await browse(str(open_page().base_url))
    await page.goto("/?q=picture&apart=true")
    bars = page.get_by_role("navigation", name="When they were captured").get_by_role("link")
    await expect(bars).to_have_count(13)
    await bars.first.click()
    await expect(page.get_by_role("article")).to_have_count(1)


async def test_everything_is_reached_by_keyboard(open_page: Open, pictures: None, browse: Browse) -> None:
    page = await browse(str(open_page().base_url))
    await page.goto("/?q=a+temple")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.locator("main").click(position={"x": 1, "y": 1})
    await page.keyboard.press("/")
    await expect(page.get_by_role("searchbox")).to_be_focused()
    await page.keyboard.type("a rocket")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("article").first).to_contain_text("a rocket on its pad")
    reached = set()
    for _ in range(60):
        await page.keyboard.press("Tab")
        reached.add(await page.evaluate("(document.activeElement.textContent || '').trim().slice(0, 20)"))
    wanted = ("Filters and order", "Search with a picture", "Find similar", "Download as a table", "Newest first")
    assert [name for name in wanted if not any(text.startswith(name[:19]) for text in reached)] == []


async def test_every_control_has_a_name_and_every_picture_a_text(
    open_page: Open, pictures: None, browse: Browse
) -> None:
    page = await browse(str(open_page().base_url))
    await page.goto("/?q=a+cat")
    await page.get_by_text("Filters and order").click()
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
            .filter(e => !e.labels.length && !e.ariaLabel).map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert await page.evaluate("[...document.querySelectorAll('main img')].every(i => i.alt)")
    assert await page.evaluate("document.querySelectorAll('h1').length") == 1
    assert await page.evaluate("document.documentElement.lang") == "en"
    ids = await page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


async def test_an_uploaded_picture_finds_others(open_page: Open, pictures: None, browse: Browse, photos: Path) -> None:
    page = await browse(str(open_page().base_url), "phone")
    await page.get_by_text("Search with a picture of yours").click()
    await page.get_by_label("Find pictures like one of yours").set_input_files(photos / "coffee.png")
    await page.get_by_role("button", name="Find similar").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Pictures like coffee.png")
    assert await page.get_by_role("article").count() > 1


@pytest.mark.parametrize("size", SIZES)
async def test_the_live_page_shows_a_landing_by_itself_until_it_is_paused(
    open_page: Open, pictures: None, browse: Browse, ledger: Ledger, size: str
) -> None:
    page = await browse(str(open_page().base_url), size)
    await page.get_by_role("link", name="Live", exact=True).first.click()
    await expect(page.get_by_text("Nothing has landed lately.")).to_be_visible()

    def lands(number: int) -> None:
        lease = ledger.lease(image(number).record)
        assert isinstance(lease, Lease)
        assert ledger.land(lease)

    lands(1)
    await expect(page.get_by_role("article")).to_have_count(1)
    await expect(page.get_by_role("article")).to_contain_text("a rocket on its pad")
    await expect(page.get_by_role("status")).to_have_text("1 landed")
    assert await no_wider_than_the_screen(page)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("button", name="Go on")).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
async def test_the_admin_logs_in_replays_and_discards(
    open_page: Open, browse: Browse, ledger: Ledger, size: str
) -> None:
    for number in range(3):
        bury(ledger, number)
    page = await browse(str(open_page(admin_token=ADMIN).base_url), size)
    await page.get_by_role("link", name="Dead letters").click()
    await page.get_by_role("link", name="log in", exact=True).click()
    await page.get_by_label("Token").fill(ADMIN)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_label("Mark 2.jpg").check()
    await page.get_by_role("button", name="Replay the marked").click()
    await expect(page.get_by_role("status")).to_have_text("1 image is queued again.")
    await page.get_by_label("All of these").check()
    assert await no_wider_than_the_screen(page)
    await page.get_by_role("button", name="Discard the marked").click()
    await page.get_by_role("button", name="Throw them away").click()
    await expect(page.get_by_role("status")).to_have_text("2 letters were thrown away.")
    assert ledger.letters.count() == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
async def test_the_admin_watches_a_search_pauses_tries_and_removes_it(
    open_page: Open, pictures: None, browse: Browse, ledger: Ledger, size: str, script: bool
) -> None:
    page = await browse(str(open_page(admin_token=ADMIN).base_url), size, script)
    await page.goto("/?q=a+cup+of+coffee&camera=top")
    await page.get_by_role("link", name="Watch this search").click()
    await page.get_by_role("link", name="log in", exact=True).click()
    await page.get_by_label("Token").fill(ADMIN)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_label("What the pictures show")).to_have_value("a cup of coffee")
    await expect(page.get_by_label("Name", exact=True)).to_have_value("a-cup-of-coffee")
    await expect(page.get_by_label("Camera", exact=True)).to_have_value("top")
    await page.get_by_role("button", name="Test on stored pictures").click()
    await expect(page.get_by_role("heading", name="What this search would have found")).to_be_visible()
    await page.get_by_label("Least similarity").fill("0.3")
    await page.get_by_label("Webhook").fill(HOOK)
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.get_by_label("The secret that signs the posts")).to_have_value(re.compile("^whsec_"))
    await page.get_by_role("link", name="To the watches").click()
    one = page.get_by_role("listitem").filter(has_text="a cup of coffee")
    await expect(one).to_contain_text("active")
    if script:
        assert await no_wider_than_the_screen(page)
    await page.get_by_role("button", name="Pause a-cup-of-coffee").click()
    await expect(page.get_by_role("status")).to_have_text("a-cup-of-coffee is paused.")
    await page.get_by_role("button", name="Remove a-cup-of-coffee").click()
    await page.get_by_role("button", name="Remove it").click()
    await expect(page.get_by_role("status")).to_have_text("a-cup-of-coffee is removed.")
    assert ledger.watches.states() == []


async def test_the_page_of_watches_is_for_everybodys_hands_and_ears(
    open_page: Open, browse: Browse, ledger: Ledger
) -> None:
    watch = watch_of("one")
    ledger.watches.add(watch)
    bury_post(ledger, watch, 1)
    page = await browse(str(open_page(admin_token=ADMIN).base_url), "phone")
    await page.goto("/login?next=/watches")
    await page.get_by_label("Token").fill(ADMIN)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Watches")
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
            .filter(e => !e.labels.length && !e.ariaLabel).map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert await page.evaluate("document.querySelectorAll('h1').length") == 1
    ids = await page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert await no_wider_than_the_screen(page)
    low = await page.evaluate(
        """() => [...document.querySelectorAll("main button, main input:not([type=hidden], [type=checkbox])")]
            .filter(e => e.getBoundingClientRect().height < 34).map(e => e.outerHTML)"""
    )
    assert low == [], "large enough for a thumb"
    reached = []
    for _ in range(40):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate("document.activeElement.ariaLabel || document.activeElement.name || ''"))
    wanted = ("Pause one", "Test one", "Remove one", "Dead letters of one", "query", "webhook", "action")
    assert [name for name in wanted if name not in reached] == []
