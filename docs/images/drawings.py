"""The drawings of docs/how-it-works.md, as SVG files beside this script: `python docs/images/drawings.py` writes them anew.

They have a background of their own, light or dark as the reader's system is, so they are readable on any page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.packing import Layout, Packing
from hecompile.compiler import pipeline
from hecompile.ir.linear import Geometry
from hecompile.options import CompileOptions

HERE = Path(__file__).parent
Integers = npt.NDArray[np.int64]

STYLE = """
.paper { fill: #ffffff; stroke: #d0d7de } .box { fill: #f6f8fa; stroke: #57606a } .empty { fill: none; stroke: #8c959f }
.client { fill: #dbeafe; stroke: #1d4ed8 } .server { fill: #fde68a; stroke: #92400e } .rest { fill: #e5e7eb; stroke: #8c959f }
.arrow { stroke: #24292f; fill: none; stroke-width: 2 } .head { fill: #24292f } text { fill: #1f2328; font-family: sans-serif }
.dim { fill: #57606a }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117; stroke: #30363d } .box { fill: #161b22; stroke: #8b949e } .empty { fill: none; stroke: #6e7681 }
.client { fill: #1e3a5f; stroke: #79c0ff } .server { fill: #5c4813; stroke: #e3b341 } .rest { fill: #30363d; stroke: #6e7681 }
.arrow { stroke: #e6edf3 } .head { fill: #e6edf3 } text { fill: #e6edf3 } .dim { fill: #9da7b1 }
}"""


@dataclass
class Drawing:
    """Shapes on a sheet of `width` x `height` units, in the order in which they are drawn."""

    title: str
    width: int
    height: int
    shapes: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, kind: str = "box", round_by: int = 6) -> None:
        """A rectangle of a kind that the style sheet colours."""
        self.shapes.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_by}"/>')

    def text(
        self, x: float, y: float, words: str, size: int = 15, anchor: str = "start", bold: bool = False, dim: bool = False
    ) -> None:
        """A line of text whose baseline is at `y`; `anchor` says which point of it is at `x`: start, middle or end."""
        weight, kind = (' font-weight="bold"' if bold else ""), (' class="dim"' if dim else "")
        self.shapes.append(
            f'<text{kind} x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{weight}>{escape(words, quote=False)}</text>'
        )

    def lines(self, x: float, y: float, texts: list[str], step: int = 22, dim: bool = False) -> None:
        """Several lines of text below each other."""
        for number, words in enumerate(texts):
            self.text(x, y + number * step, words, dim=dim)

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A straight arrow from the first point to the second."""
        self.shapes.append(f'<path class="arrow" marker-end="url(#head)" d="M{x1:g} {y1:g} L{x2:g} {y2:g}"/>')

    def svg(self) -> str:
        """The file's text."""
        marker = (
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" orient="auto">'
            '<path class="head" d="M0 0 L8 4 L0 8 z"/></marker>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{STYLE}\n</style>",
                f"<defs>{marker}</defs>",
                f'<rect class="paper" x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="8"/>',
                *self.shapes,
                "</svg>\n",
            ]
        )


def one_round() -> Drawing:
    """Client and server, who holds what, and what one round does."""
    sheet = Drawing("Client and server: who holds what, and what happens in one round", 900, 450)
    sheet.box(20, 20, 340, 410, "client")
    sheet.box(540, 20, 340, 410, "server")
    sheet.text(190, 50, "Client", 20, "middle", bold=True)
    sheet.text(710, 50, "Server", 20, "middle", bold=True)
    sheet.text(40, 82, "holds", dim=True)
    sheet.lines(
        40,
        106,
        [
            "prompt, latents, noise prediction, picture",
            "secret keys, made anew for each request",
            "scales and biases of the layers",
        ],
    )
    sheet.text(560, 82, "holds", dim=True)
    sheet.lines(560, 106, ["int8 weights of the layers", "ring, moduli and packing of each layer", "no key"])
    sheet.text(40, 200, "in each round", dim=True)
    sheet.lines(40, 226, ["1. rounds a layer's input to integers", "2. encrypts them"])
    sheet.text(560, 200, "in each round", dim=True)
    sheet.lines(560, 282, ["3. multiplies ciphertexts by its weights,", "which computes the layer on them"])
    sheet.lines(
        40,
        350,
        [
            "4. decrypts: the layer's exact integers",
            "5. computes norms and activations,",
            "attention; then the next layer",
        ],
    )
    sheet.arrow(365, 245, 535, 245)
    sheet.text(450, 212, "request", 15, "middle", bold=True)
    sheet.text(450, 232, "ciphertexts, seeds", 14, "middle")
    sheet.arrow(535, 345, 365, 345)
    sheet.text(450, 312, "reply", 15, "middle", bold=True)
    sheet.text(450, 332, "ciphertexts", 14, "middle")
    return sheet


# the example of hecompile/backends/bfv/packing.py with numbers: channels c and d of an image of one row and three columns, outputs
# y and z, two taps. y[x] is the sum over both channels and taps of weight times channel[x + tap], where channel[3] is zero
CHANNELS: Integers = np.array([[1, 2, 3], [4, 5, 6]])
WEIGHTS: Integers = np.array([[[1, 0], [0, 1]], [[2, -1], [1, 0]]])  # (output, channel, tap)
N = 16


def small_layout() -> Layout:
    """The packing of the drawing: both channels in one polynomial of 16 coefficients, both outputs in one answer."""
    geometry = Geometry(
        tokens=False,
        channels=2,
        size=(1, 3),
        down=(1, 1),
        taps=((0, 0), (0, 1)),
        grid=(1, 3),
        up=(1, 1),
        outputs=2,
        out_size=(1, 3),
    )
    return Layout(geometry, Packing(N, 1, 1, 1, 2, 2))


def weight_polynomial() -> Integers:
    """What the server multiplies by, (16,): weight w[output, channel, tap] at the power output J - channel A - tap."""
    layout, result = small_layout(), np.zeros(N, np.int64)
    starts = np.arange(2) * layout.output_stride
    for output, channel, tap in np.ndindex(WEIGHTS.shape):
        power = int(starts[output] - layout.shifts[channel, tap]) % (2 * N)
        result[power % N] += WEIGHTS[output, channel, tap] * (-1 if power >= N else 1)
    return result


def product(first: Integers, second: Integers) -> Integers:
    """The product of two polynomials where X^16 = -1."""
    result = np.zeros(N, np.int64)
    for power, factor in enumerate(first):
        moved = np.roll(second, power)
        moved[:power] *= -1
        result += factor * moved
    return result


def upload() -> Integers:
    """Both channels as one polynomial, (16,), by the compiler's own packing."""
    placed: Integers = small_layout().pack(CHANNELS.reshape(1, 2, 1, 3))[0, 0]
    return placed


def packing() -> Drawing:
    """One polynomial of 16 coefficients, two channels and two outputs."""
    sheet = Drawing("One polynomial of 16 coefficients carries two channels; the answer carries two outputs", 900, 520)
    left, side = 34, 52
    sent, answer, reads = upload(), product(upload(), weight_polynomial()), small_layout().gather_indices.tolist()

    def cells(y: float, numbers: Integers, kinds: list[str], below: bool) -> None:
        for place, (number, kind) in enumerate(zip(numbers.tolist(), kinds, strict=True)):
            sheet.box(left + place * side, y, side, 42, kind, 0)
            sheet.text(
                left + (place + 0.5) * side, y + 28, str(number).replace("-", "\u2212"), 17, "middle", dim=kind in ("empty", "rest")
            )
            if below:
                sheet.text(left + (place + 0.5) * side, y + 60, str(place), 12, "middle", dim=True)

    def over(y: float, first: int, count: int, words: str) -> None:
        sheet.text(left + (first + count / 2) * side, y, words, 14, "middle", bold=True)

    sheet.text(
        left, 40, "The client packs two channels of three pixels, with a zero behind each, into one polynomial and encrypts it:"
    )
    over(72, 0, 3, "channel c")
    over(72, 4, 3, "channel d")
    over(72, 8, 8, "zeros")
    cells(82, sent, ["client" if number else "empty" for number in sent.tolist()], True)
    sheet.text(
        left, 190, "The server adds up copies of it, one for each weight, multiplied by the weight: moved to the left for a channel"
    )
    sheet.text(
        left,
        212,
        "or a tap, to the right for an output. Cells that leave at one end come back at the other with their sign changed.",
    )
    sheet.arrow(450, 226, 450, 262)
    sheet.text(left, 290, "The client decrypts the sum, reads the coloured cells and ignores the grey ones:")
    over(322, 0, 3, "output y")
    over(322, 8, 3, "output z")
    over(322, 3, 5, "left over")
    over(322, 11, 5, "left over")
    cells(332, answer, ["server" if place in reads else "rest" for place in range(N)], True)
    outputs = answer[reads].reshape(2, 3)
    for output in range(2):
        y = 424 + 26 * output
        sheet.text(left, y + 12, f"{'yz'[output]}[x] = {spelled(output)}", 15)
        sheet.text(
            left + 300, y + 12, "for x = 0, 1, 2:  " + ", ".join(str(number) for number in outputs[output].tolist()), 15, bold=True
        )
    sheet.text(left, 500, "All 16 cells are encrypted all the time; the server sees none of these numbers.", 14, dim=True)
    return sheet


def spelled(output: int) -> str:
    """What an output is, as a formula: `c[x] + d[x+1]`."""
    terms = []
    for channel, tap in np.ndindex(WEIGHTS.shape[1:]):
        weight = int(WEIGHTS[output, channel, tap])
        if weight:
            where = "x" if tap == 0 else f"x+{tap}"
            sign = ("\u2212 " if weight < 0 else "+ ") if terms else ("\u2212" if weight < 0 else "")
            terms.append(f"{sign}{'' if abs(weight) == 1 else f'{abs(weight)} '}{'cd'[channel]}[{where}]")
    return " ".join(terms)


# the passes of the default backend, as the drawing groups them
GROUPS = {
    "read": ["trace", "canonicalize"],
    "decide": ["mark-secrets", "extract-sparsity", "approximate-activations", "divide-layers", "partition", "check-secrecy"],
    "cut": ["split"],
    "encrypt (the backend's own)": ["quantize", "select-parameters", "pack", "share-seeds", "lower"],
    "write": ["check-security", "write"],
}


def compilation() -> Drawing:
    """From a model to a running pair of halves."""
    names = [each.name for each in pipeline(CompileOptions(), Path("model.he"))]
    if names != [name for group in GROUPS.values() for name in group]:
        raise ValueError(f"the pipeline is {names}: group these passes anew")
    sheet = Drawing("From a model to two halves, and how they run", 900, 560)
    sheet.box(20, 215, 170, 120)
    sheet.text(105, 243, "Model", 17, "middle", bold=True)
    for number, words in enumerate(["a module, a pipeline,", "a diffusers folder,", "an ONNX file"]):
        sheet.text(105, 269 + 21 * number, words, 14, "middle")
    sheet.arrow(192, 275, 238, 275)
    sheet.box(242, 20, 290, 520)
    sheet.text(387, 46, "hecompile.compile", 17, "middle", bold=True)
    y = 72
    for group, passes in GROUPS.items():
        sheet.text(258, y, group, 13, dim=True)
        for number, name in enumerate(passes):
            sheet.text(282, y + 20 + 20 * number, name, 15)
        y += 20 * len(passes) + 34
    sheet.arrow(534, 150, 586, 150)
    sheet.arrow(534, 410, 586, 410)
    sheet.box(590, 70, 290, 160, "client")
    sheet.text(735, 98, "Client's half", 17, "middle", bold=True)
    sheet.lines(
        606,
        126,
        ["plan: which region runs when", "client regions (ONNX)", "scales, biases, parameters", "hecompile.load(folder, url)"],
    )
    sheet.box(590, 330, 290, 160, "server")
    sheet.text(735, 358, "Server's half", 17, "middle", bold=True)
    sheet.lines(606, 386, ["int8 weights", "ring, moduli, packing", "no key", "hecompile serve folder"])
    sheet.arrow(690, 234, 690, 326)
    sheet.arrow(780, 326, 780, 234)
    sheet.text(680, 284, "requests", 14, "end")
    sheet.text(790, 284, "replies", 14)
    return sheet


DRAWINGS = {"one-round.svg": one_round, "packing.svg": packing, "compilation.svg": compilation}

if __name__ == "__main__":
    for file, draw in DRAWINGS.items():
        (HERE / file).write_text(draw().svg(), "utf-8")
