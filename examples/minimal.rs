//! The whole training on the library: what `tch-mnist train` does, without a run's folder.
//!
//!     cargo run --release --example minimal -- --epochs 2 --limit-train 6400
//!
//! It takes the settings of `tch-mnist train` as flags, and prints the same lines. Settings of the device, the kernels, the
//! threads, of stopping and of files have no effect here, and --teacher is refused.

use anyhow::Result;
use tch::Device;
use tch_mnist::{Data, Kernels, Net, Schedule, Settings, Shuffle, State, Stepper, evaluate};

fn main() -> Result<()> {
    let settings = Settings::from_flags(std::env::args().skip(1))?;
    let (epochs, batch_size) = (settings.training.epochs, settings.training.batches.batch_size);
    let device = Device::cuda_if_available();

    // Images stay on the device as bytes; a batch is gathered and normalised there.
    let (source, images) = (&settings.data.source, &settings.data);
    let data = Data::load(&source.data, source.dataset, device, images.limit_train, images.test.limit_test)?;
    let data = data.hold_out(images.validation, settings.training.seed)?;

    // The weights of `torch.manual_seed(seed); Net()`. On a GPU, Kernels::Fused means libtorch's kernels.
    tch::manual_seed(settings.training.seed);
    let net = Net::new(device, &settings.training.net.architecture()?, Kernels::Fused);

    // The state is what a step changes: the net, the optimizer's buffers, the position in the epoch.
    let steps = (data.train.len() + batch_size - 1) / batch_size;
    let mut state = State::new(net, &settings, steps)?;
    // On a GPU, steps are captured as CUDA graphs.
    let mut stepper = Stepper::new(&data.train, &settings)?;
    stepper.prepare(&mut state)?;
    let schedule = Schedule::new(&settings, steps);

    let mut losses = Vec::new();
    for epoch in 0..epochs {
        println!("EPOCH: {epoch}");
        let order = Shuffle::draw()?.order(data.train.len(), device)?;
        let lrs: Vec<f64> = (0..steps).map(|step| schedule.lr(epoch * steps + step, &losses)).collect();
        stepper.begin_epoch(&mut state, &order, &lrs)?;
        for _ in 0..steps {
            let _loss = stepper.step(&mut state)?;
        }
        state.end_epoch()?;

        // As the original does, in shuffled batches.
        let batches = Shuffle::draw()?.batches(data.measured().len(), batch_size, device)?;
        let test = evaluate(state.measured_net(), data.measured(), &batches, || true)?.expect("nothing stops it");
        losses.push(test.loss);
        println!("\n{}\n", test.line());
    }
    Ok(())
}
