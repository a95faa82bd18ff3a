//! The settings of a run, each declared once.
//!
//! A setting is one field of one of the groups below. The field carries its flag, its help, its default and its range
//! for clap, and its [`Role`]; its name is its key in `config.toml`. A TOML file is read as the flags that it stands
//! for, so that a value is checked, and refused in the same words, wherever it comes from.
//!
//! Layers, each over the one before: the defaults, `--config FILE`, the flags. The recipe that a layer names comes
//! right before the rest of that layer, in its form for the device and the teachers that all layers together ask for. So
//! do, after the recipe, the defaults of an optimizer and of a schedule that the layer chooses anew.

mod augmentation;
mod choice;
mod compute;
mod data;
mod distillation;
mod net;
mod optimizer;
mod ranges;
mod recipe;
mod run;
mod schedule;
mod training;

pub(crate) use augmentation::AugmentationSettings;
pub(crate) use compute::{Compute, CudaGraph, CudaSettings, DeviceChoice, KernelsChoice, MOST_THREADS, Precision};
pub(crate) use data::{DATA, DataSettings, Source, TestImages};
pub(crate) use distillation::DistillationSettings;
pub(crate) use net::{NetOfWeights, NetSettings};
pub(crate) use optimizer::{OptimizerKind, OptimizerSettings};
pub(crate) use ranges::{above, within};
pub(crate) use recipe::{Form, Recipe};
pub(crate) use run::{Keep, Monitor, RunSettings};
pub(crate) use schedule::{ScheduleKind, ScheduleSettings};
pub(crate) use training::{Batches, TrainingSettings};

use crate::error::{UsageError, usage_sentence};
use anyhow::{Context, Result, anyhow, bail, ensure};
use choice::{Choice, Of};
use clap::builder::ArgExt;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use toml::de::DeTable;
use toml::{Table, Value};

/// Every setting of a run. The defaults are those of the original: see `docs/original.md`.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(try_from = "Table")]
pub struct Settings {
    /// A preset of settings; it wins over --config, and other flags win over it
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Recipe::Original)]
    pub recipe: Recipe,
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub training: TrainingSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub distillation: DistillationSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub optimizer: OptimizerSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub schedule: ScheduleSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub augmentation: AugmentationSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    #[serde(flatten)]
    pub cuda: CudaSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunSettings,
}

/// What a setting is to a resumed run and to a comparison of runs. A setting without a role shapes the result, and
/// cannot change when a run is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Shapes the result; a resumed run may change it.
    MayChange,
    /// Does not shape the result, so it is not a hyperparameter; a resumed run may change it.
    Incidental,
}

impl ArgExt for Role {}

impl Default for Settings {
    fn default() -> Settings {
        Settings::merge(&[]).expect("the defaults are within their ranges")
    }
}

impl Settings {
    /// The settings that `flags` make of the defaults, as `tch-mnist train` has them.
    ///
    /// ```
    /// use tch_mnist::Settings;
    /// let settings = Settings::from_flags(["--epochs=2", "--nesterov=true"]).unwrap();
    /// assert_eq!((settings.training.epochs, settings.training.batches.batch_size), (2, 128));
    /// assert!(Settings::from_flags(["--epochs=0"]).is_err());
    /// ```
    pub fn from_flags(flags: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Settings> {
        let flags = flags.into_iter().map(Into::into);
        let matches =
            command().try_get_matches_from(std::iter::once("settings".into()).chain(flags)).map_err(refused)?;
        Settings::merge(&[Layer::from_arg_matches(&matches)?])
    }

    /// The defaults, then the file at `path`, then `flags`.
    ///
    /// # Errors
    ///
    /// A mistake in the file is an error that names its line, one in the flags a [`UsageError`].
    pub(crate) fn resolve(path: Option<&Path>, flags: &Layer) -> Result<Settings> {
        Settings::merge(&Layer::all(path, flags)?)
    }

    /// These settings with those of `layers` that a resumed run may change; the others may only repeat what they were.
    pub(crate) fn resumed(&self, layers: &[Layer]) -> Result<Settings> {
        let mut all = vec![self.layer()];
        all.extend_from_slice(layers);
        // The run has what its recipe set. On another device the recipe may set something else.
        for layer in all[1..].iter_mut().filter(|layer| layer.choice("recipe") == Some(self.recipe)) {
            layer.0.retain(|given| given.key != "recipe");
        }
        let resumed = Settings::merge(&all)?;
        let (old, new) = (self.table(), resumed.table());
        let mut fixed = Settings::roles().into_iter().filter(|(_, role)| role.is_none()).map(|(key, _)| key);
        if let Some(key) = fixed.find(|key| old.get(key) != new.get(key)) {
            let was = old.get(&key).map_or("not given".into(), ToString::to_string);
            bail!(UsageError(format!(
                "--{} cannot change when a run is resumed: it was {was}; start a new run to change it",
                flag(&key)
            )));
        }
        Ok(resumed)
    }

    fn merge(layers: &[Layer]) -> Result<Settings> {
        let mut all = Layer::default();
        // A name that is not one of a recipe or a choice is refused below, as every wrong value is.
        for layer in layers {
            if let Some(recipe) = layer.choice::<Recipe>("recipe") {
                all.0.extend(recipe.settings(Form::of(layers)).0);
            }
            all.choose::<OptimizerKind>(layer);
            all.choose::<ScheduleKind>(layer);
            all.0.extend(layer.0.iter().cloned());
        }
        let arguments = std::iter::once("settings".to_string()).chain(all.0.iter().map(Given::as_flag));
        let matches = command().try_get_matches_from(arguments).map_err(refused)?;
        let settings = Settings::from_arg_matches(&matches).map_err(refused)?;
        settings.optimizer.check()?;
        settings.schedule.check(settings.training.epochs)?;
        settings.distillation.check()?;
        settings.check_held_out()?;
        Ok(settings)
    }

    /// Refuses a run that would choose by the test set.
    fn check_held_out(&self) -> Result<(), UsageError> {
        let choice = match (&self.run, self.schedule.schedule) {
            _ if self.data.validation > 0 => return Ok(()),
            (run, _) if run.patience > 0 => format!("--patience {}", run.patience),
            (run, _) if run.keep == Keep::Best => "--keep best".to_string(),
            (_, schedule) if schedule.looks_at_losses() => format!("--schedule {schedule}"),
            _ => return Ok(()),
        };
        Err(UsageError(format!(
            "{choice} goes by images that are held out of the training set, never by the test set: give --validation N, \
             such as --validation 5000"
        )))
    }

    /// Every setting under its key in `config.toml`.
    pub(crate) fn table(&self) -> Table {
        table_of(self)
    }

    /// The text of `config.toml`.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(&self.table()).expect("a table is TOML")
    }

    fn layer(&self) -> Layer {
        Layer::from(&self.table())
    }

    /// The settings that shape a result, for a comparison of runs.
    pub(crate) fn hyperparameters(&self) -> Table {
        let roles = Settings::roles();
        let shapes = |key: &String| roles.iter().any(|(name, role)| name == key && *role != Some(Role::Incidental));
        self.table().into_iter().filter(|(key, _)| shapes(key)).collect()
    }

    /// The names that a setting takes, for each that is one of several.
    pub(crate) fn choices() -> BTreeMap<String, Vec<String>> {
        let names = |arg: &Arg| arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
        let settings = command();
        let all = settings.get_arguments().map(|arg| (arg.get_id().to_string(), names(arg)));
        all.filter(|(_, names): &(_, Vec<String>)| !names.is_empty()).collect()
    }

    /// The key and the role of every setting.
    fn roles() -> Vec<(String, Option<Role>)> {
        command().get_arguments().map(|arg| (arg.get_id().to_string(), arg.get::<Role>().copied())).collect()
    }
}

impl TryFrom<Table> for Settings {
    type Error = anyhow::Error;

    fn try_from(table: Table) -> Result<Settings> {
        Settings::merge(&[Layer::from(&table)])
    }
}

/// Settings that were given, in a command line or in a file, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layer(Vec<Given>);

#[derive(Clone, Debug, PartialEq)]
struct Given {
    key: String,
    value: String,
}

impl Given {
    fn as_flag(&self) -> String {
        format!("--{}={}", flag(&self.key), self.value)
    }
}

impl Layer {
    /// Keys and values, in their order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|given| (given.key.as_str(), given.value.as_str()))
    }

    /// The last value that was given for `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|given| given.key == key).map(|given| given.value.as_str())
    }

    /// The last value that was given for `key`, one of several names.
    fn choice<T: ValueEnum>(&self, key: &str) -> Option<T> {
        self.get(key).and_then(|name| T::from_str(name, false).ok())
    }

    /// Without the settings that its optimizer and its schedule do not have.
    pub(crate) fn effective(mut self) -> Layer {
        self.drop_foreign::<OptimizerKind>();
        self.drop_foreign::<ScheduleKind>();
        self
    }

    fn drop_foreign<C: Choice>(&mut self) {
        let foreign = self.choice(C::KEY).unwrap_or(C::DEFAULT).foreign();
        self.0.retain(|given| !foreign.iter().any(|(key, _)| *key == given.key));
    }

    /// Adds the defaults of what `above` chooses, if that is not what is chosen here.
    fn choose<C: Choice>(&mut self, above: &Layer) {
        let now = self.choice(C::KEY).unwrap_or(C::DEFAULT);
        if let Some(chosen) = above.choice::<C>(C::KEY).filter(|chosen| *chosen != now) {
            self.0.extend(Layer::from(&chosen.defaults()).0);
        }
    }

    /// The settings of the file at `path`, then `flags`.
    pub(crate) fn all(path: Option<&Path>, flags: &Layer) -> Result<Vec<Layer>> {
        path.map(Layer::read).into_iter().chain([Ok(flags.clone())]).collect()
    }

    /// The settings of a TOML file, each checked on its own so that an error names its line.
    pub(crate) fn read(path: &Path) -> Result<Layer> {
        let text = text_in(path).with_context(|| format!("--config {} cannot be read", path.display()))?;
        let place =
            |offset: usize| format!("--config {}, line {}", path.display(), 1 + text[..offset].matches('\n').count());
        let parsed = DeTable::parse(&text).and_then(|keys| Ok((keys, toml::from_str::<Table>(&text)?)));
        let (keys, values) = parsed.map_err(|error| {
            let reason = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            anyhow!("{}: {reason}", place(error.span().map_or(0, |span| span.start)))
        })?;
        let mut layer = Layer::default();
        for key in keys.get_ref().keys() {
            let place = place(key.span().start);
            let key = key.get_ref().to_string();
            let given = Given { value: text_of(&values[&key]), key };
            if !Settings::roles().iter().any(|(known, _)| *known == given.key) {
                bail!("{place}: {} is not a setting; tch-mnist train --help lists them", given.key);
            }
            // As an error of the file, exit code 1, whatever it is of the command line.
            command()
                .try_get_matches_from(["settings", &given.as_flag()])
                .map_err(|error| anyhow!("{place}: {}", usage_sentence(&error)))?;
            layer.0.push(given);
        }
        Ok(layer)
    }
}

impl From<&Table> for Layer {
    fn from(table: &Table) -> Layer {
        Layer(table.iter().map(|(key, value)| Given { key: key.clone(), value: text_of(value) }).collect())
    }
}

impl FromArgMatches for Layer {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Layer, clap::Error> {
        let given = |key: String| {
            let typed = matches.value_source(&key) == Some(ValueSource::CommandLine);
            let value = matches.get_raw(&key).filter(|_| typed)?.next_back()?.to_string_lossy().into_owned();
            Some(Given { key, value })
        };
        Ok(Layer(Settings::roles().into_iter().filter_map(|(key, _)| given(key)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Layer::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flags of a command that takes every setting of a run.
impl Args for Layer {
    fn augment_args(command: Command) -> Command {
        Settings::augment_args(command)
            .mut_args(Of::<OptimizerKind>::before_help)
            .mut_args(Of::<ScheduleKind>::before_help)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Layer::augment_args(command)
    }
}

/// A command line of settings alone. If a setting is given twice, the last one counts.
fn command() -> Command {
    Settings::augment_args(Command::new("settings").args_override_self(true).disable_help_flag(true))
}

fn refused(error: clap::Error) -> anyhow::Error {
    UsageError(usage_sentence(&error)).into()
}

/// The flag of a key: `batch-size` of `batch_size`.
fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// Settings under their keys in `config.toml`.
fn table_of(settings: &impl Serialize) -> Table {
    Table::try_from(settings).expect("every setting has a TOML form")
}

/// The name of a choice on the command line.
pub(crate) fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_string()
}

/// A TOML value as a flag takes it: a string without its quotes.
pub(crate) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// The text of a file, or why it is not UTF-8.
fn text_in(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path)?;
    ensure!(!bytes.starts_with(b"\xff\xfe") && !bytes.starts_with(b"\xfe\xff"), "it is in UTF-16: save it as UTF-8");
    String::from_utf8(bytes).context("it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Layer {
        Layer::from(&text.parse::<Table>().unwrap())
    }

    fn merged(file: &str, flags: &str) -> Settings {
        Settings::merge(&[layer(file), layer(flags)]).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let settings = merged("lr = 0.2\nmomentum = 0.8", "lr = 0.5");
        let (optimizer, schedule) = (settings.optimizer, settings.schedule);
        assert_eq!((optimizer.lr, optimizer.momentum, schedule.gamma), (0.5, 0.8, 0.1));
    }

    #[test]
    fn a_recipe_comes_before_the_rest_of_its_layer_and_after_the_layer_below() {
        let best = merged("", "recipe = 'best'");
        let longer = merged("", "recipe = 'best'\nepochs = 99");
        assert_ne!(best, Settings { recipe: Recipe::Best, ..Settings::default() });
        assert_eq!(merged("epochs = 99", "recipe = 'best'"), best);
        assert_eq!((merged("epochs = 99\nrecipe = 'best'", ""), longer.training.epochs), (longer.clone(), 99));
        assert_eq!(merged("recipe = 'best'", "epochs = 99"), longer);
        assert_eq!(merged("recipe = 'speed'", "recipe = 'best'"), best);
        assert_eq!(merged("recipe = 'best'", "recipe = 'original'"), Settings::default());
        assert_eq!(merged(&best.to_toml(), ""), best);
    }

    #[test]
    fn a_recipe_leaves_teachers_and_what_belongs_to_them_alone() {
        let taught = "teacher = 'a.pth'\ntemperature = 3.0";
        let [before, after] = [merged(taught, ""), merged(taught, "recipe = 'speed'")];
        assert_eq!(before.distillation, after.distillation);
    }

    #[test]
    fn best_has_a_form_for_teachers_on_a_cpu() {
        let with = |flags: &str| merged("recipe = 'best'\ndevice = 'cpu'", flags);
        let optimizer = |settings: &Settings| settings.optimizer.optimizer;
        let [alone, taught] = [with(""), with("teacher = 'a.pth'")];
        assert_eq!([&alone, &taught].map(optimizer), [OptimizerKind::Sgd, OptimizerKind::Soap]);
        assert_eq!(with("teacher = 'a.pth'\nlr = 0.5").optimizer.lr, 0.5);
        assert_eq!(optimizer(&with("teacher = 'a.pth'\ndevice = 'cuda'")), OptimizerKind::Sgd);
        assert_eq!(taught.resumed(&[layer("recipe = 'best'")]).unwrap(), taught);
        assert_eq!(merged(&taught.to_toml(), ""), taught);
    }

    #[test]
    fn a_recipe_has_the_form_of_the_device_that_is_asked_for() {
        for recipe in ["best", "speed"] {
            let recipe = format!("recipe = '{recipe}'");
            let on = |device: &str| merged(&recipe, &format!("device = '{device}'"));
            let values = |settings: &Settings| (settings.training.batches.batch_size, settings.optimizer.lr);
            let (cpu, gpu) = (on("cpu"), on("CUDA:1"));
            assert!(values(&gpu).0 > values(&cpu).0 && values(&gpu).1 > values(&cpu).1);
            assert_eq!(values(&merged("device = 'cuda'", &recipe)), values(&gpu));
            assert_eq!(values(&merged("device = 'cuda'", &format!("{recipe}\ndevice = 'cpu'"))), values(&cpu));
            assert_eq!(values(&merged(&recipe, "device = 'cuda'\nbatch_size = 64\nlr = 0.2")), (64, 0.2));
            // The settings of a run are what they were when it began.
            for (run, other) in [(&cpu, "cuda"), (&gpu, "cpu")] {
                let moved = layer(&format!("{recipe}\ndevice = '{other}'"));
                assert_eq!(values(&merged(&run.to_toml(), &format!("device = '{other}'"))), values(run));
                assert_eq!(values(&run.resumed(&[moved]).unwrap()), values(run));
            }
        }
        assert_eq!(merged("recipe = 'original'", "device = 'cuda'"), merged("", "device = 'cuda'"));
    }

    #[test]
    fn an_optimizer_brings_its_defaults_right_after_the_recipe_of_its_layer() {
        let of = |settings: Settings| {
            let OptimizerSettings { lr, momentum, weight_decay, nesterov, weight_decay_norm, .. } = settings.optimizer;
            (lr, momentum, weight_decay, nesterov, weight_decay_norm)
        };
        assert_eq!(of(merged("", "optimizer = 'adamw'")), (0.001, 0.0, 0.01, false, true));
        assert_eq!(of(merged("", "optimizer = 'adam'")), (0.001, 0.0, 0.0, false, true));
        assert_eq!(of(merged("", "optimizer = 'rmsprop'\nmomentum = 0.5")), (0.01, 0.5, 0.0, false, true));
        assert_eq!(of(merged("", "lr = 0.02\noptimizer = 'adamw'")), (0.02, 0.0, 0.01, false, true));
        assert_eq!(of(merged("lr = 0.02", "optimizer = 'adamw'")), (0.001, 0.0, 0.01, false, true));
        assert_eq!(of(merged("", "optimizer = 'adamw'\nrecipe = 'best'")), (0.001, 0.0, 0.01, false, false));
        assert_eq!(merged("optimizer = 'adamw'", "recipe = 'best'"), merged("", "recipe = 'best'"));
        // One that was chosen before changes nothing.
        assert_eq!(of(merged("optimizer = 'adamw'\nlr = 0.02", "optimizer = 'adamw'")).0, 0.02);
        assert_eq!(of(merged("lr = 0.02", "optimizer = 'sgd'")).0, 0.02);
        assert_eq!(merged("optimizer = 'rmsprop'\nalpha = 0.5", "optimizer = 'sgd'"), Settings::default());
        let adamw = merged("recipe = 'best'", "optimizer = 'adamw'\nlr = 0.02\nbetas = '0.5,0.25'");
        assert_eq!(merged(&adamw.to_toml(), ""), adamw);
        assert_eq!(adamw.resumed(&[adamw.layer()]).unwrap(), adamw);
        let error = adamw.resumed(&[layer("optimizer = 'sgd'")]).unwrap_err().to_string();
        assert!(error.starts_with("--optimizer cannot change when a run is resumed: it was \"adamw\""), "{error}");
    }

    #[test]
    fn a_schedule_brings_its_defaults_but_keeps_the_warm_up() {
        let of = |settings: Settings| (settings.schedule.pct_start, settings.schedule.warmup_epochs);
        assert_eq!(of(merged("recipe = 'best'\nwarmup_epochs = 2", "schedule = 'cosine'")), (0.3, 2));
        assert_eq!(of(merged("recipe = 'best'", "schedule = 'cosine'\neta_min = 0.01")), (0.3, 0));
        assert_eq!(of(merged("recipe = 'best'\nwarmup_epochs = 2", "schedule = 'one-cycle'")), (0.2, 2));
    }

    #[test]
    fn settings_survive_their_own_toml_and_json() {
        let settings = merged("device = 'cuda:3'\ninit = 'a.pt'\nlr = 1e-30\nnesterov = true", "");
        assert_eq!(merged(&settings.to_toml(), ""), settings);
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    }

    #[test]
    fn a_wrong_value_is_the_same_sentence_from_a_flag_and_from_a_file_which_names_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        for (setting, flag) in [
            ("lr = -1.0", "--lr=-1.0"),
            ("epochs = 2.0", "--epochs=2.0"),
            ("batch_size = 'many'", "--batch-size=many"),
            ("schedule = 'zigzag'", "--schedule=zigzag"),
            ("device = 'tpu'", "--device=tpu"),
            ("nesterov = 1", "--nesterov=1"),
            ("rotate = nan", "--rotate=nan"),
        ] {
            std::fs::write(&path, format!("seed = 2\n{setting}\n")).unwrap();
            let from_file = Settings::resolve(Some(&path), &Layer::default()).unwrap_err();
            let from_flag = Settings::from_flags([flag]).unwrap_err();
            assert!(from_flag.is::<UsageError>() && !from_file.is::<UsageError>());
            assert_eq!(from_file.to_string(), format!("--config {}, line 2: {from_flag}", path.display()));
        }
    }

    #[test]
    fn a_resumed_run_may_repeat_every_setting_and_change_only_some() {
        let settings = merged("recipe = 'best'\ndevice = 'cpu'", "");
        assert_eq!(settings.resumed(&[settings.layer()]).unwrap(), settings);
        assert_eq!(settings.resumed(&[layer("epochs = 20")]).unwrap().training.epochs, 20);
        let error = settings.resumed(&[layer("lr = 0.5")]).unwrap_err().to_string();
        assert_eq!(error, "--lr cannot change when a run is resumed: it was 0.15; start a new run to change it");
        assert!(settings.resumed(&[layer("init = 'a.pt'")]).unwrap_err().to_string().contains("--init"));
    }

    #[test]
    fn hyperparameters_are_the_settings_that_shape_the_result() {
        let table = Settings::default().hyperparameters();
        assert!(["lr", "epochs", "dataset", "cuda_graph"].iter().all(|key| table.contains_key(*key)));
        assert!(["data", "device", "threads", "report", "tta"].iter().all(|key| !table.contains_key(*key)));
    }
}
