//! Knowledge distillation: the nets that a run learns from, and how much.

use crate::error::UsageError;
use crate::flags::{any, within};
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;

/// Knowledge distillation (Hinton, Vinyals and Dean, 2015).
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct DistillationSettings {
    /// Learn from these trained nets too (knowledge distillation): weights files, separated by commas
    #[arg(long, value_name = "FILES", value_parser = any::<Teachers>("weights files, separated by commas"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teachers>,
    /// With --teacher: the weight of the distillation loss; that of the loss on the labels is 1 - X
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = Self::WEIGHT, value_parser = within("a share", 0.0..=1.0))]
    pub distillation_weight: f64,
    /// With --teacher: the temperature of the softmax, of the teachers and of the net
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = Self::TEMPERATURE, value_parser = within("a number", 0.1..=100.0))]
    pub temperature: f64,
}

impl DistillationSettings {
    const WEIGHT: f64 = 0.9;
    const TEMPERATURE: f64 = 2.0;

    /// The teachers' files; none if nobody teaches.
    pub(crate) fn teachers(&self) -> &[PathBuf] {
        self.teacher.as_ref().map_or(&[], |Teachers(files)| files)
    }

    /// Refuses what would change nothing.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        let given = [
            ("distillation-weight", self.distillation_weight, Self::WEIGHT),
            ("temperature", self.temperature, Self::TEMPERATURE),
        ];
        match given.iter().find(|(_, value, default)| self.teacher.is_none() && value != default) {
            Some((flag, value, _)) => Err(UsageError(format!(
                "--{flag} {value} changes nothing without a teacher: give --teacher too, or leave it out"
            ))),
            None => Ok(()),
        }
    }
}

/// Weights files: `a.safetensors,b.safetensors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Teachers(Vec<PathBuf>);

impl FromStr for Teachers {
    type Err = ();

    fn from_str(text: &str) -> Result<Teachers, ()> {
        let files: Vec<&str> = text.split(',').map(str::trim).collect();
        if files.contains(&"") { Err(()) } else { Ok(Teachers(files.iter().map(PathBuf::from).collect())) }
    }
}

impl Display for Teachers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<String> = self.0.iter().map(|file| file.display().to_string()).collect();
        f.write_str(&files.join(","))
    }
}

impl Serialize for Teachers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn teachers_are_files_with_commas_between_them() {
        let settings = Settings::from_flags(["--teacher=a b.pth, c.npz"]).unwrap();
        assert_eq!(settings.distillation.teachers(), [PathBuf::from("a b.pth"), PathBuf::from("c.npz")]);
        assert_eq!(settings.distillation.teacher.unwrap().to_string(), "a b.pth,c.npz");
        for (wrong, named) in [("", "nothing"), ("a,", "a,"), (",a", ",a"), ("a,,b", "a,,b")] {
            let error = Settings::from_flags([format!("--teacher={wrong}")]).unwrap_err().to_string();
            assert_eq!(error, format!("--teacher takes weights files, separated by commas, not {named}"));
        }
    }

    #[test]
    fn what_needs_a_teacher_is_refused_without_one_unless_it_is_the_default() {
        let none = Settings::from_flags(["--temperature=2", "--distillation-weight=0.9"]).unwrap();
        assert_eq!(none, Settings::default());
        let refused = Settings::from_flags(["--temperature=3"]).unwrap_err();
        let sentence = "--temperature 3 changes nothing without a teacher: give --teacher too, or leave it out";
        assert!(refused.is::<UsageError>() && refused.to_string() == sentence, "{refused}");
        assert!(Settings::from_flags(["--temperature=3", "--teacher=a.pth"]).is_ok());
    }
}
