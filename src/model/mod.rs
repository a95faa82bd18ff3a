//! The net: its layers as data, tch's modules for them, its weights by name, its summary.

mod architecture;
mod fused;
pub mod layers;
mod names;
mod net;
mod net_file;
mod nets;
mod stages;
mod state_dict;
mod summary;
mod units;

pub use architecture::{Architecture, NamedLayer};
pub use layers::Layer;
pub use net::{Kernels, Net};
pub(crate) use net_file::repr;
pub use state_dict::StateDict;
pub(crate) use summary::{Row, layers as layers_in_numbers, rows, table, thousands};
