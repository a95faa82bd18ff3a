//! An [`Architecture`] as the text of a net file.

use crate::model::architecture::{Architecture, NamedLayer};
use std::fmt::{self, Display};

/// A line per member, without what is the default: the text that weights files carry. [`Architecture::parse`] makes an
/// equal net of it, and what follows a name is an expression of Python.
impl Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_members(f, self.layers(), 0)
    }
}

/// Writes the members of a module; their names begin at `start` of the layers' paths.
fn write_members(f: &mut fmt::Formatter<'_>, layers: &[NamedLayer], start: usize) -> fmt::Result {
    for (name, layers) in children(layers, start) {
        let end = start + name.len();
        let path = &layers[0].path[..end];
        match layers {
            [leaf] if leaf.path.len() == end => writeln!(f, "{path}: {}", leaf.layer)?,
            _ => match sequence(layers, end + 1).as_deref() {
                Some([one]) => writeln!(f, "{path}: Sequential({one})")?,
                Some(several) => writeln!(f, "{path}: {}", several.join(", "))?,
                // Members with names of their own get lines of their own.
                None => write_members(f, layers, end + 1)?,
            },
        }
    }
    Ok(())
}

/// The modules of an `nn.Sequential` as Python writes them, or `None` if the members are not named 0, 1, 2, ...
fn sequence(layers: &[NamedLayer], start: usize) -> Option<Vec<String>> {
    let module = |(index, (name, layers)): (usize, (&str, &[NamedLayer]))| match layers {
        _ if name != index.to_string() => None,
        [leaf] if leaf.path.len() == start + name.len() => Some(leaf.layer.to_string()),
        _ => Some(format!("Sequential({})", sequence(layers, start + name.len() + 1)?.join(", "))),
    };
    children(layers, start).enumerate().map(module).collect()
}

/// The layers of each member, with its name, which begins at `start` of their paths.
fn children(layers: &[NamedLayer], start: usize) -> impl Iterator<Item = (&str, &[NamedLayer])> {
    let name = move |layer: &NamedLayer| layer.path[start..].split('.').next().unwrap_or_default().len();
    layers
        .chunk_by(move |one, next| {
            let end = start + name(one);
            one.path[start..end] == next.path[start..start + name(next)]
        })
        .map(move |layers| (&layers[0].path[start..start + name(&layers[0])], layers))
}
