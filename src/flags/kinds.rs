//! Kinds, each in a file with settings of its own: an optimizer brings `--momentum`, a schedule `--step-size`.
//!
//! The settings of a kind are a group of flags. A flag that several kinds have is one flag, and one key in `config.toml`.
//! [`Chosen`] is for kinds of which a setting chooses one, [`Together`] for kinds that act together.

use super::{default_of, table_of};
use crate::error::{UsageError, either};
use clap::builder::{ArgExt, PossibleValue, PossibleValuesParser, Resettable, Str};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use serde::{Serialize, Serializer};
use std::fmt::Debug;
use std::sync::Arc;
use toml::{Table, Value};

/// The settings of a kind. Their doc comment says what the kind is.
pub(crate) trait Named: Args + Serialize + Debug + Send + Sync + 'static {
    /// Its name on the command line.
    const NAME: &'static str;
    /// Its own defaults, by key, where they are not those that the flags state.
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[];
    /// The class of PyTorch that it follows, such as `Adam`; the twin in PyTorch makes one, with the settings as arguments.
    const TORCH: Option<&'static str> = None;
    /// Flags of short runs, of 5 epochs, in which every setting of its own acts. Tests run each, `scripts/gpu-check` the first.
    const EXAMPLES: &'static [&'static str];
}

/// A line in the list of the kinds that are a `T`.
pub(crate) struct Entry<T: ?Sized + 'static> {
    pub(crate) name: &'static str,
    pub(crate) defaults: &'static [(&'static str, &'static str)],
    pub(crate) torch: Option<&'static str>,
    examples: &'static [&'static str],
    declare: fn(Command) -> Command,
    read: Read<T>,
}

/// Makes a kind of its flags, and a table of their values.
type Read<T> = fn(&ArgMatches) -> Result<(Arc<T>, Table), clap::Error>;

impl<T: ?Sized> Entry<T> {
    /// The kind `K`.
    pub(crate) const fn of<K: Named>(read: Read<T>) -> Entry<T> {
        let (torch, examples) = (K::TORCH, K::EXAMPLES);
        Entry { name: K::NAME, defaults: K::DEFAULTS, torch, examples, declare: K::augment_args, read }
    }

    fn command(&self) -> Command {
        // Without an order of its own: its flags are put among others.
        (self.declare)(Command::new(self.name).next_display_order(None))
    }

    /// What it is, in one line.
    pub(crate) fn about(&self) -> String {
        self.command().get_about().map(ToString::to_string).unwrap_or_default()
    }

    /// The flags of each of its example runs.
    pub(crate) fn examples(&self) -> impl Iterator<Item = Vec<&'static str>> {
        self.examples.iter().map(|flags| flags.split_whitespace().collect())
    }

    /// The flags of its settings.
    pub(crate) fn flags(&self) -> Vec<Arg> {
        self.command().get_arguments().cloned().collect()
    }

    fn has(&self, key: &str) -> bool {
        self.command().get_arguments().any(|arg| arg.get_id() == key)
    }

    /// The default of one of its settings, which `stated` is by the flag.
    pub(crate) fn default<'a>(&self, key: &str, stated: &'a str) -> &'a str {
        self.defaults.iter().find(|(own, _)| *own == key).map_or(stated, |(_, value)| value)
    }
}

/// The settings of a kind as they are read, and under their keys.
pub(crate) fn read<K: Named>(matches: &ArgMatches) -> Result<(K, Table), clap::Error> {
    let kind = K::from_arg_matches(matches)?;
    let table = table_of(&kind);
    Ok((kind, table))
}

/// A list of kinds.
pub(crate) trait List: Debug + Send + Sync + 'static {
    /// Every kind; the first one is the default.
    fn all() -> &'static [Entry<Self>];
}

/// A list of kinds of which one is chosen.
pub(crate) trait Choice: List {
    /// The key of the setting that chooses.
    const KEY: &'static str;
    /// What its value is called in the help, and its help.
    const VALUE_NAME: &'static str;
    const HELP: &'static str;
    /// Settings of all kinds whose defaults depend on the kind.
    const SHARED: &'static [&'static str] = &[];
}

/// The kind of this name.
pub(crate) fn named<T: Choice + ?Sized>(name: &str) -> Option<&'static Entry<T>> {
    T::all().iter().find(|entry| entry.name == name)
}

/// Which kinds have a setting.
#[derive(Clone, Debug)]
pub(crate) struct Owners(Vec<&'static str>);

impl ArgExt for Owners {}

/// The flags of all kinds, each once, with its [`Owners`].
fn flags<T: List + ?Sized>() -> Vec<Arg> {
    let mut all: Vec<Arg> = Vec::new();
    for entry in T::all() {
        for flag in entry.flags() {
            match all.iter_mut().find(|arg| arg.get_id() == flag.get_id()) {
                Some(arg) => {
                    let mut owners = arg.get::<Owners>().expect("every flag has its owners").clone();
                    owners.0.push(entry.name);
                    *arg = arg.clone().add(owners);
                }
                None => all.push(flag.add(Owners(vec![entry.name]))),
            }
        }
    }
    all
}

/// The keys of the settings of all kinds, and of those that they share.
pub(crate) fn keys<T: Choice + ?Sized>() -> Vec<String> {
    let own = flags::<T>().into_iter().map(|arg| arg.get_id().to_string());
    own.chain(T::SHARED.iter().map(ToString::to_string)).collect()
}

/// The settings that other kinds have and `entry` has not.
pub(crate) fn foreign<T: Choice + ?Sized>(entry: &Entry<T>) -> Vec<String> {
    let all = flags::<T>().into_iter().map(|arg| arg.get_id().to_string());
    all.filter(|key| !entry.has(key)).collect()
}

/// The help of a setting with the kinds that have it and their defaults, if those differ.
pub(crate) fn explained<T: Choice + ?Sized>(arg: Arg) -> Arg {
    let key = arg.get_id().to_string();
    if !keys::<T>().contains(&key) {
        return arg;
    }
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some(Owners(names)) = arg.get::<Owners>().filter(|owners| owners.0.len() < T::all().len()) {
        help = format!("{}: {help}", names.join(", "));
    }
    let own = |entry: &Entry<T>| entry.defaults.iter().find(|(other, _)| *other == key).map(|(_, value)| *value);
    let defaults: Vec<String> =
        T::all().iter().filter_map(|entry| Some(format!("{}: {}", entry.name, own(entry)?))).collect();
    if defaults.is_empty() {
        return arg.help(help);
    }
    let default = default_of(&arg);
    arg.help(format!("{help} [default: {default}; {}]", defaults.join("; "))).hide_default_value(true)
}

/// The kind that was chosen, and the settings of all kinds: those of the others keep their defaults.
#[derive(Debug)]
pub(crate) struct Chosen<T: ?Sized + 'static> {
    name: &'static str,
    kind: Arc<T>,
    table: Table,
}

impl<T: Choice + ?Sized> Chosen<T> {
    /// Its name on the command line.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The kind with its settings.
    pub(crate) fn kind(&self) -> &T {
        &self.kind
    }

    /// Refuses settings that the kind does not have.
    pub(crate) fn check(&self) -> Result<(), UsageError> {
        let entry = named::<T>(self.name).expect("it was read by this name");
        let defaults = Chosen::<T>::default().table;
        let Some(key) = foreign(entry).into_iter().find(|key| self.table[key] != defaults[key]) else { return Ok(()) };
        let owners: Vec<String> =
            T::all().iter().filter(|entry| entry.has(&key)).map(|entry| entry.name.to_string()).collect();
        let (flag, verb) = (key.replace('_', "-"), if owners.len() == 1 { "has" } else { "have" });
        Err(UsageError(format!("{} has no --{flag}: leave it out; {} {verb} it", self.name, either(&owners, "and"))))
    }
}

impl<T: Choice + ?Sized> Default for Chosen<T> {
    fn default() -> Chosen<T> {
        let matches = Chosen::<T>::augment_args(Command::new(T::KEY)).get_matches_from([T::KEY]);
        Chosen::from_arg_matches(&matches).expect("every setting has a default")
    }
}

impl<T: Choice + ?Sized> Args for Chosen<T> {
    fn augment_args(command: Command) -> Command {
        let names = T::all().iter().map(|entry| PossibleValue::new(entry.name).help(entry.about()));
        let choice = Arg::new(T::KEY)
            .long(T::KEY)
            .value_name(T::VALUE_NAME)
            .value_parser(PossibleValuesParser::new(names))
            .default_value(T::all()[0].name)
            .help(T::HELP);
        let heading: Resettable<Str> = command.get_next_help_heading().map(|name| Str::from(name.to_string())).into();
        command.arg(choice).args(flags::<T>().into_iter().map(|flag| flag.help_heading(heading.clone())))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Chosen::<T>::augment_args(command)
    }
}

impl<T: Choice + ?Sized> FromArgMatches for Chosen<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Chosen<T>, clap::Error> {
        let name = matches.get_one::<String>(T::KEY).expect("it has a default");
        let entry = named::<T>(name).expect("it is one of the possible values");
        let mut table = Table::from_iter([(T::KEY.to_string(), Value::String(name.clone()))]);
        for entry in T::all() {
            table.extend((entry.read)(matches)?.1);
        }
        Ok(Chosen { name: entry.name, kind: (entry.read)(matches)?.0, table })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Chosen::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: ?Sized> Clone for Chosen<T> {
    fn clone(&self) -> Chosen<T> {
        Chosen { name: self.name, kind: Arc::clone(&self.kind), table: self.table.clone() }
    }
}

impl<T: ?Sized> PartialEq for Chosen<T> {
    fn eq(&self, other: &Chosen<T>) -> bool {
        self.table == other.table
    }
}

impl<T: ?Sized> Serialize for Chosen<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table.serialize(serializer)
    }
}

/// All kinds of a list, in its order, with their settings.
#[derive(Debug)]
pub(crate) struct Together<T: ?Sized + 'static> {
    kinds: Vec<Arc<T>>,
    table: Table,
}

impl<T: List + ?Sized> Together<T> {
    /// The kinds with their settings.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &T> {
        self.kinds.iter().map(|kind| &**kind)
    }
}

impl<T: List + ?Sized> Args for Together<T> {
    fn augment_args(command: Command) -> Command {
        T::all().iter().fold(command, |command, entry| (entry.declare)(command))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Together::<T>::augment_args(command)
    }
}

impl<T: List + ?Sized> FromArgMatches for Together<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Together<T>, clap::Error> {
        let mut all = Together { kinds: Vec::new(), table: Table::new() };
        for entry in T::all() {
            let (kind, table) = (entry.read)(matches)?;
            all.kinds.push(kind);
            all.table.extend(table);
        }
        Ok(all)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Together::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: ?Sized> Clone for Together<T> {
    fn clone(&self) -> Together<T> {
        Together { kinds: self.kinds.clone(), table: self.table.clone() }
    }
}

impl<T: ?Sized> PartialEq for Together<T> {
    fn eq(&self, other: &Together<T>) -> bool {
        self.table == other.table
    }
}

impl<T: ?Sized> Serialize for Together<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table.serialize(serializer)
    }
}
