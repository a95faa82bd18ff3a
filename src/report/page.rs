//! What the page of a run and the page that compares runs share: templates, and cells of tables.

use super::dark;
use anyhow::{Context, Result};
use minijinja::{Environment, Value, context};

/// Makes a page of a template of `pages/`, in which `svgs` are shown.
pub(super) fn render<'a>(name: &str, svgs: impl IntoIterator<Item = &'a str>, values: Value) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template("base.html", include_str!("pages/base.html"))?;
    environment.add_template("report.html", include_str!("pages/report.html"))?;
    environment.add_template("comparison.html", include_str!("pages/comparison.html"))?;
    let shared = context! { program => env!("CARGO_PKG_VERSION"), dark => dark::rules(svgs) };
    let values = context! { ..values, ..shared };
    environment.get_template(name)?.render(values).with_context(|| format!("{name} cannot be made"))
}

/// `99.42 %`
pub(super) fn percent(percentage: f64) -> String {
    format!("{percentage:.2} %")
}

/// `0.0189`
pub(super) fn loss(loss: f64) -> String {
    format!("{loss:.4}")
}

/// A setting by the name of its flag: `batch-size` of `batch_size`.
pub(super) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// `-` for what is not known.
pub(super) const UNKNOWN: &str = "-";
