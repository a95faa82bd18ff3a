"""Digits that do not come from MNIST are predicted, and a browser shows the page of a run."""

import json
import subprocess
from pathlib import Path

import drawn_digits
import pytest
from conftest import BROWSER, QUIET, tch_mnist
from PIL import Image, ImageOps


def predictions(run: Path, *images: Path) -> dict[str, dict]:
    text = tch_mnist("predict", "--weights", run / "model.pt", "--log-format", "json", *images)
    return {Path(line["file"]).name: line for line in map(json.loads, text.splitlines())}


def test_nine_of_ten_digits_of_fonts_and_pens_are_right(run: Path, tmp_path: Path) -> None:
    paths = drawn_digits.write(tmp_path / "drawn")
    assert len(paths) >= 200
    digits = predictions(run, tmp_path / "drawn")
    assert len(digits) == len(paths)
    wrong = {name: line["digit"] for name, line in digits.items() if int(name[0]) != line["digit"]}
    print(f"{len(wrong)} of {len(paths)} wrong: {wrong}")
    assert len(wrong) <= 0.1 * len(paths)


def test_how_a_file_is_encoded_changes_nothing(run: Path, tmp_path: Path) -> None:
    paths = drawn_digits.write(tmp_path / "drawn", seed=2, drawings=1)[:24]
    others = tmp_path / "others"
    others.mkdir()
    for path in paths:
        image = Image.open(path)
        image.save(others / f"{path.stem}+bmp.bmp")
        image.convert("RGB").save(others / f"{path.stem}+jpg.jpg", quality=90, progressive=True)
        image.convert("P", palette=Image.Palette.ADAPTIVE).save(others / f"{path.stem}+gif.gif")
        ImageOps.invert(image).save(others / f"{path.stem}+inverted.png")
        # As a camera that was held sideways stores it, with an EXIF note.
        exif = Image.Exif()
        exif[0x0112] = 6
        image.rotate(90, expand=True).save(others / f"{path.stem}+turned.jpg", quality=95, exif=exif)
    digits = predictions(run, others, *paths)
    same = {path.stem: digits[path.name]["digit"] for path in paths}
    different = [name for name, line in digits.items() if line["digit"] != same[Path(name).stem.split("+")[0]]]
    assert len(digits) == 6 * len(paths)
    # Compression may change the prediction of a digit that the net is not sure about.
    assert len(different) <= 0.05 * len(digits), different


# Measures the page in the frame, and shows the result as a green or a red strip below it.
MEASURE = """
<div id="strip" style="height:20px;background:blue"></div>
<script>
document.getElementById("f").onload = event => {
  const page = event.target.contentDocument, faults = [];
  const box = element => element.getBoundingClientRect();
  const start = element => element.textContent.trim().slice(0, 20);
  const cards = [...page.querySelectorAll(".card, .figure")];
  cards.forEach((card, k) => cards.slice(k + 1).forEach(other => {
    const [a, b] = [box(card), box(other)];
    const across = Math.max(a.left, b.left) - Math.min(a.right, b.right);
    const down = Math.max(a.top, b.top) - Math.min(a.bottom, b.bottom);
    if (Math.max(across, down) < 6) faults.push(`${start(card)} touches ${start(other)}`);
  }));
  const captions = [...page.querySelectorAll("figcaption span")];
  if (captions.length < 200) faults.push(`${captions.length} captions`);
  for (const caption of captions) {
    const [own, cell] = [box(caption), box(caption.closest("figure"))];
    const isWide = caption.scrollWidth > caption.clientWidth || own.right > cell.right + 1;
    if (isWide) faults.push(`too wide: ${start(caption)}`);
  }
  for (const text of page.querySelectorAll(".card > svg text")) {
    const frame = box(text.closest("svg")), own = box(text);
    if (own.left < frame.left - 1 || own.right > frame.right + 1) faults.push(`outside: ${start(text)}`);
    if (own.height < 9) faults.push(`too small: ${start(text)}, ${own.height} pixels high`);
  }
  const root = page.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push("the page is wider than the window");
  if (faults.length) console.error(faults.join("; "));
  document.getElementById("strip").style.background = faults.length ? "red" : "lime";
};
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_a_browser_shows_the_page_without_a_word_and_nothing_overlaps(
    run: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    # A frame, because a window of Chromium is never narrower than 500 pixels.
    style = f"width:{width}px;height:900px;border:0;display:block"
    frame = f'<body style="margin:0"><iframe id="f" src="{run / "report.html"}" style="{style}"></iframe>{MEASURE}'
    (tmp_path / "frame.html").write_text(frame)
    picture = tmp_path / "picture.png"
    command = [BROWSER, "--headless", *QUIET]
    command += ["--allow-file-access-from-files", "--enable-logging=stderr", "--hide-scrollbars"]
    command += [f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={max(width, 500)},920"]
    command += [f"--screenshot={picture}", f"file://{tmp_path / 'frame.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    image = Image.open(picture).convert("RGB")
    assert image.getpixel((10, 910)) == (0, 255, 0)
    page = image.convert("L").crop((0, 0, width, 900))
    # Text and curves are there: not one colour, mostly paper, some ink.
    dark = sum(page.histogram()[:100]) / (page.width * page.height)
    assert 0.002 < (dark if scheme == "light" else 1 - dark) < 0.2
