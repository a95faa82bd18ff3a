//! The words and marks of a net file, each with its line.

use anyhow::{Result, bail, ensure};
use std::fmt::{self, Display};
use std::iter::Peekable;
use std::str::CharIndices;

/// How deep brackets can be nested. It bounds the depth of the parser's recursion.
const DEEPEST: usize = 32;

/// The longest word or text, in bytes. Error messages quote at most this much.
const LONGEST: usize = 100;

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A name, a class or a number as it is written: `nn.Conv2d`, `features.0`, `-1e-05`, `same`.
    Word(&'a str),
    /// What is between quotes.
    Text(&'a str),
    /// What is in `{name}` or `{name: default}`.
    Placeholder(&'a str),
    /// One of `( ) [ ] , : =`.
    Mark(char),
    /// The end of a line that no bracket continues.
    End,
}

impl Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Word(word) => f.write_str(word),
            Kind::Text(text) => write!(f, "{text:?}"),
            Kind::Placeholder(name) => write!(f, "{{{name}}}"),
            Kind::Mark(mark) => write!(f, "{mark:?}"),
            Kind::End => f.write_str("the end of the line"),
        }
    }
}

/// The tokens of `text`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut depth: usize = 0;
    // Some editors write a byte order mark.
    for (index, source) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = index + 1;
        let mut characters = source.char_indices().peekable();
        while let Some((start, character)) = characters.next() {
            let kind = match character {
                '#' => break,
                _ if character.is_whitespace() => continue,
                '(' | '[' => {
                    depth += 1;
                    ensure!(depth <= DEEPEST, "line {line}: more than {DEEPEST} brackets are open");
                    Kind::Mark(character)
                }
                ')' | ']' => {
                    depth = depth.saturating_sub(1);
                    Kind::Mark(character)
                }
                ',' | ':' | '=' => Kind::Mark(character),
                // `Linear(784 -> 10)`, as PyTorch up to 0.3 printed it.
                '-' if characters.next_if(|&(_, next)| next == '>').is_some() => Kind::Mark(','),
                '\'' | '"' => Kind::Text(between(source, &mut characters, character, line)?),
                '{' => Kind::Placeholder(between(source, &mut characters, '}', line)?.trim()),
                _ if is_word(character) => {
                    while characters.next_if(|&(_, next)| is_word(next)).is_some() {}
                    let end = characters.peek().map_or(source.len(), |&(end, _)| end);
                    Kind::Word(&source[start..end])
                }
                _ => bail!("line {line}: {character:?} means nothing in a net file"),
            };
            if let Kind::Word(text) | Kind::Text(text) | Kind::Placeholder(text) = kind {
                ensure!(text.len() <= LONGEST, "line {line}: a word has more than {LONGEST} characters");
            }
            tokens.push(Token { line, kind });
        }
        if depth == 0 {
            tokens.push(Token { line, kind: Kind::End });
        }
    }
    Ok(tokens)
}

/// A sign is part of a word: of a number, or of `0-3` where print shows equal layers in one line.
fn is_word(character: char) -> bool {
    character.is_alphanumeric() || "_.+-".contains(character)
}

/// The text up to `end`, which must be on the same line.
fn between<'a>(source: &'a str, characters: &mut Peekable<CharIndices>, end: char, line: usize) -> Result<&'a str> {
    let start = characters.peek().map_or(source.len(), |&(start, _)| start);
    match characters.find(|&(_, character)| character == end) {
        Some((stop, _)) => Ok(&source[start..stop]),
        None => bail!("line {line}: expected a closing {end}, found {}", Kind::End),
    }
}
