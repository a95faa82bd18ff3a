use super::StateDict;
use anyhow::Result;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};
pub fn write(path: &Path, weights: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    let bytes: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = weights
        .0
        .iter()
        .map(|(n, t)| {
            let (d, s) = match t.kind() {
                Kind::Float => (Dtype::F32, 4),
                Kind::Int64 => (Dtype::I64, 8),
                _ => (Dtype::U8, 1),
            };
            let t = t.contiguous();
            let mut b = vec![0u8; t.numel() * s];
            t.f_copy_data_u8(&mut b, t.numel()).unwrap();
            (n.clone(), d, t.size().iter().map(|x| *x as usize).collect(), b)
        })
        .collect();
    let views: Vec<(String, TensorView)> =
        bytes.iter().map(|(n, d, s, b)| (n.clone(), TensorView::new(*d, s.clone(), b).unwrap())).collect();
    std::fs::write(path, safetensors::serialize(views, Some(metadata.clone().into_iter().collect()))?)?;
    Ok(())
}
pub fn read(path: &Path) -> Result<(StateDict, BTreeMap<String, String>)> {
    let b = std::fs::read(path)?;
    let (_, m) = SafeTensors::read_metadata(&b)?;
    let meta = m.metadata().clone().unwrap_or_default().into_iter().collect();
    let s = SafeTensors::deserialize(&b)?;
    let v = s
        .tensors()
        .into_iter()
        .map(|(n, v)| {
            let k = match v.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::I64 => Kind::Int64,
                _ => Kind::Uint8,
            };
            let sh: Vec<i64> = v.shape().iter().map(|x| *x as i64).collect();
            (n, Tensor::f_from_data_size(v.data(), &sh, k).unwrap())
        })
        .collect();
    Ok((StateDict(v), meta))
}
