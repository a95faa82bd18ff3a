//! Between the arrays of files and libtorch's tensors.

use crate::model::StateDict;
use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};
use torch_weights::{Array, Dtype};

/// A tensor on the CPU with a copy of the array's numbers.
pub(super) fn tensor(array: &Array) -> Result<Tensor> {
    let size: Vec<i64> = array.shape().iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_from_data_size(array.bytes(), &size, kind(array.dtype()))?)
}

/// The tensors of these arrays, in their order.
pub(super) fn tensors(arrays: &[(String, Array)]) -> Result<StateDict> {
    let named = |(key, array): &(String, Array)| Ok((key.clone(), tensor(array)?));
    Ok(StateDict(arrays.iter().map(named).collect::<Result<_>>()?))
}

/// A contiguous copy of a tensor's numbers, little-endian as every machine that libtorch runs on.
pub(super) fn array(tensor: &Tensor) -> Result<Array> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    let shape = tensor.size().into_iter().map(|size| size as usize).collect();
    Array::new(dtype(tensor.kind())?, shape, bytes)
}

/// The arrays of a state_dict, in its order.
pub(super) fn arrays(weights: &StateDict) -> Result<Vec<(String, Array)>> {
    weights.0.iter().map(|(key, tensor)| Ok((key.clone(), array(tensor)?))).collect()
}

/// libtorch's type.
pub(super) fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::Bool => Kind::Bool,
    }
}

/// The type in files.
pub(super) fn dtype(kind: Kind) -> Result<Dtype> {
    Ok(match kind {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Int16 => Dtype::I16,
        Kind::Int8 => Dtype::I8,
        Kind::Uint8 => Dtype::U8,
        Kind::Bool => Dtype::Bool,
        _ => bail!("no weights format has numbers of the type {kind:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_the_same_after_it_was_an_array() {
        let kinds = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16, Kind::Int64, Kind::Int, Kind::Int16];
        for kind in kinds.into_iter().chain([Kind::Int8, Kind::Uint8, Kind::Bool]) {
            for one in [
                Tensor::arange(6, (Kind::Int64, Device::Cpu)).to_kind(kind).view([2, 3]).tr(),
                Tensor::zeros([0i64; 0], (kind, Device::Cpu)),
            ] {
                let other = tensor(&array(&one).unwrap()).unwrap();
                assert_eq!((other.kind(), other.size()), (one.kind(), one.size()));
                assert!(other.equal(&one), "{kind:?}");
            }
        }
        assert!(dtype(Kind::ComplexFloat).is_err());
    }
}
