//! A weights file that was read: what is asked of it after that reads nothing again.

use super::archive::Archive;
use super::format::Contents;
use super::{NET, formats, read_bytes, select};
use crate::model::{Architecture, Kernels, Net, StateDict};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Device;

/// All tensors and metadata of a weights file.
pub struct WeightsFile {
    path: PathBuf,
    contents: Contents,
}

impl WeightsFile {
    /// Reads the file `path`.
    ///
    /// # Errors
    ///
    /// One sentence on a file that is missing, damaged or of an unknown format.
    pub fn open(path: &Path) -> Result<WeightsFile> {
        let contents = contents(path).with_context(|| format!("{} cannot be read as weights", path.display()))?;
        Ok(WeightsFile { path: path.to_path_buf(), contents })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata, for formats that have some.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.metadata
    }

    /// The weights of a net with the keys, shapes and types of `expected`; if the file holds several sets, `key` names
    /// one. What is different in the file and does not matter is logged as a warning.
    ///
    /// # Errors
    ///
    /// One sentence if the weights of this net are not in the file.
    pub fn read(&self, key: Option<&str>, expected: &StateDict) -> Result<StateDict> {
        let (weights, notices) = select::select(&self.contents, expected, key).with_context(|| self.does_not_fit())?;
        for notice in notices {
            tracing::warn!("{}: {notice}", self.path.display());
        }
        Ok(weights)
    }

    /// Reads them into `net`, which stays as it is if they do not fit.
    pub fn load(&self, key: Option<&str>, net: &Net) -> Result<()> {
        net.load_state_dict(&self.read(key, &net.state_dict())?).with_context(|| self.does_not_fit())
    }

    fn does_not_fit(&self) -> String {
        format!("{} does not fit the net", self.path.display())
    }

    /// The net whose weights these are: the one that the file describes, else the first of this program's own, with
    /// `dropout`, that it has the weights of. `None` if it has those of none. `key` as in [`WeightsFile::read`].
    pub(crate) fn architecture(&self, key: Option<&str>, dropout: f64) -> Result<Option<Architecture>> {
        if let Some(text) = self.contents.metadata.get(NET) {
            let parsed = Architecture::parse(text, &BTreeMap::new());
            return parsed
                .map(Some)
                .with_context(|| format!("the net that {} describes is refused", self.path.display()));
        }
        let fits = |net: &Architecture| {
            let expected = Net::new(Device::Cpu, net, Kernels::Torch).state_dict();
            select::select(&self.contents, &expected, key).is_ok()
        };
        Ok(Architecture::own_names().map(|name| Architecture::own(name, dropout)).find(fits))
    }
}

fn contents(path: &Path) -> Result<Contents> {
    let bytes = read_bytes(path)?;
    ensure!(!bytes.is_empty(), "it is empty");
    match formats::recognise(&bytes) {
        Some(format) => format.read(&bytes),
        None if bytes.starts_with(b"PK") => {
            Archive::flat(&bytes)?;
            bail!("it is a zip archive, but not one of torch.save, torch.jit.save, torch.export.save or NumPy")
        }
        None => bail!("it is not a torch.save, safetensors, ONNX or .npz file"),
    }
}
