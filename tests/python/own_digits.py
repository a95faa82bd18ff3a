"""Digits as people have them: in boxes of forms, on lined paper under a lamp, and several of them as a number."""

import random
import sys
from pathlib import Path

import numpy as np
from mnist import load_split
from PIL import Image, ImageDraw, ImageFilter, ImageFont

DATA = Path(__file__).parents[2] / "data"
INKS = [(25, 30, 110), (20, 20, 20), (35, 40, 90), (60, 60, 65)]
PAPERS = [(255, 255, 255), (245, 243, 235), (250, 248, 244)]


class Hand:
    """Writes digits of MNIST's test set, larger, with a pen of any colour on paper of any colour."""

    def __init__(self, data: Path, seed: int) -> None:
        images, labels = load_split(data, "mnist", train=False)
        self.images, self.labels = images.numpy(), labels.numpy()
        self.draw = random.Random(seed)
        self.noise = np.random.default_rng(seed)

    def ink(self, digit: int, side: int) -> np.ndarray:
        """Some image of the digit, 0 to 1, `side` pixels wide and high, smooth."""
        which = self.draw.choice(np.flatnonzero(self.labels == digit).tolist())
        image = Image.fromarray(self.images[which]).resize((side, side), Image.Resampling.LANCZOS)
        return np.asarray(image.filter(ImageFilter.GaussianBlur(side / 200)), float) / 255

    def write(self, size: tuple[int, int], items: list[tuple], paper: tuple, pen: tuple) -> Image.Image:
        """A sheet with an item (digit, side, left, top) each."""
        amount = np.zeros((size[1], size[0]))
        for digit, side, left, top in items:
            place = amount[top : top + side, left : left + side]
            np.maximum(place, self.ink(digit, side)[: place.shape[0], : place.shape[1]], out=place)
        amount = amount[..., None]
        sheet = np.array(paper) * (1 - amount) + np.array(pen) * amount
        return Image.fromarray(np.clip(sheet, 0, 255).astype(np.uint8))

    def photographed(self, image: Image.Image, shadow: float, noise: float) -> Image.Image:
        """The sheet with the soft shadow of a hand from one of its four corners, and grain."""
        pixels = np.asarray(image, float)
        y, x = np.mgrid[0 : 1 : pixels.shape[0] * 1j, 0 : 1 : pixels.shape[1] * 1j]
        x, y = (1 - x if self.draw.random() < 0.5 else x), (1 - y if self.draw.random() < 0.5 else y)
        steep, where = self.draw.uniform(6, 12), self.draw.uniform(0.8, 1.2)
        light = 1 - shadow / (1 + np.exp(-(x + y - where) * steep))
        grain = self.noise.normal(0, noise, pixels.shape)
        return Image.fromarray(np.clip(pixels * light[..., None] + grain, 0, 255).astype(np.uint8))

    def in_a_box(self, digit: int) -> Image.Image:
        """The box of a form around a digit."""
        draw = self.draw
        image = self.write((300, 300), [(digit, 180, 60, 60)], (255,) * 3, draw.choice(INKS))
        left, top = draw.randint(4, 50), draw.randint(4, 50)
        box = (left, top, 300 - draw.randint(4, 50), 300 - draw.randint(4, 50))
        grey = draw.randint(0, 120)
        ImageDraw.Draw(image).rectangle(box, outline=(grey,) * 3, width=draw.randint(1, 9))
        return image

    def in_a_sudoku(self, digit: int) -> Image.Image:
        """A cell cut a bit askew: some of its thick borders are half there or gone."""
        draw = self.draw
        image = self.write((320, 320), [(digit, 180, 70, 70)], draw.choice(PAPERS), draw.choice(INKS))
        ImageDraw.Draw(image).rectangle((5, 5, 314, 314), outline=(0, 0, 0), width=draw.randint(4, 16))
        image = image.rotate(draw.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
        left, top, right, bottom = (draw.randint(4, 20) for _ in range(4))
        return image.crop((left, top, 320 - right, 320 - bottom))

    def scanned(self, digit: int) -> Image.Image:
        """The black edges that a scanner leaves on two to four sides."""
        draw = self.draw
        sides = [draw.randint(0, 70) for _ in range(4)]
        scan = Image.new("RGB", (700, 900), (draw.randint(0, 25),) * 3)
        page = (700 - sides[0] - sides[1], 900 - sides[2] - sides[3])
        side = draw.randint(160, 400)
        at = (draw.randint(20, page[0] - side - 20), draw.randint(20, page[1] - side - 20))
        scan.paste(self.write(page, [(digit, side, *at)], draw.choice(PAPERS), draw.choice(INKS)), (sides[0], sides[2]))
        return scan

    def on_a_screen(self, digit: int) -> Image.Image:
        """A phone's screenshot with the bars above and below, and the time of day."""
        draw = self.draw
        shot = Image.new("RGB", (540, 1170), (255, 255, 255))
        pen = ImageDraw.Draw(shot)
        dark = draw.random() < 0.5
        pen.rectangle((0, 0, 540, 48), fill=(30, 30, 30) if dark else (235, 235, 240))
        pen.text((20, 15), "12:47", fill=(255, 255, 255) if dark else (0, 0, 0), font=ImageFont.load_default(size=18))
        pen.rectangle((0, 1100, 540, 1170), fill=(draw.randint(0, 245),) * 3)
        side = draw.randint(200, 420)
        drawing = self.write((500, 700), [(digit, side, draw.randint(0, 500 - side), 700 - side)], (255,) * 3, (0,) * 3)
        shot.paste(drawing, (20, draw.randint(100, 350)))
        return shot

    def on_paper(self, digit: int, kind: str) -> Image.Image:
        """Lined, squared or plain paper, photographed; a third in pencil."""
        draw = self.draw
        pencil = (draw.randint(85, 115),) * 3
        pen = pencil if draw.random() < 0.33 else draw.choice(INKS[:3])
        side = draw.randint(220, 400)
        at = (draw.randint(60, 600 - side), draw.randint(40, 600 - side))
        image = self.write((600, 600), [(digit, side, *at)], (245, 243, 235), pen)
        gap, width = draw.randint(22, 60), draw.randint(1, 3)
        lines = Image.new("RGB", image.size, (245, 243, 235))
        ruler = ImageDraw.Draw(lines)
        for at in range(draw.randint(5, gap), 600, gap):
            if kind in ("lined", "squared"):
                ruler.line((0, at, 600, at), fill=(150, 180, 215), width=width)
            if kind == "squared":
                ruler.line((at, 0, at, 600), fill=(150, 180, 215), width=width)
        if kind == "lined" and draw.random() < 0.4:
            ruler.line((50, 0, 50, 600), fill=(220, 90, 90), width=3)
        image = Image.fromarray(np.minimum(np.asarray(image), np.asarray(lines)))
        image = image.resize((draw.choice([600, 900, 1600]),) * 2)
        return self.photographed(image, draw.uniform(0.3, 0.6) if kind == "shadowed" else 0.2, draw.uniform(1, 6))

    def number(self, digits: str) -> Image.Image:
        """The digits side by side, of different sizes and at different distances; one in five is light on dark."""
        draw = self.draw
        side = draw.randint(70, 180)
        items, left = [], draw.randint(5, 60)
        for digit in digits:
            own = int(side * draw.uniform(0.85, 1.1))
            items.append((int(digit), own, left, draw.randint(10, 40)))
            left += int(own * draw.uniform(0.85, 1.1))
        size = (left + side // 2, int(1.1 * side) + draw.randint(60, 200))
        paper, pen = draw.choice(PAPERS), draw.choice(INKS)
        if draw.random() < 0.2:
            paper, pen = pen, paper
        return self.photographed(self.write(size, items, paper, pen), draw.uniform(0, 0.2), draw.uniform(0, 6))


def write(folder: Path, seed: int = 1, data: Path = DATA) -> list[Path]:
    """Writes 40 framed pictures, 30 on paper and 30 numbers; a file's name begins with its number and a hyphen."""
    folder.mkdir(parents=True, exist_ok=True)
    hand = Hand(data, seed)
    frames = {"box": hand.in_a_box, "sudoku": hand.in_a_sudoku, "scan": hand.scanned, "screen": hand.on_a_screen}
    pictures = {f"{digit}-frame-{name}": frame(digit) for digit in range(10) for name, frame in frames.items()}
    for kind in ("lined", "squared", "shadowed"):
        pictures |= {f"{digit}-paper-{kind}": hand.on_paper(digit, kind) for digit in range(10)}
    for k in range(30):
        digits = "".join(str(hand.draw.randrange(10)) for _ in range(2 + k % 5))
        pictures[f"{digits}-number-{k}"] = hand.number(digits)
    paths = []
    for k, (name, picture) in enumerate(pictures.items()):
        paths.append(folder / f"{name}.{'jpg' if k % 2 else 'png'}")
        picture.save(paths[-1], **({"quality": 85} if k % 2 else {}))
    return paths


if __name__ == "__main__":
    print(len(write(Path(sys.argv[1]), *map(int, sys.argv[2:]))), "pictures")
