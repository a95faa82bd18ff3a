//! A reader of the pickles in PyTorch's files. It builds values and runs nothing: a class or function that a pickle
//! names stays a name, whatever the pickle asks to do with it.
//!
//! The format: Python's `pickletools`; what PyTorch writes with it: `torch/serialization.py` and `torch/_utils.py`.

use anyhow::{Context, Result, bail, ensure};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// How much one pickle may build: the state_dict of a net of this size takes some thousand steps.
const MAX_STEPS: usize = 1_000_000;

/// A value of a pickle.
#[derive(Clone, Debug)]
pub enum Value {
    /// Numbers, None, booleans, bytes: what no weights file needs the value of, but for integers.
    Other,
    Bool(bool),
    Int(i64),
    Text(Rc<str>),
    Tuple(Rc<[Value]>),
    List(Rc<RefCell<Vec<Value>>>),
    Dict(Rc<RefCell<Vec<(Value, Value)>>>),
    /// A class or function, as `module.name`.
    Global(Rc<str>),
    /// An object of a class; its attributes, once it has been given them.
    Object(Rc<Object>),
    /// A tensor's memory, by its name in the archive.
    Storage(Rc<Storage>),
    Tensor(Rc<TensorSpec>),
}

/// An instance of a class, never made.
#[derive(Debug)]
pub struct Object {
    /// The class, as `module.name`.
    pub class: Rc<str>,
    /// What the pickle sets on it: a dict, or nothing.
    pub state: RefCell<Option<Value>>,
}

/// The memory of one or more tensors.
#[derive(Debug)]
pub struct Storage {
    /// Such as `FloatStorage`.
    pub class: String,
    /// The record of the archive below `data/`.
    pub key: String,
    /// Elements.
    pub length: i64,
}

/// A tensor as a view of a storage; counts are in elements.
#[derive(Debug)]
pub struct TensorSpec {
    pub storage: Rc<Storage>,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// Reads the value that `bytes` describe.
///
/// # Errors
///
/// When the bytes are no pickle that PyTorch would write for tensors, in one sentence that reads on from the file's name.
pub fn read(bytes: &[u8]) -> Result<Value> {
    Machine { bytes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }.run()
}

/// The pickle's stack machine.
struct Machine<'a> {
    /// What is left to read.
    bytes: &'a [u8],
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Value> {
        for _ in 0..MAX_STEPS {
            match self.byte()? {
                b'.' => return self.pop(),
                op => self.step(op)?,
            }
        }
        bail!("holds a pickle of more than {MAX_STEPS} steps")
    }

    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            0x80 => drop(self.take(1)?), // PROTO
            0x95 => drop(self.take(8)?), // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?.clone();
                self.stack.push(top);
            }
            b'N' => self.stack.push(Value::Other),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'J' => self.number(4)?,
            b'K' => self.number(1)?,
            b'M' => self.number(2)?,
            0x8a => self.long()?,
            b'G' => self.skip(8)?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            b'C' => self.skip_sized(1)?,
            b'B' => self.skip_sized(4)?,
            0x8e => self.skip_sized(8)?,
            b')' => self.stack.push(Value::Tuple(Rc::new([]))),
            b't' => self.collect(|items| Value::Tuple(items.into()))?,
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(op - 0x84)).context(DAMAGED)?;
                let items = self.stack.split_off(from);
                self.stack.push(Value::Tuple(items.into()));
            }
            b']' | 0x8f => self.stack.push(Value::List(Rc::default())), // a set is read as a list
            b'l' => self.collect(|items| Value::List(Rc::new(RefCell::new(items))))?,
            b'}' => self.stack.push(Value::Dict(Rc::default())),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(items)?;
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => {
                let index = self.memo.len() as u32;
                self.memo.insert(index, self.top()?.clone());
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => {
                let name = format!("{}.{}", self.line()?, self.line()?);
                self.stack.push(Value::Global(name.into()));
            }
            0x93 => {
                let (Value::Text(name), Value::Text(module)) = (self.pop()?, self.pop()?) else { bail!(DAMAGED) };
                self.stack.push(Value::Global(format!("{module}.{name}").into()));
            }
            b'R' => {
                let (Value::Tuple(arguments), Value::Global(function)) = (self.pop()?, self.pop()?) else {
                    bail!(DAMAGED)
                };
                self.stack.push(call(&function, &arguments)?);
            }
            0x81 => {
                let (Value::Tuple(_), Value::Global(class)) = (self.pop()?, self.pop()?) else { bail!(DAMAGED) };
                self.stack.push(Value::Object(Rc::new(Object { class, state: RefCell::default() })));
            }
            b'b' => {
                let state = self.pop()?;
                // Of a dict these are Python attributes (such as a state_dict's `_metadata`), not entries.
                if let Value::Object(object) = self.top()? {
                    *object.state.borrow_mut() = Some(state);
                }
            }
            b'Q' => {
                let Value::Tuple(id) = self.pop()? else { bail!(DAMAGED) };
                self.stack.push(storage(&id)?);
            }
            op => bail!("holds a pickle with the operation 0x{op:02x}, which PyTorch writes for no tensor"),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).context(DAMAGED)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of `width` bytes, at most 8.
    fn unsigned(&mut self, width: usize) -> Result<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.bytes.iter().position(|&byte| byte == b'\n').context(DAMAGED)?;
        let line = self.take(end)?;
        self.byte()?;
        std::str::from_utf8(line).context(DAMAGED)
    }

    /// An integer; only the one of 4 bytes has a sign.
    fn number(&mut self, width: usize) -> Result<()> {
        let number = self.unsigned(width)? as i64;
        self.stack.push(Value::Int(if width == 4 { i64::from(number as i32) } else { number }));
        Ok(())
    }

    /// A signed integer of a length of its own; one of more than 8 bytes is nothing that a tensor needs.
    fn long(&mut self) -> Result<()> {
        let width = usize::from(self.byte()?);
        let bytes = self.take(width)?;
        let value = match width {
            0 => Value::Int(0),
            1..=8 => {
                let unsigned = bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
                let unused = 64 - 8 * width as u32;
                Value::Int((unsigned << unused) as i64 >> unused)
            }
            _ => Value::Other,
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let length = usize::try_from(self.unsigned(width)?)?;
        let text = String::from_utf8_lossy(self.take(length)?);
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    fn skip(&mut self, count: usize) -> Result<()> {
        self.take(count)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    fn skip_sized(&mut self, width: usize) -> Result<()> {
        let length = usize::try_from(self.unsigned(width)?)?;
        self.skip(length)
    }

    fn top(&self) -> Result<&Value> {
        self.stack.last().context(DAMAGED)
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().context(DAMAGED)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).context(DAMAGED)?;
        Ok(self.stack.split_off(mark))
    }

    fn collect(&mut self, make: impl FnOnce(Vec<Value>) -> Value) -> Result<()> {
        let items = self.pop_mark()?;
        self.stack.push(make(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        let Value::List(list) = self.top()? else { bail!(DAMAGED) };
        list.borrow_mut().extend(items);
        Ok(())
    }

    /// Sets entries of a dict, given as keys and values in turn.
    fn set(&mut self, items: Vec<Value>) -> Result<()> {
        ensure!(items.len() % 2 == 0, DAMAGED);
        let mut items = items.into_iter();
        if let Value::Dict(dict) = self.top()? {
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                dict.borrow_mut().push((key, value));
            }
        }
        Ok(())
    }

    fn put(&mut self, width: usize) -> Result<()> {
        let index = self.unsigned(width)? as u32;
        self.memo.insert(index, self.top()?.clone());
        Ok(())
    }

    fn get(&mut self, width: usize) -> Result<()> {
        let index = self.unsigned(width)? as u32;
        let value = self.memo.get(&index).context(DAMAGED)?.clone();
        self.stack.push(value);
        Ok(())
    }
}

const DAMAGED: &str = "holds a damaged pickle: copy or save the file again";

/// What a pickle gets for calling `function`: tensors for PyTorch's own, nothing for others that harmless files name.
fn call(function: &str, arguments: &[Value]) -> Result<Value> {
    match function {
        "collections.OrderedDict" => Ok(Value::Dict(Rc::default())),
        "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => {
            let [Value::Storage(storage), Value::Int(offset), size, stride, ..] = arguments else { bail!(DAMAGED) };
            let (size, stride) = (integers(size)?, integers(stride)?);
            Ok(Value::Tensor(Rc::new(TensorSpec { storage: Rc::clone(storage), offset: *offset, size, stride })))
        }
        "torch._utils._rebuild_parameter" => arguments.first().cloned().context(DAMAGED),
        // A whole pickled module has sets in it.
        "builtins.set" | "__builtin__.set" => Ok(Value::Other),
        _ if ["torch.", "numpy.", "collections.", "argparse.", "pathlib.", "_codecs."]
            .iter()
            .any(|known| function.starts_with(known)) =>
        {
            Ok(Value::Other)
        }
        _ => bail!(
            "asks Python to call {function}, which no weights file needs: it was not opened further; do not trust it"
        ),
    }
}

/// `('storage', torch.FloatStorage, key, location, length)`
fn storage(id: &[Value]) -> Result<Value> {
    let [Value::Text(tag), Value::Global(class), Value::Text(key), _, Value::Int(length), ..] = id else {
        bail!(DAMAGED)
    };
    ensure!(&**tag == "storage", DAMAGED);
    let class = class.rsplit('.').next().unwrap_or_default().to_string();
    Ok(Value::Storage(Rc::new(Storage { class, key: key.to_string(), length: *length })))
}

fn integers(value: &Value) -> Result<Vec<i64>> {
    let Value::Tuple(items) = value else { bail!(DAMAGED) };
    let integer = |item: &Value| match item {
        Value::Int(number) => Ok(*number),
        _ => bail!(DAMAGED),
    };
    items.iter().map(integer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_of_the_system_is_refused_by_name() {
        // What pickle writes for an object whose __reduce__ returns (os.system, ("true",)).
        let bytes = b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.";
        let message = read(bytes).unwrap_err().to_string();
        assert!(message.contains("asks Python to call posix.system"), "{message}");
    }

    #[test]
    fn integers_have_their_signs() {
        for (bytes, number) in [
            (&b"J\xff\xff\xff\xff."[..], -1),
            (b"K\xff.", 255),
            (b"M\x00\x01.", 256),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x05\0\0\0\0\x01.", 1 << 32),
        ] {
            assert!(matches!(read(bytes).unwrap(), Value::Int(read) if read == number), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn nor_do_operations_in_any_order(
            ops in proptest::collection::vec(
                prop::sample::select(b"(.012NJKMX)t]l}aesuqhcRbQ\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x81\n\0\x01".to_vec()),
                0..300,
            )
        ) {
            let _ = read(&ops);
        }
    }
}
