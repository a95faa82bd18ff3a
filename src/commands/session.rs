//! What every command that runs the net begins with: settings, then the device, the data and the net.

use crate::data::{self, Data, Need, Place, Split};
use crate::error::{UsageError, sentence};
use crate::libtorch::{allocator, cuda, precision};
use crate::model::{Architecture, Kernels, Net};
use crate::predict::{Familiarity, Knowledge, Predictor};
use crate::settings::{
    Compute, CudaGraph, CudaSettings, DataSettings, DeviceChoice, KernelsChoice, MOST_THREADS, NetOfWeights, Precision,
    Settings, Source, TrainingSettings, name_of,
};
use crate::weights::{self, Misfit, WeightsFile};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use tch::Device;

/// The weights that a command starts from.
#[derive(clap::Args)]
pub(super) struct Weights {
    /// The weights: a file of this program's or of Python's, or a run's folder; docs/weights.md lists the formats
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Which weights, if the file holds several sets
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    #[command(flatten)]
    net: NetOfWeights,
}

/// The weights of a command that takes no other file: `evaluate model.pt`.
#[derive(clap::Args)]
pub(super) struct OnlyFile {
    /// The weights, in place of --weights FILE
    #[arg(value_name = "WEIGHTS", required_unless_present = "weights", conflicts_with = "weights")]
    only_file: Option<PathBuf>,
}

impl Weights {
    /// Those of a file or of a run's folder, whose net is known without a flag.
    pub(super) fn of(path: &Path, key: Option<&str>) -> Weights {
        Weights { weights: Some(path.to_path_buf()), key: key.map(String::from), net: NetOfWeights::default() }
    }

    /// Takes the file that was named without a flag, if one was.
    pub(super) fn take(&mut self, OnlyFile { only_file }: OnlyFile) {
        self.weights = self.weights.take().or(only_file);
    }

    /// The net with its weights, and their file. `dropout` is what it has in training if the file does not say that.
    pub(super) fn load(&self, backend: &Backend, dropout: f64) -> Result<(Net, WeightsFile)> {
        let Some(path) = &self.weights else {
            bail!(UsageError("--weights is missing: give --weights FILE, such as a run's model.pt".into()))
        };
        let (file, key) = (WeightsFile::open(path)?, self.key.as_deref());
        let known = match self.net.architecture(dropout)? {
            None => file.architecture(key, dropout)?,
            given => given,
        };
        let net = backend.net(known.as_ref().unwrap_or(&Architecture::original(dropout)));
        file.load(key, &net).map_err(|error| match self.way_out(&error, &file, known.is_some()) {
            Some(way_out) => anyhow!("{}; {way_out}", sentence(&error)),
            None => error,
        })?;
        Ok((net, file))
    }

    /// What to do if the file holds the weights of another net; `is_known`: whether it or --net says of which.
    fn way_out(&self, error: &anyhow::Error, file: &WeightsFile, is_known: bool) -> Option<&'static str> {
        let is_of_file = || file.architecture(self.key.as_deref(), 0.0).is_ok_and(|net| net.is_some());
        match error.is::<Misfit>() {
            true if !is_known => Some("if they are the weights of another net, give its layers by --net FILE"),
            true if self.net.is_given() && is_of_file() => {
                Some("leave out --net: the net of these weights is known without it")
            }
            _ => None,
        }
    }
}

/// What a weights file says about the classes, and whether it names them.
fn knowledge(file: &WeightsFile) -> Result<(Knowledge, bool)> {
    let metadata = file.metadata();
    let knowledge = Knowledge::from_metadata(metadata).with_context(|| file.path().display().to_string())?;
    Ok((knowledge, metadata.contains_key(weights::CLASSES)))
}

/// In which classes a weights file and `split` differ, as a sentence; `None` if in none. A file that names no classes has
/// those of MNIST.
pub(super) fn other_classes(file: &WeightsFile, split: &Split) -> Result<Option<String>> {
    let (knowledge, is_named) = knowledge(file)?;
    let (theirs, ours) = (knowledge.classes.listed(), split.classes.listed());
    let unnamed = if is_named { "" } else { " (the file names none)" };
    let differ = !knowledge.classes.agree(&split.classes);
    Ok(differ.then(|| format!("the weights are for the classes {theirs}{unnamed}, and these images are of {ours}")))
}

/// The flags of a command that runs a net from a file.
#[derive(clap::Args)]
pub(super) struct Inference {
    #[command(flatten)]
    pub(super) file: Weights,
    #[command(flatten)]
    compute: Compute,
}

impl Inference {
    /// Where to compute, the net with its weights, and their file. Nothing is trained, so nothing is dropped.
    pub(super) fn net(&self) -> Result<(Backend, Net, WeightsFile)> {
        let backend = Backend::of(&self.compute)?;
        let (net, file) = self.file.load(&backend, 0.0)?;
        Ok((backend, net, file))
    }
}

/// The flags of a command that predicts.
#[derive(clap::Args)]
pub(super) struct Prediction {
    #[command(flatten)]
    pub(super) inference: Inference,
    /// Training data that show what digits look like, for weights that do not store it
    #[command(flatten)]
    source: Source,
}

impl Prediction {
    /// The threads that were asked for; 0 if none were.
    pub(super) fn threads(&self) -> i32 {
        self.inference.compute.threads
    }

    /// The net with what is known about its classes, from the weights file or measured on the training data if they are
    /// there; and a line on which net it is. `kernels` is what `--kernels auto` stands for.
    pub(super) fn predictor(&mut self, kernels: KernelsChoice) -> Result<(Predictor, String)> {
        let asked = &mut self.inference.compute.kernels;
        if *asked == KernelsChoice::Auto {
            *asked = kernels;
        }
        let (backend, net, file) = self.inference.net()?;
        let (mut knowledge, named) = knowledge(&file)?;
        if knowledge.familiarity.is_none() {
            let Source { dataset, data } = &self.source;
            let measured = Data::load_train(&Place::new(data, *dataset), backend.device, 0).and_then(|data| {
                let classes = &data.train.classes;
                ensure!(!named || classes.agree(&knowledge.classes), "{} has other classes", data.name);
                tracing::info!(
                    "these weights carry no statistics of their training images; measuring them on {}",
                    data.name
                );
                knowledge.classes = (**classes).clone();
                Familiarity::measure(&net, &data.train)
            });
            knowledge.familiarity = measured.unwrap_or_else(|error| {
                let reason = sentence(&error);
                tracing::info!(
                    "non-digits will not be marked: these weights carry no statistics of their training images, and {reason}"
                );
                None
            });
        }
        let about = weights::about(net.architecture(), &weights::metadata_of(&file));
        Ok((Predictor::new(net, backend.device, knowledge), about))
    }
}

/// Where to compute, with `auto` resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Backend {
    pub(super) device: Device,
    pub(super) kernels: Kernels,
}

impl Backend {
    /// Resolves `auto`, and sets libtorch's device and threads.
    pub(super) fn of(compute: &Compute) -> Result<Backend> {
        let device = choose(compute.device)?;
        let kernels = match (compute.kernels, device.is_cuda()) {
            (KernelsChoice::Torch, _) | (KernelsChoice::Auto, true) => Kernels::Torch,
            (KernelsChoice::Auto | KernelsChoice::Fused, false) => Kernels::Fused,
            (KernelsChoice::Fused, true) => {
                bail!("--kernels fused is for a CPU: use --kernels auto, or --device cpu")
            }
        };
        if let Device::Cuda(index) = device {
            cuda::use_device(index)?;
        }
        if compute.threads > 0 {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            if compute.threads as usize > cores {
                tracing::warn!("--threads {} on {cores} cores is slower than --threads {cores}", compute.threads);
            }
            tch::set_num_threads(compute.threads);
        }
        precision::deterministic_cudnn()?;
        precision::allow_tf32(false)?;
        Ok(Backend { device, kernels })
    }

    /// [`Backend::of`] for a run, which also says how precisely to multiply. The device and the kernels stay in `settings` as
    /// they were asked for: a run may go on elsewhere. The threads become a number, because the last bits of a result
    /// may depend on it, and it is set even if libtorch chose it: MKL treats a number that was set in another way.
    pub(super) fn of_run(settings: &mut Settings) -> Result<Backend> {
        if settings.compute.threads == 0 {
            settings.compute.threads = tch::get_num_threads().min(MOST_THREADS);
        }
        let backend = Backend::of(&settings.compute)?;
        let CudaSettings { precision, cuda_graph, .. } = settings.cuda;
        if !backend.device.is_cuda() {
            refuse_on_cpu("precision", precision, &[Precision::Float32])?;
            refuse_on_cpu("cuda-graph", cuda_graph, &[CudaGraph::Auto, CudaGraph::Off])?;
        }
        precision::allow_tf32(precision == Precision::Tf32)?;
        Ok(backend)
    }

    /// On the CPU, with libtorch's kernels: to draw a net or to copy its weights.
    pub(super) const PLAIN: Backend = Backend { device: Device::Cpu, kernels: Kernels::Torch };

    /// This backend with the kernels that `net` is computed by: a net may have no layer that the fused ones take.
    pub(super) fn used_by(self, net: &Net) -> Backend {
        Backend { kernels: net.kernels(), ..self }
    }

    /// A net with new weights.
    pub(super) fn net(&self, architecture: &Architecture) -> Net {
        Net::new(self.device, architecture, self.kernels)
    }

    /// Logs the device, and why it was chosen when `asked` was asked for; on a GPU also how steps are launched, if that
    /// is known: whether they are `captured`.
    pub(super) fn announce(&self, asked: DeviceChoice, captured: Option<bool>) {
        let launching = match captured.filter(|_| self.device.is_cuda()) {
            None => "",
            Some(true) => ", steps captured as CUDA graphs",
            Some(false) => ", steps launched one kernel at a time",
        };
        tracing::info!("device: {}{launching}", self.describe(asked));
    }

    fn describe(&self, asked: DeviceChoice) -> String {
        if self.device.is_cuda() {
            return cuda::name(self.device);
        }
        let why = match asked {
            DeviceChoice::Auto => format!("CUDA is not usable: {}", cuda::why_not()),
            _ => "as asked".to_string(),
        };
        format!("cpu, {} threads, {} kernels ({why})", tch::get_num_threads(), self.kernels)
    }
}

/// Loads the data of `settings` and holds out what is to be held out. The test set is not read if nothing is measured
/// on it.
pub(super) fn load_data(settings: &Settings, device: Device) -> Result<Data> {
    let DataSettings { source, inversion, limit_train, test, validation } = &settings.data;
    let place = inversion.of(source);
    let data = match need(settings) {
        Need::Train => Data::load_train(&place, device, *limit_train),
        _ => Data::load_all(&place, device, *limit_train, test.limit_test),
    };
    data?.hold_out(*validation, settings.training.seed)
}

/// [`load_data`], after the files that are missing are downloaded.
pub(super) fn load_run_data(settings: &Settings, device: Device, progress: bool) -> Result<Data> {
    let source = &settings.data.source;
    data::ensure(&source.data, source.dataset, need(settings), progress)?;
    load_data(settings, device)
}

/// The images that a run trains on, for a command that measures nothing: the test set is neither downloaded nor read.
pub(super) fn load_training_images(settings: &Settings, device: Device, progress: bool) -> Result<Split> {
    let DataSettings { source, inversion, limit_train, validation, .. } = &settings.data;
    data::ensure(&source.data, source.dataset, Need::Train, progress)?;
    let data = Data::load_train(&inversion.of(source), device, *limit_train)?;
    Ok(data.hold_out(*validation, settings.training.seed)?.train)
}

/// The files that a run reads.
fn need(settings: &Settings) -> Need {
    if settings.data.validation > 0 { Need::Train } else { Need::Both }
}

/// Seeds libtorch and draws a net of `architecture`. The data are loaded before: what loading took is returned to the
/// system, what the steps will free is kept.
///
/// # Errors
///
/// If `--kernels fused` was asked for and the net has no layer that they take.
pub(super) fn draw_net(settings: &Settings, architecture: &Architecture, backend: &Backend) -> Result<Net> {
    allocator::keep_freed_memory();
    tch::manual_seed(settings.training.seed);
    let net = backend.net(architecture);
    let (fused, torch) = net.members_by_kernels();
    if fused.is_empty() && settings.compute.kernels == KernelsChoice::Fused {
        bail!(UsageError("--kernels fused computes no layer of this net: use --kernels auto".into()));
    }
    if !fused.is_empty() && !torch.is_empty() {
        tracing::info!("kernels: fused for {}; libtorch's for {}", fused.join(", "), torch.join(", "));
    }
    Ok(net)
}

/// [`draw_net`] with the weights of `--init` if they are given: what a new run on `images` starts from.
pub(super) fn initial_net(
    settings: &Settings,
    architecture: &Architecture,
    backend: &Backend,
    images: &Split,
) -> Result<Net> {
    let net = draw_net(settings, architecture, backend)?;
    let TrainingSettings { init, key, .. } = &settings.training;
    if let Some(init) = init {
        let load = |file: WeightsFile| file.load(key.as_deref(), &net).and_then(|()| other_classes(&file, images));
        if let Some(difference) = WeightsFile::open(init).and_then(load).context("--init was refused")? {
            tracing::warn!("--init: {difference}: its last layer has other classes to learn");
        }
    }
    Ok(net)
}

/// The nets of `--teacher`. They draw weights before they get their own: [`draw_net`], which seeds, comes after this.
pub(super) fn teachers(settings: &Settings, split: &Split, backend: &Backend) -> Result<Vec<Net>> {
    let load = |path| teacher(path, settings, split, backend).context("--teacher was refused");
    settings.distillation.teachers().iter().map(|path| load(path)).collect()
}

/// Loads a teacher; refuses one trained on other classes.
fn teacher(path: &Path, settings: &Settings, split: &Split, backend: &Backend) -> Result<Net> {
    let file = WeightsFile::open(path)?;
    let Some(architecture) = file.architecture(None, 0.0)? else {
        bail!(
            "{0} does not say which net its weights belong to: write a file that does, by tch-mnist export --weights {0} \
             --net FILE --to teacher.safetensors",
            path.display()
        );
    };
    let net = backend.net(&architecture);
    file.load(None, &net)?;
    if let Some(difference) = other_classes(&file, split)? {
        bail!("{}: {difference}", path.display());
    }
    if settings.data.validation > 0 && !trained_without_the_same_images(&file, settings) {
        tracing::warn!(
            "{} may have been trained on images that --validation holds out here, which makes the accuracy on them too \
             high: train teachers with the same --validation and --seed",
            path.display()
        );
    }
    Ok(net)
}

/// Whether the file says that its net was trained on the images that `settings` train on.
fn trained_without_the_same_images(file: &WeightsFile, settings: &Settings) -> bool {
    let config = file.metadata().get(weights::CONFIG).and_then(|text| text.parse::<toml::Table>().ok());
    let ours = settings.table();
    config.is_some_and(|config| {
        ["dataset", "limit_train", "validation", "seed"].iter().all(|key| config.get(*key) == ours.get(*key))
    })
}

/// Refuses the value of a flag that a CPU does not have; `allowed` are those that it has.
fn refuse_on_cpu<T: ValueEnum + PartialEq>(flag: &str, value: T, allowed: &[T]) -> Result<()> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (value, other) = (name_of(&value), name_of(&allowed[0]));
    bail!(UsageError(format!("--{flag} {value} needs CUDA: use --{flag} {other}, or --device cuda")))
}

/// The device that `choice` stands for, if it is there.
fn choose(choice: DeviceChoice) -> Result<Device> {
    let device = choice.device();
    if let Device::Cuda(index) = device {
        let count = cuda::count();
        ensure!(
            count > 0,
            "--device {}: no CUDA device was found ({}; tch-mnist doctor says more); use --device auto or cpu",
            choice.gpu_name(),
            cuda::why_not()
        );
        let name = choice.gpu_name();
        ensure!(index < count, "--device {name}:{index}: the last of {count} GPUs is {name}:{}", count - 1);
    }
    Ok(device)
}
