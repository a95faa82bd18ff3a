"""Turns a module in PyTorch into a net file (docs/nets.md), on stdout.

    python scripts/print_net.py mypackage.models:Net > net.txt
    python scripts/print_net.py model.py:Net --args 32 dropout=0.1 > net.txt

torch.fx traces the module: its layers come in the order in which forward runs them, and F.relu and the like become
layers of their own. The names in its state_dict stay. Before it is printed, the net file is read, given the module's
weights, and compared with the module on random images, in evaluation and in training: every bit must be equal.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import net_file
import torch
import torch.nn.functional as F
from net_file import LAYERS, NetFileError, first_line
from torch import Tensor, fx, nn

# The functions and methods of PyTorch that are layers, with their arguments after the input.
FUNCTIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "dropout": lambda p=0.5, training=True, inplace=False: nn.Dropout(p) if training else nn.Identity(),
    "dropout2d": lambda p=0.5, training=True, inplace=False: nn.Dropout2d(p) if training else nn.Identity(),
    "max_pool2d": lambda kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False: (
        nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)
    ),
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
    "log_softmax": lambda dim=None, _stacklevel=3, dtype=None: nn.LogSoftmax(dim),
}
DROPOUTS = ["dropout", "dropout2d"]

# Those that change no value: Flatten() if they make a row of each image, nothing if the shape stays.
RESHAPES = ["flatten", "view", "reshape", "squeeze", "contiguous"]

# Those that have a word of their own for what a net file cannot hold.
JOINS = {
    **dict.fromkeys(["add", "add_", "iadd"], "forward adds two tensors, as a residual connection does"),
    **dict.fromkeys(["cat", "concat", "concatenate"], "forward concatenates tensors"),
}
CHAIN = "a net file is a chain of layers"


class Unprintable(Exception):
    """Why a module cannot be a net file: one sentence."""


class Trace:
    """A module as the chain of layers that forward runs."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.layers: dict[str, nn.Module] = {}  # by their paths, in order
        self.own: set[str] = set()  # the paths of those that the module has no member for
        self.in_training, self.in_evaluation = (traced(module, training) for training in [True, False])
        if list(map(called, self.in_training)) != list(map(called, self.in_evaluation)):
            raise Unprintable("forward runs other layers in training than in evaluation")
        self.values = values(module, self.in_training[0].graph)
        self.follow()

    def follow(self) -> None:
        """Collects the layers along the one path from the images to the output."""
        last = None
        for node, in_evaluation in zip(self.in_training, self.in_evaluation, strict=True):
            if node.op == "output":
                if node.args != (last,):
                    raise Unprintable(f"forward returns something else than what its last layer gives; {CHAIN}")
            elif isinstance(self.values[node], Tensor):
                if node.op != "placeholder":
                    self.check_input(node, last)
                    self.add(node, in_evaluation)
                last = node

    def check_input(self, node: fx.Node, last: fx.Node) -> None:
        """Refuses a node that takes anything but the tensor before it."""
        inputs = [it for it in node.all_input_nodes if isinstance(self.values[it], Tensor)]
        if node.op == "get_attr" or not inputs:
            raise Unprintable(
                f"forward uses {node.target if node.op == 'get_attr' else called(node)} outside of a layer"
            )
        if len(inputs) > 1:
            what = JOINS.get(called(node), f"{called(node)} takes several tensors")
            raise Unprintable(f"{what}; {CHAIN}")
        if inputs != [last]:
            source = "the images" if inputs[0].op == "placeholder" else f"the output of {called(inputs[0])}"
            raise Unprintable(f"forward uses {source} more than once; {CHAIN}")

    def add(self, node: fx.Node, in_evaluation: fx.Node) -> None:
        """Adds the layer of a node, if it does anything."""
        if node.op == "call_module":
            layer = self.module.get_submodule(node.target)
            path = self.path_of(node, layer)
        else:
            layer = self.layer_of(node)
            if isinstance(layer, nn.Identity):
                return
            if called(node) in DROPOUTS and not isinstance(self.layer_of(in_evaluation), nn.Identity):
                raise Unprintable(f"F.{called(node)} drops in evaluation too: give it training=self.training")
            path = self.new_path(node, "flatten" if isinstance(layer, nn.Flatten) else called(node).rstrip("_"))
            self.own.add(path)
        if type(layer) not in LAYERS.values():
            raise Unprintable(f"{path} is {a(type(layer).__name__)}, which is not a layer of a net file: {listed()}")
        try:
            net_file.check_arguments(layer)
        except NetFileError as error:
            raise Unprintable(f"{path}: {error}") from None
        self.layers[path] = layer

    def layer_of(self, node: fx.Node) -> nn.Module:
        """The layer that does what a function or method does; Identity if it does nothing."""
        name = called(node)
        if name in RESHAPES:
            before, after = (list(self.values[it].shape) for it in (node.all_input_nodes[0], node))
            if after == before:
                return nn.Identity()
            if after == [before[0], self.values[node].numel() // before[0]]:
                return nn.Flatten()
            raise Unprintable(f"{name} makes {after} of {before}; a net file can only flatten each image")
        if name not in FUNCTIONS:
            raise Unprintable(f"forward calls {name}, which is not a layer of a net file: {listed()}")
        args, kwargs = fx.node.map_arg((node.args[1:], node.kwargs), self.values.__getitem__)
        try:
            return FUNCTIONS[name](*args, **{key: value for key, value in kwargs.items() if key != "input"})
        except (TypeError, ValueError) as error:
            raise Unprintable(f"{name} is called in a way that no layer has: {first_line(error)}") from None

    def path_of(self, node: fx.Node, layer: nn.Module) -> str:
        """The path of a member of the module, or a new one for a second call of a member without weights."""
        paths = [path for path, it in self.module.named_modules(remove_duplicate=False) if it is layer]
        free = [path for path in paths if path not in self.layers]
        if layer.state_dict() and len(free) < len(paths):
            raise Unprintable(f"{paths[0]} is called twice; in a net file each layer has weights of its own")
        # A member may have several paths, as an activation that stands in several places of a Sequential.
        beside = [path for path in free if parent(path) == parent(self.last())]
        inside = [path for path in free if parent(path) == container(node)]
        return (beside or inside or free or [self.new_path(node, paths[0].rpartition(".")[2])])[0]

    def last(self) -> str:
        """The path of the last layer so far."""
        return next(reversed(self.layers), "")

    def new_path(self, node: fx.Node, name: str) -> str:
        """A path that the module does not have, in the container whose forward makes the call."""
        inside = container(node)
        # A list has no forward of its own: what is called after one of its layers may be followed by the next.
        if isinstance(self.module.get_submodule(parent(self.last())), (nn.ModuleList, nn.ModuleDict)):
            inside = parent(self.last())
        owner = self.module.get_submodule(inside)
        if isinstance(owner, nn.Sequential):
            candidates = map(str, itertools.count(len(owner)))
        else:
            candidates = (f"{name}{number if number > 1 else ''}" for number in itertools.count(1))
        paths = ((key, f"{inside}.{key}" if inside else key) for key in candidates)
        return next(path for key, path in paths if not hasattr(owner, key) and path not in self.layers)

    def end(self) -> bool:
        """Leaves out the functions that every net ends in; whether log_softmax was the last or is the last layer."""
        ends_in_log_softmax = isinstance(self.layers.get(self.last()), nn.LogSoftmax)
        for kind in [nn.LogSoftmax, nn.Flatten]:
            if self.last() in self.own and isinstance(self.layers[self.last()], kind):
                del self.layers[self.last()]
        return ends_in_log_softmax


def traced(module: nn.Module, training: bool) -> list[fx.Node]:
    """The nodes that lead to forward's result in this mode."""
    try:
        graph = fx.Tracer().trace(module.train(training))
    except Exception as error:
        raise Unprintable(f"torch.fx cannot trace forward: {first_line(error)}") from None
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in needed:
            needed |= {node, *node.all_input_nodes}
    return [node for node in graph.nodes if node in needed]


def values(module: nn.Module, graph: fx.Graph) -> dict[fx.Node, object]:
    """What each node gives for three images."""
    interpreter = fx.Interpreter(module.eval(), garbage_collect_values=False, graph=graph)
    try:
        with torch.no_grad():
            interpreter.run(torch.zeros(3, 1, 28, 28))
    except Exception as error:
        raise Unprintable(f"forward does not take images [N, 1, 28, 28]: {first_line(error)}") from None
    return interpreter.env


def called(node: fx.Node) -> str:
    """What a node calls: a path, or the name of a function or method."""
    return node.target if isinstance(node.target, str) else node.target.__name__


def container(node: fx.Node) -> str:
    """The path of the module whose forward makes the call."""
    stack = [path.partition("@")[0] for path in node.meta.get("nn_module_stack", {})]
    return ["", *(stack[:-1] if node.op == "call_module" else stack)][-1]


def parent(path: str) -> str:
    """The path of the container."""
    return path.rpartition(".")[0]


def listed() -> str:
    """The layers that there are."""
    return f"these are {', '.join(LAYERS)}"


def net_of(module: nn.Module) -> tuple[str, bool]:
    """The module's net file, and whether the module ends in log_softmax."""
    trace = Trace(module)
    ends_in_log_softmax = trace.end()
    members: net_file.Tree = {}
    for path, layer in trace.layers.items():
        net_file.insert(members, path, layer)
    text = net_file.write_net(members)
    verify(text, module, ends_in_log_softmax)
    return text, ends_in_log_softmax


def verify(text: str, module: nn.Module, ends_in_log_softmax: bool) -> None:
    """Compares the net of the file with the module, both with the module's weights, in every bit."""
    net = net_file.read(text)
    left_out = [key for key in module.state_dict() if key not in net.state_dict()]
    if left_out:
        raise Unprintable(
            f"forward never uses {parent(left_out[0]) or left_out[0]}; a net file has only layers that run"
        )
    net.load_state_dict(module.state_dict())
    if sum(it.numel() for it in net.parameters()) != sum(it.numel() for it in module.parameters()):
        raise Unprintable("two of its layers share a parameter; in a net file each layer has weights of its own")
    images = torch.randn(32, 1, 28, 28)
    for training in [False, True]:
        outputs = []
        for it in [net, module]:
            torch.manual_seed(1)
            with torch.no_grad():
                outputs.append(it.train(training)(images.clone()))
        expected = outputs[1] if ends_in_log_softmax else F.log_softmax(outputs[1].reshape(-1, 10), dim=-1)
        if not torch.equal(outputs[0], expected):
            mode = "training" if training else "evaluation"
            raise Unprintable(f"the net file gives other outputs than the module in {mode} mode; is there a hook?")


def imported(name: str) -> object:
    """What MODULE:NAME or FILE.py:NAME stands for."""
    module, colon, attribute = name.rpartition(":")
    if not colon:
        raise Unprintable("expected MODULE:NAME or FILE.py:NAME")
    try:
        if module.endswith(".py"):
            sys.path.insert(0, str(Path(module).resolve().parent))
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            loaded = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = loaded
            spec.loader.exec_module(loaded)
        else:
            sys.path.insert(0, "")
            loaded = importlib.import_module(module)
        return getattr(loaded, attribute)
    except (Exception, SystemExit) as error:
        raise Unprintable(f"it cannot be imported: {type(error).__name__}: {first_line(error)}") from None


def built(made: object, arguments: list[str]) -> nn.Module:
    """The module: an instance as it is, a class or function called with the arguments."""
    positional, named = [], {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name.isidentifier():
            named[name] = constant(value)
        else:
            positional.append(constant(argument))
    if not isinstance(made, nn.Module):
        try:
            made = made(*positional, **named)
        except Exception as error:
            hint = "" if arguments else " (--args gives it arguments)"
            raise Unprintable(f"it cannot be built: {type(error).__name__}: {first_line(error)}{hint}") from None
    if not isinstance(made, nn.Module):
        raise Unprintable(f"it is {a(type(made).__name__)}, not an nn.Module")
    return made


def a(name: str) -> str:
    """The name with its article."""
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def constant(text: str) -> object:
    """A number, a tuple and so on as Python writes it; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main() -> None:
    """Prints the net file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="MODULE:NAME", help="a class, function or module; FILE.py:NAME too")
    parser.add_argument("--args", nargs="*", default=[], help="arguments of the class or function: VALUE or NAME=VALUE")
    args = parser.parse_args()
    try:
        # What the user's code prints would be in the net file.
        with contextlib.redirect_stdout(sys.stderr):
            module = built(imported(args.name), args.args)
            text, ends_in_log_softmax = net_of(module)
    except (Unprintable, NetFileError) as error:
        sys.exit(f"error: {args.name}: {error}")
    if not ends_in_log_softmax:
        print(f"{args.name} ends without log_softmax: the net file adds it, as CrossEntropyLoss does", file=sys.stderr)
    print(f"# {args.name}: {sum(it.numel() for it in module.parameters()):,} parameters\n{text}", end="")


if __name__ == "__main__":
    main()
