"""Net files (docs/nets.md): the layers of a net as text, and as an nn.Module.

    net = net_file.read(Path("nets/lenet5.txt").read_text())

What `print(net)` shows is a net file too for the program, but not here.
"""

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The layers that a net file can have, by the names that it gives them.
LAYERS: dict[str, type[nn.Module]] = {
    layer.__name__: layer
    for layer in [
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.ReLU,
        nn.LeakyReLU,
        nn.GELU,
        nn.SiLU,
        nn.Dropout,
        nn.Dropout2d,
        nn.MaxPool2d,
        nn.AvgPool2d,
        nn.AdaptiveAvgPool2d,
        nn.Flatten,
        nn.Linear,
        nn.Identity,
        nn.LogSoftmax,
    ]
}

# Arguments of these layers that the program has for these values only.
ONLY = {
    "affine": [True],
    "track_running_stats": [True],
    "padding_mode": ["zeros"],
    "return_indices": [False],
    "divisor_override": [None],
    "start_dim": [1],
    "end_dim": [-1],
    "dim": [1, -1],
}


class NetFileError(ValueError):
    """A net file that cannot be read: one sentence."""


class FileNet(nn.Module):
    """The net of a net file: maps images [N, 1, 28, 28] to log-probabilities [N, 10]."""

    def __init__(self, members: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, member in members.items():
            self.add_module(name, member)
        self._ends_in_log_softmax = isinstance([*self.modules()][-1], nn.LogSoftmax)

    def forward(self, x: Tensor) -> Tensor:
        """The members in order, and at the end what the original has there."""
        for member in self.children():
            x = member(x)
        x = x.view(-1, 10)
        return x if self._ends_in_log_softmax else F.log_softmax(x, dim=-1)


def read(text: str, values: Mapping[str, object] | None = None) -> FileNet:
    """The net of a net file's text, its weights drawn in the order of the file. `values` fill its placeholders."""
    values = dict(values or {})
    members: dict[str, nn.Module] = {}
    reader = Reader(values)
    for number, line in lines(text):
        try:
            name, member = reader.member(line)
            if name in members or hasattr(nn.Module(), name):
                raise NetFileError(f"{name} is {'there twice' if name in members else 'a name that nn.Module uses'}")
        except NetFileError as error:
            raise NetFileError(f"line {number}: {error}") from None
        members[name] = member
    unused = values.keys() - reader.used - {"dropout"}
    if unused:
        raise NetFileError(f"it has no placeholder {{{min(unused)}}}, for which a value is given")
    if not members:
        raise NetFileError("it has no layers")
    net = FileNet(members)
    check(net)
    return net


def load(path: Path, values: Mapping[str, object] | None = None) -> FileNet:
    """The net of a net file."""
    try:
        return read(path.read_text(encoding="utf-8"), values)
    except (OSError, UnicodeDecodeError, NetFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise NetFileError(f"the net file {path} cannot be read: {reason}") from None


def values_of(text: str) -> dict[str, str]:
    """The values in `w1=8,w2=12`, as the flag --net-values has them."""
    pairs = [part.partition("=") for part in text.split(",")]
    for name, equals, value in pairs:
        if not (name.strip().isidentifier() and equals and value.strip()):
            raise ValueError(text)
    return {name.strip(): value.strip() for name, _, value in pairs}


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The members' lines without comments, each with its number: a line goes on until its parentheses are closed."""
    begun, first = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        first = first if begun else number
        begun += line.partition("#")[0].strip() + " "
        if begun.count("(") <= begun.count(")"):
            if begun.strip():
                yield first, begun.strip()
            begun = ""
    if begun:
        yield first, begun.strip()


class Reader:
    """Turns the expressions of a net file into layers. Nothing is evaluated: the syntax tree is walked."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = values
        self.used: set[str] = set()

    def member(self, line: str) -> tuple[str, nn.Module]:
        """The member of a line `name: Layer(..), Layer(..)`."""
        name, colon, layers = line.partition(":")
        name = name.strip()
        if not colon or not (name.isidentifier() or name.isdigit()):
            raise NetFileError(
                "expected a member such as `conv1: Conv2d(1, 16, 3)`; what print(net) shows, only the program reads"
            )
        try:
            call = ast.parse(f"Sequential({layers})", mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise NetFileError(f"{name}: expected layers such as `Conv2d(1, 16, 3), ReLU()`") from None
        sequential = self.layer(call)
        if not len(sequential):
            raise NetFileError(f"{name} has no layers")
        return name, sequential[0] if len(sequential) == 1 else sequential

    def layer(self, call: ast.expr) -> nn.Module:
        """The layer that a call stands for."""
        if not isinstance(call, ast.Call):
            raise NetFileError(f"expected a layer such as ReLU(), found {ast.unparse(call)}")
        name = ast.unparse(call.func).removeprefix("torch.").removeprefix("nn.")
        if name == "Sequential" and not call.keywords:
            return nn.Sequential(*map(self.layer, call.args))
        if name not in LAYERS:
            raise NetFileError(f"{name} is not a layer of a net file: {', '.join(LAYERS)} and Sequential are")
        positional = [self.argument(value) for value in call.args]
        named = {str(keyword.arg): self.argument(keyword.value) for keyword in call.keywords}
        try:
            layer = LAYERS[name](*positional, **named)
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            raise NetFileError(f"{ast.unparse(call)}: {first_line(error)}") from None
        check_arguments(layer)
        return layer

    def argument(self, value: ast.expr) -> object:
        """A number, a string, True, False, None or a tuple of them. `{name}` stands for one of the values."""
        match value:
            case ast.Set(elts=[ast.Name(id=name)]):
                if name not in self.values:
                    raise NetFileError(f"the placeholder {{{name}}} has no value")
                self.used.add(name)
                return literal(str(self.values[name]))
            case ast.Tuple(elts=parts):
                return tuple(self.argument(part) for part in parts)
            case _:
                return literal(value)


def literal(value: ast.expr | str) -> object:
    """A constant of Python."""
    try:
        constant = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        text = value if isinstance(value, str) else ast.unparse(value)
        raise NetFileError(f"{text} is not a number, a string, True, False or None") from None
    return constant


def check_arguments(layer: nn.Module) -> None:
    """Refuses what the program's layers cannot do."""
    for name, allowed in ONLY.items():
        value = getattr(layer, name, allowed[0])
        if value not in allowed:
            alone = " or ".join(map(repr, allowed))
            raise NetFileError(f"{type(layer).__name__} has {name}={value!r}; a net file can have {alone}")


def check(net: FileNet) -> None:
    """Refuses a net that does not turn images into ten log-probabilities each. Draws no random numbers."""
    try:
        with torch.no_grad():
            shape = net.eval()(torch.zeros(2, 1, 28, 28)).shape
    except (RuntimeError, ValueError) as error:
        raise NetFileError(f"its layers do not fit images [N, 1, 28, 28]: {first_line(error)}") from None
    if shape != (2, 10):
        raise NetFileError(f"it has {5 * shape[0]} outputs, not 10")
    net.train()


def first_line(error: Exception) -> str:
    """What an error of PyTorch says, without the traces that may follow it."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_member(member: nn.Module) -> str:
    """What stands behind a member's name."""
    return ", ".join(map(write, member)) if type(member) is nn.Sequential and len(member) > 1 else write(member)


def write(layer: nn.Module) -> str:
    """A layer in a net file: `Conv2d(1, 16, 3, bias=False)`, without the arguments that have PyTorch's default."""
    if type(layer) is nn.Sequential:
        return f"Sequential({', '.join(map(write, layer))})"
    written = []
    for argument in inspect.signature(type(layer)).parameters.values():
        value = getattr(layer, argument.name, None)
        if argument.name == "bias":
            value = value is not None
        required = argument.default is argument.empty
        # A pool's step is its window unless something else is said.
        default = layer.kernel_size if argument.name == "stride" and argument.default is None else argument.default
        if value is not None and argument.name != "inplace" and (required or square(value) != square(default)):
            written.append(f"{'' if required else argument.name + '='}{square(value)!r}")
    return f"{type(layer).__name__}({', '.join(written)})"


def square(size: object) -> object:
    """A size as one number if its height and width are the same."""
    if isinstance(size, tuple):
        return size[0] if len(set(size)) == 1 else tuple(size)
    return size
