//! Many small tensors, moved from a GPU to the host in a few transfers.

use anyhow::Result;
use tch::{Device, Tensor};

/// Copies of `tensors` in the host's memory.
///
/// Each transfer from a GPU waits until it has done everything before. So tensors of one type are put together there,
/// and come as one.
pub fn to_host(tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    if tensors.iter().any(|tensor| tensor.device().is_cuda()) {
        return together(tensors);
    }
    tensors.iter().map(|tensor| Ok(tensor.detach().f_detach_copy()?)).collect()
}

/// The same by one transfer for each type of number.
fn together(tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut copies: Vec<Option<Tensor>> = tensors.iter().map(|_| None).collect();
    while let Some(first) = copies.iter().position(Option::is_none) {
        let kind = tensors[first].kind();
        let places: Vec<usize> = (first..tensors.len()).filter(|&place| tensors[place].kind() == kind).collect();
        let flat: Vec<Tensor> =
            places.iter().map(|&place| Ok(tensors[place].detach().f_reshape([-1])?)).collect::<Result<_>>()?;
        let lengths: Vec<i64> = flat.iter().map(|tensor| tensor.size()[0]).collect();
        let parts = Tensor::f_cat(&flat, 0)?.f_to_device(Device::Cpu)?.f_split_with_sizes(lengths, 0)?;
        for (place, part) in places.into_iter().zip(parts) {
            copies[place] = Some(part.f_reshape(tensors[place].size())?.f_detach_copy()?);
        }
    }
    Ok(copies.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn tensors_that_come_together_are_those_that_were_sent() {
        let tensors = [
            Tensor::from_slice(&[1f32, f32::NAN, -0.0]),
            Tensor::from(7i64),
            Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]).transpose(0, 1),
            Tensor::from(0.5f64),
            Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)),
            Tensor::from_slice(&[1u8, 255]),
            Tensor::from(8i64).set_requires_grad(false),
            Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true),
        ];
        let all: Vec<&Tensor> = tensors.iter().collect();
        for copies in [to_host(&all).unwrap(), together(&all).unwrap()] {
            assert_eq!(copies.len(), tensors.len());
            for (copy, tensor) in copies.iter().zip(&tensors) {
                assert_eq!((copy.kind(), copy.size()), (tensor.kind(), tensor.size()));
                assert!(copy.is_contiguous() && !copy.requires_grad());
                assert!(copy.allclose(&tensor.detach(), 0.0, 0.0, true));
            }
            // They share no memory with what was sent.
            let _ = copies[0].shallow_clone().fill_(9.0);
            assert_eq!(tensors[0].double_value(&[0]), 1.0);
        }
    }
}
