//! A net file as a tree of modules, by recursive descent.

use super::foreign;
use super::tokens::{Kind, Token, tokens};
use super::value::Value;
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use std::collections::BTreeMap;

/// A member of a module.
pub(super) struct Item<'a> {
    name: Name<'a>,
    pub(super) module: Module<'a>,
}

enum Name<'a> {
    Text(&'a str),
    /// A layer of an `nn.Sequential`.
    Index(usize),
    /// Equal modules, which print shows in one line: `(1-3): 3 x ReLU()`.
    Range(u32, u32),
}

impl Item<'_> {
    pub(super) fn names(&self) -> Box<dyn Iterator<Item = String> + '_> {
        match self.name {
            Name::Text(name) => Box::new(std::iter::once(name.to_string())),
            Name::Index(index) => Box::new(std::iter::once(index.to_string())),
            Name::Range(first, last) => Box::new((first..=last).map(|index| index.to_string())),
        }
    }
}

pub(super) enum Module<'a> {
    /// An `nn.Sequential`, or a class whose members run in order.
    Container(Vec<Item<'a>>),
    Layer(Call<'a>),
}

/// A class and its arguments.
pub(super) struct Call<'a> {
    pub(super) line: usize,
    pub(super) class: &'a str,
    pub(super) positional: Vec<Value>,
    pub(super) keywords: Vec<(&'a str, Value)>,
}

/// The members of the net in `text`.
///
/// # Errors
///
/// One sentence, with the line for all that has one.
pub(super) fn members<'a>(text: &'a str, values: &BTreeMap<String, String>) -> Result<Vec<Item<'a>>> {
    let read = || {
        let mut parser = Parser { tokens: tokens(text)?, next: 0, values, placeholders: BTreeMap::new() };
        let members = parser.net()?;
        ensure!(!members.is_empty(), "the net has no layers: write a line such as conv1: Conv2d(1, 16, 3), ReLU()");
        parser.check_values()?;
        Ok(members)
    };
    read().map_err(|error| foreign::sentence(text).map_or(error, Error::msg))
}

/// The most arguments of a layer, and the most values of a tuple. PyTorch's layers take eleven.
const MOST_VALUES: usize = 32;

/// The placeholder that the program has a value for, whether a net uses it or not.
const ALWAYS_GIVEN: &str = "dropout";

struct Parser<'a, 'v> {
    tokens: Vec<Token<'a>>,
    next: usize,
    values: &'v BTreeMap<String, String>,
    /// The placeholders so far, and the default of each.
    placeholders: BTreeMap<&'a str, Option<&'a str>>,
}

impl<'a> Parser<'a, '_> {
    /// A printed net, or a member per line.
    fn net(&mut self) -> Result<Vec<Item<'a>>> {
        self.skip_ends();
        if let [Kind::Word(class), Kind::Mark('(')] = self.ahead() {
            let line = self.line();
            let Module::Container(items) = self.module()? else { return Err(without_name(line, class)) };
            self.skip_ends();
            ensure!(self.is_done(), "line {}: nothing can follow a printed net: remove this line", self.line());
            return Ok(items);
        }
        let mut members = Vec::new();
        while !self.is_done() {
            members.push(self.member()?);
            if self.kind() != Kind::End {
                return Err(self.unexpected("',' or the end of the line"));
            }
            self.skip_ends();
        }
        Ok(members)
    }

    /// `name: Layer(..), Layer(..)`, or an item as print shows it.
    fn member(&mut self) -> Result<Item<'a>> {
        if self.is_at_item() {
            return self.printed_item();
        }
        let line = self.line();
        let name = self.word("a line such as pool1: MaxPool2d(2)")?;
        if self.kind() == Kind::Mark('(') {
            return Err(without_name(line, name));
        }
        self.expect(':')?;
        let mut modules = vec![self.module()?];
        while self.eat(',') {
            let is_cut = self.kind() == Kind::End;
            ensure!(!is_cut, "line {line}: a layer must follow the last comma: a line goes on only inside parentheses");
            modules.push(self.module()?);
        }
        let module = if modules.len() == 1 { modules.remove(0) } else { sequential(modules) };
        Ok(Item { name: Name::Text(name), module })
    }

    /// `(name): module`, or `(1-3): 3 x module`.
    fn printed_item(&mut self) -> Result<Item<'a>> {
        let line = self.line();
        self.expect('(')?;
        let text = self.word("a name")?;
        self.expect(')')?;
        self.expect(':')?;
        let name = match text.split_once('-').map(|(first, last)| (first.parse(), last.parse())) {
            Some((Ok(first), Ok(last))) => {
                let count = |word: &str| {
                    word.parse().is_ok_and(|count: u32| i64::from(last) - i64::from(first) + 1 == i64::from(count))
                };
                let is_counted = matches!(self.ahead(), [Kind::Word(word), Kind::Word("x")] if count(word));
                ensure!(
                    is_counted && first < last,
                    "line {line}: expected the number of members in ({text}), as in (1-3): 3 x ReLU()"
                );
                self.next += 2;
                Name::Range(first, last)
            }
            _ => Name::Text(text),
        };
        Ok(Item { name, module: self.module()? })
    }

    /// `Layer(arguments)`, `Sequential(modules)`, or any class with the items that print shows.
    fn module(&mut self) -> Result<Module<'a>> {
        let line = self.line();
        if !matches!(self.kind(), Kind::Word(word) if word.starts_with(char::is_alphabetic)) {
            return Err(self.unexpected("a layer, such as ReLU()"));
        }
        let written = self.word("a layer")?;
        let class = written.strip_prefix("torch.").unwrap_or(written);
        let class = class.strip_prefix("nn.").unwrap_or(class);
        ensure!(self.eat('('), "line {line}: {class} needs parentheses: write {class}()");
        let module = if self.is_at_item() {
            let mut items = Vec::new();
            while self.is_at_item() {
                items.push(self.printed_item()?);
            }
            Module::Container(items)
        } else if class == "Sequential" {
            ensure!(self.kind() != Kind::Mark(')'), "line {line}: Sequential() is empty: write Identity()");
            let mut modules = Vec::new();
            while self.kind() != Kind::Mark(')') {
                modules.push(self.module()?);
                if !self.eat(',') {
                    break;
                }
            }
            self.at_close()?;
            sequential(modules)
        } else {
            Module::Layer(self.arguments(line, class)?)
        };
        self.expect(')')?;
        Ok(module)
    }

    /// The values and the named values of a call, up to its `)`.
    fn arguments(&mut self, line: usize, class: &'a str) -> Result<Call<'a>> {
        let mut call = Call { line, class, positional: Vec::new(), keywords: Vec::new() };
        while self.kind() != Kind::Mark(')') {
            let line = self.line();
            let count = call.positional.len() + call.keywords.len();
            ensure!(count < MOST_VALUES, "line {line}: {class} is given more than {MOST_VALUES} arguments");
            match self.ahead() {
                // As PyTorch up to 1.0 printed `inplace=True`.
                [Kind::Word("inplace"), Kind::Mark(',' | ')')] => {
                    self.next += 1;
                    call.keywords.push(("inplace", Value::Bool(true)));
                }
                [Kind::Word(name), Kind::Mark('=')] => {
                    self.next += 2;
                    // As PyTorch up to 0.3 printed the pools.
                    let name = if name == "size" && class.ends_with("Pool2d") { "kernel_size" } else { name };
                    let is_new = call.keywords.iter().all(|(other, _)| *other != name);
                    ensure!(is_new, "line {line}: {class} is given {name} twice");
                    call.keywords.push((name, self.value()?));
                }
                [Kind::Word(inner), Kind::Mark('(')] => bail!(
                    "line {line}: {class} does not take layers such as {inner}: only Sequential does, or a class whose members have names, as print(net) shows it"
                ),
                _ => {
                    let value = self.value()?;
                    if let Some((name, _)) = call.keywords.last() {
                        bail!("line {line}: {value} comes after {name}= and so needs a name too");
                    }
                    call.positional.push(value);
                }
            }
            if !self.eat(',') {
                break;
            }
        }
        self.at_close()?;
        Ok(call)
    }

    fn value(&mut self) -> Result<Value> {
        let line = self.line();
        match self.kind() {
            Kind::Word(word) => {
                self.next += 1;
                Ok(Value::of_word(word))
            }
            Kind::Text(text) => {
                self.next += 1;
                Ok(Value::Text(text.to_string()))
            }
            Kind::Placeholder(inside) => {
                self.next += 1;
                let (name, default) = match inside.split_once(':') {
                    Some((name, default)) => (name.trim(), Some(default.trim())),
                    None => (inside, None),
                };
                if name.contains(['=', ',']) {
                    bail!("line {line}: {{{inside}}} is not a placeholder: write {{name}} or {{name: default}}");
                }
                // The first default holds for the rest of the file.
                let default =
                    *self.placeholders.entry(name).and_modify(|first| *first = first.or(default)).or_insert(default);
                self.filled(name, default).map_err(|error| anyhow!("line {line}: {error}"))
            }
            Kind::Mark('(') => self.tuple(')'),
            Kind::Mark('[') => self.tuple(']'),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// `(3, 3)` or `[3, 3]`. Brackets around one value without a comma are only brackets.
    fn tuple(&mut self, end: char) -> Result<Value> {
        self.next += 1;
        let mut values = Vec::new();
        let mut is_tuple = end == ']';
        while self.kind() != Kind::Mark(end) {
            ensure!(values.len() < MOST_VALUES, "line {}: a tuple has more than {MOST_VALUES} values", self.line());
            values.push(self.value()?);
            if !self.eat(',') {
                break;
            }
            is_tuple = true;
        }
        self.expect(end)?;
        Ok(if values.len() == 1 && !is_tuple { values.remove(0) } else { Value::Tuple(values) })
    }

    /// The value of the placeholder `{name}` or `{name: default}`.
    fn filled(&self, name: &str, default: Option<&str>) -> Result<Value> {
        let text = self
            .values
            .get(name)
            .map(String::as_str)
            .or(default)
            .with_context(|| format!("{{{name}}} has no value: give it one, such as --net-values {name}=16"))?;
        let alone = |text: &str| -> Result<Value> {
            let values = BTreeMap::new();
            let mut parser = Parser { tokens: tokens(text)?, next: 0, values: &values, placeholders: BTreeMap::new() };
            let value = parser.value()?;
            parser.skip_ends();
            ensure!(parser.is_done());
            Ok(value)
        };
        alone(text)
            .map_err(|_| anyhow!("the value of {{{name}}} is {text:?}: it must be one value, such as 16 or 0.05"))
    }

    /// Refuses values without a placeholder.
    fn check_values(&self) -> Result<()> {
        let is_unused = |name: &&String| *name != ALWAYS_GIVEN && !self.placeholders.contains_key(name.as_str());
        if let Some(name) = self.values.keys().find(is_unused) {
            let known: Vec<String> = self.placeholders.keys().map(|name| format!("{{{name}}}")).collect();
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            bail!("there is a value for {name}, but the net has no placeholder {{{name}}}; it has {known}");
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.next >= self.tokens.len()
    }

    /// The next token; the end of the line after the last one.
    fn kind(&self) -> Kind<'a> {
        self.ahead::<1>()[0]
    }

    fn ahead<const N: usize>(&self) -> [Kind<'a>; N] {
        std::array::from_fn(|index| self.tokens.get(self.next + index).map_or(Kind::End, |token| token.kind))
    }

    fn line(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    fn is_at_item(&self) -> bool {
        matches!(self.ahead(), [Kind::Mark('('), Kind::Word(_), Kind::Mark(')'), Kind::Mark(':')])
    }

    fn skip_ends(&mut self) {
        while !self.is_done() && self.kind() == Kind::End {
            self.next += 1;
        }
    }

    fn eat(&mut self, mark: char) -> bool {
        let is_next = self.kind() == Kind::Mark(mark);
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, mark: char) -> Result<()> {
        if self.eat(mark) { Ok(()) } else { Err(self.unexpected(&format!("{mark:?}"))) }
    }

    fn word(&mut self, expected: &str) -> Result<&'a str> {
        let Kind::Word(word) = self.kind() else { return Err(self.unexpected(expected)) };
        self.next += 1;
        Ok(word)
    }

    /// Refuses what does not go on with a call.
    fn at_close(&self) -> Result<()> {
        if self.kind() == Kind::Mark(')') { Ok(()) } else { Err(self.unexpected("',' or ')'")) }
    }

    fn unexpected(&self, expected: &str) -> Error {
        // Inside brackets the end of a line has no token of its own.
        match self.next.checked_sub(1).and_then(|last| self.tokens.get(last)) {
            Some(last) if last.kind != Kind::End && (self.is_done() || last.line < self.line()) => {
                anyhow!("line {}: expected {expected}, found {}", last.line, Kind::End)
            }
            _ => anyhow!("line {}: expected {expected}, found {}", self.line(), self.kind()),
        }
    }
}

fn sequential(modules: Vec<Module>) -> Module {
    let item = |(index, module)| Item { name: Name::Index(index), module };
    Module::Container(modules.into_iter().enumerate().map(item).collect())
}

fn without_name(line: usize, class: &str) -> Error {
    anyhow!("line {line}: {class} has no name: write a name before it, such as layer1: {class}(...)")
}
