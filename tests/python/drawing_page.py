"""The page to draw digits on, as a user draws on it and reads it."""

import drawn_digits
from playwright.sync_api import Locator, Page, expect

# A machine that does other things too may take long.
expect.set_options(timeout=20_000)


def answer(page: Page) -> Locator:
    """The part of the page with the answer, when the newest drawing has one."""
    region = page.get_by_role("region", name="Answer")
    expect(region).to_have_attribute("aria-busy", "false")
    return region


def number(page: Page) -> str:
    """The digit or number that the page shows in large type."""
    return answer(page).get_by_role("paragraph").first.inner_text()


def draw(page: Page, digit: int, centre: float = 0.5, size: float = 0.8) -> None:
    """Draws a digit with the mouse; `centre` is a share of the drawing's width, `size` of its height."""
    area = page.get_by_role("application", name="Drawing area").bounding_box()
    side = size * area["height"] / 100
    left, top = area["x"] + centre * area["width"] - 50 * side, area["y"] + area["height"] / 2 - 50 * side
    for stroke in drawn_digits.STROKES[digit]:
        points = [(left + side * x, top + side * y) for x, y in drawn_digits.smooth(stroke)]
        # The browser takes a move per frame, so all of the points would take long; the page smooths them too.
        points = [*points[::8], points[-1]]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def assert_reads_digits(page: Page) -> None:
    """Draws each digit with the mouse, and clears it; at most one may be read wrongly."""
    read = {}
    for digit in range(10):
        draw(page, digit)
        read[digit] = number(page)
        page.get_by_role("button", name="Clear").click()
        assert number(page) == "–"
    wrong = {digit: text for digit, text in read.items() if text != str(digit)}
    print(f"{10 - len(wrong)} of 10 right, wrong: {wrong}")
    assert len(wrong) <= 1, wrong


# Drops or pastes a file, given as its bytes, onto the page.
CARRY = """([way, bytes]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([new Uint8Array(bytes)], "picture.png", { type: "image/png" }));
    const options = { bubbles: true, dataTransfer: carried, clipboardData: carried };
    document.body.dispatchEvent(way === "drop" ? new DragEvent(way, options) : new ClipboardEvent(way, options));
}"""
