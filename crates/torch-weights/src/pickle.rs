//! Python's pickle format, read without running anything.
//!
//! A pickle is a program for a stack machine, and Python's own reader calls whatever function the program names. This
//! reader calls nothing: a name stays a name, the calls that make tensors become the tensors they describe, and the
//! result of every other call is [`Node::Opaque`], an object that is known only by name. Opcodes: `Lib/pickletools.py`
//! of CPython, protocols 2 to 5.

use crate::Dtype;
use crate::text::shown;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

/// The index of a value in a [`Graph`]. Values refer to each other by index, so that a pickle that nests deeply, or
/// that contains itself, costs no stack and leaks nothing.
pub(crate) type Id = usize;

/// What a pickle holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    /// A list or a tuple: an index into [`Graph`]'s sequences.
    Sequence(usize),
    /// A dict or an OrderedDict: an index into [`Graph`]'s dicts.
    Dict(usize),
    /// The name of a Python class or function: its module and its name there.
    Global(&'a str, &'a str),
    /// An object of a TorchScript class: an index into [`Graph`]'s dicts, its attributes.
    Object(usize),
    Storage(Storage<'a>),
    /// An index into [`Graph`]'s tensors.
    Tensor(usize),
    /// What a call or a class of Python's would have made: an index into [`Graph`]'s opaque objects.
    Opaque(usize),
    /// A value that no weights need: a float, bytes, a set.
    Other,
}

/// An object that was not built.
#[derive(Debug)]
pub(crate) struct Opaque<'a> {
    module: &'a str,
    name: &'a str,
    /// The items that the pickle puts into it, if it is a kind of dict.
    items: Vec<(Id, Id)>,
}

impl Opaque<'_> {
    /// The class or function that would have built it, such as `argparse.Namespace`, for a message.
    pub(crate) fn name(&self) -> String {
        let dot = if self.module.is_empty() { "" } else { "." };
        format!("{}{dot}{}", shown(self.module), shown(self.name))
    }
}

/// A block of memory, which lies beside the pickle in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storage<'a> {
    /// Its class, such as `FloatStorage`.
    pub class: &'a str,
    pub key: &'a str,
    /// How many elements it has.
    pub numel: i64,
}

impl Storage<'_> {
    /// The type of its elements.
    pub(crate) fn dtype(&self) -> Result<Dtype> {
        Ok(match self.class {
            "FloatStorage" => Dtype::F32,
            "DoubleStorage" => Dtype::F64,
            "HalfStorage" => Dtype::F16,
            "BFloat16Storage" => Dtype::BF16,
            "LongStorage" => Dtype::I64,
            "IntStorage" => Dtype::I32,
            "ShortStorage" => Dtype::I16,
            "CharStorage" => Dtype::I8,
            "ByteStorage" => Dtype::U8,
            "BoolStorage" => Dtype::Bool,
            _ => bail!("its numbers have a type ({}) that is not read", shown(self.class)),
        })
    }
}

/// A view of a storage; `offset`, `size` and `stride` count elements.
#[derive(Debug)]
pub(crate) struct TensorView<'a> {
    pub storage: Storage<'a>,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// The values of a pickle and how they refer to each other.
#[derive(Debug, Default)]
pub(crate) struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    sequences: Vec<Vec<Id>>,
    dicts: Vec<Vec<(Id, Id)>>,
    tensors: Vec<TensorView<'a>>,
    opaques: Vec<Opaque<'a>>,
}

/// A net has no tensor of more dimensions.
const MAX_DIMENSIONS: usize = 8;

/// `_rebuild_tensor_v2` takes seven arguments; more are not looked at.
const MAX_ARGUMENTS: usize = 7;

impl<'a> Graph<'a> {
    /// The value under `id`.
    pub(crate) fn node(&self, id: Id) -> Node<'a> {
        self.nodes[id]
    }

    /// The items of a [`Node::Dict`] or of a [`Node::Opaque`] dict, or the attributes of a [`Node::Object`], in their
    /// order; none of other values.
    pub(crate) fn items(&self, node: Node) -> &[(Id, Id)] {
        match node {
            Node::Dict(dict) | Node::Object(dict) => &self.dicts[dict],
            Node::Opaque(object) => &self.opaques[object].items,
            _ => &[],
        }
    }

    /// The object behind a [`Node::Opaque`].
    pub(crate) fn opaque(&self, object: usize) -> &Opaque<'a> {
        &self.opaques[object]
    }

    /// Every storage that the pickle refers to.
    pub(crate) fn storages(&self) -> impl Iterator<Item = Storage<'a>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(*storage),
            _ => None,
        })
    }

    /// The view behind a [`Node::Tensor`].
    pub(crate) fn tensor(&self, tensor: usize) -> &TensorView<'a> {
        &self.tensors[tensor]
    }

    /// The items of a list or a tuple.
    pub(crate) fn sequence(&self, id: Id) -> Result<&[Id]> {
        match self.nodes[id] {
            Node::Sequence(sequence) => Ok(&self.sequences[sequence]),
            other => bail!("a tuple was expected where it has {}", other.describe()),
        }
    }

    fn int(&self, id: Id) -> Result<i64> {
        match self.nodes[id] {
            Node::Int(int) => Ok(int),
            other => bail!("a whole number was expected where it has {}", other.describe()),
        }
    }

    fn ints(&self, id: Id) -> Result<Vec<i64>> {
        let ids = self.sequence(id)?;
        ensure!(ids.len() <= MAX_DIMENSIONS, "a tensor has {} dimensions", ids.len());
        ids.iter().map(|&id| self.int(id)).collect()
    }

    fn text(&self, id: Id) -> Result<&'a str> {
        match self.nodes[id] {
            Node::Text(text) => Ok(text),
            other => bail!("a string was expected where it has {}", other.describe()),
        }
    }
}

impl Node<'_> {
    /// What it is, for a message.
    fn describe(&self) -> &'static str {
        match self {
            Node::None => "None",
            Node::Bool(_) => "a bool",
            Node::Int(_) => "a number",
            Node::Text(_) => "a string",
            Node::Sequence(_) => "a list",
            Node::Dict(_) => "a dict",
            Node::Global(..) => "a class or function",
            Node::Object(_) => "a module",
            Node::Storage(_) => "a storage",
            Node::Tensor(_) => "a tensor",
            Node::Opaque(_) | Node::Other => "another object",
        }
    }
}

/// Reads a pickle and returns its values and the one that it stands for, in memory and time proportional to `bytes`.
///
/// # Errors
///
/// If it is cut short or damaged, or has an opcode that torch does not write.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Graph<'_>, Id)> {
    parse_first(bytes).map(|(graph, root, _)| (graph, root))
}

/// As [`parse`], for a pickle that other bytes follow: they are returned too.
pub(crate) fn parse_first(bytes: &[u8]) -> Result<(Graph<'_>, Id, &[u8])> {
    let mut machine = Machine { bytes, ..Machine::default() };
    loop {
        let opcode = machine.take(1)?[0];
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok((machine.graph, root, machine.bytes));
        }
        machine.execute(opcode)?;
    }
}

/// The stack machine. `bytes` is what is still to be read.
#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    graph: Graph<'a>,
    stack: Vec<Id>,
    /// Where on the stack each MARK lies.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn execute(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // PROTO, FRAME
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            // MARK, POP, POP_MARK, DUP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => {
                let top = self.top()?;
                self.memo.insert(self.memo.len() as u64, top);
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            // BININT, BININT1, BININT2, LONG1, LONG4
            b'J' => {
                let int = self.unsigned(4)? as u32 as i32;
                self.push(Node::Int(int.into()));
            }
            b'K' => self.unsigned_int(1)?,
            b'M' => self.unsigned_int(2)?,
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            // BINFLOAT
            b'G' => self.other_of(8)?,
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            // BINSTRING, SHORT_BINSTRING, BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
            b'T' | b'B' => self.other(4)?,
            b'U' | b'C' => self.other(1)?,
            0x8e | 0x96 => self.other(8)?,
            // EMPTY_TUPLE, EMPTY_LIST, TUPLE, LIST, TUPLE1, TUPLE2, TUPLE3
            b')' | b']' => self.push_sequence(Vec::new()),
            b't' | b'l' => {
                let items = self.pop_to_mark()?;
                self.push_sequence(items);
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push_sequence(items);
            }
            // APPEND, APPENDS
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            // EMPTY_DICT, DICT, SETITEM, SETITEMS
            b'}' => self.push_dict(),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push_dict();
                self.set_items(&items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // EMPTY_SET, FROZENSET, ADDITEMS
            0x8f => self.push(Node::Other),
            0x91 => {
                self.pop_to_mark()?;
                self.push(Node::Other);
            }
            0x90 => drop(self.pop_to_mark()?),
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = Node::Global(self.graph.text(module)?, self.graph.text(name)?);
                self.push(global);
            }
            // BINPERSID, REDUCE, NEWOBJ, NEWOBJ_EX, BUILD
            b'Q' => self.persistent_id()?,
            b'R' => self.reduce()?,
            0x81 => self.new_object()?,
            0x92 => {
                self.pop()?;
                self.new_object()?;
            }
            b'b' => self.build()?,
            _ => bail!("it holds the opcode {opcode:#04x}, which torch does not write"),
        }
        Ok(())
    }

    /// The next `n` bytes.
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n).context("it ends in the middle")?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A little-endian number of `n` bytes, at most 8.
    fn unsigned(&mut self, n: usize) -> Result<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Bytes after their count, which has `n` bytes.
    fn counted(&mut self, n: usize) -> Result<&'a [u8]> {
        let length = self.unsigned(n)?;
        self.take(usize::try_from(length)?)
    }

    /// The rest of a line.
    fn line(&mut self) -> Result<&'a str> {
        let length = self.bytes.iter().position(|&byte| byte == b'\n').context("it ends in the middle")?;
        let line = std::str::from_utf8(self.take(length)?)?;
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, node: Node<'a>) {
        self.stack.push(self.graph.nodes.len());
        self.graph.nodes.push(node);
    }

    fn push_sequence(&mut self, items: Vec<Id>) {
        self.push(Node::Sequence(self.graph.sequences.len()));
        self.graph.sequences.push(items);
    }

    fn push_opaque(&mut self, module: &'a str, name: &'a str) {
        self.push(Node::Opaque(self.graph.opaques.len()));
        self.graph.opaques.push(Opaque { module, name, items: Vec::new() });
    }

    fn push_dict(&mut self) {
        self.push(Node::Dict(self.graph.dicts.len()));
        self.graph.dicts.push(Vec::new());
    }

    fn top(&self) -> Result<Id> {
        let base = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > base, "it takes a value that does not exist");
        Ok(self.stack[self.stack.len() - 1])
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, n: usize) -> Result<Vec<Id>> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().context("it takes a value that does not exist")?;
        Ok(self.stack.split_off(mark))
    }

    fn put(&mut self, bytes: usize) -> Result<()> {
        let (index, top) = (self.unsigned(bytes)?, self.top()?);
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, bytes: usize) -> Result<()> {
        let index = self.unsigned(bytes)?;
        self.stack.push(*self.memo.get(&index).context("it refers to a value that does not exist")?);
        Ok(())
    }

    fn unsigned_int(&mut self, bytes: usize) -> Result<()> {
        let int = self.unsigned(bytes)?.try_into()?;
        self.push(Node::Int(int));
        Ok(())
    }

    /// A little-endian two's complement number; one of more than 64 bits is [`Node::Other`].
    fn long(&mut self, bytes: usize) -> Result<()> {
        let digits = self.counted(bytes)?;
        let negative = digits.last().is_some_and(|&byte| byte >= 0x80);
        let mut extended = [if negative { 0xff } else { 0 }; 8];
        self.push(match extended.get_mut(..digits.len()) {
            Some(low) => {
                low.copy_from_slice(digits);
                Node::Int(i64::from_le_bytes(extended))
            }
            None => Node::Other,
        });
        Ok(())
    }

    fn text(&mut self, bytes: usize) -> Result<()> {
        let text = std::str::from_utf8(self.counted(bytes)?)?;
        self.push(Node::Text(text));
        Ok(())
    }

    fn other(&mut self, bytes: usize) -> Result<()> {
        self.counted(bytes)?;
        self.push(Node::Other);
        Ok(())
    }

    fn other_of(&mut self, length: usize) -> Result<()> {
        self.take(length)?;
        self.push(Node::Other);
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let list = self.top()?;
        match self.graph.nodes[list] {
            Node::Sequence(sequence) => self.graph.sequences[sequence].extend(items),
            Node::Opaque(_) | Node::Other => {}
            other => bail!("it appends to {}", other.describe()),
        }
        Ok(())
    }

    /// Puts `items`, keys and values in turn, into the dict on top.
    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        ensure!(items.len().is_multiple_of(2), "it has a key without a value");
        let dict = self.top()?;
        let pairs = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        match self.graph.nodes[dict] {
            Node::Dict(dict) => self.graph.dicts[dict].extend(pairs),
            Node::Opaque(object) => self.graph.opaques[object].items.extend(pairs),
            Node::Other => {}
            other => bail!("it sets an item of {}", other.describe()),
        }
        Ok(())
    }

    /// torch's persistent ids: `("storage", class, key, location, numel)`; before PyTorch 1.6 with a sixth value, which
    /// is `None` unless the storage is a view of another one. Where the tensor was, on a GPU or not, does not matter.
    /// `("module", class, file, source)`, before PyTorch 1.6, is the class of a module that was saved as a whole.
    fn persistent_id(&mut self) -> Result<()> {
        let id = self.pop()?;
        let graph = &self.graph;
        if let [kind, class, ..] = *graph.sequence(id)?
            && graph.nodes[kind] == Node::Text("module")
        {
            self.stack.push(class);
            return Ok(());
        }
        let (kind, class, key, numel, view) = match *graph.sequence(id)? {
            [kind, class, key, _, numel] => (kind, class, key, numel, None),
            [kind, class, key, _, numel, view] => (kind, class, key, numel, Some(view)),
            _ => bail!("a storage is not described"),
        };
        ensure!(graph.text(kind)? == "storage", "it refers to something that is not a storage");
        ensure!(view.is_none_or(|view| graph.nodes[view] == Node::None), "a storage is a view of another one");
        let Node::Global("torch" | "torch.storage", class) = graph.nodes[class] else {
            bail!("a storage has a class that torch does not have");
        };
        let storage = Storage { class, key: graph.text(key)?, numel: graph.int(numel)? };
        self.push(Node::Storage(storage));
        Ok(())
    }

    /// The value of a call, which is not made: the value of the known ones follows from their arguments.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Node::Global(module, name) = self.graph.nodes[function] else {
            self.push_opaque("", "the result of a call");
            return Ok(());
        };
        let arguments = match self.graph.nodes[arguments] {
            // A tuple may be used by many calls: each must cost little.
            Node::Sequence(sequence) => {
                let all = &self.graph.sequences[sequence];
                all[..all.len().min(MAX_ARGUMENTS)].to_vec()
            }
            _ => Vec::new(),
        };
        match (module, name) {
            ("collections", "OrderedDict") => self.push_dict(),
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                let [storage, offset, size, stride, ..] = arguments[..] else { bail!("a tensor is not described") };
                let Node::Storage(storage) = self.graph.nodes[storage] else { bail!("a tensor has no storage") };
                let (size, stride) = (self.graph.ints(size)?, self.graph.ints(stride)?);
                let view = TensorView { storage, offset: self.graph.int(offset)?, size, stride };
                self.push(Node::Tensor(self.graph.tensors.len()));
                self.graph.tensors.push(view);
            }
            ("torch._utils", "_rebuild_parameter") | ("torch", "Size") => {
                self.stack.push(*arguments.first().context("a call has no argument")?);
            }
            ("torch.jit._pickle", _) => self.push(Node::Other),
            _ => self.push_opaque(module, name),
        }
        Ok(())
    }

    /// An object without attributes yet: of a TorchScript class, or opaque.
    fn new_object(&mut self) -> Result<()> {
        let (_arguments, class) = (self.pop()?, self.pop()?);
        match self.graph.nodes[class] {
            Node::Global(module, _) if module.starts_with("__torch__") => {
                self.push(Node::Object(self.graph.dicts.len()));
                self.graph.dicts.push(Vec::new());
            }
            Node::Global(module, name) => self.push_opaque(module, name),
            _ => self.push_opaque("", "a class that a call returned"),
        }
        Ok(())
    }

    /// Gives the object below the top the attributes on top.
    fn build(&mut self) -> Result<()> {
        let (state, object) = (self.pop()?, self.top()?);
        // The attributes of other objects do not matter: a state_dict has its `_metadata`, an opaque object anything.
        if let (Node::Object(object), Node::Dict(state)) = (self.graph.nodes[object], self.graph.nodes[state]) {
            // Taken, not copied: a pickle could have one dict copied into many objects.
            self.graph.dicts[object] = std::mem::take(&mut self.graph.dicts[state]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that the opcodes leave on top.
    fn value(opcodes: &[u8]) -> Node<'_> {
        let (graph, root) = parse(opcodes).unwrap();
        graph.node(root)
    }

    #[test]
    fn whole_numbers_have_the_sign_and_size_that_python_gives_them() {
        assert_eq!(value(b"J\xff\xff\xff\xff."), Node::Int(-1));
        assert_eq!(value(b"M\x00\x80."), Node::Int(32768));
        assert_eq!(value(b"\x8a\x02\x00\x80."), Node::Int(-32768));
        assert_eq!(value(b"\x8a\x00."), Node::Int(0));
        assert_eq!(value(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."), Node::Int(i64::MAX));
        assert_eq!(value(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01."), Node::Other);
    }

    #[test]
    fn a_call_is_not_made_and_its_name_is_known() {
        for call in
            [&b"cposix\nsystem\nX\x02\x00\x00\x00ls\x85R."[..], b"\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R."]
        {
            let (graph, root) = parse(call).unwrap();
            let Node::Opaque(object) = graph.node(root) else { panic!("{:?}", graph.node(root)) };
            assert_eq!(graph.opaque(object).name(), "posix.system");
        }
    }

    #[test]
    fn a_value_below_a_mark_cannot_be_taken() {
        assert!(parse(b"N(0.").is_err());
        assert!(parse(b"N(\x85.").is_err());
        assert!(parse(b"t.").is_err());
        assert!(parse(b".").is_err());
    }

    #[test]
    fn one_tuple_in_many_calls_costs_no_more_than_one() {
        // A tuple of 50,000 sizes, kept in the memo and used as arguments again and again.
        let mut bomb = b"(".to_vec();
        bomb.extend(b"K\x01".repeat(50_000));
        bomb.extend(b"tq\x00ccollections\nOrderedDict\nq\x01");
        bomb.extend(b"h\x01h\x00R0".repeat(100_000));
        bomb.push(b'.');
        assert!(parse(&bomb).is_ok());
    }
}
