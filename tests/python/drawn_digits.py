"""Digits that do not come from MNIST: set in fonts and drawn with a pen, as a phone's camera might see them."""

import math
import random
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"
FACES = [
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "cmss10.ttf",
]

# The strokes of each digit as a hand draws them: points in a square of 100, joined by a smooth curve.
STROKES = {
    0: [[(52, 8), (28, 20), (18, 50), (28, 82), (52, 92), (76, 80), (84, 50), (74, 18), (52, 8)]],
    1: [[(40, 24), (54, 8), (53, 50), (52, 92)]],
    2: [[(22, 28), (34, 12), (56, 8), (74, 20), (72, 40), (50, 64), (22, 90)], [(22, 90), (50, 88), (80, 90)]],
    3: [
        [(24, 18), (44, 8), (66, 14), (70, 30), (58, 44), (42, 48)],
        [(42, 48), (64, 52), (76, 68), (66, 86), (44, 92), (22, 82)],
    ],
    4: [[(36, 8), (28, 34), (20, 58)], [(20, 58), (50, 57), (84, 56)], [(64, 30), (62, 60), (60, 92)]],
    5: [
        [(74, 10), (52, 10), (30, 12)],
        [(30, 12), (28, 28), (26, 44)],
        [(26, 44), (48, 38), (70, 48), (76, 68), (62, 88), (40, 92), (22, 84)],
    ],
    6: [[(64, 8), (42, 26), (28, 52), (28, 76), (46, 92), (68, 84), (72, 66), (58, 54), (38, 58), (29, 72)]],
    7: [[(20, 14), (50, 13), (80, 12)], [(80, 12), (64, 44), (46, 92)]],
    8: [
        [(50, 48), (30, 34), (32, 16), (52, 8), (70, 18), (68, 34), (50, 48)],
        [(50, 48), (28, 62), (26, 80), (48, 92), (72, 82), (72, 62), (50, 48)],
    ],
    9: [[(70, 26), (56, 10), (34, 14), (26, 32), (38, 48), (58, 44), (70, 26)], [(70, 26), (68, 56), (60, 92)]],
}


def smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A Catmull-Rom spline through the points."""
    padded = [points[0], *points, points[-1]]
    curve = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for t in np.linspace(0, 1, 16):
            curve.append(
                tuple(
                    0.5 * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t**2 + (3 * q - p - 3 * r + s) * t**3)
                    for p, q, r, s in zip(a, b, c, d, strict=True)
                )
            )
    return curve


def drawn(digit: int, draw: random.Random) -> Image.Image:
    """The ink of a digit drawn with a thick pen by an unsteady hand: white on black, 400x400."""
    ink = Image.new("L", (400, 400))
    pen = ImageDraw.Draw(ink)
    width = draw.uniform(18, 40)
    shear, stretch = draw.uniform(-0.15, 0.15), draw.uniform(0.8, 1.1)
    for stroke in STROKES[digit]:
        unsteady = [(x + draw.gauss(0, 1.5), y + draw.gauss(0, 1.5)) for x, y in stroke]
        for x, y in smooth(unsteady):
            at = (200 + 2.6 * (stretch * (x - 50) + shear * (50 - y)), 200 + 2.6 * (y - 50))
            radius = width / 2 + draw.gauss(0, 0.5)
            pen.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=255)
    return ink


def typeset(digit: int, face: str) -> Image.Image:
    """The ink of a digit of a font: white on black, 400x400."""
    ink = Image.new("L", (400, 400))
    font = ImageFont.truetype(str(FONTS / face), 300)
    ImageDraw.Draw(ink).text((200, 200), str(digit), fill=255, font=font, anchor="mm")
    return ink


def photographed(ink: Image.Image, draw: random.Random) -> Image.Image:
    """Ink on paper, held askew, badly lit and grainy; one in four is light on dark."""
    ink = ink.rotate(draw.uniform(-10, 10), resample=Image.Resampling.BICUBIC)
    size = (draw.randint(90, 700), draw.randint(90, 700))
    side = int(draw.uniform(0.6, 1.0) * min(size))
    ink = ink.resize((side, side), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(side / 300))
    sheet = Image.new("L", size)
    sheet.paste(ink, (draw.randint(0, size[0] - side), draw.randint(0, size[1] - side)))
    amount = np.asarray(sheet, float)[..., None] / 255
    paper = np.array([draw.uniform(190, 250) for _ in range(3)])
    colour = np.array([draw.uniform(0, 90) for _ in range(3)])
    if draw.random() < 0.25:
        paper, colour = colour, paper
    picture = paper * (1 - amount) + colour * amount
    # A lamp at one side, a lens that darkens the corners.
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    angle = draw.uniform(0, 2 * math.pi)
    light = 1 - draw.uniform(0, 0.25) * (1 + x * math.cos(angle) + y * math.sin(angle)) / 2
    light -= draw.uniform(0, 0.15) * (x**2 + y**2) / 2
    grain = np.random.default_rng(draw.randrange(2**32)).normal(0, draw.uniform(0, 14), picture.shape)
    return Image.fromarray(np.clip(picture * light[..., None] + grain, 0, 255).astype(np.uint8))


def write(folder: Path, seed: int = 1, drawings: int = 14) -> list[Path]:
    """Writes ten digits in every face and as many drawings into the folder; a name begins with its digit."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    paths = []
    for digit in range(10):
        inks = {Path(face).stem: typeset(digit, face) for face in FACES}
        inks.update({f"pen{k}": drawn(digit, draw) for k in range(drawings)})
        for k, (name, ink) in enumerate(inks.items()):
            path = folder / f"{digit}-{name}.{'jpg' if k % 3 == 0 else 'png'}"
            photographed(ink, draw).save(path)
            paths.append(path)
    return paths


if __name__ == "__main__":
    print(len(write(Path(sys.argv[1]), *map(int, sys.argv[2:]))), "pictures")
