//! Any of libtorch's operations, by the name and the arguments of its schema. They record no gradients.

use super::{check, pointers};
use anyhow::Result;
use std::borrow::Borrow;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::null;
use tch::Tensor;
use torch_sys::C_tensor;

/// `tm_Argument` of `aten.cpp`.
#[repr(C)]
struct RawArgument {
    kind: c_int,
    tensors: *const *const C_tensor,
    numbers: *const f64,
    count: i64,
}

unsafe extern "C" {
    fn tm_aten_call(
        name: *const c_char,
        overload: *const c_char,
        arguments: *const RawArgument,
        count: i64,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *mut C_tensor),
    ) -> *mut c_char;
}

/// An argument of an operation. Tensors are pointers that [`tensor`] and [`list`] borrowed.
pub(crate) struct Argument<'a> {
    value: Value,
    _borrowed: PhantomData<&'a Tensor>,
}

enum Value {
    /// One.
    Tensor([*const C_tensor; 1]),
    Tensors(Vec<*const C_tensor>),
    Float([f64; 1]),
    Floats(Vec<f64>),
    Int(i64),
    Bool(bool),
}

impl From<Value> for Argument<'_> {
    fn from(value: Value) -> Self {
        Argument { value, _borrowed: PhantomData }
    }
}

pub(crate) fn tensor(tensor: &Tensor) -> Argument<'_> {
    Value::Tensor([tensor.as_ptr()]).into()
}

pub(crate) fn list<T: Borrow<Tensor>>(tensors: &[T]) -> Argument<'_> {
    Value::Tensors(pointers(tensors.iter().map(Borrow::borrow))).into()
}

pub(crate) fn float<'a>(number: f64) -> Argument<'a> {
    Value::Float([number]).into()
}

/// A list of numbers that its schema calls `Scalar[]`.
pub(crate) fn floats<'a>(numbers: Vec<f64>) -> Argument<'a> {
    Value::Floats(numbers).into()
}

pub(crate) fn int<'a>(number: i64) -> Argument<'a> {
    Value::Int(number).into()
}

pub(crate) fn bool<'a>(value: bool) -> Argument<'a> {
    Value::Bool(value).into()
}

impl Argument<'_> {
    /// It as C++ takes it, with pointers into it.
    fn raw(&self) -> RawArgument {
        let (tensors, numbers) = (null(), null());
        match &self.value {
            Value::Tensor(tensor) => RawArgument { kind: 0, tensors: tensor.as_ptr(), numbers, count: 1 },
            Value::Tensors(list) => RawArgument { kind: 1, tensors: list.as_ptr(), numbers, count: list.len() as i64 },
            Value::Float(number) => RawArgument { kind: 2, tensors, numbers: number.as_ptr(), count: 1 },
            Value::Floats(list) => RawArgument { kind: 3, tensors, numbers: list.as_ptr(), count: list.len() as i64 },
            Value::Int(number) => RawArgument { kind: 4, tensors, numbers, count: *number },
            Value::Bool(value) => RawArgument { kind: 5, tensors, numbers, count: i64::from(*value) },
        }
    }
}

/// Calls the `overload` (which may be empty) of the operation `name` with the first arguments of its schema, in its
/// order; the rest have their defaults. Returns its tensors.
///
/// An operation in place changes tensors that are only borrowed: tch counts that as interior mutability, as it does for
/// an operation in place on a shallow clone.
pub(crate) fn call(name: &CStr, overload: &CStr, arguments: &[Argument]) -> Result<Vec<Tensor>> {
    extern "C" fn push(results: *mut c_void, result: *mut C_tensor) {
        // SAFETY: `tm_aten_call` passes on the vector below, which nothing else uses meanwhile, and a tensor made with
        // `new`, which `from_ptr` takes over.
        unsafe { (*results.cast::<Vec<Tensor>>()).push(Tensor::from_ptr(result)) }
    }
    let raw: Vec<RawArgument> = arguments.iter().map(Argument::raw).collect();
    let mut results: Vec<Tensor> = Vec::new();
    // SAFETY: the strings end with NUL. `raw` points into `arguments`, which outlives the call and borrows the tensors. C++
    // checks the arguments against the operation's schema. `push` gets the vector of the results.
    unsafe {
        let context = (&raw mut results).cast();
        check(tm_aten_call(name.as_ptr(), overload.as_ptr(), raw.as_ptr(), raw.len() as i64, context, push))?;
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_found_by_its_name_and_its_arguments_are_checked() {
        let x = Tensor::from_slice(&[-2.0, 3.0]);
        let result = call(c"aten::leaky_relu", c"", &[tensor(&x), float(0.5)]).unwrap();
        assert_eq!(Vec::<f64>::try_from(&result[0]).unwrap(), [-1.0, 3.0]);
        let error = |arguments: &[Argument]| call(c"aten::leaky_relu", c"", arguments).unwrap_err().to_string();
        assert!(error(&[float(0.5)]).contains("Expected a value of type 'Tensor' for argument 'self'"));
        assert!(error(&[]).contains("missing value for argument 'self'"), "{}", error(&[]));
        let missing = call(c"aten::no_such_operation", c"", &[]).unwrap_err().to_string();
        assert!(missing.contains("no_such_operation"), "{missing}");
    }
}
