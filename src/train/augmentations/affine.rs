//! Each training image rotated, moved, scaled and sheared at random, as `torchvision.transforms.RandomAffine` does it.
//!
//! A batch is sampled at once, on its device, with torchvision's matrices; bicubically, where torchvision takes the
//! nearest pixel by default, and moved by fractions of a pixel too. Bilinear sampling blurs: the net would learn from
//! softer digits than those it is tested on. The random numbers come from the device's default generator, so that a
//! seed repeats them.

use super::{Augmentation, Transform};
use crate::data::BLACK;
use crate::flags::{Named, within};
use crate::libtorch::pieces;
use crate::shape;
use anyhow::Result;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

const SIDE: i64 = shape::SIDE as i64;

/// How many images are a piece of the work on a CPU.
const PIECE: i64 = 16;

/// Rotated, moved, scaled and sheared: RandomAffine of torchvision
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct Affine {
    /// Rotate each training image by up to this many degrees
    #[arg(long, value_name = "D", default_value_t = 0.0, value_parser = within("degrees", 0.0..=180.0))]
    rotate: f64,
    /// Move each training image by up to this many pixels, across and down
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = within("pixels", 0.0..=shape::SIDE as f64))]
    translate: f64,
    /// Scale each training image by a factor between 1 - X and 1 + X
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a share", 0.0..1.0))]
    scale: f64,
    /// Shear each training image by up to this many degrees, along the rows, before it is rotated
    #[arg(long, value_name = "D", default_value_t = 0.0, value_parser = within("degrees", 0.0..=45.0))]
    shear: f64,
}

impl Named for Affine {
    const NAME: &'static str = "affine";
    const EXAMPLES: &'static [&'static str] = &["--rotate=10 --translate=2 --scale=0.1 --shear=5"];
}

impl Augmentation for Affine {
    fn transform(&self, device: Device) -> Result<Option<Box<dyn Transform>>> {
        let Affine { rotate, translate, scale, shear } = *self;
        if [rotate, translate, scale, shear].iter().all(|most| *most == 0.0) {
            return Ok(None);
        }
        Ok(Some(Box::new(RandomAffine { most: *self, pixels: pixels(device)? })))
    }
}

/// Draws each amount from Uniform(-most, most).
#[derive(Debug)]
struct RandomAffine {
    most: Affine,
    /// (x, y, 1) of each pixel's centre, float32 [3, 784], in halves of the image's side from its centre.
    pixels: Tensor,
}

impl Affine {
    /// Distorts `images` by the amounts `drawn`, [5, N]: angle, shear, scale, across and down, each as a share of the
    /// most. `pixels` are those of [`RandomAffine`].
    fn distort(&self, images: &Tensor, drawn: &Tensor, pixels: &Tensor) -> Result<Tensor> {
        let share = |row| drawn.f_select(0, row);
        let angle = share(0)?.f_mul_scalar(self.rotate.to_radians())?;
        let shear = share(1)?.f_mul_scalar(self.shear.to_radians())?.f_tan()?;
        let zoom = share(2)?.f_mul_scalar(self.scale)?.f_add_scalar(1.0)?.f_reciprocal()?;
        let (cos, sin) = (angle.f_cos()?.f_mul(&zoom)?, angle.f_sin()?.f_mul(&zoom)?);
        // The inverse of a shear along the rows and then a rotation, scaled by zoom.
        let matrix =
            [cos.f_sub(&sin.f_mul(&shear)?)?, sin.f_add(&cos.f_mul(&shear)?)?, sin.f_neg()?, cos.shallow_clone()];
        // grid_sample takes, for each pixel of the output, its place in the input, in halves of the image's side.
        let half = SIDE as f64 / 2.0;
        let (x, y) = (share(3)?.f_mul_scalar(-self.translate / half)?, share(4)?.f_mul_scalar(-self.translate / half)?);
        let origin = |a: &Tensor, b: &Tensor| -> Result<Tensor> { Ok(a.f_mul(&x)?.f_add(&b.f_mul(&y)?)?) };
        let [a, b, c, d] = &matrix;
        let rows = Tensor::f_stack(&[a, b, &origin(a, b)?, c, d, &origin(c, d)?], 1)?.f_view([-1, 3])?;
        // affine_grid(theta, images.size(), align_corners=False) in one product, a tenth of its time on a small batch.
        let grid = rows.f_matmul(pixels)?.f_view([-1, 2, SIDE, SIDE])?.f_permute([0, 2, 3, 1])?;
        // Bicubic (2) with zeros around the image (0), so that black must be 0 while it samples.
        let black = f64::from(BLACK);
        Ok(images.f_sub_scalar(black)?.f_grid_sampler(&grid, 2, 0, false)?.f_add_scalar(black)?)
    }
}

impl Transform for RandomAffine {
    fn apply(&self, images: &Tensor) -> Result<Tensor> {
        let drawn = Tensor::f_empty([5, images.size()[0]], (Kind::Float, images.device()))?.f_uniform_(-1.0, 1.0)?;
        let RandomAffine { most, pixels } = self;
        if images.device() != Device::Cpu {
            return most.distort(images, &drawn, pixels);
        }
        let parts = images.f_split(PIECE, 0)?.into_iter().zip(drawn.f_split(PIECE, 1)?);
        let parts = parts.map(|(images, drawn)| (images, drawn, pixels.shallow_clone())).collect();
        let distort = |(images, drawn, pixels)| most.distort(&images, &drawn, &pixels);
        Ok(Tensor::f_cat(&pieces::map(parts, distort)?, 0)?)
    }
}

/// [`RandomAffine::pixels`].
fn pixels(device: Device) -> Result<Tensor> {
    let middle = |k: i64| (2 * k + 1) as f32 / SIDE as f32 - 1.0;
    let (x, y) = ((0..SIDE * SIDE).map(|k| middle(k % SIDE)), (0..SIDE * SIDE).map(|k| middle(k / SIDE)));
    let values: Vec<f32> = x.chain(y).chain((0..SIDE * SIDE).map(|_| 1.0)).collect();
    Ok(Tensor::f_from_slice(&values)?.f_view([3, SIDE * SIDE])?.f_to_device(device)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pixel_table;

    fn affine(rotate: f64, translate: f64, scale: f64, shear: f64) -> RandomAffine {
        RandomAffine { most: Affine { rotate, translate, scale, shear }, pixels: pixels(Device::Cpu).unwrap() }
    }

    /// Two images of random bytes, normalised.
    fn images() -> Tensor {
        let bytes = Tensor::randint(256, [2 * 784], (Kind::Int64, Device::Cpu));
        pixel_table().index_select(0, &bytes).view([2, 1, 28, 28])
    }

    /// As far as `affine` goes, in each of its ways.
    fn furthest(affine: &RandomAffine, images: &Tensor) -> Tensor {
        let drawn = Tensor::ones([5, images.size()[0]], (Kind::Float, Device::Cpu));
        affine.most.distort(images, &drawn, &affine.pixels).unwrap()
    }

    fn assert_close(one: &Tensor, other: &Tensor) {
        let difference = (one - other).abs().max().double_value(&[]);
        assert!(difference < 1e-3, "{difference}");
    }

    #[test]
    fn nothing_asked_for_changes_nothing() {
        let images = images();
        assert_close(&furthest(&affine(0.0, 0.0, 0.0, 0.0), &images), &images);
    }

    #[test]
    fn a_pixel_is_a_pixel_and_outside_is_black() {
        let images = images();
        let moved = furthest(&affine(0.0, 3.0, 0.0, 0.0), &images);
        assert_close(&moved.slice(2, 3, 28, 1).slice(3, 3, 28, 1), &images.slice(2, 0, 25, 1).slice(3, 0, 25, 1));
        let black = Tensor::from(pixel_table().double_value(&[0]));
        assert_close(&moved.slice(2, 0, 3, 1), &black);
        assert_close(&moved.slice(3, 0, 3, 1), &black);
    }

    #[test]
    fn the_grid_is_that_of_affine_grid() {
        let theta = Tensor::from_slice(&[0.9f32, 0.2, 0.1, -0.3, 1.1, -0.05]);
        let expected = Tensor::affine_grid_generator(&theta.view([1, 2, 3]), [1, 1, SIDE, SIDE], false);
        let grid = theta.view([2, 3]).matmul(&pixels(Device::Cpu).unwrap()).view([1, 2, SIDE, SIDE]);
        assert_close(&grid.permute([0, 2, 3, 1]), &expected);
    }

    #[test]
    fn a_quarter_turn_is_a_quarter_turn() {
        let images = images();
        assert_close(&furthest(&affine(90.0, 0.0, 0.0, 0.0), &images), &images.rot90(3, [2, 3]));
    }

    /// Black but for a white square of `side` pixels in the middle; black is 0 here.
    fn square(side: i64) -> Tensor {
        let edge = (28 - side) / 2;
        Tensor::ones([1, 1, side, side], (Kind::Float, Device::Cpu)).constant_pad_nd([edge, edge, edge, edge])
    }

    #[test]
    fn scale_is_that_of_what_is_seen() {
        let black = f64::from(BLACK);
        let scaled = furthest(&affine(0.0, 0.0, 0.5, 0.0), &(square(8) + black)) - black;
        let area = scaled.sum(Kind::Float).double_value(&[]);
        assert!((area - 144.0).abs() < 1.0, "{area}");
    }

    #[test]
    fn a_shear_moves_rows_along_themselves() {
        let images = images();
        // The row that lies half a pixel below the middle is moved by half a pixel to the left, in between its
        // neighbours: 19/32 of either and -3/32 of the next ones make the cubic of PyTorch (a = -0.75) there.
        let row = furthest(&affine(0.0, 0.0, 0.0, 45.0), &images).select(2, 14);
        let at = |first: i64| images.select(2, 14).slice(2, first, first + 25, 1);
        let between = (at(1) + at(2)) * (19.0 / 32.0) - (at(0) + at(3)) * (3.0 / 32.0);
        assert_close(&row.slice(2, 1, 26, 1), &between);
    }

    /// Where the light of an image [1, 28, 28] is, in pixels right of and below the middle.
    fn centre(image: &Tensor) -> (f64, f64) {
        let light = image.view([28, 28]) - f64::from(BLACK);
        let place = Tensor::arange(28, (Kind::Float, Device::Cpu)) - 13.5;
        let along = |dimension: i64| {
            let profile = light.sum_dim_intlist([dimension].as_slice(), false, Kind::Float);
            ((&profile * &place).sum(Kind::Double) / profile.sum(Kind::Double)).double_value(&[])
        };
        (along(0), along(1))
    }

    #[test]
    fn a_translation_is_in_pixels_whatever_else_is_done() {
        let image = square(4) + f64::from(BLACK);
        for affine in [affine(0.0, 3.0, 0.0, 0.0), affine(40.0, 3.0, 0.5, 20.0)] {
            let (x, y) = centre(&furthest(&affine, &image));
            assert!((x - 3.0).abs() < 0.1 && (y - 3.0).abs() < 0.1, "{x}, {y}: {affine:?}");
        }
    }

    #[test]
    fn each_image_is_distorted_in_its_own_way_within_the_most() {
        let many = (square(4) + f64::from(BLACK)).repeat([256, 1, 1, 1]);
        let moved = affine(5.0, 1.0, 0.1, 5.0).apply(&many).unwrap();
        assert_eq!(moved.size(), many.size());
        let (mut left, mut right) = (0.0f64, 0.0f64);
        for i in 1..256 {
            assert!(!moved.get(i).equal(&moved.get(0)));
            let (x, y) = centre(&moved.get(i));
            assert!(x.abs() < 1.1 && y.abs() < 1.1, "{x}, {y}");
            (left, right) = (left.min(x), right.max(x));
        }
        assert!(left < -0.8 && right > 0.8, "{left} to {right}");
    }
}
