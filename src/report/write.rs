//! What there is to look at, written: `plots/*.svg`, `plots/*.png` and `report.html`, from a run's own files and the data.

use super::picture::svg_to_png;
use super::run::RunFiles;
use super::{confusion, curves, grid, html};
use crate::data::augment::RandomAffine;
use crate::data::{Data, Split};
use crate::evaluate::Findings;
use crate::files::{folder_of, remove_temporaries, write_atomically};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Pixels of a PNG to each of its SVG's, which are drawn for a slide.
const PNG_SCALE: f32 = 0.75;

/// Writes the plots and the page of the run in `folder`; `findings` are those of its net on what `data` measures it on.
///
/// # Errors
///
/// One sentence that names the file that cannot be read or written.
pub fn run(folder: &Path, findings: &Findings, data: &Data) -> Result<PathBuf> {
    let run = RunFiles::read(folder)?;
    let mut pictures = curves::of_run(&run)?;
    pictures.extend(of_findings(findings, data.measured())?);
    pictures.push(("training_images", grid::training_images(&data.train)?));
    if let Some(augment) = RandomAffine::of(&run.config, data.train.images.device())? {
        // So that `report` draws again what `train` drew.
        tch::manual_seed(run.config.seed);
        pictures.push(("augmented_images", grid::augmented_images(&data.train, &augment)?));
    }
    plots(&folder.join("plots"), &pictures)?;
    let page = html::report(&run, findings, &pictures)?;
    let path = folder.join("report.html");
    write_atomically(&path, |path| Ok(fs::write(path, page)?))?;
    Ok(path)
}

/// Writes the page that compares `runs` to `path`.
///
/// # Errors
///
/// When it cannot be written.
pub fn comparison(runs: &[RunFiles], path: &Path) -> Result<()> {
    let page = html::comparison(runs, &curves::of_runs(runs)?)?;
    fs::create_dir_all(folder_of(path)).with_context(|| format!("--out {} cannot be written", path.display()))?;
    write_atomically(path, |path| Ok(fs::write(path, page)?))
}

/// The confusion matrix and the worst misclassified images, as SVG under the names of their files.
///
/// # Errors
///
/// When plotters cannot draw one.
pub fn of_findings(findings: &Findings, split: &Split) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("confusion", confusion::draw(&findings.confusion)?),
        ("misclassified", grid::worst(split, &findings.mistakes)?),
    ])
}

/// Writes each of the named SVGs into `folder`, as SVG and as PNG.
///
/// # Errors
///
/// When the folder cannot be made or written to.
pub fn plots(folder: &Path, pictures: &[(&'static str, String)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    remove_temporaries(folder)?;
    let write = |(name, svg): &(&str, String)| {
        write_atomically(&folder.join(format!("{name}.svg")), |path| Ok(fs::write(path, svg)?))?;
        let png = svg_to_png(svg, PNG_SCALE)?;
        write_atomically(&folder.join(format!("{name}.png")), |path| Ok(fs::write(path, png)?))
    };
    // A thread a picture: to turn them into PNG takes longer than all the rest.
    std::thread::scope(|scope| {
        let threads: Vec<_> = pictures.iter().map(|picture| scope.spawn(|| write(picture))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("drawing does not panic"))
    })
}
