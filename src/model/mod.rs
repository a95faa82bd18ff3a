//! The net: its layers, its weights by name, its summary.

mod fused;
mod layers;
mod net;
mod state_dict;
mod summary;

pub use layers::Layer;
pub use net::{Block, Kernels, Net, blocks};
pub use state_dict::StateDict;
pub(crate) use summary::{receptive_fields, table};
