//! Datasets.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The datasets that come as four IDX files of 28x28 images in ten classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dataset {
    /// Handwritten digits (LeCun, Cortes, Burges)
    #[default]
    Mnist,
    /// Pictures of clothes (Zalando)
    FashionMnist,
    /// Cursive Japanese characters (CODH)
    Kmnist,
}
pub mod fetch {
    use super::*;
    pub fn ensure(_f: &Path, _d: Dataset, _m: Option<&str>, _p: bool) -> Result<()> {
        Ok(())
    }
}
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};
pub struct Split {
    pub images: Tensor,
    pub labels: Tensor,
    table: Tensor,
}
pub struct Data {
    pub train: Split,
    pub test: Split,
    pub checksums: BTreeMap<String, String>,
}
impl Split {
    pub fn len(&self) -> i64 {
        self.labels.size()[0]
    }
    pub fn batch(&self, i: &Tensor) -> Result<(Tensor, Tensor)> {
        let im = self.images.index_select(0, i);
        Ok((self.table.take(&im.to_kind(Kind::Int64)), self.labels.index_select(0, i)))
    }
}
pub fn load(folder: &Path, _d: Dataset, device: Device, lt: Option<i64>, ls: Option<i64>) -> Result<Data> {
    let d = tch::vision::mnist::load_dir(folder.join("mnist"))?;
    let table = (Tensor::arange(256, (Kind::Float, Device::Cpu)) / 255. - 0.1307) / 0.3081;
    let f = |im: Tensor, la: Tensor, l: Option<i64>| {
        let n = l.unwrap_or(i64::MAX).min(la.size()[0]);
        Split {
            images: (im * 255.).round().to_kind(Kind::Uint8).view([-1, 1, 28, 28]).narrow(0, 0, n).to_device(device),
            labels: la.narrow(0, 0, n).to_device(device),
            table: table.to_device(device),
        }
    };
    Ok(Data {
        train: f(d.train_images, d.train_labels, lt),
        test: f(d.test_images, d.test_labels, ls),
        checksums: BTreeMap::new(),
    })
}
