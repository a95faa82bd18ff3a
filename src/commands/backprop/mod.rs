//! `tch-mnist backprop`.

mod autograd;

use super::Outcome;
use crate::error::UsageError;
use crate::files::write_atomically;
use crate::observe::{OutputArgs, OutputFormat, say};
use crate::settings::within;
use anyhow::{Context, Result, anyhow};
use backprop::number::{exact, number};
use backprop::{Differences, Error, Problem, Row, Run, chart, descend, explain, pictures, table};
use canvas::svg_to_png;
use serde::Serialize;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// How many pixels of a PNG a unit of the SVG is: the pictures are 2400 by 1350 units.
const PNG_SCALE: f32 = 1.0;

/// Show backpropagation by hand on a 2-2-2 network
#[derive(clap::Parser)]
#[command(name = "backprop")]
pub(super) struct Args {
    /// Learning rates, separated by commas
    #[arg(long, value_name = "LIST", default_value = "0.1,0.2,0.5,0.8,1,2", value_parser = list, allow_hyphen_values = true)]
    lr: Numbers,
    /// Steps of gradient descent for each learning rate: the rows of its table; row 0 is the start
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = within("a whole number", 1..=100_000u32))]
    steps: u32,
    /// The step to explain in full, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    step: u32,
    /// The weights w1 to w8 at the start
    #[arg(long, value_name = "LIST", default_value_t = Numbers(Problem::default().weights.to_vec()), value_parser = list, allow_hyphen_values = true)]
    weights: Numbers,
    /// The inputs i1 and i2
    #[arg(long, value_name = "LIST", default_value_t = Numbers(Problem::default().inputs.to_vec()), value_parser = list, allow_hyphen_values = true)]
    inputs: Numbers,
    /// The targets t1 and t2; a sigmoid can only approach targets between 0 and 1
    #[arg(long, value_name = "LIST", default_value_t = Numbers(Problem::default().targets.to_vec()), value_parser = list, allow_hyphen_values = true)]
    targets: Numbers,
    /// Folder for the tables and pictures: backprop_lr<LR>.csv for each learning rate, backprop.csv for the one that
    /// is explained (1, or the first when 1 is not listed), e_total.svg/.png and network.svg/.png
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// A list of numbers, as one flag takes it.
#[derive(Clone, Debug)]
struct Numbers(Vec<f64>);

impl Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(f64::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// Reads `0.1, 0.5,1`.
fn list(text: &str) -> Result<Numbers, String> {
    let parse = |part: &str| match part.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(format!("'{}' is not a finite number; give ordinary numbers separated by commas", part.trim())),
        Err(_) => Err(format!("'{}' is not a number; give numbers separated by commas, such as 0.1,0.5", part.trim())),
    };
    text.split(',').map(parse).collect::<Result<_, _>>().map(Numbers)
}

impl Numbers {
    /// Exactly `N` numbers, or one sentence about `flag`.
    fn exactly<const N: usize>(&self, flag: &str, names: &str) -> Result<[f64; N], UsageError> {
        let wrong = |values: Vec<f64>| {
            UsageError(format!("{flag} takes {N} numbers separated by commas, {names}; got {}", values.len()))
        };
        self.0.clone().try_into().map_err(wrong)
    }
}

/// One row as a line of JSON.
#[derive(Serialize)]
struct JsonRow<'a> {
    lr: f64,
    #[serde(flatten)]
    row: &'a Row,
}

/// The last line of JSON.
#[derive(Serialize)]
struct JsonDone<'a> {
    event: &'static str,
    largest_difference: &'a Differences,
    files: &'a [PathBuf],
}

/// Runs the command.
pub(super) fn run(args: Args, _: super::Verbosity) -> Result<Outcome> {
    let problem = Problem {
        weights: args.weights.exactly("--weights", "w1 to w8")?,
        inputs: args.inputs.exactly("--inputs", "i1 and i2")?,
        targets: args.targets.exactly("--targets", "t1 and t2")?,
    };
    check_learning_rates(&args.lr.0)?;
    if args.step >= args.steps {
        let (step, steps, last) = (args.step, args.steps, args.steps - 1);
        return Err(UsageError(format!(
            "--step {step} is not in the table: with --steps {steps} the last step is {last}; give a smaller --step or a larger --steps"
        ))
        .into());
    }

    let descend = |lr: &f64| descend(&problem, *lr, args.steps as usize).map_err(with_flags);
    let runs: Vec<Run> = args.lr.0.iter().map(descend).collect::<Result<_>>()?;
    let shown = runs.iter().find(|run| run.lr == 1.0).unwrap_or(&runs[0]);
    let differences = Differences::of(&problem, &runs, autograd::gradients)?;
    let files = match &args.out {
        Some(folder) => write_files(folder, &runs, shown, args.step as usize)?,
        None => Vec::new(),
    };
    match args.output.format {
        OutputFormat::Text => print_text(&runs, shown, args.step as usize, &differences, &files)?,
        OutputFormat::Json => print_json(&runs, &differences, &files)?,
    }
    Ok(Outcome::Done)
}

/// The sentence on a descent that fails, with the flags that cause it.
fn with_flags(error: Error) -> anyhow::Error {
    match error {
        Error::Overflows => {
            anyhow!("the first forward and backward pass overflows: give smaller --weights, --inputs or --targets")
        }
        Error::Diverges { lr, reason } => anyhow!("--lr {} diverges: {reason}; give a smaller --lr", number(lr)),
        error => error.into(),
    }
}

fn check_learning_rates(rates: &[f64]) -> Result<(), UsageError> {
    for (k, lr) in rates.iter().enumerate() {
        if *lr <= 0.0 {
            return Err(UsageError(format!("--lr {} is not a learning rate: give numbers above 0", number(*lr))));
        }
        if rates[..k].contains(lr) {
            return Err(UsageError(format!("--lr lists {} twice: give each learning rate once", number(*lr))));
        }
    }
    Ok(())
}

fn print_text(runs: &[Run], shown: &Run, step: usize, differences: &Differences, files: &[PathBuf]) -> Result<()> {
    for line in explain::step(shown, step) {
        say(line)?;
    }
    say("")?;
    say(format_args!("The first and last steps at learning rate {}", number(shown.lr)))?;
    for line in table::ends(shown) {
        say(line)?;
    }
    say("")?;
    say(chart::title(runs))?;
    for line in chart::charts(runs) {
        say(line)?;
    }
    say("The same gradient three ways: largest difference of any dE_dw at any step of any learning rate")?;
    say(format_args!("  by hand   against autograd            {:.1e}", differences.hand_autograd))?;
    say(format_args!("  by hand   against finite differences  {:.1e}", differences.hand_finite_difference))?;
    say(format_args!("  autograd  against finite differences  {:.1e}", differences.autograd_finite_difference))?;
    for line in notes(runs) {
        say(line)?;
    }
    for file in files {
        say(format_args!("Wrote {}", file.display()))?;
    }
    Ok(())
}

/// What a student might stumble over in these numbers.
fn notes(runs: &[Run]) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, target) in [("t1", runs[0].first().t1), ("t2", runs[0].first().t2)] {
        if target <= 0.0 || target >= 1.0 {
            let target = number(target);
            notes.push(format!("Note: {name} = {target} cannot be reached: a sigmoid stays between 0 and 1"));
        }
    }
    for run in runs {
        if run.last().e_total > run.first().e_total {
            let lr = number(run.lr);
            notes.push(format!("Note: lr {lr} ends with a larger E_total than it began with; try a smaller one"));
        }
    }
    notes
}

fn print_json(runs: &[Run], differences: &Differences, files: &[PathBuf]) -> Result<()> {
    for run in runs {
        for row in &run.rows {
            say(serde_json::to_string(&JsonRow { lr: run.lr, row })?)?;
        }
    }
    say(serde_json::to_string(&JsonDone { event: "done", largest_difference: differences, files })?)
}

/// Writes the tables and pictures into `folder` and returns their paths.
fn write_files(folder: &Path, runs: &[Run], shown: &Run, step: usize) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("--out {} cannot be created", folder.display()))?;
    let mut files = Vec::new();
    let mut write = |name: String, bytes: &[u8]| -> Result<()> {
        let path = folder.join(name);
        write_atomically(&path, |path| Ok(std::fs::write(path, bytes)?))?;
        files.push(path);
        Ok(())
    };
    for run in runs {
        write(format!("backprop_lr{}.csv", exact(run.lr)), &table::csv(run)?)?;
    }
    write("backprop.csv".into(), &table::csv(shown)?)?;
    for (name, svg) in [("e_total", pictures::e_total(runs)?), ("network", pictures::network(&shown.rows[step])?)] {
        let png = svg_to_png(&svg, PNG_SCALE)?;
        for (ending, bytes) in [("svg", svg.as_bytes()), ("png", &png)] {
            write(format!("{name}.{ending}"), bytes)?;
        }
    }
    Ok(files)
}
