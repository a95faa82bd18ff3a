//! How steps reach the device: one kernel at a time, or as CUDA graphs.
//!
//! A step of this net is about a hundred small kernels. Launched one by one, they leave a GPU waiting for the host most
//! of the time; a [`Graph`] launches them in one call, and those of several steps too. A graph replays the same kernels
//! on the same memory with the same numbers from the host. So a captured step reads everything that changes from step to
//! step from device memory, the images and the learning rate too, and a replay copies nothing there: see
//! [`super::feed`].
//!
//! A captured step computes what an eager one computes, with the same kernels on the same numbers, and draws the same
//! dropout masks: a replay advances the generator by what the captured kernels drew. So a run of captured steps may go
//! on with eager ones, and the generator's state in a checkpoint is right for both.

use super::state::State;
use super::step::Work;
use crate::error::without_panic;
use crate::libtorch::graph::Graph;
use anyhow::{Result, ensure};
use std::cell::RefCell;

/// A way to make steps.
pub(super) trait Launch {
    /// Makes some of the next steps, at most `most`: one if none is to be in a graph. Returns how many.
    fn launch(&self, work: &Work, state: &mut State, most: i64) -> Result<i64>;

    /// How many steps one call makes at most.
    fn at_once(&self) -> i64;

    /// Whether steps are replayed as CUDA graphs.
    fn is_captured(&self) -> bool;
}

/// One kernel at a time.
pub(super) struct Eagerly;

impl Launch for Eagerly {
    fn launch(&self, work: &Work, state: &mut State, _most: i64) -> Result<i64> {
        work.eager_step(state)?;
        Ok(1)
    }

    fn at_once(&self) -> i64 {
        1
    }

    fn is_captured(&self) -> bool {
        false
    }
}

/// Replays of CUDA graphs. Steps that fit into none are eager.
pub(super) struct Graphs {
    /// With the number of their steps, the longer one first.
    graphs: Vec<(i64, Graph)>,
}

impl Launch for Graphs {
    fn launch(&self, work: &Work, state: &mut State, most: i64) -> Result<i64> {
        match self.graphs.iter().find(|(steps, _)| *steps <= most) {
            Some((steps, graph)) => graph.replay().map(|()| *steps),
            None => Eagerly.launch(work, state, most),
        }
    }

    fn at_once(&self) -> i64 {
        self.graphs[0].0
    }

    fn is_captured(&self) -> bool {
        true
    }
}

impl Graphs {
    /// Captures a graph of one step and one of `several`, and leaves the state as it was. Which images lie ready
    /// meanwhile does not matter.
    pub(super) fn capture(work: &Work, state: &mut State, several: i64) -> Result<Graphs> {
        ensure!(state.steps() > 1, "an epoch has one step, and the last one of an epoch is never captured");
        let device = work.device();
        let before = state.snapshot(device)?;
        // The closures need the state, one after the other.
        let state = RefCell::new(state);
        let steps = |steps| work.static_steps(&mut state.borrow_mut(), steps);
        let rewind = || {
            work.feed.rewind()?;
            state.borrow().restore(&before)
        };
        let graphs = without_panic(|| {
            let mut graphs = vec![(1, Graph::capture(device, || steps(1), rewind)?)];
            if several > 1 {
                let more = graphs[0].1.capture_beside(|| steps(several), rewind)?;
                graphs.insert(0, (several, more));
            }
            // The first launch also brings a graph to the GPU.
            for (_, graph) in &graphs {
                graph.replay()?;
                rewind()?;
            }
            Ok(Graphs { graphs })
        });
        if graphs.is_err() {
            rewind()?;
            // The gradients may lie in memory that belonged to a graph.
            state.borrow().net.zero_grad()?;
        }
        graphs
    }
}
