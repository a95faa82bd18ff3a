"""Net files (docs/nets.md): the layers of a net as text, and as an nn.Module.

    net = net_file.read(Path("nets/lenet5.txt").read_text())

What `print(net)` shows is a net file too for the program, but not here.
"""

import argparse
import ast
import inspect
import keyword
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from tch_mnist_program import lists
from torch import Tensor, nn

NETS = Path(__file__).resolve().parent.parent / "nets"

# The layers that a net file can have, by the names that it gives them.
LAYERS: dict[str, type[nn.Module]] = {layer["name"]: getattr(nn, layer["name"]) for layer in lists()["layers"]}

# Arguments of these layers that the program has for these values only.
ONLY = {
    "track_running_stats": [True],
    "return_indices": [False],
    "divisor_override": [None],
    "alpha": [1.0],
    "start_dim": [1],
    "end_dim": [-1],
    "dim": [1, -1],
}


class NetFileError(ValueError):
    """A net file that cannot be read: one sentence."""


class Chain(nn.Module):
    """Modules that run one after another, under names of their own."""

    def __init__(self, members: "Tree") -> None:
        super().__init__()
        for name, member in members.items():
            self.add_module(name, Chain(member) if isinstance(member, dict) else member)

    def forward(self, x: Tensor) -> Tensor:
        """What the last member gives."""
        for member in self.children():
            x = member(x)
        return x


class FileNet(Chain):
    """The net of a net file: maps images [N, 1, 28, 28] to log-probabilities [N, 10]."""

    def __init__(self, members: "Tree") -> None:
        super().__init__(members)
        self._ends_in_log_softmax = isinstance([*self.modules()][-1], nn.LogSoftmax)

    def forward(self, x: Tensor) -> Tensor:
        """The members, and the end of the original unless the last of them is a LogSoftmax."""
        x = super().forward(x).view(-1, 10)
        return x if self._ends_in_log_softmax else F.log_softmax(x, dim=-1)


# The members of a net by name, in the order in which they run.
Tree = dict[str, "nn.Module | Tree"]


def read(text: str, values: Mapping[str, object] | None = None) -> FileNet:
    """The net of a net file's text, its weights drawn in the order of the file. `values` fill its placeholders."""
    reader = Reader(values or {})
    members: Tree = {}
    for number, line in lines(text):
        try:
            insert(members, *reader.member(line))
        except NetFileError as error:
            raise NetFileError(f"line {number}: {error}") from None
    unused = reader.values.keys() - reader.used - {"dropout"}
    if unused:
        raise NetFileError(f"it has no placeholder {{{min(unused)}}}, for which a value is given")
    if not members:
        raise NetFileError("it has no layers")
    net = FileNet(members)
    check(net)
    return net


def insert(tree: Tree, path: str, module: nn.Module) -> None:
    """Puts a module at the end of the net, under a path such as `features.conv1`."""
    *containers, name = path.split(".")
    for depth, container in enumerate(containers, 1):
        if container in tree and container != (last := next(reversed(tree))):
            inside = ".".join(containers[:depth])
            raise NetFileError(f"{last} comes between the layers of {inside}, which must follow one another")
        tree = tree.setdefault(container, {})
        if isinstance(tree, nn.Module):
            raise NetFileError(f"{'.'.join(containers[:depth])} is there twice")
    if name in tree:
        raise NetFileError(f"{path} is there twice")
    tree[name] = module


def load(net: Path, values: Mapping[str, object] | None = None) -> FileNet:
    """The net of a net file, or the one of this name in nets/."""
    own = NETS / f"{net}.txt"
    try:
        return read((own if own.exists() else net).read_text(encoding="utf-8"), values)
    except (OSError, UnicodeDecodeError, NetFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise NetFileError(f"--net {net} cannot be read: {reason}") from None


def add_arguments(parser: argparse.ArgumentParser, use: str) -> None:
    """Adds the program's flags --net and --net-values."""
    about = f"a net file (docs/nets.md) or the name of one in nets/, {use}"
    parser.add_argument("--net", type=Path, metavar="FILE", help=about)
    about = "what fills its placeholders: NAME=VALUE, several separated by commas"
    parser.add_argument("--net-values", type=values_of, default={}, metavar="VALUES", help=about)


def values_of(text: str) -> dict[str, str]:
    """The values in `w1=8,w2=12` by name."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    values = {name.strip(): value.strip() for name, _, value in pairs}
    if not all(equals for _, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE,.., found {text}")
    if "dropout" in values:
        raise argparse.ArgumentTypeError("it cannot set dropout: --dropout does")
    return values


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
        self.values = dict(values)
        self.used: set[str] = set()

    def member(self, line: str) -> tuple[str, nn.Module]:
        """The member of a line `name: Layer(..), Layer(..)`."""
        name, colon, layers = line.partition(":")
        name = name.strip()
        if not colon or "(" in name:
            raise NetFileError(
                "expected a member such as `conv1: Conv2d(1, 16, 3)`; what print(net) shows, only the program reads"
            )
        if not all(map(is_name, name.split("."))):
            raise NetFileError(f"{name} cannot be a member of an nn.Module")
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
        """A number, a string, True, False, None or a tuple of them.

        `{name}` stands for one of the values; the first `{name: default}` gives it one if it has none.
        """
        match value:
            case ast.Dict(keys=[ast.Name(id=name)], values=[default]):
                self.values.setdefault(name, ast.unparse(default))
                return self.argument(ast.Set(elts=[ast.Name(id=name)]))
            case ast.Set(elts=[ast.Name(id=name)]):
                if name not in self.values:
                    raise NetFileError(f"the placeholder {{{name}}} has no value")
                self.used.add(name)
                return literal(str(self.values[name]))
            case ast.Tuple(elts=parts):
                return tuple(self.argument(part) for part in parts)
            case _:
                return literal(value)


def is_name(name: str) -> bool:
    """Whether PyTorch takes it as the name of a member."""
    is_identifier = name.isidentifier() and not keyword.iskeyword(name)
    return (is_identifier or name.isdecimal()) and not hasattr(nn.Module(), name)


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
            raise NetFileError(
                f"{type(layer).__name__}({name}={value!r}) cannot be in a net file: {name} is {alone} there"
            )


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


def write_net(members: Tree, inside: str = "") -> str:
    """The lines of a net file. Containers of numbered layers are Sequentials; others have a line for each layer."""
    written = ""
    for name, member in members.items():
        sequential = as_sequential(member)
        if sequential is None:
            written += write_net(member, f"{inside}{name}.")
        else:
            # Layers without a Sequential( around them are one, if they are several.
            layers = sequential if isinstance(member, dict) and len(member) > 1 else [sequential]
            written += f"{inside}{name}: {', '.join(map(write, layers))}\n"
    return written


def as_sequential(member: "nn.Module | Tree") -> nn.Module | None:
    """A layer as it is; a container as an nn.Sequential if that gives its layers the same names."""
    if isinstance(member, nn.Module):
        return member
    layers = [as_sequential(layer) for layer in member.values()]
    numbered = list(member) == [str(number) for number in range(len(member))]
    return nn.Sequential(*layers) if numbered and None not in layers else None


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
