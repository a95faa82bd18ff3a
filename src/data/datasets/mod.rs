//! The datasets: four IDX files of 28x28 images in ten classes each, with mirrors and checksums. One file per dataset.

mod fashion_mnist;
mod kmnist;
mod mnist;

use super::idx::{Digest, FILES, IdxFile};
use crate::shape::CLASSES;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};

/// The list: a line per dataset, with the module that has its facts. The first is the default.
macro_rules! datasets {
    ($($dataset:ident: $module:ident,)+) => {
        /// The datasets by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Dataset {
            $($dataset,)+
        }

        const ALL: &[Dataset] = &[$(Dataset::$dataset,)+];

        impl Dataset {
            pub(crate) fn facts(self) -> &'static Facts {
                match self {
                    $(Dataset::$dataset => &$module::FACTS,)+
                }
            }
        }
    };
}

datasets! {
    Mnist: mnist,
    FashionMnist: fashion_mnist,
    Kmnist: kmnist,
}

/// What there is to know about a dataset.
pub(crate) struct Facts {
    /// Its name on the command line, in `config.toml`, and of the folder with its files.
    pub(crate) name: &'static str,
    /// Its name as its authors write it.
    pub(crate) title: &'static str,
    /// What it shows, and who made it.
    pub(crate) about: &'static str,
    /// What its classes are called, from 0 to 9.
    pub(crate) classes: [&'static str; CLASSES],
    /// The folder below torchvision's root that holds its files.
    pub(crate) torchvision: &'static str,
    /// Folders on the web with the four files, gzipped, to be tried in this order.
    pub(crate) mirrors: &'static [&'static str],
    /// The checksums of the published files.
    published: Published,
    /// Whether `scripts/setup` can take the files from a package if no mirror answers.
    pub(crate) setup_has_a_package: bool,
}

/// SHA-256 in the order of [`FILES`]: of the IDX files, or only of the .gz files that hold them.
enum Published {
    Unpacked([&'static str; FILES.len()]),
    Gzipped([&'static str; FILES.len()]),
}

impl Published {
    /// Whether `digest` is that of the published file, by its place in [`FILES`].
    fn matches(&self, file: usize, digest: &Digest) -> bool {
        match self {
            Published::Unpacked(known) => digest.sha256 == known[file],
            Published::Gzipped(known) => digest.gzip_sha256.as_deref() == Some(known[file]),
        }
    }
}

impl Dataset {
    pub(crate) fn all() -> impl Iterator<Item = Dataset> {
        ALL.iter().copied()
    }

    /// Compares a file that was read with the published one.
    pub(crate) fn compare(self, file: &IdxFile, digest: &Digest) -> Checksum {
        let file = FILES.iter().position(|other| other == file).expect("there are only these");
        let published = &self.facts().published;
        let owner = || Dataset::all().find(|other| other.facts().published.matches(file, digest));
        match (published.matches(file, digest), owner(), published) {
            (true, ..) => Checksum::Ok,
            (false, Some(owner), _) => Checksum::Of(owner),
            // gzip of the same bytes differs from tool to tool, so another .gz may hold the right images.
            (false, None, Published::Gzipped(_)) => Checksum::Unknown,
            (false, None, Published::Unpacked(_)) => Checksum::Differs,
        }
    }
}

impl Default for Dataset {
    fn default() -> Dataset {
        ALL[0]
    }
}

impl ValueEnum for Dataset {
    fn value_variants<'a>() -> &'a [Dataset] {
        ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.facts().name).help(self.facts().about))
    }
}

impl Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
    }
}

impl Serialize for Dataset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.facts().name)
    }
}

/// How a file's SHA-256 compares with the published one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// These are the published bytes.
    Ok,
    /// The file is the one that was imported.
    Imported,
    /// The file is valid, but not the published one.
    Differs,
    /// The file is valid and belongs to this other dataset.
    Of(Dataset),
    /// The file is valid, and no checksum for it was published: KMNIST has only those of its .gz files.
    Unknown,
    /// The file does not exist.
    Missing,
    /// The file cannot be used, and why.
    Invalid(String),
}

impl Checksum {
    /// Whether the file can be trusted to be what it is called: nothing says otherwise.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Checksum::Ok | Checksum::Imported | Checksum::Unknown)
    }
}

impl Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Checksum::Ok => f.write_str("sha256 ok"),
            Checksum::Imported => f.write_str("as imported"),
            Checksum::Differs => f.write_str("sha256 differs from the published one"),
            Checksum::Of(dataset) => write!(f, "this is the file of {dataset}"),
            Checksum::Unknown => f.write_str("sha256 not published"),
            Checksum::Missing => f.write_str("missing"),
            Checksum::Invalid(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_datasets_share_a_name_a_place_or_a_checksum() {
        let is_distinct = |of: fn(&'static Facts) -> Vec<&'static str>| {
            let all: Vec<&str> = Dataset::all().flat_map(|dataset| of(dataset.facts())).collect();
            all.iter().collect::<HashSet<_>>().len() == all.len()
        };
        assert!(is_distinct(|facts| vec![facts.name]));
        assert!(is_distinct(|facts| vec![facts.title]));
        assert!(is_distinct(|facts| vec![facts.torchvision]));
        assert!(is_distinct(|facts| match &facts.published {
            Published::Unpacked(known) | Published::Gzipped(known) => known.to_vec(),
        }));
        for dataset in Dataset::all() {
            let facts = dataset.facts();
            assert!(!facts.mirrors.is_empty() && facts.mirrors.iter().all(|mirror| mirror.ends_with('/')), "{dataset}");
            assert_eq!(facts.classes.iter().collect::<HashSet<_>>().len(), CLASSES, "{dataset}");
            assert_eq!(Dataset::from_str(facts.name, false), Ok(dataset));
        }
    }

    fn digest(sha256: &str, gzip_sha256: Option<&str>) -> Digest {
        Digest { sha256: sha256.into(), gzip_sha256: gzip_sha256.map(String::from), count: 1, length: 9 }
    }

    #[test]
    fn a_checksum_is_compared_with_the_one_that_was_published() {
        let kmnist = "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4";
        let fashion = "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888";
        assert_eq!(Dataset::Kmnist.compare(&FILES[0], &digest("other", Some(kmnist))), Checksum::Ok);
        // An unpacked file of KMNIST has nothing to be compared with, nor has one that somebody else gzipped.
        assert_eq!(Dataset::Kmnist.compare(&FILES[0], &digest("other", None)), Checksum::Unknown);
        assert_eq!(Dataset::Kmnist.compare(&FILES[0], &digest("other", Some("other"))), Checksum::Unknown);
        assert_eq!(Dataset::Kmnist.compare(&FILES[0], &digest(fashion, None)), Checksum::Of(Dataset::FashionMnist));
        assert_eq!(Dataset::Mnist.compare(&FILES[0], &digest("other", Some(kmnist))), Checksum::Of(Dataset::Kmnist));
        assert_eq!(Dataset::Mnist.compare(&FILES[0], &digest("other", None)), Checksum::Differs);
        assert_eq!(Dataset::FashionMnist.compare(&FILES[0], &digest(fashion, Some("any"))), Checksum::Ok);
        // The same bytes under another name are another file.
        assert_eq!(Dataset::FashionMnist.compare(&FILES[2], &digest(fashion, None)), Checksum::Differs);
    }
}
