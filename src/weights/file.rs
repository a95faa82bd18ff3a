//! A weights file that was read: what is asked of it after that reads nothing again.

use super::formats::{EXTRA, is_parameter};
use super::safetensors::{CPU_GENERATOR, MODEL};
use super::{NET, select};
use crate::model::{Architecture, Kernels, Net, StateDict};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Device;
use torch_weights::{Contents, locate};

/// All arrays and metadata of a weights file.
pub struct WeightsFile {
    path: PathBuf,
    contents: Contents,
}

impl WeightsFile {
    /// Reads the file `path`, or the weights of the run whose folder it is.
    ///
    /// # Errors
    ///
    /// One sentence on a file that is missing, damaged or of an unknown format.
    pub fn open(path: &Path) -> Result<WeightsFile> {
        let path = locate(path)?;
        let mut contents = weights_of_run(torch_weights::open(&path)?);
        if let Some(text) = contents.metadata.remove(EXTRA) {
            let extra: BTreeMap<String, String> = serde_json::from_str(&text)
                .with_context(|| format!("{} cannot be read as weights: {EXTRA} in it is damaged", path.display()))?;
            contents.metadata.extend(extra);
        }
        Ok(WeightsFile { path, contents })
    }

    /// The file itself, if a folder was named.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata, for formats that have some.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.metadata
    }

    /// How many tensors its outermost dict has, and how many numbers the parameters among them.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let arrays = || self.contents.dicts.first().into_iter().flat_map(|dict| dict.arrays());
        let parameters = arrays().filter(|(key, _)| is_parameter(key));
        (arrays().count(), parameters.map(|(_, array)| array.shape().iter().product::<usize>()).sum())
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

/// Of a run's checkpoint the weights that were measured; of any other file everything.
fn weights_of_run(contents: Contents) -> Contents {
    let is_checkpoint = contents.dicts.first().is_some_and(|dict| dict.get(CPU_GENERATOR).is_some());
    if !is_checkpoint {
        return contents;
    }
    let entries = contents.dicts.into_iter().flatten();
    let own = entries.filter_map(|(key, entry)| Some((key.strip_prefix(MODEL)?.to_string(), entry)));
    Contents { dicts: vec![torch_weights::Dict::new(String::new(), own)], ..contents }
}
