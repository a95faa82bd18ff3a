//! `nn.MaxPool2d`

use super::aten::Call;
use super::onnx::Node;
use super::windows::Windows;
use super::*;
use crate::model::net_file::Value;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MaxPool2d {
    pub kernel_size: [i64; 2],
    pub stride: [i64; 2],
    pub padding: [i64; 2],
    pub dilation: [i64; 2],
    pub ceil_mode: bool,
}

impl LayerKind for MaxPool2d {
    const FILE: &'static str = "pooling";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), MaxPool2d(3, stride=(2, 1), padding=1, ceil_mode=True), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = r#"function max_pool2d(x, kernel, stride, padding, dilation, ceil) {
  return pool(x, kernel, stride, padding, dilation, ceil, numbers => Math.max(...numbers));
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.required("kernel_size", &mut self.kernel_size)?;
        pool_stride(call, self.kernel_size, &mut self.stride)?;
        call.optional("padding", [0, 0], &mut self.padding)?;
        call.optional("dilation", [1, 1], &mut self.dilation)?;
        call.only("return_indices", Value::Bool(false))?;
        call.optional("ceil_mode", false, &mut self.ceil_mode)
    }

    fn check(&self) -> Result<()> {
        sizes("dilation", &self.dilation, 1)?;
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
        let MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode } = *self;
        net.add_fn(move |x| x.max_pool2d(kernel_size, stride, padding, dilation, ceil_mode))
    }

    fn aten(&self) -> Option<Call> {
        let call = Call::new("max_pool2d.default", "self").with("kernel_size", self.kernel_size);
        let call = call.with("stride", self.stride).optional("padding", self.padding, [0, 0]);
        Some(call.optional("dilation", self.dilation, [1, 1]).optional("ceil_mode", self.ceil_mode, false))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        let pool = Node::new("MaxPool").pool(self.kernel_size, self.stride, self.padding, self.ceil_mode);
        Ok(vec![pool.unless([1, 1], "dilations", self.dilation)])
    }
}

impl MaxPool2d {
    fn windows(self) -> Windows {
        let MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode } = self;
        Windows { kernel_size, stride, padding, dilation, ceil_mode }
    }
}
