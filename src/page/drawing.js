// ---- A drawing as MNIST would have it: the rule by which `predict --one` reads a picture, on paper that is plain white.
// crates/digit-images has it for any picture; the functions here have the names of theirs, and the same numbers.

// The longest side of a digit in MNIST's square, and the one at which its lines are measured and widened.
const LONGEST = 20, FINE = 160;
// The thinnest line that is not thickened, in pixels of the square.
const THINNEST = 2.2;
// From this value on a pixel belongs to a line when the line's width is measured.
const INKED = 0.4;
// Ink has this share of the contrast that most of its piece has, soft edges fade to 0 at this share of that threshold.
const HALF = 0.45, FADES_AT = 0.3;
// A piece with less than this share of the highest contrast, or of the largest piece, is no part of the digit.
const FAINT = 0.35, SPECK = 0.03;
// The least contrast of ink, in grey levels, and as a share of the usual one.
const LEAST_CONTRAST = 12, FAINTEST = 0.2;

// The digit that RGBA pixels on white paper show: its 28x28 bytes, and its box as [left, top, width, height]; null if
// they show none.
function readDigit(sheet) {
  const ink = findInk(blurred(relief(sheet), Math.max(sheet.width, sheet.height) / 600), sheet);
  return ink && { pixels: fit(ink.cut), box: ink.box };
}

// A picture in one channel, of which `value` gives each pixel.
function picture(width, height, value) {
  const values = new Float32Array(width * height);
  for (let k = 0; k < values.length; k++) values[k] = value(k % width, Math.floor(k / width));
  return { width, height, values };
}

// How much darker than the paper each pixel is, cut out to what differs from paper and a margin for its soft edges.
function relief({ data, width, height }, margin = 8) {
  let left = width, top = height, right = 0, bottom = 0;
  for (let k = 0; k < width * height; k++) {
    if (data[4 * k] === 255) continue;
    left = Math.min(left, k % width);
    right = Math.max(right, k % width);
    top = Math.min(top, Math.floor(k / width));
    bottom = Math.floor(k / width);
  }
  left = Math.max(left - margin, 0);
  top = Math.max(top - margin, 0);
  const size = (low, high, side) => Math.max(Math.min(high + margin + 1, side) - low, 1);
  const cut = picture(size(left, right, width), size(top, bottom, height), (x, y) => 255 - data[4 * ((top + y) * width + left + x)]);
  return { ...cut, left, top };
}

// Takes the grain away: a Gaussian blur. Beyond the edge its pixels repeat.
function blurred(image, sigma) {
  if (sigma <= 0.3) return image;
  const radius = Math.ceil(3 * sigma);
  const { values: weights } = picture(2 * radius + 1, 1, x => Math.exp(-((x - radius) ** 2) / (2 * sigma * sigma)));
  const sum = weights.reduce((sum, weight) => sum + weight);
  // Transposed, so that a second pass blurs the columns.
  const along = ({ width, height, values }) => picture(height, width, (y, x) => {
    let mean = 0;
    for (let k = -radius; k <= radius; k++) mean += weights[k + radius] * values[y * width + Math.min(Math.max(x + k, 0), width - 1)];
    return mean / sum;
  });
  return { ...image, ...along(along(image)) };
}

const median = values => Float32Array.from(values).sort()[values.length >> 1] ?? 0;

// Finds the ink of a sheet, and cuts it out: 0 for paper to 1. null for none.
function findInk({ values: relief, width, height, left, top }, sheet) {
  const area = sheet.width * sheet.height;
  const highest = relief.reduce((a, b) => Math.max(a, b));
  if (highest < LEAST_CONTRAST) return null;
  const usual = otsu(relief, highest, area);
  const contrast = median(relief.filter(value => value >= usual));
  const threshold = Math.min(Math.max(LEAST_CONTRAST, FAINTEST * contrast), HALF * highest);
  const least = Math.max(3, Math.floor(area / 30_000));
  const found = pieces(relief.map(value => value >= threshold), width, height).filter(piece => piece.length >= least);

  // Each piece again, with a threshold of its own.
  const sharp = new Uint8Array(relief.length);
  const strength = piece => median(piece.map(k => relief[k]));
  const strongest = Math.max(...found.map(strength));
  for (const piece of found.filter(piece => strength(piece) >= FAINT * strongest)) {
    const own = HALF * strength(piece);
    piece.forEach(k => { sharp[k] = relief[k] >= own; });
  }
  const parts = pieces(sharp, width, height);
  const largest = Math.max(...parts.map(part => part.length));
  const digit = parts.filter(part => part.length >= SPECK * largest).flat();
  if (!digit.length) return null;
  const { cut, box: [x, y, ...size] } = cutOut(digit, relief, width, height, Math.round(Math.max(sheet.width, sheet.height) / 400));
  return { cut, box: [left + x, top + y, ...size] };
}

// Otsu's threshold between 0 and `highest`: it separates the values, and paper around them to an area, into the two most
// different classes.
function otsu(values, highest, area, bins = 128) {
  const histogram = new Float64Array(bins);
  values.forEach(value => { histogram[Math.min(Math.floor(Math.max(value, 0) / highest * bins), bins - 1)] += 1; });
  histogram[0] += area - values.length;
  const sum = histogram.reduce((sum, count, bin) => sum + bin * count, 0);
  let best = 0, threshold = bins / 2, below = 0, sumBelow = 0;
  histogram.forEach((count, bin) => {
    below += count;
    sumBelow += bin * count;
    const above = area - below;
    const between = below && above ? below * above * (sumBelow / below - (sum - sumBelow) / above) ** 2 : 0;
    if (between > best) [best, threshold] = [between, bin + 1];
  });
  return highest * threshold / bins;
}

// The pixels of each connected piece of a mask; pixels touch at sides and corners.
function pieces(mask, width, height) {
  const left = mask.slice(), all = [];
  for (let start = 0; start < left.length; start++) {
    if (!left[start]) continue;
    const piece = [start];
    left[start] = 0;
    for (let next = 0; next < piece.length; next++) {
      for (const other of neighbours(piece[next], width, height)) {
        if (left[other]) piece.push(other);
        left[other] = 0;
      }
    }
    all.push(piece);
  }
  return all;
}

// The up to eight pixels around pixel k, and k itself.
function neighbours(k, width, height) {
  const x = k % width, y = (k - x) / width, around = [];
  for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, height - 1); row++) {
    for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, width - 1); column++) around.push(row * width + column);
  }
  return around;
}

// The ink of a digit with these pixels and its soft edges. The darker half of the ink becomes 1.
function cutOut(digit, relief, width, height, edges) {
  const full = median(digit.map(k => relief[k])), none = FADES_AT * HALF * full;
  const near = new Uint8Array(relief.length);
  digit.forEach(k => { near[k] = 1; });
  let edge = digit;
  for (let step = 0; step < Math.max(edges, 2); step++) {
    const next = [];
    for (const k of edge) {
      for (const other of neighbours(k, width, height)) {
        if (!near[other]) next.push(other);
        near[other] = 1;
      }
    }
    edge = next;
  }
  const ends = values => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, 0]);
  const [left, right] = ends(digit.map(k => k % width)), [top, bottom] = ends(digit.map(k => Math.floor(k / width)));
  const box = [left, top, right + 1 - left, bottom + 1 - top];
  const ink = picture(box[2], box[3], (x, y) => {
    const k = (top + y) * width + left + x;
    return near[k] ? Math.min(Math.max((relief[k] - none) / (full - none), 0), 1) : 0;
  });
  return { cut: ink, box };
}

// Scales the ink, which fills its rectangle, into 20x20, and puts its centre of mass on pixel 14 of 28x28.
function fit(cut) {
  let ink = within(cut, Math.min(Math.max(cut.width, cut.height), FINE));
  // A line thinner than a pixel of the square would become grey.
  const missing = THINNEST * Math.max(ink.width, ink.height) / LONGEST - lineWidth(ink);
  if (missing > 0) ink = thicker(ink, Math.round(missing / 2));
  const { width, height, values } = within(ink, LONGEST);
  const brightest = Math.max(...values);
  const mass = values.reduce((sum, value) => sum + value);
  const centre = at => values.reduce((sum, value, k) => sum + value * at(k), 0) / mass;
  const offset = (centre, side) => Math.min(Math.max(Math.round(14 - centre), 0), 28 - side);
  const left = offset(centre(k => k % width), width), top = offset(centre(k => Math.floor(k / width)), height);
  const digit = new Uint8Array(28 * 28);
  values.forEach((value, k) => { digit[(top + Math.floor(k / width)) * 28 + left + k % width] = Math.round(255 * value / brightest); });
  return digit;
}

// The ink with its longest side scaled to `longest`.
function within(ink, longest) {
  const scaled = side => Math.max(Math.round(side * longest / Math.max(ink.width, ink.height)), 1);
  return resize(ink, scaled(ink.width), scaled(ink.height));
}

// A triangle filter, as wide as a pixel of the smaller picture: `imageops::resize` of the crate `image`.
function resize(ink, width, height) {
  if (width === ink.width && height === ink.height) return ink;
  const taps = (from, to) => Array.from({ length: to }, (_, k) => {
    const ratio = from / to, scale = Math.max(ratio, 1), middle = (k + 0.5) * ratio;
    const first = Math.min(Math.max(Math.floor(middle - scale), 0), from - 1);
    const end = Math.min(Math.max(Math.ceil(middle + scale), first + 1), from);
    const weights = Array.from({ length: end - first }, (_, j) => Math.max(1 - Math.abs((first + j - middle + 0.5) / scale), 0));
    const sum = weights.reduce((sum, weight) => sum + weight);
    return { first, weights: weights.map(weight => weight / sum) };
  });
  const mean = ({ first, weights }, value) => weights.reduce((sum, weight, j) => sum + weight * value(first + j), 0);
  const [columns, rows] = [taps(ink.width, width), taps(ink.height, height)];
  const tall = picture(ink.width, height, (x, y) => mean(rows[y], row => ink.values[row * ink.width + x]));
  return picture(width, height, (x, y) => mean(columns[x], column => tall.values[y * ink.width + column]));
}

// The width of the ink's lines. In a bar of width w, the mean depth of a pixel below the edge is (w + 2) / 4.
function lineWidth({ width, height, values }) {
  // A depth is 1 more than the least around it, which two passes find: those above and before, those below and behind.
  // Outside the rectangle is paper.
  const across = width + 2, depths = new Uint16Array(across * (height + 2));
  values.forEach((value, k) => { depths[(Math.floor(k / width) + 1) * across + k % width + 1] = value >= INKED ? 65_535 : 0; });
  const before = [-across - 1, -across, -across + 1, -1];
  const deepen = (k, steps) => { depths[k] = Math.min(depths[k], ...steps.map(step => depths[k + step] + 1)); };
  for (let k = 0; k < depths.length; k++) if (depths[k]) deepen(k, before);
  for (let k = depths.length - 1; k >= 0; k--) if (depths[k]) deepen(k, before.map(step => -step));
  const inked = depths.filter(depth => depth > 0);
  return Math.max(4 * inked.reduce((sum, depth) => sum + depth, 0) / Math.max(inked.length, 1) - 2, 1);
}

// The same ink with lines that are `radius` pixels wider on each side.
function thicker(ink, radius) {
  const disc = [];
  for (let y = -radius; y <= radius; y++) {
    for (let x = -radius; x <= radius; x++) if (x * x + y * y <= radius * radius + radius) disc.push([x, y]);
  }
  const at = (x, y) => x >= 0 && x < ink.width && y >= 0 && y < ink.height ? ink.values[y * ink.width + x] : 0;
  return picture(ink.width + 2 * radius, ink.height + 2 * radius, (x, y) =>
    disc.reduce((most, [dx, dy]) => Math.max(most, at(x - radius + dx, y - radius + dy)), 0));
}
