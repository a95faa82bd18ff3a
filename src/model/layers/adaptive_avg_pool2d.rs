//! `nn.AdaptiveAvgPool2d`

use super::aten::Call;
use super::onnx::{Input, Node};
use super::windows::image;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AdaptiveAvgPool2d {
    pub output_size: [i64; 2],
}

impl LayerKind for AdaptiveAvgPool2d {
    const FILE: &'static str = "pooling";
    const EXAMPLE: &'static str = "fc: AdaptiveAvgPool2d((5, 3)), Flatten(), Linear(15, 10)";
    const SCRIPT: &'static str = r#"function adaptive_avg_pool2d(x, [rows, columns]) {
  const [channels, height, width] = x.shape, data = [];
  const start = (index, size, outputs) => Math.floor(index * size / outputs);
  const end = (index, size, outputs) => Math.ceil((index + 1) * size / outputs);
  for (let k = 0; k < channels * rows * columns; k++) {
    const column = k % columns, row = Math.floor(k / columns) % rows, channel = Math.floor(k / (columns * rows));
    let sum = 0, count = 0;
    for (let y = start(row, height, rows); y < end(row, height, rows); y++) {
      for (let z = start(column, width, columns); z < end(column, width, columns); z++, count++) sum += x.data[(channel * height + y) * width + z];
    }
    data.push(sum / count);
  }
  return tensor([channels, rows, columns], Float32Array.from(data));
}"#;

    fn arguments(&mut self, input: &[i64], call: &mut impl Arguments) -> Result<()> {
        // None is the size of the input.
        let mut sizes = self.output_size.map(Some);
        call.required("output_size", &mut sizes)?;
        let [height, width] = if let [_, height, width] = *input { [height, width] } else { [1, 1] };
        self.output_size = [sizes[0].unwrap_or(height), sizes[1].unwrap_or(width)];
        Ok(())
    }

    fn check(&self) -> Result<()> {
        sizes("output_size", &self.output_size, 1)
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        let [channels, ..] = image(input)?;
        let [height, width] = self.output_size;
        Ok(vec![channels, height, width])
    }

    /// Where the sizes divide, as nearly always, the window of an average pool; else the widest that there is.
    fn window(&self, input: &[i64]) -> Window {
        let [_, height, width] = *input else { return Window::Point };
        let sizes = [(height, self.output_size[0]), (width, self.output_size[1])];
        Window::Moving {
            span: sizes.map(|(size, outputs)| windows(size, outputs).map(|(start, end)| end - start).max().unwrap_or(size)),
            step: sizes.map(|(size, outputs)| (size / outputs).max(1)),
        }
    }

    fn stage(&self) -> Stage {
        Stage::Ends
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        let output_size = self.output_size;
        net.add_fn(move |x| x.adaptive_avg_pool2d(output_size))
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("adaptive_avg_pool2d.default", "self").with("output_size", self.output_size))
    }

    /// ONNX does not have it: an average pool where the sizes divide, else a product with a matrix of averages on each
    /// side.
    fn onnx(&self, input: &[i64]) -> Result<Vec<Node>> {
        let [_, height, width] = image(input)?;
        let [rows, columns] = self.output_size;
        if [rows, columns] == [1, 1] {
            return Ok(vec![Node::new("GlobalAveragePool")]);
        }
        if height % rows == 0 && width % columns == 0 {
            let size = [height / rows, width / columns];
            return Ok(vec![Node::new("AveragePool").pool(size, size, [0, 0], false)]);
        }
        Ok(vec![
            matrix("rows", &averages(height, rows)),
            matrix("columns", &transposed(&averages(width, columns))),
            Node::new("MatMul").named("narrow").on(&[Input::Layer, Input::Node("columns")]),
            Node::new("MatMul").on(&[Input::Node("rows"), Input::Node("narrow")]),
        ])
    }
}

/// PyTorch's windows along an axis, which may overlap: the start and end of each of `outputs` over `size` numbers.
fn windows(size: i64, outputs: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..outputs).map(move |index| (index * size / outputs, ((index + 1) * size + outputs - 1) / outputs))
}

/// The matrix [outputs, size] that averages `size` numbers in these windows.
fn averages(size: i64, outputs: i64) -> Vec<Vec<f32>> {
    let row = |(start, end)| {
        (0..size).map(|at| if (start..end).contains(&at) { (1.0 / (end - start) as f64) as f32 } else { 0.0 }).collect()
    };
    windows(size, outputs).map(row).collect()
}

fn transposed(matrix: &[Vec<f32>]) -> Vec<Vec<f32>> {
    (0..matrix[0].len()).map(|column| matrix.iter().map(|row| row[column]).collect()).collect()
}

/// A matrix of which each row is given.
fn matrix(name: &'static str, rows: &[Vec<f32>]) -> Node {
    Node::floats(name, &[rows.len() as i64, rows[0].len() as i64], rows.concat())
}
