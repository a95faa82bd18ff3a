//! What the publishers of each dataset serve: mirrors and checksums.

use super::Dataset;
use super::idx::{Digest, FILES};

impl Dataset {
    /// The name on the command line, and of the folder that holds the files.
    pub fn name(self) -> &'static str {
        match self {
            Dataset::Mnist => "mnist",
            Dataset::FashionMnist => "fashion-mnist",
            Dataset::Kmnist => "kmnist",
        }
    }

    /// Folders on the web that serve the four files gzipped, to be tried in this order.
    ///
    /// The first addresses of MNIST (yann.lecun.com) and of Fashion-MNIST (an S3 website, HTTP only) are left out:
    /// the one refuses most requests, the other has no HTTPS.
    pub fn mirrors(self) -> &'static [&'static str] {
        match self {
            Dataset::Mnist => &[
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ],
            Dataset::FashionMnist => &[
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            ],
            Dataset::Kmnist => &["https://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
        }
    }

    /// SHA-256 of the four published files in the order of [`FILES`].
    fn published(self) -> Published {
        match self {
            Dataset::Mnist => Published::Unpacked([
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ]),
            Dataset::FashionMnist => Published::Unpacked([
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ]),
            Dataset::Kmnist => Published::Gzipped([
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ]),
        }
    }

    /// Compares what was read of one file with what its publisher serves.
    pub fn compare(self, file: usize, digest: &Digest) -> Checksum {
        let (known, read) = match self.published() {
            Published::Unpacked(known) => (known[file], Some(&digest.sha256)),
            Published::Gzipped(known) => (known[file], digest.gzip_sha256.as_ref()),
        };
        match read {
            Some(read) if read == known => Checksum::Ok,
            _ => match Dataset::owner_of(file, digest) {
                Some(owner) => Checksum::Of(owner),
                // gzip of the same bytes differs from tool to tool, so another .gz may hold the right images.
                None if matches!(self.published(), Published::Gzipped(_)) => Checksum::Unknown,
                None => Checksum::Differs,
            },
        }
    }

    /// The dataset that published exactly these bytes.
    fn owner_of(file: usize, digest: &Digest) -> Option<Dataset> {
        [Dataset::Mnist, Dataset::FashionMnist, Dataset::Kmnist].into_iter().find(|dataset| match dataset.published() {
            Published::Unpacked(known) => digest.sha256 == known[file],
            Published::Gzipped(known) => digest.gzip_sha256.as_deref() == Some(known[file]),
        })
    }
}

impl std::fmt::Display for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose SHA-256 are known: of the IDX files themselves, or only of the .gz files that hold them.
enum Published {
    Unpacked([&'static str; FILES.len()]),
    Gzipped([&'static str; FILES.len()]),
}

/// How a file's SHA-256 compares with the published one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// These are the published bytes.
    Ok,
    /// The file is sound, but not the published one.
    Differs,
    /// The file is sound and belongs to this other dataset.
    Of(Dataset),
    /// The file is sound, and no checksum for it was published: of KMNIST only those of its .gz files are.
    Unknown,
    /// There is no such file.
    Missing,
    /// The file cannot be used, and why.
    Invalid(String),
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Checksum::Ok => f.write_str("sha256 ok"),
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

    fn digest(sha256: &str, gzip_sha256: Option<&str>) -> Digest {
        Digest { sha256: sha256.into(), gzip_sha256: gzip_sha256.map(String::from), count: 1, length: 9 }
    }

    #[test]
    fn a_checksum_is_compared_with_the_one_that_was_published() {
        let kmnist = "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4";
        let fashion = "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888";
        assert_eq!(Dataset::Kmnist.compare(0, &digest("other", Some(kmnist))), Checksum::Ok);
        // Once unpacked, a file of KMNIST can no longer be compared; nor can one that was gzipped by somebody else.
        assert_eq!(Dataset::Kmnist.compare(0, &digest("other", None)), Checksum::Unknown);
        assert_eq!(Dataset::Kmnist.compare(0, &digest("other", Some("other"))), Checksum::Unknown);
        assert_eq!(Dataset::Kmnist.compare(0, &digest(fashion, None)), Checksum::Of(Dataset::FashionMnist));
        assert_eq!(Dataset::Mnist.compare(0, &digest("other", Some(kmnist))), Checksum::Of(Dataset::Kmnist));
        assert_eq!(Dataset::Mnist.compare(0, &digest("other", None)), Checksum::Differs);
        assert_eq!(Dataset::FashionMnist.compare(0, &digest(fashion, Some("any"))), Checksum::Ok);
        // The same bytes under another name are not the file.
        assert_eq!(Dataset::FashionMnist.compare(2, &digest(fashion, None)), Checksum::Differs);
    }
}
