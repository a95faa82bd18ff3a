"""A browser draws digits on the page of `serve`, by mouse, keys and files, and reads the answers as a user would."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import drawn_digits
import pytest
from conftest import BROWSER
from drawing_page import CARRY, answer, assert_reads_digits, draw, number
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, Route, expect

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")


@pytest.fixture
def heard() -> list[str]:
    """What the browser had to say about the page: messages, errors, and requests that go elsewhere."""
    return []


@pytest.fixture
def opened(browser: Browser, address: str, heard: list[str]) -> Iterator[Callable[..., Page]]:
    """Opens the page at a width and in a colour scheme."""
    contexts = []

    def open_page(width: int = 1280, colours: str = "light") -> Page:
        screen = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=screen, has_touch=True, color_scheme=colours))
        page = contexts[-1].new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: request.url.startswith(address) or heard.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def two_digits(folder: Path) -> Path:
    """A picture of the number 42, black on white."""
    sheet = Image.new("L", (700, 400))
    for k, digit in enumerate([4, 2]):
        sheet.paste(drawn_digits.typeset(digit, "DejaVuSans.ttf").crop((50, 0, 350, 400)), (25 + 350 * k, 0))
    path = folder / "42.png"
    ImageOps.invert(sheet).save(path)
    return path


def test_digits_drawn_by_mouse_are_read(opened: Callable[..., Page], heard: list[str]) -> None:
    page = opened()
    assert_reads_digits(page)
    assert heard == []


def test_the_answer_has_its_probabilities_and_maps_and_is_spoken(opened: Callable[..., Page], heard: list[str]) -> None:
    page = opened()
    draw(page, 0)
    assert number(page) == "0"
    chances = answer(page).get_by_role("list", name="Probabilities").get_by_role("listitem")
    expect(chances).to_have_text([re.compile(rf"^{digit}\s*\d+\.\d\s%$") for digit in range(10)])
    shares = [float(re.search(r"[\d.]+(?=\s%)", text)[0]) for text in chances.all_inner_texts()]
    assert abs(sum(shares) - 100) < 1 and shares[0] == max(shares)
    maps = page.get_by_role("region", name="Inside the net").get_by_role("img")
    names = [image.get_attribute("aria-label") for image in maps.all()]
    assert names[0] == "convblock1: 16 maps of 26 by 26 pixels"
    assert names[-1] == "convblock8: 10 maps of 1 by 1 pixels"
    expect(page.get_by_role("status")).to_have_text(
        re.compile(r"^This (is 0, .* sure|does not look like a digit.*)\.$")
    )
    assert heard == []


def test_several_digits_are_a_number_and_undo_takes_a_stroke_back(opened: Callable[..., Page]) -> None:
    page = opened()
    draw(page, 0, centre=0.25, size=0.5)
    draw(page, 6, centre=0.75, size=0.5)
    assert number(page) == "06"
    buttons = page.get_by_role("group", name="Digits").get_by_role("button")
    expect(buttons).to_have_count(2)
    # The digit that was drawn last is shown, until another is chosen.
    expect(buttons.nth(1)).to_have_attribute("aria-pressed", "true")
    buttons.nth(0).click()
    expect(answer(page)).to_contain_text("Digit 1 of 2 is 0")
    # A click on a digit chooses it too, and draws nothing.
    area = page.get_by_role("application", name="Drawing area")
    box = area.bounding_box()
    for digit, share in [(6, 0.75), (0, 0.25)]:
        area.click(position={"x": share * box["width"], "y": box["height"] / 2})
        expect(answer(page)).to_contain_text(f"of 2 is {digit}")
    assert number(page) == "06"
    page.get_by_role("button", name="Undo").click()
    assert number(page) == "0"
    page.keyboard.press("Control+z")
    assert number(page) == "–"


def test_what_does_not_look_like_a_digit_is_said(opened: Callable[..., Page]) -> None:
    page = opened()

    def doubtful(route: Route) -> None:
        response = route.fetch()
        reply = response.json()
        reply["digits"][0]["unsure"] = True
        route.fulfill(response=response, json=reply)

    page.route("**/predict*", doubtful)
    draw(page, 7)
    assert number(page) == "?"
    expect(answer(page)).to_contain_text("Does not look like a digit; nearest is ")
    expect(page.get_by_role("status")).to_contain_text("This does not look like a digit")


@pytest.mark.parametrize(("width", "colours"), [(400, "dark"), (1280, "light")])
def test_nothing_is_wider_than_the_window(
    opened: Callable[..., Page], heard: list[str], tmp_path: Path, width: int, colours: str
) -> None:
    page = opened(width, colours)
    draw(page, 2, centre=0.2, size=0.4)
    draw(page, 8, centre=0.5, size=0.4)
    draw(page, 5, centre=0.8, size=0.4)
    assert len(number(page)) == 3
    page.screenshot(path=tmp_path / f"page-{width}-{colours}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = """limit => [...document.querySelectorAll("main *")]
        .filter(element => element.getBoundingClientRect().right > limit + 0.5).map(element => element.outerHTML)"""
    assert page.evaluate(outside, width) == []
    assert heard == []


def test_a_digit_can_be_drawn_with_the_keyboard_alone(opened: Callable[..., Page], heard: list[str]) -> None:
    page = opened()
    page.keyboard.press("Tab")
    expect(page.get_by_role("application", name="Drawing area")).to_be_focused()
    # With the pen up, the keys only move it.
    there = [("ArrowLeft", 12), ("ArrowUp", 15), ("ArrowRight", 12)]
    for key, times in [*there, ("Space", 1), ("ArrowDown", 30), ("Space", 1), ("ArrowRight", 12)]:
        for _ in range(times):
            page.keyboard.press(key)
    assert number(page) == "1"
    for name in ["Undo", "Clear"]:
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=name)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose a picture")).to_be_focused()
    page.keyboard.press("Escape")
    assert number(page) == "–"
    assert heard == []


def test_a_digit_can_be_drawn_with_a_finger(opened: Callable[..., Page], heard: list[str]) -> None:
    page = opened(400)
    area = page.get_by_role("application", name="Drawing area").bounding_box()
    finger = page.context.new_cdp_session(page)
    x = area["x"] + area["width"] / 2
    for k in range(21):
        point = {"x": x, "y": area["y"] + (0.2 + 0.03 * k) * area["height"]}
        kind = "touchMove" if k else "touchStart"
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert number(page) == "1"
    assert page.evaluate("scrollY") == 0
    assert heard == []


# Counts requests, and how many are under way at a time.
COUNT = """
    const send = fetch;
    let now = 0;
    window.requests = { all: 0, together: 0 };
    window.fetch = async (...call) => {
        requests.all += 1;
        requests.together = Math.max(requests.together, ++now);
        try { return await send(...call); } finally { now -= 1; }
    };
"""


def test_the_page_asks_while_one_draws_and_one_question_at_a_time(opened: Callable[..., Page]) -> None:
    page = opened()
    page.evaluate(COUNT)
    draw(page, 3)
    assert number(page) == "3"
    requests = page.evaluate("requests")
    assert requests["all"] > 2
    assert requests["together"] == 1


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_a_picture_is_cut_into_its_digits(
    opened: Callable[..., Page], heard: list[str], tmp_path: Path, way: str
) -> None:
    page = opened()
    path = two_digits(tmp_path)
    if way == "choose":
        page.get_by_label("Choose a picture").set_input_files(path)
    else:
        page.evaluate(CARRY, [way, list(path.read_bytes())])
    assert number(page) == "42"
    buttons = page.get_by_role("group", name="Digits").get_by_role("button")
    expect(buttons).to_have_count(2)
    expect(buttons.nth(0)).to_have_attribute("aria-pressed", "true")
    buttons.nth(1).focus()
    expect(answer(page)).to_contain_text("Digit 2 of 2 is 2")
    # A click on a digit of the picture chooses it; the 4 is in the left half.
    area = page.get_by_role("application", name="Drawing area")
    box = area.bounding_box()
    area.click(position={"x": 0.25 * box["width"], "y": 0.5 * box["height"]})
    expect(answer(page)).to_contain_text("Digit 1 of 2 is 4")
    assert heard == []


def test_a_file_that_is_not_a_picture_is_answered_with_a_sentence(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened()
    path = tmp_path / "letter.png"
    path.write_text("Dear reader")
    page.get_by_label("Choose a picture").set_input_files(path)
    assert number(page) == "–"
    expect(answer(page)).to_contain_text(re.compile(r"picture|image"))
    draw(page, 1)
    assert number(page) != "–"


def test_a_server_that_is_gone_is_waited_for(opened: Callable[..., Page]) -> None:
    page = opened()
    page.context.set_offline(True)
    draw(page, 0)
    expect(page.get_by_role("region", name="Answer")).to_contain_text("The server does not answer")
    page.get_by_role("button", name="Clear").click()
    draw(page, 7)
    expect(page.get_by_role("region", name="Answer")).to_contain_text("The server does not answer")
    page.context.set_offline(False)
    assert number(page) == "7"
