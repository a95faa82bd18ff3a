//! An array: numbers of one type in a shape, as little-endian bytes.

use anyhow::{Context, Result, bail};
use half::{bf16, f16};
use std::fmt::{self, Display};

/// The type of an array's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    F32,
    F64,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// The bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }
}

/// PyTorch's name of the type, such as `float32`.
impl Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::I64 => "int64",
            Dtype::I32 => "int32",
            Dtype::I16 => "int16",
            Dtype::I8 => "int8",
            Dtype::U8 => "uint8",
            Dtype::Bool => "bool",
        })
    }
}

/// An array in C order: the last index is the fastest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// An array of little-endian `bytes`.
    ///
    /// # Errors
    ///
    /// If `shape` has another number of bytes.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Array> {
        match byte_count(dtype, &shape) {
            Some(expected) if expected == bytes.len() => Ok(Array { dtype, shape, bytes }),
            _ => bail!("{} bytes are not a tensor {shape:?} of {dtype}", bytes.len()),
        }
    }

    /// [`Array::new`] for a shape as files have it, in signed numbers.
    pub(crate) fn from_sizes(dtype: Dtype, sizes: &[i64], bytes: Vec<u8>) -> Result<Array> {
        let shape: Result<Vec<usize>, _> = sizes.iter().map(|&size| usize::try_from(size)).collect();
        let shape = shape.ok().with_context(|| format!("a tensor has the shape {sizes:?}"))?;
        Array::new(dtype, shape, bytes)
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its sizes; none for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its numbers, little-endian, the last index the fastest.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its numbers as `f32`, from any float type.
    ///
    /// # Errors
    ///
    /// If they are integers.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(match self.dtype {
            Dtype::F32 => numbers(&self.bytes, f32::from_le_bytes),
            Dtype::F64 => numbers(&self.bytes, |number| f64::from_le_bytes(number) as f32),
            Dtype::F16 => numbers(&self.bytes, |number| f16::from_le_bytes(number).to_f32()),
            Dtype::BF16 => numbers(&self.bytes, |number| bf16::from_le_bytes(number).to_f32()),
            Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::Bool => {
                bail!("numbers of the type {} are no floats", self.dtype)
            }
        })
    }
}

/// The bytes of an array; `None` if they are more than memory can have.
fn byte_count(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |count, &size| count.checked_mul(size))
}

fn numbers<const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect()
}

/// The elements of a view of `storage` in C order, each of `size` bytes. `offset` and `strides` count elements. The view
/// lies within the storage.
pub(crate) fn gathered(storage: &[u8], size: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let numel: usize = shape.iter().product();
    let element = |at: usize| &storage[at * size..(at + 1) * size];
    if numel == 0 {
        return Vec::new();
    }
    if is_contiguous(shape, strides) {
        return storage[offset * size..(offset + numel) * size].to_vec();
    }
    let mut bytes = Vec::with_capacity(numel * size);
    let (mut at, mut index) = (offset, vec![0; shape.len()]);
    loop {
        bytes.extend_from_slice(element(at));
        // The last axis that is not at its end advances, and those behind it begin again.
        let Some(axis) = (0..shape.len()).rev().find(|&axis| index[axis] + 1 < shape[axis]) else { return bytes };
        index[axis] += 1;
        at += strides[axis];
        for behind in axis + 1..shape.len() {
            at -= index[behind] * strides[behind];
            index[behind] = 0;
        }
    }
}

/// Whether elements with these strides follow each other. The stride of an axis of one element does not matter.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == expected;
        expected *= size;
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_as_many_as_the_shape_says() {
        let error = Array::new(Dtype::F32, vec![2, 3], vec![0; 20]).unwrap_err();
        assert_eq!(error.to_string(), "20 bytes are not a tensor [2, 3] of float32");
        assert!(Array::new(Dtype::Bool, vec![2, 3], vec![0; 6]).is_ok());
        assert!(Array::new(Dtype::I64, vec![], vec![0; 8]).is_ok());
        assert!(Array::new(Dtype::F32, vec![0, 3], vec![]).is_ok());
        assert!(Array::new(Dtype::F32, vec![1 << 40, 1 << 40], vec![]).is_err());
        assert!(Array::from_sizes(Dtype::F32, &[-1, 4], vec![]).is_err());
    }

    #[test]
    fn every_float_type_becomes_f32() {
        let array = |dtype, bytes: &[u8]| Array::new(dtype, vec![1], bytes.to_vec()).unwrap().to_f32();
        assert_eq!(array(Dtype::F32, &1.5f32.to_le_bytes()).unwrap(), [1.5]);
        assert_eq!(array(Dtype::F64, &1.5f64.to_le_bytes()).unwrap(), [1.5]);
        assert_eq!(array(Dtype::F16, &[0x00, 0x3e]).unwrap(), [1.5]);
        assert_eq!(array(Dtype::BF16, &[0xc0, 0x3f]).unwrap(), [1.5]);
        assert_eq!(array(Dtype::U8, &[1]).unwrap_err().to_string(), "numbers of the type uint8 are no floats");
    }

    #[test]
    fn the_elements_of_a_view_are_gathered_in_its_order() {
        let storage: Vec<u8> = (0..12).collect();
        let gather = |offset, shape: &[usize], strides: &[usize]| gathered(&storage, 1, offset, shape, strides);
        assert_eq!(gather(2, &[2, 3], &[3, 1]), [2, 3, 4, 5, 6, 7]);
        assert_eq!(gather(0, &[2, 3], &[1, 2]), [0, 2, 4, 1, 3, 5]);
        assert_eq!(gather(1, &[2, 1, 2], &[4, 99, 1]), [1, 2, 5, 6]);
        assert_eq!(gather(0, &[2, 2, 2], &[1, 2, 4]), [0, 4, 2, 6, 1, 5, 3, 7]);
        assert_eq!(gather(3, &[3], &[0]), [3, 3, 3]);
        assert_eq!(gather(5, &[], &[]), [5]);
        assert!(gather(0, &[2, 0], &[3, 1]).is_empty());
        assert_eq!(gathered(&storage, 2, 1, &[2], &[2]), [2, 3, 6, 7]);
    }
}
