//! Augmentation: each training image turned, moved, scaled and sheared at random, every time it is its turn.
//!
//! A batch is sampled at once, on its device, as `torchvision.transforms.RandomAffine` samples one image. The random
//! numbers are the device's default generator's, so that a seed gives them again and a CUDA graph draws new ones each time
//! that it is replayed.

use super::BLACK;
use crate::config::Config;
use anyhow::Result;
use tch::{Kind, Tensor};

/// How far an image may be distorted; each number is drawn from Uniform(-most, most).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomAffine {
    /// The most that it is turned, in degrees.
    pub rotate: f64,
    /// The most that it is moved, in pixels, across and down.
    pub translate: f64,
    /// The most that its size differs from 1.
    pub scale: f64,
    /// The most that it is sheared along its rows, in degrees.
    pub shear: f64,
}

impl RandomAffine {
    /// What `config` asks for; none where nothing would change.
    pub fn of(config: &Config) -> Option<RandomAffine> {
        let Config { rotate, translate, scale, shear, .. } = *config;
        [rotate, translate, scale, shear].iter().any(|most| *most > 0.0).then_some(RandomAffine {
            rotate,
            translate,
            scale,
            shear,
        })
    }

    /// Distorts normalised images [N, 1, 28, 28], each in its own way; what comes in from outside an image is black.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        let drawn = Tensor::f_empty([5, images.size()[0]], (Kind::Float, images.device()))?.f_uniform_(-1.0, 1.0)?;
        self.distort(images, &drawn)
    }

    /// The same with what was drawn, [5, N]: angle, shear, scale, across and down, each as a share of the most.
    fn distort(&self, images: &Tensor, drawn: &Tensor) -> Result<Tensor> {
        let share = |row| drawn.f_select(0, row);
        let angle = share(0)?.f_mul_scalar(self.rotate.to_radians())?;
        let shear = share(1)?.f_mul_scalar(self.shear.to_radians())?.f_tan()?;
        let zoom = share(2)?.f_mul_scalar(self.scale)?.f_add_scalar(1.0)?.f_reciprocal()?;
        let (cos, sin) = (angle.f_cos()?.f_mul(&zoom)?, angle.f_sin()?.f_mul(&zoom)?);
        // grid_sample asks where in the input a pixel of the output comes from, in halves of the image's side.
        let half = images.size()[3] as f64 / 2.0;
        let rows = [
            cos.shallow_clone(),
            cos.f_mul(&shear)?.f_sub(&sin)?,
            share(3)?.f_mul_scalar(self.translate / half)?,
            sin.shallow_clone(),
            sin.f_mul(&shear)?.f_add(&cos)?,
            share(4)?.f_mul_scalar(self.translate / half)?,
        ];
        let theta = Tensor::f_stack(&rows, 1)?.f_view([-1, 2, 3])?;
        let grid = Tensor::f_affine_grid_generator(&theta, images.size(), false)?;
        // Bilinear (0), with zeros around (0): so black is 0 while it samples.
        let black = f64::from(BLACK);
        Ok(images.f_sub_scalar(black)?.f_grid_sampler(&grid, 0, 0, false)?.f_add_scalar(black)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pixel_table;
    use tch::Device;

    const NONE: RandomAffine = RandomAffine { rotate: 0.0, translate: 0.0, scale: 0.0, shear: 0.0 };

    /// Two images of random bytes, normalised.
    fn images() -> Tensor {
        let bytes = Tensor::randint(256, [2 * 784], (Kind::Int64, Device::Cpu));
        pixel_table().index_select(0, &bytes).view([2, 1, 28, 28])
    }

    /// As far as `affine` goes, in each of its ways.
    fn furthest(affine: RandomAffine, images: &Tensor) -> Tensor {
        affine.distort(images, &Tensor::ones([5, images.size()[0]], (Kind::Float, Device::Cpu))).unwrap()
    }

    fn assert_close(one: &Tensor, other: &Tensor) {
        let difference = (one - other).abs().max().double_value(&[]);
        assert!(difference < 1e-3, "{difference}");
    }

    #[test]
    fn nothing_asked_for_changes_nothing() {
        let images = images();
        assert_close(&furthest(NONE, &images), &images);
    }

    #[test]
    fn a_pixel_is_a_pixel_and_outside_is_black() {
        let images = images();
        let moved = furthest(RandomAffine { translate: 3.0, ..NONE }, &images);
        assert_close(&moved.slice(2, 0, 25, 1).slice(3, 0, 25, 1), &images.slice(2, 3, 28, 1).slice(3, 3, 28, 1));
        let black = pixel_table().double_value(&[0]);
        assert_close(&moved.slice(2, 25, 28, 1), &Tensor::from(black));
        assert_close(&moved.slice(3, 25, 28, 1), &Tensor::from(black));
    }

    #[test]
    fn a_quarter_turn_is_a_quarter_turn() {
        let images = images();
        assert_close(&furthest(RandomAffine { rotate: 90.0, ..NONE }, &images), &images.rot90(1, [2, 3]));
    }

    #[test]
    fn scale_is_that_of_what_is_seen() {
        // A square of 8x8 in the middle becomes one of 12x12.
        let square = |side: i64| {
            let edge = (28 - side) / 2;
            Tensor::ones([1, 1, side, side], (Kind::Float, Device::Cpu)).constant_pad_nd([edge, edge, edge, edge])
        };
        let black = f64::from(BLACK);
        let scaled = furthest(RandomAffine { scale: 0.5, ..NONE }, &(square(8) + black)) - black;
        let area = scaled.sum(Kind::Float).double_value(&[]);
        assert!((area - 144.0).abs() < 1.0, "{area}");
    }

    #[test]
    fn a_shear_moves_rows_along_themselves() {
        let images = images();
        // Rows that lie y + 1/2 below the middle are moved by as much.
        let sheared = furthest(RandomAffine { shear: 45.0, ..NONE }, &images);
        let between = (images.select(2, 15).slice(2, 1, 28, 1) + images.select(2, 15).slice(2, 0, 27, 1)) / 2;
        let between_next = between.slice(2, 1, 27, 1);
        assert_close(&sheared.select(2, 15).slice(2, 0, 26, 1), &between_next);
    }

    #[test]
    fn each_image_is_distorted_in_its_own_way_within_the_most() {
        let one = images().slice(0, 0, 1, 1);
        let many = one.repeat([64, 1, 1, 1]);
        let moved = RandomAffine { rotate: 5.0, translate: 1.0, scale: 0.1, shear: 5.0 }.apply(&many).unwrap();
        assert_eq!(moved.size(), many.size());
        for i in 1..64 {
            assert!(!moved.get(i).equal(&moved.get(0)));
        }
        assert_eq!(RandomAffine::of(&Config::default()), None);
    }
}
