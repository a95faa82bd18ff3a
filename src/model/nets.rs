//! The nets that the program knows by name: the files in `nets/`.

use super::architecture::Architecture;
use std::collections::BTreeMap;

/// The name and the text of each, the original first.
const NETS: [(&str, &str); 7] = [
    ("original", include_str!("../../nets/original.txt")),
    ("small-7k", include_str!("../../nets/small-7k.txt")),
    ("small-5k", include_str!("../../nets/small-5k.txt")),
    ("small-4k", include_str!("../../nets/small-4k.txt")),
    ("wide", include_str!("../../nets/wide.txt")),
    ("lenet5", include_str!("../../nets/lenet5.txt")),
    ("mlp", include_str!("../../nets/mlp.txt")),
];

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_file_in_nets_is_known_and_makes_a_net() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("nets");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut stems: Vec<_> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_string()).collect();
        stems.sort();
        let mut names: Vec<&str> = Architecture::own_names().collect();
        names.sort();
        assert_eq!(names, stems);
        for name in names {
            let net = Architecture::own(name, 0.05);
            assert_eq!(Architecture::parse(&net.to_string(), &BTreeMap::new()).unwrap(), net, "{name}");
        }
        assert_eq!(Architecture::own_text("nothing"), None);
    }

    #[test]
    fn the_default_is_the_original() {
        let original = Architecture::original(0.1);
        assert_eq!(original, Architecture::own("original", 0.1));
        assert_eq!(original.layers().iter().map(|named| named.layer.parameters()).sum::<i64>(), 11_392);
    }
}
