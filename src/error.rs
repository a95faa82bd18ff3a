//! What an error looks like: always one sentence.

use anyhow::{Result, anyhow};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error;
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A mistake in the command line: exit code 2. Its text is one sentence.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for UsageError {}

/// The error of a value parser: what its flag takes, such as `a number above 0`.
#[derive(Clone, Debug)]
pub(crate) struct Expected(pub(crate) String);

impl Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Expected {}

/// What clap says over several lines, in one sentence: `--lr takes a number above 0, not -1`; for other mistakes its
/// message, its tip, and where help is.
pub(crate) fn usage_sentence(error: &clap::Error) -> String {
    wrong_value(error).or_else(|| stray_bool(error)).unwrap_or_else(|| {
        let text = error.to_string();
        let mut paragraphs = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
        let message = paragraphs.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(&message).to_string();
        let tip = paragraphs.find_map(|part| part.strip_prefix("tip: ").map(|tip| format!(" ({tip})")));
        let tip = tip.unwrap_or_default();
        // The spelling with underscores is an alias.
        let tip = if error.get(ContextKind::SuggestedArg).is_some() { tip.replace('_', "-") } else { tip };
        format!("{message}{tip}; tch-mnist --help lists the commands, tch-mnist COMMAND --help their flags")
    })
}

/// The sentence on a value that its flag does not take, if `error` is one.
fn wrong_value(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    // `--lr <X>`, `--nesterov[=<BOOL>]`
    let (flag, form) = flag.split_at(flag.find([' ', '[']).unwrap_or(flag.len()));
    // A list of choices has no comma in a choice; `--milestones <N,N>` takes one.
    let is_decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.trim_start_matches('-');
    let is_with_comma = number.split_once(',').is_some_and(|(whole, part)| is_decimal(whole) && is_decimal(part));
    let expected = match (error.kind(), error.get(ContextKind::ValidValue)) {
        (ErrorKind::InvalidValue, Some(ContextValue::Strings(values))) if !value.is_empty() => {
            Some(either(values, "or"))
        }
        (ErrorKind::ValueValidation, _) => {
            error.source().and_then(|it| it.downcast_ref()).map(|Expected(it)| it.clone())
        }
        _ => None,
    };
    let is_whole = expected.as_ref().is_some_and(|expected| expected.starts_with("a whole number"));
    if is_with_comma && !form.contains(',') && !is_whole {
        return Some(format!("{flag}: write {}, with a decimal point", value.replace(',', ".")));
    }
    let given = if value.trim().is_empty() { "nothing" } else { value };
    Some(format!("{flag} takes {}, not {given}", expected?))
}

/// The sentence on `--nesterov false`, if `error` is one: a flag that may stand alone takes its value behind an equals sign.
fn stray_bool(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_bool = ["true", "false"].contains(&value.to_lowercase().as_str());
    (is_bool && error.kind() == ErrorKind::UnknownArgument)
        .then(|| format!("'{value}' belongs to no flag: write --FLAG={value}"))
}

/// `one, two or three`, or with `and` for `or`.
pub(crate) fn either(values: &[String], or: &str) -> String {
    match values {
        [first @ .., second_last, last] => [first, &[format!("{second_last} {or} {last}")]].concat().join(", "),
        _ => values.join(", "),
    }
}

/// An error and its causes on one line: `what is wrong: why`.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = first_line(&cause.to_string()).trim().to_string();
        if !text.is_empty() && !parts.last().is_some_and(|last| ends_with_cause(last, &text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// A path as a shell takes it, to be pasted: quoted where it must be, and bytes that are no UTF-8 escaped as in bash.
pub(crate) fn pasted(path: &Path) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+=:@%,".contains(letter);
    match path.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_string(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let escape = |byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                byte => format!("\\x{byte:02x}"),
            };
            format!("$'{}'", path.as_os_str().as_bytes().iter().map(escape).collect::<String>())
        }
    }
}

/// Whether an error's text repeats its cause at its end, as `what is wrong: why`. A cause that is only a word of it, such
/// as the name of a tensor in that of its file, is not repeated.
fn ends_with_cause(text: &str, cause: &str) -> bool {
    let before = text.strip_suffix(cause).map(str::trim_end);
    before.is_some_and(|before| before.is_empty() || before.ends_with(':'))
}

/// The message of a libtorch error, without the C++ back trace on the lines below it.
pub(crate) fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// Runs `body` and turns a panic into an error.
///
/// tch's layers panic when libtorch throws, for example when a GPU runs out of memory; the panic's text is libtorch's.
pub(crate) fn without_panic<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
        // `called `Result::unwrap()` on an `Err` value: Torch("libtorch's message\nand a back trace")`
        let text = text.split_once("Torch(\"").map_or(text, |(_, text)| text);
        Err(anyhow!("{}", text.split("\\n").next().unwrap_or(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        for (path, text) in [
            (&b"runs/a-1.2"[..], "runs/a-1.2"),
            ("zahlen/zw\u{f6}lf".as_bytes(), "zahlen/zw\u{f6}lf"),
            (b"my data", "'my data'"),
            (b"it's", r"'it'\''s'"),
            (b"~/x", "'~/x'"),
            (b"", "''"),
            (b"caf\xe9/a'b\\", r"$'caf\xe9/a\'b\\'"),
            (b"two\nlines", r"$'two\x0alines'"),
        ] {
            assert_eq!(pasted(Path::new(std::ffi::OsStr::from_bytes(path))), text);
        }
    }

    #[test]
    fn a_cause_is_said_once_and_never_left_out() {
        let said = |outer: &str, cause: &str| sentence(&anyhow!("{cause}").context(outer.to_string()));
        assert_eq!(said("a.txt cannot be read: it is empty", "it is empty"), "a.txt cannot be read: it is empty");
        assert_eq!(said("it is empty", "it is empty"), "it is empty");
        let file = "conv1.safetensors cannot be read as weights";
        assert_eq!(said(file, "conv1"), format!("{file}: conv1"));
        assert_eq!(said("the net does not fit net", "net"), "the net does not fit net: net");
        assert_eq!(said(file, ""), file);
    }
}
