//! `nn.AvgPool2d`

use super::aten::{Call, Value};
use super::onnx::Node;
use super::windows::Windows;
use super::*;
use crate::model::net_file::Value as Python;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AvgPool2d {
    pub kernel_size: [i64; 2],
    pub stride: [i64; 2],
    pub padding: [i64; 2],
    pub ceil_mode: bool,
    pub count_include_pad: bool,
}

impl LayerKind for AvgPool2d {
    const FILE: &'static str = "pooling";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), AvgPool2d(3, 2, padding=1, count_include_pad=False), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = r#"function avg_pool2d(x, kernel, stride, padding, ceil, includesPadding) {
  return pool(x, kernel, stride, padding, [1, 1], ceil, (numbers, counted) =>
    numbers.reduce((sum, number) => sum + number, 0) / (includesPadding ? counted : numbers.length));
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.required("kernel_size", &mut self.kernel_size)?;
        pool_stride(call, self.kernel_size, &mut self.stride)?;
        call.optional("padding", [0, 0], &mut self.padding)?;
        call.optional("ceil_mode", false, &mut self.ceil_mode)?;
        call.optional("count_include_pad", true, &mut self.count_include_pad)?;
        call.only("divisor_override", Python::None)
    }

    fn check(&self) -> Result<()> {
        self.windows().check_pool()
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        self.windows().pooled(input)
    }

    fn window(&self, _: &[i64]) -> Window {
        self.windows().moving()
    }

    fn stage(&self) -> Stage {
        Stage::Ends
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        let AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad } = *self;
        // Not tch's avg_pool2d_default: it passes divisor_override = 1, which sums instead of averaging.
        net.add_fn(move |x| x.avg_pool2d(kernel_size, stride, padding, ceil_mode, count_include_pad, None))
    }

    fn aten(&self) -> Option<Call> {
        let call = Call::new("avg_pool2d.default", "self").with("kernel_size", self.kernel_size);
        let call = call.with("stride", self.stride).optional("padding", self.padding, [0, 0]);
        let call = call.optional("ceil_mode", self.ceil_mode, false);
        let call = call.optional("count_include_pad", self.count_include_pad, true);
        Some(call.optional("divisor_override", Value::None, Value::None))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        let pool = Node::new("AveragePool").pool(self.kernel_size, self.stride, self.padding, self.ceil_mode);
        let counts = self.count_include_pad && self.padding != [0, 0];
        Ok(vec![pool.unless(0, "count_include_pad", i64::from(counts))])
    }
}

impl AvgPool2d {
    fn windows(self) -> Windows {
        let AvgPool2d { kernel_size, stride, padding, ceil_mode, .. } = self;
        Windows { kernel_size, stride, padding, dilation: [1, 1], ceil_mode }
    }
}
