//! `--config FILE`: settings in TOML, and mistakes in them by their line.

use super::foreign;
use super::given::{Given, check_form};
use super::{Settings, flag, refused, text_in};
use anyhow::{Context, Result, anyhow, bail};
use std::path::{Path, PathBuf};
use toml::de::DeTable;
use toml::{Table, Value};

/// How alike a key and a setting must be, by Jaro's measure, to be one mistyped.
const ALIKE: f64 = 0.8;

/// The settings of a TOML file.
pub(super) struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

struct Entry {
    line: usize,
    key: String,
    value: Value,
}

impl ConfigFile {
    /// Reads the file; its values are not checked yet.
    pub(super) fn read(path: &Path) -> Result<ConfigFile> {
        let text = text_in(path).with_context(|| format!("--config {} cannot be read", path.display()))?;
        let line = |offset: usize| 1 + text[..offset].matches('\n').count();
        let parsed = DeTable::parse(&text).and_then(|keys| Ok((keys, toml::from_str::<Table>(&text)?)));
        let (keys, mut values) = parsed.map_err(|error| {
            if let Some(format) = other_format(path, &text) {
                return anyhow!("--config {} is {format}: write it in TOML, such as epochs = 2", path.display());
            }
            let reason = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            let line = line(error.span().map_or(0, |span| span.start));
            anyhow!("--config {}, line {line}: {reason}", path.display())
        })?;
        let mut file = ConfigFile { path: path.to_path_buf(), entries: Vec::new() };
        for key in keys.get_ref().keys() {
            let (line, key) = (line(key.span().start), key.get_ref().to_string());
            let value = values.remove(&key).expect("both have the same keys");
            check_form(&key, &value).and_then(|()| check_key(&key)).with_context(|| file.place(line))?;
            file.entries.push(Entry { line, key, value });
        }
        Ok(file)
    }

    /// Its settings.
    pub(super) fn given(&self) -> Given {
        Given::from(&self.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect::<Table>())
    }

    /// The sentence on the first of its values that is wrong by itself. It is an error of the file, exit code 1, whatever
    /// it is of the command line.
    pub(super) fn mistake(&self) -> Option<anyhow::Error> {
        self.entries.iter().find_map(|entry| {
            let one = |value: &Value| Given::from(&Table::from_iter([(entry.key.clone(), value.clone())]));
            let mut error = super::read(&one(&entry.value)).err()?;
            if entry.value.is_array() {
                // Said of the list as it stands in the file.
                let text = Value::String(entry.value.to_string());
                error = super::read(&one(&text)).err().unwrap_or(error);
            }
            Some(anyhow!("{}: {}", self.place(entry.line), refused(&error)))
        })
    }

    fn place(&self, line: usize) -> String {
        format!("--config {}, line {line}", self.path.display())
    }
}

/// Refuses a key that is not a setting, with the setting that is meant if that is clear.
fn check_key(key: &str) -> Result<()> {
    let settings = Settings::keys();
    if settings.iter().any(|known| known == key) {
        return Ok(());
    }
    let spelled = key.replace('-', "_").to_lowercase();
    if settings.contains(&spelled) {
        bail!("{key} is not a setting: write {spelled}");
    }
    if spelled == "out" {
        bail!("{key} is not a setting: the folder of a run is named by --out DIR, beside --config");
    }
    if let Some(advice) = foreign::advice(&format!("--{}", flag(&spelled))) {
        let setting = advice.strip_prefix("use --").map(|flag| flag.replace('-', "_"));
        match setting.filter(|setting| settings.contains(setting)) {
            Some(setting) => bail!("{key} is not a setting: write {setting}"),
            None => bail!("{key} is not a setting: {advice}"),
        }
    }
    let likeness = |setting: &&String| strsim::jaro(setting, &spelled);
    let nearest = settings.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|setting| likeness(setting) > ALIKE) {
        Some(setting) => bail!("{key} is not a setting: did you mean {setting}?"),
        None => bail!("{key} is not a setting; tch-mnist train --help lists them"),
    }
}

/// The format of a file that is not TOML, if it is a known one.
fn other_format(path: &Path, text: &str) -> Option<&'static str> {
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    if text.trim_start().starts_with('{') {
        return Some("JSON");
    }
    let is_yaml = |line: &str| line.split_once(':').is_some_and(|(key, _)| key.trim().bytes().all(is_of_a_key));
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    (ending == "yaml" || ending == "yml" || first == "---" || is_yaml(first)).then_some("YAML")
}

fn is_of_a_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{UsageError, sentence};

    fn resolved(name: &str, text: &str) -> Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Settings::resolve(Some(&path), &Given::default())
            .map_err(|error| anyhow!("{}", sentence(&error).replace(path.to_str().unwrap(), name)))
    }

    fn mistake(text: &str) -> String {
        resolved("c.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_value_is_the_same_sentence_from_a_flag_and_from_a_file_which_names_its_line() {
        for (setting, flag) in [
            ("lr = -1.0", "--lr=-1.0"),
            ("epochs = 2.0", "--epochs=2.0"),
            ("batch_size = 'many'", "--batch-size=many"),
            ("schedule = 'zigzag'", "--schedule=zigzag"),
            ("device = 'tpu'", "--device=tpu"),
            ("nesterov = 1", "--nesterov=1"),
            ("rotate = nan", "--rotate=nan"),
            ("betas = [0.9]", "--betas=[0.9]"),
            ("lr = [1, 2]", "--lr=[1, 2]"),
        ] {
            let from_flag = Settings::from_flags([flag]).unwrap_err();
            assert!(from_flag.is::<UsageError>());
            assert_eq!(mistake(&format!("seed = 2\n{setting}\n")), format!("--config c.toml, line 2: {from_flag}"));
        }
    }

    #[test]
    fn every_list_may_be_an_array() {
        for (array, text) in [
            ("milestones = [1, 3]\nschedule = 'multi-step'", "milestones = '1,3'\nschedule = 'multi-step'"),
            ("betas = [0.5, 0.75]\noptimizer = 'adam'", "betas = '0.5,0.75'\noptimizer = 'adam'"),
            ("teacher = ['a.pt', 'b c.pt']", "teacher = 'a.pt,b c.pt'"),
            ("net_values = ['width=8', 'depth=2']", "net_values = 'width=8,depth=2'"),
        ] {
            assert_eq!(resolved("c.toml", array).unwrap(), resolved("c.toml", text).unwrap());
        }
        assert_eq!(
            mistake("teacher = ['a,b.pt']"),
            "--config c.toml, line 1: a value in a list cannot contain a comma: \"a,b.pt\""
        );
    }

    #[test]
    fn an_empty_list_is_nothing() {
        let sentence = "--config c.toml, line 1: --teacher takes weights files, separated by commas, not nothing";
        assert_eq!(mistake("teacher = []"), sentence);
    }

    #[test]
    fn a_table_is_told_that_settings_stand_at_the_top_level() {
        let sentence =
            "--config c.toml, line 2: settings stand at the top level, not in a table: leave out [optimizer]";
        assert_eq!(mistake("lr = 0.1\n[optimizer]\nmomentum = 0.5\n"), sentence);
        assert_eq!(mistake("lr = 0.1\noptimizer = { momentum = 0.5 }\n"), sentence);
        assert_eq!(mistake("lr = 0.1\n[[optimizer]]\nmomentum = 0.5\n"), sentence);
    }

    #[test]
    fn a_key_of_another_spelling_or_of_another_tool_is_answered_by_the_setting() {
        for (key, answer) in [
            ("batch-size", "write batch_size"),
            ("Batch_Size", "write batch_size"),
            ("learning_rate", "write lr"),
            ("num_epochs", "write epochs"),
            ("no_cuda", "use --device cpu"),
            ("momentun", "did you mean momentum?"),
            ("out", "the folder of a run is named by --out DIR, beside --config"),
        ] {
            assert_eq!(
                mistake(&format!("{key} = 2")),
                format!("--config c.toml, line 1: {key} is not a setting: {answer}")
            );
        }
        let unknown = "--config c.toml, line 1: quux is not a setting; tch-mnist train --help lists them";
        assert_eq!(mistake("quux = 2"), unknown);
    }

    #[test]
    fn another_format_is_named() {
        for (name, text, format) in [
            ("c.json", "{\"epochs\": 2}", "JSON"),
            ("c.yaml", "epochs: 2\nlr: 0.02\n", "YAML"),
            ("c", "# settings\nepochs: 2\n", "YAML"),
        ] {
            let sentence = format!("--config {name} is {format}: write it in TOML, such as epochs = 2");
            assert_eq!(resolved(name, text).unwrap_err().to_string(), sentence);
        }
        assert!(mistake("epochs 2\n").starts_with("--config c.toml, line 1: "));
    }
}
