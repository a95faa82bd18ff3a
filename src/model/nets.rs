//! The nets that the program knows by name: the files in `nets/`.

use super::architecture::Architecture;
use std::collections::BTreeMap;

/// The name and the text of each, the original first.
const NETS: [(&str, &str); 1] = [("original", include_str!("../../nets/original.txt"))];

impl Architecture {
    /// The names of the program's own nets.
    pub(crate) fn own_names() -> impl Iterator<Item = &'static str> {
        NETS.iter().map(|(name, _)| *name)
    }

    /// The text of the net of this name.
    pub(crate) fn own_text(name: &str) -> Option<&'static str> {
        NETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// The net of this name, one of [`Architecture::own_names`], with this `dropout` where it leaves that open.
    pub(crate) fn own(name: &str, dropout: f64) -> Architecture {
        let values = BTreeMap::from([("dropout".to_string(), dropout.to_string())]);
        let text = Architecture::own_text(name).expect("a name of a net");
        Architecture::parse(text, &values).expect("the program's own nets are right")
    }

    /// The original's `Net`.
    pub fn original(dropout: f64) -> Architecture {
        Architecture::own(NETS[0].0, dropout)
    }
}
