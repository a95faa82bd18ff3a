// ---- The net in evaluation mode, on one image. A tensor is its shape, [C, H, W] or [features], and its numbers.

const tensor = (shape, data) => ({ shape, data });
// The same function of each number, which may depend on the number's channel and place.
const map = (x, value) =>
  tensor(x.shape, x.data.map((number, k) => value(number, Math.floor(k / (x.data.length / x.shape[0])), k)));

// F.pad: columns on the left and right, rows above and below.
function pad(x, [left, right, above, below], mode) {
  const [channels, height, width] = x.shape, [rows, columns] = [above + height + below, left + width + right];
  const place = {
    reflect: (at, size) => at < 0 ? -at : at >= size ? 2 * (size - 1) - at : at,
    replicate: (at, size) => Math.min(Math.max(at, 0), size - 1),
    circular: (at, size) => (at + size) % size,
  }[mode];
  const number = (_, k) => {
    const column = k % columns, row = Math.floor(k / columns) % rows, channel = Math.floor(k / (columns * rows));
    return x.data[(channel * height + place(row - above, height)) * width + place(column - left, width)];
  };
  return tensor([channels, rows, columns], Float32Array.from({ length: channels * rows * columns }, number));
}

// Each `size` numbers in a row with a mean of 0 and a variance of 1.
function normalised(x, size, eps) {
  const parts = Array.from({ length: x.data.length / size }, (_, k) => {
    const part = x.data.subarray(k * size, (k + 1) * size);
    const mean = part.reduce((sum, number) => sum + number, 0) / size;
    const variance = part.reduce((sum, number) => sum + (number - mean) ** 2, 0) / size;
    return number => (number - mean) / Math.sqrt(variance + eps);
  });
  return map(x, (number, _, k) => parts[Math.floor(k / size)](number));
}

// Each window of a pool: `reduce` gets the numbers in it, and how many it has with the padding around the image. As PyTorch's
// pooling_output_shape and avg_pool2d: a window of ceil mode begins within image and padding, and what reaches beyond the
// padding is not counted.
function pool(x, kernel, stride, padding, dilation, ceil, reduce) {
  const [channels, ...sides] = x.shape;
  const size = axis => {
    const room = sides[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1 + (ceil ? stride[axis] - 1 : 0);
    const count = Math.floor(room / stride[axis]) + 1;
    return ceil && (count - 1) * stride[axis] >= sides[axis] + padding[axis] ? count - 1 : count;
  };
  const windows = axis => Array.from({ length: size(axis) }, (_, k) => {
    const start = k * stride[axis] - padding[axis], end = start + kernel[axis];
    const inside = Array.from({ length: kernel[axis] }, (_, j) => start + j * dilation[axis]).filter(at => at >= 0 && at < sides[axis]);
    return { inside, counted: Math.min(end, sides[axis] + padding[axis]) - start };
  });
  const [rows, columns] = [windows(0), windows(1)], data = [];
  for (let channel = 0; channel < channels; channel++) {
    for (const row of rows) {
      for (const column of columns) {
        const numbers = row.inside.flatMap(y => column.inside.map(z => x.data[(channel * sides[0] + y) * sides[1] + z]));
        data.push(reduce(numbers, row.counted * column.counted));
      }
    }
  }
  return tensor([channels, rows.length, columns.length], Float32Array.from(data));
}

const bytes = base64 => Uint8Array.from(atob(base64), character => character.charCodeAt(0));

{% for script in scripts %}{{ script }}

{% endfor -%}
const FILE = JSON.parse($("weights").textContent);
// The net's state_dict.
const state = Object.fromEntries(FILE.tensors.filter(({ dtype }) => dtype === "float32")
  .map(({ key, shape, data }) => [key, tensor(shape, new Float32Array(bytes(data).buffer))]));
// The names of the classes; a file without them has digits.
const NAMES = FILE.metadata.classes && JSON.parse(FILE.metadata.classes);

const LAYERS = [
{% for path, call in layers %}  ["{{ path }}", x => {{ call }}],
{% endfor %}];

// The output of each layer for the 784 bytes of an image, 0 for paper to 255 for ink.
function forward(pixels) {
  let x = tensor([1, 28, 28], Float32Array.from(pixels, byte => (byte / 255 - {{ mean }}) / {{ std }}));
  return LAYERS.map(([path, layer]) => ({ path, output: x = layer(x) }));
}

// The end of `Net.forward`; log-probabilities stay the same.
const logProbabilities = outputs => log_softmax(outputs.at(-1).output).data;

// The last output of each of the net's members, each from 0 for the lowest number to 255 for the highest.
function blocks(outputs) {
  const last = new Map(outputs.map(({ path, output }) => [path.split(".")[0], output]));
  return Array.from(last, ([name, { shape: [channels, height = 1, width = 1], data }]) => {
    const low = data.reduce((a, b) => Math.min(a, b)), range = data.reduce((a, b) => Math.max(a, b)) - low || 1;
    return { name, channels, height, width, maps: Uint8Array.from(data, number => Math.round(255 * (number - low) / range)) };
  });
}

{% include "drawing.js" %}

// ---- Reading a drawing: as one digit.

async function read({ picture, strokes }) {
  if (picture) return { error: "This page reads drawings; tch-mnist serve reads pictures too." };
  // The browser shows the stroke first.
  await wait(0);
  const found = readDigit(onPaper(strokes).getContext("2d").getImageData(0, 0, WIDTH, HEIGHT));
  if (!found) return { error: "The drawing shows nothing." };
  const outputs = forward(found.pixels);
  const probabilities = Array.from(logProbabilities(outputs), Math.exp);
  const probability = Math.max(...probabilities), digit = probabilities.indexOf(probability);
  const entry = { ...found, digit, class: NAMES?.[digit], probability, probabilities, layers: blocks(outputs) };
  return { digits: [entry], marks: [], number: label(entry) };
}
