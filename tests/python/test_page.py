"""A net in a page: it computes what PyTorch does, and reads drawings as `predict` does, with nothing but a browser."""

import base64
import json
import random
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import drawn_digits
import net_file
import pytest
import torch
from common import ROOT, lists
from conftest import BROWSER, DATA, tch_mnist
from drawing_page import CARRY, answer, assert_reads_digits, draw, number
from load_weights import LOADERS
from mnist import load_split, normalise
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from torch import Tensor, nn

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")

NETS = {path.stem: path.read_text().replace("{dropout}", "0.1") for path in sorted((ROOT / "nets").glob("*.txt"))}

# The page's own functions, on a list of images.
COMPUTE = "images => images.map(image => Array.from(logProbabilities(forward(Uint8Array.from(image)))))"

# The strokes of a drawing as a PNG, and what the page makes of them.
READ = """drawings => drawings.map(strokes => {
    const sheet = onPaper(strokes);
    const { pixels, box } = readDigit(sheet.getContext("2d").getImageData(0, 0, WIDTH, HEIGHT));
    return { png: sheet.toDataURL("image/png").split(",")[1], pixels: Array.from(pixels), box };
})"""


@pytest.fixture(scope="module")
def file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that has seen all of MNIST."""
    to = tmp_path_factory.mktemp("pages") / "digits.html"
    assert tch_mnist("export", run, "--to", to) == f"{to}: page to draw digits on, 38 tensors, 11392 parameters\n"
    return to


@pytest.fixture
def heard() -> list[str]:
    """What the browser had to say about a page: messages, errors, and requests for anything but the page."""
    return []


@pytest.fixture
def opened(browser: Browser, heard: list[str]) -> Iterator[Callable[[Path], Page]]:
    """Opens a file in a browser without a network."""
    context = browser.new_context(viewport={"width": 1000, "height": 900}, offline=True)

    def open_file(path: Path) -> Page:
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: request.url == path.as_uri() or heard.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_file
    context.close()


def first_images(count: int) -> Tensor:
    return load_split(DATA, "mnist", train=False)[0][:count]


def computed(page: Page, images: Tensor) -> Tensor:
    """The log-probabilities of images, by the page."""
    return torch.tensor(page.evaluate(COMPUTE, images.flatten(1).tolist()))


def with_any_weights(text: str) -> nn.Module:
    """A net whose weights and running statistics are not those of a new one."""
    torch.manual_seed(3)
    net = net_file.read(text)
    with torch.no_grad():
        for _ in range(2):
            net.train()(torch.randn(16, 1, 28, 28))
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return net.eval()


@torch.no_grad
def test_the_page_computes_what_pytorch_and_predict_do(
    opened: Callable[[Path], Page], heard: list[str], file: Path, run: Path, tmp_path: Path
) -> None:
    images = first_images(300)
    got = computed(opened(file), images)
    expected = LOADERS[".pth"](run / "model.pth")(normalise(images))
    assert (got - expected).abs().max() < 1e-4
    assert torch.equal(got.argmax(dim=1), expected.argmax(dim=1))
    for k, image in enumerate(images[:20]):
        Image.fromarray(image.view(28, 28).byte().numpy()).save(tmp_path / f"{k:02}.png")
    flags = ["--weights", run / "model.pt", "--kernels", "torch", "--raw", "--format", "json"]
    lines = [json.loads(line) for line in tch_mnist("predict", *flags, tmp_path).splitlines()]
    assert [line["digit"] for line in lines] == got[:20].argmax(dim=1).tolist()
    probabilities = torch.tensor([line["probabilities"] for line in lines])
    assert (got[:20].exp() - probabilities).abs().max() < 1e-4
    assert heard == []


@torch.no_grad
def test_every_layer_and_every_net_of_the_program_is_computed(
    opened: Callable[[Path], Page], heard: list[str], tmp_path: Path
) -> None:
    texts = NETS | {layer["name"]: layer["example"] for layer in lists()["layers"]}
    images = first_images(8)
    weights, net_text, file = (tmp_path / name for name in ["net.pth", "net.txt", "net.html"])
    for name, text in texts.items():
        net = with_any_weights(text)
        net_text.write_text(text)
        torch.save(net.state_dict(), weights)
        tch_mnist("export", weights, "--net", net_text, "--to", file)
        page = opened(file)
        assert (computed(page, images) - net(normalise(images))).abs().max() < 1e-4, name
        assert "net.pth, " in page.locator("#about").inner_text()
        if name == "mlp":
            # Its 784 numbers are drawn in strips of 64.
            draw(page, 1)
            answer(page)
            expect(page.get_by_role("img", name="flatten: 784 maps").locator("canvas")).to_have_count(13)
        page.close()
    assert heard == []


def test_digits_drawn_by_mouse_are_read_and_nothing_is_fetched(
    opened: Callable[[Path], Page], heard: list[str], file: Path
) -> None:
    page = opened(file)
    assert_reads_digits(page)
    draw(page, 0)
    assert number(page) == "0"
    assert len(answer(page).get_by_role("listitem").all()) == 10
    maps = page.get_by_role("region", name="Inside the net").get_by_role("img")
    assert maps.first.get_attribute("aria-label") == "convblock1: 16 maps of 26 by 26 pixels"
    assert maps.last.inner_text().split() == list("0123456789")
    assert page.evaluate("document.documentElement.scrollWidth") == 1000
    assert heard == []
    # Not even if it wanted to.
    assert page.evaluate("fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')") == "refused"


def random_drawings(count: int) -> list[list[list[dict[str, float]]]]:
    """Digits of any size, drawn by an unsteady hand, some with a point beside them."""
    hand = random.Random(7)
    drawings = []
    for k in range(count):
        size, left, top = hand.uniform(0.5, 4.4), hand.uniform(0, 190), hand.uniform(0, 30)
        point = [[{"x": 600, "y": 440}]] if k % 5 == 0 else []
        strokes = [
            [{"x": left + size * (x + hand.gauss(0, 1)), "y": top + size * (y + hand.gauss(0, 1))} for x, y in stroke]
            for stroke in drawn_digits.STROKES[k % 10]
        ]
        drawings.append(strokes + point)
    return drawings


def test_a_drawing_is_brought_into_the_form_that_predict_brings_it_into(
    opened: Callable[[Path], Page], file: Path, address: str
) -> None:
    for found in opened(file).evaluate(READ, random_drawings(40)):
        asked = f"{address}predict?one=true&details=true"
        with urllib.request.urlopen(asked, data=base64.b64decode(found["png"])) as response:
            (expected,) = json.load(response)["digits"]
        assert found["box"] == expected["box"]
        # Its paper is estimated there, and may be slightly off white.
        pixels = base64.b64decode(expected["pixels"])
        differences = [abs(ours - theirs) for ours, theirs in zip(found["pixels"], pixels, strict=True)]
        assert max(differences) <= 4 and sum(differences) / len(differences) < 0.5


def test_the_page_says_which_net_it_is_and_what_it_does_not_read(
    opened: Callable[[Path], Page], file: Path, run: Path, address: str, browser: Browser
) -> None:
    page = opened(file)
    done = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    expected = f"{run.name}/model.pt, 11,392 parameters, {done['test_accuracy']:.2f} % of the test images right"
    expect(page.locator("#about")).to_have_text(expected)
    page.evaluate(CARRY, ["drop", list((ROOT / "docs/serve.png").read_bytes())])
    expect(answer(page)).to_contain_text("This page reads drawings; tch-mnist serve reads pictures too.")
    expect(page.get_by_label("Choose a picture")).to_have_count(0)
    served = browser.new_page()
    served.goto(address)
    expect(served.locator("#about")).to_have_text(expected)
    served.close()


@torch.no_grad
def test_names_of_classes_are_shown(
    opened: Callable[[Path], Page], heard: list[str], run: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(run / "model.safetensors", framework="pt") as weights:
        metadata = weights.metadata()
    metadata["classes"] = json.dumps([f"</script>{k}" for k in range(10)])
    save_file(load_file(run / "model.safetensors"), tmp_path / "named.safetensors", metadata)
    tch_mnist("export", tmp_path / "named.safetensors", "--to", tmp_path / "named.html")
    page = opened(tmp_path / "named.html")
    draw(page, 0)
    assert number(page) == "</script>0"
    assert heard == []
