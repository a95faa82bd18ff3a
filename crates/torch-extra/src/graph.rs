//! CUDA graphs: the kernels that a piece of code launches on a GPU, recorded once and launched again by one call.

use super::check;
use super::cuda::flag_value;
use anyhow::{Result, bail};
use std::ffi::{c_char, c_int};
use tch::Device;

/// `tm_Graph` of `graph.cpp`.
#[repr(C)]
struct RawGraph([u8; 0]);

unsafe extern "C" {
    fn tm_graph_new(device: c_int, out: *mut *mut RawGraph) -> *mut c_char;
    fn tm_graph_new_beside(other: *const RawGraph, out: *mut *mut RawGraph) -> *mut c_char;
    fn tm_graph_begin(graph: *mut RawGraph) -> *mut c_char;
    fn tm_graph_end(graph: *mut RawGraph) -> *mut c_char;
    fn tm_graph_replay(graph: *mut RawGraph) -> *mut c_char;
    fn tm_graph_delete(graph: *mut RawGraph);
}

/// How often the code runs before it is captured, as PyTorch advises: on their first runs cuDNN, the allocator and
/// autograd's threads do things that a capture forbids.
const WARM_UPS: usize = 3;

/// `torch.cuda.CUDAGraph`, captured. It stays on the thread that captured it.
pub struct Graph(*mut RawGraph);

impl Graph {
    /// Captures what `body` launches on `device`, as `torch.cuda.graph` does after its warm-up: `body` runs three
    /// times, `rewind` undoes each time what that changed, and then `body` runs once more to be recorded, which
    /// computes nothing. All of this happens on a stream of its own; afterwards the previous stream is the current one
    /// again.
    ///
    /// A replay runs the same kernels on the same memory with the same numbers from the host: whatever changes from one
    /// replay to the next must be in tensors that `body` reads and that outlive the graph. `body` must not wait for the
    /// device. In each replay it draws new numbers from the device's default generator, and advances the generator as
    /// `body` itself would.
    ///
    /// # Errors
    ///
    /// Without CUDA, if `body` or `rewind` fails (a panic is passed on), or if `body` does something that cannot be
    /// captured. The capture is then ended, and `body` works again outside of one.
    pub fn capture(device: Device, body: impl FnMut() -> Result<()>, rewind: impl Fn() -> Result<()>) -> Result<Graph> {
        let Device::Cuda(index) = device else {
            bail!("a CUDA graph is captured on a GPU, not on {}", flag_value(device))
        };
        let mut raw = std::ptr::null_mut();
        // SAFETY: `tm_graph_new` stores a graph made with `new` when it returns null.
        unsafe { check(tm_graph_new(index as c_int, &mut raw))? };
        // From here on, dropping it ends an unfinished capture and leaves its stream, also after an error or a panic.
        let graph = Graph(raw);
        graph.record(WARM_UPS, body, rewind)
    }

    /// Captures what `body` launches as another graph, in the same memory and after one warm-up: it does much of what
    /// this graph does. The graphs are not to be replayed at the same time, and nothing that a replay leaves in their
    /// memory is to be read after it.
    ///
    /// # Errors
    ///
    /// As those of [`Graph::capture`]; this graph can then no longer be replayed either.
    pub fn capture_beside(&self, body: impl FnMut() -> Result<()>, rewind: impl Fn() -> Result<()>) -> Result<Graph> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: this graph is alive, and `tm_graph_new_beside` stores one made with `new` when it returns null.
        unsafe { check(tm_graph_new_beside(self.0, &mut raw))? };
        Graph(raw).record(1, body, rewind)
    }

    /// Records what `body` launches, after so many runs that `rewind` undoes.
    fn record(
        self,
        warm_ups: usize,
        mut body: impl FnMut() -> Result<()>,
        rewind: impl Fn() -> Result<()>,
    ) -> Result<Graph> {
        for _ in 0..warm_ups {
            body()?;
            rewind()?;
        }
        // SAFETY: the graph is alive, and new.
        unsafe { check(tm_graph_begin(self.0))? };
        body()?;
        // SAFETY: the graph is alive, and being captured.
        unsafe { check(tm_graph_end(self.0))? };
        Ok(self)
    }

    /// Launches the captured kernels on the current stream, without waiting for them.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the graph is alive, and `capture` only returns graphs that were captured.
        unsafe { check(tm_graph_replay(self.0)) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `tm_graph_new`, and not used after this.
        unsafe { tm_graph_delete(self.0) }
    }
}
