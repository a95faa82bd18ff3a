//! Scaling and blurring of channels with any values; the functions of `image` cut floats to 0 to 1.

use super::picture::Grey;
use image::Luma;

/// The mean of each block of pixels, of `width` by `height` blocks.
pub(super) fn shrink(image: &Grey, width: u32, height: u32) -> Grey {
    let span = |k: u32, blocks: u32, side: u32| {
        let at = |k: u32| (u64::from(k) * u64::from(side) / u64::from(blocks)) as u32;
        at(k)..at(k + 1)
    };
    Grey::from_fn(width, height, |x, y| {
        let (columns, rows) = (span(x, width, image.width()), span(y, height, image.height()));
        let count = (columns.len() * rows.len()) as f32;
        let sum: f32 =
            rows.flat_map(|y| columns.clone().map(move |x| (x, y))).map(|(x, y)| image.get_pixel(x, y).0[0]).sum();
        Luma([sum / count])
    })
}

/// The image at a larger size, bilinear between the centres of its pixels.
pub(super) fn enlarge(image: &Grey, width: u32, height: u32) -> Grey {
    let place = |k: u32, to: u32, from: u32| {
        let at = ((k as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
        let low = at as u32;
        (low, (low + 1).min(from - 1), at - low as f32)
    };
    let columns: Vec<_> = (0..width).map(|x| place(x, width, image.width())).collect();
    Grey::from_fn(width, height, |x, y| {
        let ((left, right, across), (top, bottom, down)) = (columns[x as usize], place(y, height, image.height()));
        let row = |y: u32| image.get_pixel(left, y).0[0] * (1.0 - across) + image.get_pixel(right, y).0[0] * across;
        Luma([row(top) * (1.0 - down) + row(bottom) * down])
    })
}

/// A Gaussian blur with standard deviation `sigma`, in pixels; beyond the edge its pixels repeat.
pub(super) fn blur(image: &Grey, sigma: f32) -> Grey {
    // Beyond three standard deviations there is less than 1 %.
    let radius = (3.0 * sigma).ceil() as i64;
    let weights: Vec<f32> = (-radius..=radius).map(|k| (-(k * k) as f32 / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|weight| weight / sum).collect();
    let along_rows = |image: &Grey| {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let mut blurred = Vec::with_capacity(width * height);
        for row in image.as_raw().chunks_exact(width) {
            let at = |k: i64| row[k.clamp(0, width as i64 - 1) as usize];
            let mean =
                |x: usize| weights.iter().zip(x as i64 - radius..).map(|(weight, k)| weight * at(k)).sum::<f32>();
            blurred.extend((0..width).map(mean));
        }
        // Transposed, so that a second pass blurs the columns.
        Grey::from_fn(height as u32, width as u32, |x, y| Luma([blurred[x as usize * width + y as usize]]))
    };
    along_rows(&along_rows(image))
}
