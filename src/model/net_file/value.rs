//! The values that arguments have, as Python writes them.

use std::fmt::{self, Display};

/// A literal of Python.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::model) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Value>),
}

impl Value {
    /// The value of a word without quotes. A word that is not a number is a text, as print shows `padding=same`.
    pub(super) fn of_word(word: &str) -> Value {
        match word {
            "None" => Value::None,
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            _ => number(word).unwrap_or_else(|| Value::Text(word.to_string())),
        }
    }
}

/// A number of Python in decimal digits. Python has no integer such as 016.
fn number(word: &str) -> Option<Value> {
    let digits = word.trim_start_matches(['-', '+']);
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let is_octal = digits.len() > 1 && digits.starts_with('0');
        return if is_octal { None } else { word.parse().ok().map(Value::Int) };
    }
    word.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float)
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::None => f.write_str("None"),
            Value::Bool(true) => f.write_str("True"),
            Value::Bool(false) => f.write_str("False"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Float(number) => f.write_str(&repr(*number)),
            Value::Text(text) => write!(f, "'{text}'"),
            Value::Tuple(values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, "({}{})", values.join(", "), if values.len() == 1 { "," } else { "" })
            }
        }
    }
}

/// Python's `repr` of a float: the shortest text that gives the same number, with two digits or more in the exponent.
pub(crate) fn repr(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |positive| ('-', positive));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        let texts = ["0.05", "1e-05", "1.5e-07", "0.0001", "1.0", "1e+16", "1e+100", "123456789.125", "-0.2", "0.0"];
        for text in texts {
            assert_eq!(Value::of_word(text).to_string(), text);
        }
    }

    #[test]
    fn words_are_numbers_where_python_has_numbers() {
        assert_eq!(Value::of_word("-1"), Value::Int(-1));
        assert_eq!(Value::of_word("5."), Value::Float(5.));
        for word in ["016", "0x10", "1e999", "--1", "1_000", "nan", "inf", "-inf", "99999999999999999999", "1-2", "x"] {
            assert_eq!(Value::of_word(word), Value::Text(word.to_string()));
        }
    }
}
