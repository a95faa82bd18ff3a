//! The net: which file of layers, and what fills its placeholders.

use crate::error::UsageError;
use crate::flags::{any, within};
use crate::model::Architecture;
use anyhow::{Context, Result, anyhow, ensure};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The net and its arguments.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct NetSettings {
    /// The net: a file with its layers (docs/nets.md), or the name of a built-in net
    #[arg(long, value_name = "FILE", default_value = "original")]
    pub net: PathBuf,
    /// What fills the placeholders of the net file, such as {width}: NAME=VALUE, several separated by commas
    #[arg(long, hide_short_help = true, value_name = "VALUES", default_value_t, value_parser = any::<NetValues>("NAME=VALUE,.."))]
    pub net_values: NetValues,
    /// The share of activations that the dropout layers zero in training: {dropout} in the net file
    #[arg(long, value_name = "X", default_value_t = NetSettings::DROPOUT, value_parser = within("a share", 0.0..1.0))]
    pub dropout: f64,
}

/// The net of weights from a file.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct NetOfWeights {
    /// A file with the net's layers, for weights that neither contain their net nor fit a built-in one
    #[arg(long, value_name = "FILE")]
    net: Option<PathBuf>,
    /// What fills the placeholders of the net file: NAME=VALUE, several separated by commas
    #[arg(long, value_name = "VALUES", default_value_t, value_parser = any::<NetValues>("NAME=VALUE,.."), requires = "net")]
    net_values: NetValues,
}

/// The values of placeholders by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetValues(BTreeMap<String, String>);

impl NetSettings {
    /// The original's dropout.
    pub(crate) const DROPOUT: f64 = 0.05;

    /// The layers.
    ///
    /// # Errors
    ///
    /// One sentence on a file that cannot be read or does not describe a net.
    pub fn architecture(&self) -> Result<Architecture> {
        let NetSettings { net, net_values, dropout } = self;
        let text = text_of(net)?;
        if *dropout != NetSettings::DROPOUT && !text.contains("{dropout}") {
            tracing::warn!("--dropout {dropout} changes nothing: the net of {} has no {{dropout}}", net.display());
        }
        parse(net, &text, net_values, *dropout)
    }
}

impl NetOfWeights {
    /// Whether a net was named.
    pub(crate) fn is_given(&self) -> bool {
        self.net.is_some()
    }

    /// The layers, with this `dropout` in training; `None` if no net was named.
    pub(crate) fn architecture(&self, dropout: f64) -> Result<Option<Architecture>> {
        let read = |net: &PathBuf| parse(net, &text_of(net)?, &self.net_values, dropout);
        self.net.as_ref().map(read).transpose()
    }
}

/// The text of the file, or of the program's own net of this name.
fn text_of(net: &Path) -> Result<String> {
    if let Some(text) = net.to_str().and_then(Architecture::own_text) {
        return Ok(text.to_string());
    }
    super::text_in(net).map_err(|error| {
        let names = Architecture::own_names().collect::<Vec<_>>().join(", ");
        anyhow!("--net {} cannot be read: {error}; this program's own nets are {names}", net.display())
    })
}

fn parse(net: &Path, text: &str, NetValues(values): &NetValues, dropout: f64) -> Result<Architecture> {
    let mut values = values.clone();
    if values.insert("dropout".into(), dropout.to_string()).is_some() {
        return Err(UsageError("--net-values cannot set dropout: --dropout does".into()).into());
    }
    let architecture = Architecture::parse(text, &values).with_context(|| format!("--net {}", net.display()))?;
    ensure!(architecture.parameters() > 0, "--net {}: it has no parameters that could be trained", net.display());
    Ok(architecture)
}

impl FromStr for NetValues {
    type Err = ();

    fn from_str(text: &str) -> Result<NetValues, ()> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').ok_or(())?;
            Ok((name.trim().to_string(), value.trim().to_string()))
        };
        Ok(NetValues(pairs.map(pair).collect::<Result<_, ()>>()?))
    }
}

impl Display for NetValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}

impl Serialize for NetValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
