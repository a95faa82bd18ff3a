//! The settings of a run, each declared once.
//!
//! A setting is one field of one of the groups below. The field carries its flag, its help, its default and its range
//! for clap, and its [`Role`]; its name is its key in `config.toml`.
//!
//! Everything that was given becomes one list of flags, which clap reads once; of a flag that is given twice, the last
//! counts. The sources, the strongest last: `--config FILE`, the command line. Each source expands to its recipe, the
//! defaults of the optimizer and the schedule that it newly chooses, and its own values.

mod compute;
mod config_file;
mod data;
mod distillation;
mod foreign;
mod given;
mod net;
mod optimizer;
mod recipe;
mod run;
mod schedule;
mod training;

pub(crate) use crate::flags::{above, within};
pub(crate) use compute::{Compute, CudaGraph, CudaSettings, DeviceChoice, KernelsChoice, MOST_THREADS, Precision};
pub(crate) use data::{DataSettings, Inversion, Source, TestImages};
pub(crate) use distillation::DistillationSettings;
pub(crate) use foreign::sentence as foreign_sentence;
pub(crate) use given::{Given, text_of};
pub(crate) use net::{NetOfWeights, NetSettings};
pub(crate) use optimizer::OptimizerSettings;
pub(crate) use recipe::{Form, Recipe};
pub(crate) use run::{Keep, Monitor, RunSettings};
pub(crate) use schedule::ScheduleSettings;
pub(crate) use training::{Batches, TrainingSettings};

use crate::error::{UsageError, usage_sentence};
use crate::flags::{self, Choice, Together, default_of, polished, table_of};
use crate::train::augmentations::Augmentation;
use crate::train::optimizers::Algorithm;
use crate::train::schedules::Scheduler;
use anyhow::{Context, Result, bail, ensure};
use clap::builder::ArgExt;
use clap::{Arg, Args, Command, FromArgMatches, ValueEnum};
use config_file::ConfigFile;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use toml::Table;

/// Every setting of a run. The defaults are those of the original: see `docs/original.md`.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(try_from = "Table")]
pub struct Settings {
    /// A preset of settings; it wins over --config, and other flags win over it
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Recipe::Original, help_heading = "Run")]
    pub recipe: Recipe,
    #[command(flatten, next_help_heading = "Data")]
    #[serde(flatten)]
    pub data: DataSettings,
    #[command(flatten, next_help_heading = "Run")]
    #[serde(flatten)]
    pub training: TrainingSettings,
    #[command(flatten, next_help_heading = "Optimizer")]
    #[serde(flatten)]
    pub distillation: DistillationSettings,
    #[command(flatten, next_help_heading = "Optimizer")]
    #[serde(flatten)]
    pub optimizer: OptimizerSettings,
    #[command(flatten, next_help_heading = "Schedule")]
    #[serde(flatten)]
    pub schedule: ScheduleSettings,
    #[command(flatten, next_help_heading = "Augmentation")]
    #[serde(flatten)]
    pub(crate) augmentation: Together<dyn Augmentation>,
    #[command(flatten, next_help_heading = "Device")]
    #[serde(flatten)]
    pub compute: Compute,
    #[command(flatten, next_help_heading = "Device")]
    #[serde(flatten)]
    pub cuda: CudaSettings,
    #[command(flatten, next_help_heading = "Run")]
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

/// A setting that has an effect on a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InForce {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) shapes_the_result: bool,
    /// Whether it shapes the result and is not the default: that of the optimizer or the schedule for what they have.
    pub(crate) is_changed: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::of(&[]).expect("the defaults are within their ranges")
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
        let flags = std::iter::once("settings".into()).chain(flags.into_iter().map(Into::into));
        let unread = Given::augment_args(Command::new("settings").args_override_self(true).disable_help_flag(true));
        let matches = unread.try_get_matches_from(flags).map_err(|error| refused(&error))?;
        Settings::of(&[&Given::from_arg_matches(&matches)?])
    }

    /// The defaults, then the file at `path`, then `flags`.
    ///
    /// # Errors
    ///
    /// A mistake in the file is an error that names its line, one in the flags a [`UsageError`].
    pub(crate) fn resolve(path: Option<&Path>, flags: &Given) -> Result<Settings> {
        Settings::of_all(None, path, flags)
    }

    /// These settings with those of the file at `path` and of `flags` that a resumed run may change; the others may only
    /// repeat what they were.
    pub(crate) fn resumed(&self, path: Option<&Path>, flags: &Given) -> Result<Settings> {
        let resumed = Settings::of_all(Some(self), path, flags)?;
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

    /// The settings of a `run` that goes on, then those of the file at `path`, then `flags`.
    fn of_all(run: Option<&Settings>, path: Option<&Path>, flags: &Given) -> Result<Settings> {
        let file = path.map(ConfigFile::read).transpose()?;
        let mut sources: Vec<Given> = file.iter().map(ConfigFile::given).chain([flags.clone()]).collect();
        if let Some(run) = run {
            // The run has what its recipe set. On another device the recipe may set something else.
            for source in sources.iter_mut().filter(|source| source.choice("recipe") == Some(run.recipe)) {
                source.drop("recipe");
            }
            sources.insert(0, run.given());
        }
        let mistake = |error| file.as_ref().and_then(ConfigFile::mistake).unwrap_or(error);
        Settings::of(&sources.iter().collect::<Vec<_>>()).map_err(mistake)
    }

    /// The settings of all `sources`, the strongest last.
    fn of(sources: &[&Given]) -> Result<Settings> {
        let settings = read(&Given::expanded(sources)).map_err(|error| refused(&error))?;
        settings.optimizer.check()?;
        settings.schedule.check(settings.training.epochs)?;
        settings.distillation.check()?;
        settings.check_held_out()?;
        Ok(settings)
    }

    /// Refuses a run that would choose by the test set.
    fn check_held_out(&self) -> Result<(), UsageError> {
        let choice = match (&self.run, &self.schedule.chosen) {
            _ if self.data.validation > 0 => return Ok(()),
            (run, _) if run.patience > 0 => format!("--patience {}", run.patience),
            (run, _) if run.keep == Keep::Best => "--keep best".to_string(),
            (_, schedule) if schedule.kind().needs_losses() => format!("--schedule {}", schedule.name()),
            _ => return Ok(()),
        };
        Err(UsageError(format!("{choice} needs held-out images: add --validation N, such as --validation 5000")))
    }

    /// Every setting under its key in `config.toml`.
    pub(crate) fn table(&self) -> Table {
        table_of(self)
    }

    /// The text of `config.toml`.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(&self.table()).expect("a table is TOML")
    }

    fn given(&self) -> Given {
        Given::from(&self.table())
    }

    /// The settings that have an effect on a run, on a GPU or not (`is_on_gpu`), those first that the user or the recipe
    /// changed: the others have their defaults, or do not shape the result.
    pub(crate) fn in_force(&self, is_on_gpu: bool) -> Vec<InForce> {
        let choices = [<dyn Algorithm>::KEY, <dyn Scheduler>::KEY];
        let mut chosen = self.given();
        chosen.retain(|key| choices.contains(&key));
        let defaults = read(&Given::expanded(&[&chosen])).unwrap_or_default().table();
        let original = Settings::default().table();
        let roles = Settings::roles();
        let mut given = self.given().effective();
        given.retain(|key| self.has_effect(key, is_on_gpu));
        let setting = |(key, value): (&str, &str)| {
            let default = if choices.contains(&key) { original.get(key) } else { defaults.get(key) };
            let role = roles.iter().find(|(name, _)| name == key).and_then(|(_, role)| *role);
            let shapes_the_result = role != Some(Role::Incidental);
            let is_changed = shapes_the_result && default.map(text_of).as_deref() != Some(value);
            InForce { key: key.to_string(), value: value.to_string(), shapes_the_result, is_changed }
        };
        let mut settings: Vec<InForce> = given.pairs().map(setting).collect();
        settings.sort_by_key(|setting| !setting.is_changed);
        settings
    }

    /// Whether a setting that every optimizer and every schedule has does something in this run.
    fn has_effect(&self, key: &str, is_on_gpu: bool) -> bool {
        let table = self.table();
        let is_empty = table.get(key).is_some_and(|value| text_of(value).is_empty());
        let is_taught = self.distillation.teacher.is_some();
        let compares = self.run.patience > 0 || self.run.keep == Keep::Best;
        let of = |group: Table| group.contains_key(key);
        !(is_empty
            || (of(table_of(&self.cuda)) && !is_on_gpu)
            || (of(table_of(&self.distillation)) && !is_taught)
            || (key == "monitor" && !compares)
            || (key == "limit_test" && self.data.validation > 0)
            || (key == "weight_decay_norm" && table["weight_decay"].as_float() == Some(0.0)))
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

    /// Every setting: what it is to a resumed run and to a comparison of runs, and what its help says.
    pub(crate) fn listed() -> Vec<serde_json::Value> {
        let setting = |arg: &Arg| {
            let arg = with_owners(arg.clone());
            let (key, role) = (arg.get_id().to_string(), arg.get::<Role>());
            json!({
                "flag": format!("--{}", flag(&key)),
                "key": key,
                "heading": arg.get_help_heading(),
                "default": default_of(&arg),
                "values": arg.get_possible_values().iter().map(|value| value.get_name()).collect::<Vec<_>>(),
                "help": arg.get_help().map(ToString::to_string),
                "may_change_in_a_resume": role.is_some(),
                "is_hyperparameter": role != Some(&Role::Incidental),
            })
        };
        command().get_arguments().map(setting).collect()
    }

    /// The flag of every setting.
    pub(crate) fn flags() -> Vec<Arg> {
        command().get_arguments().cloned().collect()
    }

    /// The key of every setting.
    fn keys() -> Vec<String> {
        Settings::roles().into_iter().map(|(key, _)| key).collect()
    }

    /// The key and the role of every setting.
    fn roles() -> Vec<(String, Option<Role>)> {
        command().get_arguments().map(|arg| (arg.get_id().to_string(), arg.get::<Role>().copied())).collect()
    }
}

impl TryFrom<Table> for Settings {
    type Error = anyhow::Error;

    fn try_from(table: Table) -> Result<Settings> {
        Settings::of(&[&Given::from(&table)])
    }
}

/// Reads settings; those that are not given have their defaults.
fn read(given: &Given) -> Result<Settings, clap::Error> {
    let arguments = std::iter::once("settings".to_string()).chain(given.arguments());
    Settings::from_arg_matches(&command().try_get_matches_from(arguments)?)
}

/// Puts the optimizers or schedules that have a setting before its help.
fn with_owners(arg: Arg) -> Arg {
    flags::explained::<dyn Scheduler>(flags::explained::<dyn Algorithm>(arg))
}

/// A command line of settings alone. If a setting is given twice, the last one counts.
fn command() -> Command {
    let settings = Command::new("settings").args_override_self(true).disable_help_flag(true);
    Settings::augment_args(settings).mut_args(polished)
}

fn refused(error: &clap::Error) -> anyhow::Error {
    UsageError(foreign_sentence(error).unwrap_or_else(|| usage_sentence(error))).into()
}

/// The flag of a key: `batch-size` of `batch_size`.
fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// The name of a choice on the command line.
pub(crate) fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_string()
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

    fn given(text: &str) -> Given {
        Given::from(&text.parse::<Table>().unwrap())
    }

    fn merged(file: &str, flags: &str) -> Settings {
        Settings::of(&[&given(file), &given(flags)]).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let settings = merged("lr = 0.2\nmomentum = 0.8", "lr = 0.5");
        let table = settings.table();
        assert_eq!(["lr", "momentum", "gamma"].map(|key| table[key].as_float()), [0.5, 0.8, 0.1].map(Some));
    }

    /// `key=value` of the settings in force on a CPU: those that were changed, and the others.
    fn in_force(flags: &[&str]) -> [Vec<String>; 2] {
        let (changed, others): (Vec<_>, Vec<_>) =
            Settings::from_flags(flags).unwrap().in_force(false).into_iter().partition(|setting| setting.is_changed);
        [changed, others].map(|list| list.iter().map(|it| format!("{}={}", it.key, it.value)).collect())
    }

    #[test]
    fn settings_of_other_optimizers_and_schedules_are_not_in_force() {
        let [changed, others] = in_force(&["--lr=0.02", "--threads=2", "--data=elsewhere"]);
        assert_eq!(changed, ["lr=0.02"]);
        for part in ["momentum=0.9", "step_size=6", "gamma=0.1", "optimizer=sgd", "threads=2", "data=elsewhere"] {
            assert!(others.contains(&part.to_string()), "{part}");
        }
        for key in ["betas", "t_0", "t_mult", "alpha", "temperature", "precision", "monitor", "net_values"] {
            assert!(!others.iter().any(|setting| setting.starts_with(&format!("{key}="))), "{key}");
        }
        let [changed, others] = in_force(&["--optimizer=adam", "--schedule=cosine"]);
        assert_eq!(changed, ["optimizer=adam", "schedule=cosine"]);
        assert!(others.contains(&"betas=0.9,0.999".to_string()), "{others:?}");
        let [changed, _] = in_force(&["--schedule=reduce-on-plateau", "--validation=100", "--patience=2"]);
        assert_eq!(changed.len(), 3, "{changed:?}");
        let on_gpu = Settings::default().in_force(true);
        assert!(on_gpu.iter().any(|setting| setting.key == "precision"));
    }

    #[test]
    fn what_a_recipe_sets_counts_as_changed() {
        let [changed, _] = in_force(&["--recipe=best", "--device=cpu"]);
        for setting in ["recipe=best", "batch_size=32", "nesterov=true", "schedule=one-cycle", "rotate=10.0"] {
            assert!(changed.contains(&setting.to_string()), "{setting} in {changed:?}");
        }
    }

    #[test]
    fn a_recipe_comes_before_the_rest_of_its_source_and_after_the_source_below() {
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
        let optimizer = |settings: &Settings| settings.optimizer.chosen.name();
        let [alone, taught] = [with(""), with("teacher = 'a.pth'")];
        assert_eq!([&alone, &taught].map(optimizer), ["sgd", "soap"]);
        assert_eq!(with("teacher = 'a.pth'\nlr = 0.5").optimizer.lr, 0.5);
        assert_eq!(optimizer(&with("teacher = 'a.pth'\ndevice = 'cuda'")), "sgd");
        assert_eq!(taught.resumed(None, &given("recipe = 'best'")).unwrap(), taught);
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
                let moved = given(&format!("{recipe}\ndevice = '{other}'"));
                assert_eq!(values(&merged(&run.to_toml(), &format!("device = '{other}'"))), values(run));
                assert_eq!(values(&run.resumed(None, &moved).unwrap()), values(run));
            }
        }
        assert_eq!(merged("recipe = 'original'", "device = 'cuda'"), merged("", "device = 'cuda'"));
    }

    #[test]
    fn an_optimizer_brings_its_defaults_right_after_the_recipe_of_its_source() {
        let of = |settings: Settings| {
            let table = settings.table();
            let [lr, momentum, weight_decay] =
                ["lr", "momentum", "weight_decay"].map(|key| table[key].as_float().unwrap());
            let [nesterov, norm] = ["nesterov", "weight_decay_norm"].map(|key| table[key].as_bool().unwrap());
            (lr, momentum, weight_decay, nesterov, norm)
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
        assert_eq!(adamw.resumed(None, &adamw.given()).unwrap(), adamw);
        let error = adamw.resumed(None, &given("optimizer = 'sgd'")).unwrap_err().to_string();
        assert!(error.starts_with("--optimizer cannot change when a run is resumed: it was \"adamw\""), "{error}");
    }

    #[test]
    fn a_schedule_brings_its_defaults_but_keeps_the_warm_up() {
        let of =
            |settings: Settings| (settings.table()["pct_start"].as_float().unwrap(), settings.schedule.warmup_epochs);
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
    fn a_resumed_run_may_repeat_every_setting_and_change_only_some() {
        let settings = merged("recipe = 'best'\ndevice = 'cpu'", "");
        assert_eq!(settings.resumed(None, &settings.given()).unwrap(), settings);
        assert_eq!(settings.resumed(None, &given("epochs = 20")).unwrap().training.epochs, 20);
        let error = settings.resumed(None, &given("lr = 0.5")).unwrap_err().to_string();
        assert_eq!(error, "--lr cannot change when a run is resumed: it was 0.15; start a new run to change it");
        assert!(settings.resumed(None, &given("init = 'a.pt'")).unwrap_err().to_string().contains("--init"));
    }

    #[test]
    fn hyperparameters_are_the_settings_that_shape_the_result() {
        let table = Settings::default().hyperparameters();
        assert!(["lr", "epochs", "dataset", "cuda_graph"].iter().all(|key| table.contains_key(*key)));
        assert!(["data", "device", "threads", "report", "tta"].iter().all(|key| !table.contains_key(*key)));
    }

    #[test]
    fn launchers_may_write_flags_as_python_does() {
        let plain = Settings::from_flags(["--batch-size=64", "--nesterov=true", "--tta=false"]).unwrap();
        assert_eq!(Settings::from_flags(["--batch_size=64", "--nesterov=True", "--tta=False"]).unwrap(), plain);
        let betas = Settings::from_flags(["--optimizer=adam", "--betas=0.5,0.75"]).unwrap();
        assert_eq!(Settings::from_flags(["--optimizer=adam", "--betas=[0.5, 0.75]"]).unwrap(), betas);
    }

    #[cfg(unix)]
    #[test]
    fn text_that_is_not_utf8_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        for flag in ["data", "init", "net", "teacher"] {
            let path = OsString::from_vec([format!("--{flag}=caf").as_bytes(), b"\xe9"].concat());
            let error = Settings::from_flags([path]).unwrap_err();
            assert!(error.is::<UsageError>());
            assert_eq!(error.to_string(), format!("--{flag} takes text in UTF-8, not caf\u{fffd}"));
        }
    }
}
