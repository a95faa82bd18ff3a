//! `nn.Conv2d`

use super::aten::{Call, Pad};
use super::onnx::{Input, Node, both};
use super::windows::{Windows, image};
use super::*;
use crate::model::net_file::Value;
use tch::nn::Module;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conv2d {
    pub in_channels: i64,
    pub out_channels: i64,
    pub kernel_size: [i64; 2],
    pub stride: [i64; 2],
    /// Rows and columns that are added on each side.
    pub padding: [i64; 2],
    pub dilation: [i64; 2],
    pub groups: i64,
    pub bias: bool,
    pub padding_mode: PaddingMode,
}

/// What the rows and columns that are added have in them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum PaddingMode {
    #[default]
    Zeros,
    /// The input as in a mirror, without its edge.
    Reflect,
    /// The edge.
    Replicate,
    /// The opposite side.
    Circular,
}

impl LayerKind for Conv2d {
    const FILE: &'static str = "conv";
    const EXAMPLE: &'static str = "conv: Conv2d(1, 10, (3, 5), stride=(2, 1), padding=1, dilation=(1, 2), bias=False), Conv2d(10, 10, 3, padding=(2, 1), padding_mode='reflect'), Conv2d(10, 10, 3, padding=1, padding_mode='replicate'), Conv2d(10, 10, 3, padding=1, padding_mode='circular'), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = r#"function conv2d(x, weight, bias, stride, padding, dilation, groups) {
  const [, height, width] = x.shape, [outputs, inputs, ...kernel] = weight.shape;
  const size = axis => Math.floor((x.shape[axis + 1] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis]) + 1;
  const [rows, columns] = [size(0), size(1)];
  const data = new Float32Array(outputs * rows * columns), sums = new Float64Array(rows * columns);
  for (let output = 0; output < outputs; output++) {
    sums.fill(bias ? bias.data[output] : 0);
    const group = Math.floor(output / (outputs / groups));
    for (let input = 0; input < inputs; input++) {
      const from = x.data.subarray((group * inputs + input) * height * width);
      for (let i = 0; i < kernel[0]; i++) {
        for (let j = 0; j < kernel[1]; j++) {
          // Each number of the kernel is multiplied with all that it meets; around the image are zeros.
          const number = weight.data[((output * inputs + input) * kernel[0] + i) * kernel[1] + j];
          for (let row = 0; row < rows; row++) {
            const y = row * stride[0] + i * dilation[0] - padding[0];
            if (y < 0 || y >= height) continue;
            for (let column = 0; column < columns; column++) {
              const z = column * stride[1] + j * dilation[1] - padding[1];
              if (z >= 0 && z < width) sums[row * columns + column] += number * from[y * width + z];
            }
          }
        }
      }
    }
    data.set(sums, output * rows * columns);
  }
  return tensor([outputs, rows, columns], data);
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.required("in_channels", &mut self.in_channels)?;
        call.required("out_channels", &mut self.out_channels)?;
        call.required("kernel_size", &mut self.kernel_size)?;
        call.optional("stride", [1, 1], &mut self.stride)?;
        let mut padding = Padding::Zeros(self.padding);
        call.optional("padding", Padding::Zeros([0, 0]), &mut padding)?;
        call.optional("dilation", [1, 1], &mut self.dilation)?;
        call.optional("groups", 1, &mut self.groups)?;
        call.optional("bias", true, &mut self.bias)?;
        call.optional("padding_mode", PaddingMode::Zeros, &mut self.padding_mode)?;
        call.factory()?;
        self.padding = padding.resolve(self)?;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        sizes("in_channels", &[self.in_channels], 1)?;
        sizes("out_channels", &[self.out_channels], 1)?;
        sizes("kernel_size", &self.kernel_size, 1)?;
        sizes("stride", &self.stride, 1)?;
        sizes("padding", &self.padding, 0)?;
        sizes("dilation", &self.dilation, 1)?;
        sizes("groups", &[self.groups], 1)?;
        for (name, channels) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            ensure!(channels % self.groups == 0, "groups is {}: it must divide {name}, {channels}", self.groups);
        }
        Ok(())
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        let [channels, size @ ..] = image(input)?;
        ensure!(
            channels == self.in_channels,
            "it takes {} channels and gets {channels}{}",
            self.in_channels,
            instead(self.for_channels(channels))
        );
        let [height, width] = self.windows().count(size)?;
        let most = |size| if self.padding_mode == PaddingMode::Reflect { size - 1 } else { size };
        let fits = self.padding.iter().zip(size).all(|(&padding, size)| padding <= most(size));
        ensure!(
            [PaddingMode::Zeros, PaddingMode::Replicate].contains(&self.padding_mode) || fits,
            "padding_mode is {}: its input of {}x{} has too few rows or columns for that padding",
            self.padding_mode.value(),
            size[0],
            size[1]
        );
        Ok(vec![self.out_channels, height, width])
    }

    fn variables(&self) -> Vec<Variable> {
        let [height, width] = self.kernel_size;
        weight_and_bias(&[self.out_channels, self.in_channels / self.groups, height, width], self.bias)
    }

    fn window(&self, _: &[i64]) -> Window {
        self.windows().moving()
    }

    fn multiply_adds(&self, output: &[i64]) -> i64 {
        product(&[output, &self.kernel_size].concat()).saturating_mul(self.in_channels / self.groups)
    }

    fn stage(&self) -> Stage {
        Stage::Begins
    }

    fn add_to(&self, net: SequentialT, path: &Path) -> SequentialT {
        let pad = self.pad();
        let config = nn::ConvConfigND::<[i64; 2]> {
            stride: self.stride,
            padding: self.zeros(),
            dilation: self.dilation,
            groups: self.groups,
            bias: self.bias,
            ws_init: parameters::UNDRAWN,
            bs_init: parameters::UNDRAWN,
            ..Default::default()
        };
        let mut conv = nn::conv(path, self.in_channels, self.out_channels, self.kernel_size, config);
        parameters::reset(&mut conv.ws, conv.bs.as_mut());
        match pad {
            None => net.add(conv),
            // Not tch's padding_mode: it takes the rows for the columns where they differ.
            Some(Pad { sides, mode }) => net.add_fn(move |x| conv.forward(&x.pad(sides, mode, None))),
        }
    }

    fn aten(&self) -> Option<Call> {
        let call = Call::new("conv2d.default", "input").variables(&["weight"]).optional_variable("bias", self.bias);
        let call = call.optional("stride", self.stride, [1, 1]);
        let call = call.optional("padding", self.zeros(), [0, 0]);
        let call = call.optional("dilation", self.dilation, [1, 1]).optional("groups", self.groups, 1);
        Some(call.padded(self.pad()))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        let conv = Node::new("Conv").weight_and_bias(self.bias);
        let conv = conv.with("kernel_shape", self.kernel_size).with("pads", both(self.zeros()));
        let conv = conv.unless([1, 1], "strides", self.stride).unless([1, 1], "dilations", self.dilation);
        let conv = conv.unless(1, "group", self.groups);
        let mode = match self.padding_mode {
            PaddingMode::Zeros => return Ok(vec![conv]),
            PaddingMode::Reflect => "reflect",
            PaddingMode::Replicate => "edge",
            PaddingMode::Circular => "wrap",
        };
        let [height, width] = self.padding;
        let sides = Node::shape("sides", vec![0, 0, height, width, 0, 0, height, width]);
        let pad = Node::new("Pad").named("padded").with("mode", mode).on(&[Input::Layer, Input::Node("sides")]);
        let mut inputs = conv.inputs.clone();
        inputs[0] = Input::Node("padded");
        Ok(vec![sides, pad, conv.on(&inputs)])
    }
}

impl Conv2d {
    fn windows(self) -> Windows {
        let Conv2d { kernel_size, stride, padding, dilation, .. } = self;
        Windows { kernel_size, stride, padding, dilation, ceil_mode: false }
    }

    /// The rows and columns of zeros that the convolution itself adds on each side.
    fn zeros(self) -> [i64; 2] {
        if self.padding_mode == PaddingMode::Zeros { self.padding } else { [0, 0] }
    }

    /// The padding before the convolution, if it is not of zeros.
    fn pad(self) -> Option<Pad> {
        let ([height, width], mode) = (self.padding, self.padding_mode);
        (mode != PaddingMode::Zeros).then(|| Pad { sides: [width, width, height, height], mode: mode.name() })
    }

    /// The same convolution for an input of so many channels. A depthwise one has a group for each.
    fn for_channels(self, channels: i64) -> Conv2d {
        let is_depthwise = self.groups > 1 && self.groups == self.in_channels;
        if is_depthwise {
            let out_channels = (self.out_channels / self.in_channels).saturating_mul(channels);
            Conv2d { in_channels: channels, out_channels, groups: channels, ..self }
        } else {
            Conv2d { in_channels: channels, ..self }
        }
    }
}

impl PaddingMode {
    const ALL: [PaddingMode; 4] = [PaddingMode::Zeros, PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular];

    fn name(self) -> &'static str {
        match self {
            PaddingMode::Zeros => "zeros",
            PaddingMode::Reflect => "reflect",
            PaddingMode::Replicate => "replicate",
            PaddingMode::Circular => "circular",
        }
    }
}

impl Argument for PaddingMode {
    fn expected() -> String {
        "'zeros', 'reflect', 'replicate' or 'circular'".to_string()
    }

    fn read(value: &Value) -> Option<PaddingMode> {
        let Value::Text(text) = value else { return None };
        PaddingMode::ALL.into_iter().find(|mode| mode.name() == text)
    }

    fn value(&self) -> Value {
        Value::Text(self.name().to_string())
    }
}

/// The argument `padding`.
#[derive(Clone, PartialEq)]
enum Padding {
    Zeros([i64; 2]),
    /// padding='same': the output has the size of the input.
    Same,
}

impl Padding {
    /// The rows and columns on each side of the input of `conv`.
    fn resolve(self, conv: &Conv2d) -> Result<[i64; 2]> {
        let Padding::Zeros(zeros) = self else {
            ensure!(conv.stride == [1, 1], "padding='same' needs stride=1, as in PyTorch");
            let spans = [0, 1].map(|axis| conv.dilation[axis].saturating_mul(conv.kernel_size[axis].saturating_sub(1)));
            let is_even = spans.iter().all(|span| span % 2 == 0);
            ensure!(is_even, "padding='same' needs an odd kernel_size: PyTorch pads an even one more on one side");
            return Ok(spans.map(|span| span / 2));
        };
        Ok(zeros)
    }
}

impl Argument for Padding {
    fn expected() -> String {
        format!("{}, or 'same' or 'valid'", <[i64; 2]>::expected())
    }

    fn read(value: &Value) -> Option<Padding> {
        match value {
            Value::Text(text) if text == "same" => Some(Padding::Same),
            Value::Text(text) if text == "valid" => Some(Padding::Zeros([0, 0])),
            _ => Argument::read(value).map(Padding::Zeros),
        }
    }

    fn value(&self) -> Value {
        match self {
            Padding::Zeros(zeros) => zeros.value(),
            Padding::Same => Value::Text("same".to_string()),
        }
    }
}
