"""Pictures with several digits, on paper, in frames; what is not a digit; pictures of other formats."""

import base64
import io
import json
import re
import subprocess
from pathlib import Path

import drawn_digits
import numpy as np
import other_forms as forms
import own_digits
import pytest
from common import PROGRAM
from conftest import DATA, json_lines, tch_mnist
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ACEFHKMNPRTUVWXY"


def predict(run: Path, *args: object) -> list[dict]:
    return json_lines(tch_mnist("predict", "--weights", run / "model.pt", "--format", "json", *args))


def refused(run: Path, *args: object) -> str:
    """What stderr gets when a picture cannot be predicted."""
    command = [str(PROGRAM), "predict", "--weights", str(run / "model.pt"), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


def number(count: int) -> Image.Image:
    """The first test images side by side, dark on light."""
    images, _ = forms.arrays("t10k")
    row = np.full((60, 40 * count), 255, np.uint8)
    for k, image in enumerate(images[:count]):
        row[16:44, 6 + 40 * k : 34 + 40 * k] = 255 - image
    return Image.fromarray(row).resize((160 * count, 240), Image.Resampling.BICUBIC)


def test_numbers_paper_and_frames_are_read(run: Path, tmp_path: Path) -> None:
    paths = own_digits.write(tmp_path / "own", seed=11)
    assert len(paths) == 100
    lines = predict(run, tmp_path / "own")
    wrong = {Path(line["file"]).stem: line["number"] for line in lines}
    wrong = {name: read for name, read in wrong.items() if name.split("-")[0] != read}
    print(f"{len(wrong)} of {len(paths)} wrong: {wrong}")
    # A net of one epoch; docs/digits.md has the figures of --recipe best.
    assert len(wrong) <= 12


def test_each_digit_of_a_number_has_its_box(run: Path, tmp_path: Path) -> None:
    number(4).save(tmp_path / "7210.png")
    (line,) = predict(run, tmp_path / "7210.png")
    assert line["number"] == "7210"
    assert [entry["digit"] for entry in line["digits"]] == [7, 2, 1, 0]
    assert line["digit"] == 7
    assert line["probability"] == line["digits"][0]["probability"]
    for k, entry in enumerate(line["digits"]):
        left, top, width, height = entry["box"]
        assert 160 * k <= left
        assert left + width <= 160 * (k + 1)
        assert 40 < top < top + height < 200
    words = tch_mnist("predict", "--weights", run / "model.pt", tmp_path / "7210.png")
    assert words.startswith(f"{tmp_path / '7210.png'}: 7210 (7 ")
    (one,) = predict(run, "--one", tmp_path / "7210.png")
    assert len(one["digits"]) == 1
    assert one["digits"][0]["box"][2] > 400


def page(numbers: list[str], strokes: list[tuple] = (), height: int = 140) -> Image.Image:
    """Lines of test images, 120 apart, with strokes (x0, y0, x1, y1, width) of a pen between them."""
    hand = own_digits.Hand(DATA, seed=5)
    items = [
        (int(digit), 112, 20 + 120 * k, 14 + height * line)
        for line, number in enumerate(numbers)
        for k, digit in enumerate(number)
        if digit != " "
    ]
    sheet = hand.write(
        (120 * max(map(len, numbers)) + 60, height * len(numbers)), items, (250, 248, 244), (25, 30, 110)
    )
    for *ends, width in strokes:
        ImageDraw.Draw(sheet).line(ends, fill=(25, 30, 110), width=width)
    return sheet


def words(run: Path, *args: object) -> list[str]:
    """The lines of text without the folder and the probabilities."""
    lines = tch_mnist("predict", "--weights", run / "model.pt", *args).splitlines()
    return [re.sub(r"^\S*/", "", line) for line in lines]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_every_page_of_a_tiff_is_read_and_numbered(run: Path, tmp_path: Path, compression: str) -> None:
    blank = Image.new("RGB", (200, 200), (240, 240, 240))
    pages = [page(["7"]), page(["1"]), blank, page(["40", "2 "])]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:], compression=compression)
    lines = subprocess.run(
        [str(PROGRAM), "predict", "--weights", str(run / "model.pt"), "--format", "json", str(tmp_path / "scan.tif")],
        capture_output=True,
        text=True,
    )
    assert lines.returncode == 1
    assert "scan.tif page 3 cannot be predicted: it shows nothing" in lines.stderr
    found = json_lines(lines.stdout)
    assert [(line["page"], line["pages"], line["lines"]) for line in found] == [
        (1, 4, ["7"]),
        (2, 4, ["1"]),
        (4, 4, ["40", "2"]),
    ]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=[pages[1]])
    seven, one = words(run, tmp_path / "two.tif")
    assert seven.startswith("two.tif page 1: 7 ")
    assert one.startswith("two.tif page 2: 1 ")
    csv = words(run, "--format", "csv", tmp_path / "two.tif")
    assert csv == ["ImageId,Label", "two.tif page 1,7", "two.tif page 2,1"]
    pages[0].save(tmp_path / "one.tif")
    (line,) = predict(run, tmp_path / "one.tif")
    assert "page" not in line


def test_ids_go_on_counting_over_files_of_images(run: Path, tmp_path: Path) -> None:
    images, _ = forms.arrays("t10k")
    for name, part in [("b.npy", images[:2]), ("a.npy", images[2:5])]:
        np.save(tmp_path / name, part)
    page(["3"]).save(tmp_path / "3.png")
    rows = words(run, "--format", "csv", tmp_path / "b.npy", tmp_path / "3.png", tmp_path / "a.npy")
    assert rows == ["ImageId,Label", "1,7", "2,2", "3.png,3", "3,1", "4,0", "5,4"]


def test_lines_are_kept_apart(run: Path, tmp_path: Path) -> None:
    page(["70", "418", "2"]).save(tmp_path / "rows.png")
    (line,) = predict(run, tmp_path / "rows.png")
    assert line["lines"] == ["70", "418", "2"]
    assert line["number"] == "70\n418\n2"
    assert [digit["line"] for digit in line["digits"]] == [0, 0, 1, 1, 1, 2]
    text = words(run, tmp_path / "rows.png")
    assert [text[k].split(" (")[0] for k in range(2)] == ["rows.png line 1: 70", "rows.png line 2: 418"]
    assert text[2].startswith("rows.png line 3: 2 ")
    assert words(run, "--format", "csv", tmp_path / "rows.png")[1] == "rows.png,70 / 418 / 2"


MARKS = {
    "point": (["2 71"], [(196, 114, 204, 114, 12)], "2?71"),
    "comma": (["0 5"], [(200, 104, 192, 130, 9)], "0?5"),
    "colon": (["7 30"], [(196, 50, 204, 50, 11), (196, 108, 204, 108, 11)], "7?30"),
    "minus": ([" 42"], [(50, 72, 104, 70, 10)], "?42"),
    "slash": (["3 4"], [(172, 134, 228, 8, 9)], "3?4"),
    "bar": (["6 0"], [(200, 2, 200, 139, 10)], "6?0"),
    "dash": (["8 2"], [(174, 70, 228, 70, 9)], "8?2"),
}


def test_a_mark_beside_digits_is_said_to_be_there(run: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in MARKS]
    for path in paths:
        numbers, strokes, _ = MARKS[path.stem]
        page(numbers, strokes).save(path)
    for path, line in zip(paths, predict(run, *paths), strict=True):
        _, strokes, read = MARKS[path.stem]
        assert line["number"] == read
        (mark,) = line["marks"]
        assert (mark["line"], mark["place"]) == (0, read.index("?"))
        left, top, width, height = mark["box"]
        xs, ys = [x for stroke in strokes for x in stroke[0:4:2]], [y for stroke in strokes for y in stroke[1:4:2]]
        assert left - 15 <= min(xs) <= max(xs) <= left + width + 15, path
        assert top - 15 <= min(ys) <= max(ys) <= top + height + 15, path
    assert all("a mark" in text for text in words(run, *paths))
    assert words(run, "--format", "csv", *paths)[1:] == [f"{name}.png,{read}" for name, (*_, read) in MARKS.items()]


def test_printed_brackets_and_signs_are_marks_and_the_bar_of_a_fraction_is_a_line(run: Path, tmp_path: Path) -> None:
    font = ImageFont.load_default(90)
    # d stands for a digit, whichever is read.
    expected = {
        "(7)": ["?d?"],
        "[36]": ["?dd?"],
        "7>3": ["d?d"],
        "4!": ["d?"],
        "7\n_\n2": ["d", "?", "d"],
    }
    for k, text in enumerate(expected):
        sheet = Image.new("L", (400, 400), 255)
        pen = ImageDraw.Draw(sheet)
        if "_" in text:
            pen.text((170, 40), "7", 0, font)
            pen.line((150, 190, 240, 190), 0, 7)
            pen.text((170, 190), "2", 0, font)
        else:
            pen.text((60, 100), text, 0, font)
        sheet.save(tmp_path / f"{k}.png")
    found = predict(run, *(tmp_path / f"{k}.png" for k in range(len(expected))))
    shapes = [[re.sub(r"\d", "d", text) for text in line["lines"]] for line in found]
    assert dict(zip(expected, shapes, strict=True)) == expected


def test_csv_keeps_the_question_mark_of_a_picture_and_a_legend_says_what_it_is(run: Path, tmp_path: Path) -> None:
    image = Image.new("L", (300, 300), 255)
    font = ImageFont.truetype(str(drawn_digits.FONTS / "DejaVuSans.ttf"), 160)
    ImageDraw.Draw(image).text((150, 150), "M", fill=0, font=font, anchor="mm")
    image.save(tmp_path / "M.png")
    assert predict(run, tmp_path / "M.png")[0]["unsure"] is True
    command = [str(PROGRAM), "predict", "--weights", str(run / "model.pt"), str(tmp_path / "M.png")]
    done = subprocess.run([*command, "--format", "csv"], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["ImageId,Label", f"{tmp_path / 'M.png'},?"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "? is something that does not look like a digit" in done.stderr
    number(1).save(tmp_path / "7.png")
    done = subprocess.run([*command[:4], str(tmp_path / "7.png")], capture_output=True, text=True)
    assert "? is" not in done.stderr


@pytest.mark.parametrize("flag", ["--format", "--log-format"])
def test_every_command_takes_both_names_for_json(run: Path, tmp_path: Path, flag: str) -> None:
    number(1).save(tmp_path / "7.png")
    weights = ["--weights", run / "model.pt"]
    for command in [
        ["predict", *weights, tmp_path / "7.png"],
        ["evaluate", *weights, "--data", DATA, "--limit-test", 100],
        ["backprop", "--lr", 1, "--steps", 2],
        ["doctor", "--data", DATA],
    ]:
        text = tch_mnist(*command, flag, "json")
        assert isinstance(json.loads(text.splitlines()[0]), dict)


def test_letters_are_marked_and_test_images_are_not(run: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    for face in ["DejaVuSans.ttf", "DejaVuSerif.ttf", "STIXGeneral.ttf", "cmr10.ttf"]:
        font = ImageFont.truetype(str(drawn_digits.FONTS / face), 160)
        for letter in LETTERS:
            image = Image.new("L", (300, 300), 255)
            ImageDraw.Draw(image).text((150, 150), letter, fill=0, font=font, anchor="mm")
            image.save(tmp_path / f"letters/{letter}-{face}.png")
    marked = np.mean([line["unsure"] for line in predict(run, tmp_path / "letters")])
    alarms = np.mean([line["unsure"] for line in predict(run, DATA / "mnist/t10k-images-idx3-ubyte")])
    print(f"{marked:.3f} of the letters and {alarms:.4f} of the test images are marked")
    assert marked >= 0.6
    assert alarms <= 0.02
    assert ": ? " in tch_mnist("predict", "--weights", run / "model.pt", tmp_path / "letters")


@pytest.mark.parametrize("ending", ["pt", "pth", "safetensors", "onnx", "pt2"])
def test_every_format_keeps_what_looks_like_a_digit(run: Path, tmp_path: Path, ending: str) -> None:
    number(1).save(tmp_path / "7.png")
    options = ["--weights", run / f"model.{ending}", "--data", "/nowhere", "--format", "json"]
    line = tch_mnist("predict", *options, tmp_path / "7.png")
    assert json.loads(line)["unsure"] is False


def test_weights_from_elsewhere_are_measured_on_the_training_data(run: Path, tmp_path: Path) -> None:
    tch_mnist("export", "--weights", run / "model.pth", "--to", tmp_path / "plain.npz")
    number(1).save(tmp_path / "7.png")
    options = ["predict", "--weights", tmp_path / "plain.npz", "--format", "json", tmp_path / "7.png"]
    assert json.loads(tch_mnist(*options, "--data", DATA))["unsure"] is False
    assert "unsure" not in json.loads(tch_mnist(*options, "--data", tmp_path))


def test_formats_are_read_whatever_the_name_says(run: Path, tmp_path: Path) -> None:
    endings = ["webp", "tiff", "ppm", "pgm", "ico", "bmp", "gif"]
    for ending in endings:
        number(1).convert("L" if ending == "pgm" else "RGB").save(tmp_path / f"7.{ending}")
        (tmp_path / f"7.{ending}").rename(tmp_path / f"{ending}.png")
    lines = predict(run, *(tmp_path / f"{ending}.png" for ending in endings))
    assert [line["number"] for line in lines] == ["7"] * len(endings)


def test_formats_that_are_not_read_are_named(run: Path, tmp_path: Path) -> None:
    contents = {
        "a HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400),
        "an AVIF": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(400),
        "a PDF": b"%PDF-1.7\n" + bytes(400),
        "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        "a JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(400),
    }
    for word, content in contents.items():
        (tmp_path / f"{word}.jpg").write_bytes(content)
    *sentences, count = refused(run, *(tmp_path / f"{word}.jpg" for word in contents)).splitlines()
    for word, sentence in zip(contents, sentences, strict=True):
        assert f"{word}.jpg cannot be predicted: it is {word}" in sentence
    assert "5 of 5 images" in count


def test_a_folder_is_walked_and_other_files_are_skipped(run: Path, tmp_path: Path) -> None:
    for name in ["3.png", "deep/er/6.JPG"]:
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        number(1).convert("RGB").save(tmp_path / "all" / name, "JPEG")
    for name in ["._3.png", ".DS_Store", "Thumbs.db", ".hidden/7.png", "notes.txt"]:
        (tmp_path / "all" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "all" / name).write_bytes(b"junk")
    (tmp_path / "all/album.png").mkdir()
    names = [Path(line["file"]).name for line in predict(run, tmp_path / "all")]
    assert names == ["3.png", "6.JPG"]
    (tmp_path / "all/old.png").symlink_to("/nowhere/old.png")
    assert "old.png is a link to a file that is missing" in refused(run, tmp_path / "all")


def test_a_data_url_on_stdin_is_decoded(run: Path) -> None:
    file = io.BytesIO()
    number(2).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    command = [str(PROGRAM), "predict", "--weights", str(run / "model.pt"), "-"]
    done = subprocess.run(command, input=url, capture_output=True, text=True)
    assert done.stdout.startswith("-: 72 ("), done.stderr
    done = subprocess.run(command, input="data:text/plain,7", capture_output=True, text=True)
    assert "not one in base64" in done.stderr


def test_a_photograph_of_200_megapixels_takes_less_memory_than_its_pixels(run: Path, tmp_path: Path) -> None:
    photograph = Image.new("L", (16320, 12240), 240)
    photograph.paste(number(1).resize((2200, 3300)), (6000, 4000))
    photograph.save(tmp_path / "7.jpg", quality=80)
    small = number(1)
    small.save(tmp_path / "small.png")
    peaks = []
    for picture in ["small.png", "7.jpg"]:
        command = f"{PROGRAM} predict --weights {run / 'model.pt'} --format json {tmp_path / picture}"
        measured = (
            "import resource, subprocess; "
            f"print(subprocess.run({command.split()!r}, capture_output=True, text=True, check=True).stdout); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        done = subprocess.run(["python3", "-c", measured], capture_output=True, text=True, check=True)
        *_, peak = done.stdout.split("\n")[:-1]
        assert json.loads(done.stdout.split("\n")[0])["number"] == "7"
        peaks.append(int(peak) << 10)
    # Beside what the program takes for any picture.
    assert peaks[1] - peaks[0] < 3 * 16320 * 12240 + (300 << 20)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_a_tiff_of_other_pixels_says_how_to_save_it(run: Path, tmp_path: Path, mode: str) -> None:
    Image.new(mode, (60, 60)).save(tmp_path / "a.tif")
    command = [str(PROGRAM), "predict", "--weights", str(run / "model.pt"), str(tmp_path / "a.tif")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "save it as 8-bit grey or RGB" in done.stderr
