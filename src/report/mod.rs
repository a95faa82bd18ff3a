//! TODO

pub mod picture;
