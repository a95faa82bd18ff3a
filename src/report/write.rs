//! Writes `plots/*.svg`, `plots/*.png` and `report.html`, from a run's own files and the data.

use super::grid::{self, Grid};
use super::{comparison as comparison_page, confusion, curves, run_page};
use crate::data::{Data, Split};
use crate::evaluate::Findings;
use crate::files::{folder_of, remove_temporaries, write_atomically};
use crate::model::Net;
use crate::predict::Familiarity;
use crate::run_folder::{RunFiles, RunFolder};
use crate::train::augmentations;
use anyhow::{Context, Result};
use canvas::svg_to_png;
use std::fs;
use std::path::{Path, PathBuf};

/// Pixels of a PNG to each of its SVG's, which are drawn for a slide.
const PNG_SCALE: f32 = 1.0;

/// The names of the pictures that `evaluate --plots` draws too.
const CONFUSION: &str = "confusion";
const MISCLASSIFIED: &str = "misclassified";

/// Writes the plots and the page of the run in `folder`; `findings` are those of its `net` on what `data` measures it
/// on.
pub(crate) fn write_run(
    folder: &Path,
    net: &Net,
    findings: &Findings,
    familiarity: Option<&Familiarity>,
    data: &Data,
) -> Result<PathBuf> {
    let run = RunFolder::read(folder)?;
    let measured = data.measured();
    let mut grids = vec![(MISCLASSIFIED, grid::worst(measured, &findings.mistakes)?)];
    if let Some(familiarity) = familiarity {
        let scores = familiarity.scores(net, measured)?;
        grids.push(("unfamiliar", grid::unfamiliar(measured, findings, &scores, familiarity.threshold())?));
    }
    grids.push(("training_images", grid::training_images(&data.train)?));
    let transforms = augmentations::transforms(&run.settings.augmentation, data.train.device())?;
    if !transforms.is_empty() {
        // So that `report` draws again what `train` drew.
        tch::manual_seed(run.settings.training.seed);
        grids.push(("augmented_images", grid::augmented_images(&data.train, &transforms)?));
    }
    let mut pictures = curves::of_run(&run)?;
    pictures.push((CONFUSION, confusion::draw(&findings.confusion, &measured.classes)?));
    let page = run_page::of(&run, net.architecture(), findings, data, &pictures, &grids)?;
    let drawn = |(name, grid): &(&'static str, Grid)| Ok((*name, grid.svg()?));
    pictures.extend(grids.iter().map(drawn).collect::<Result<Vec<_>>>()?);
    write_plots(&run.folder.plots(), &pictures)?;
    let path = run.folder.report();
    write_atomically(&path, |path| Ok(fs::write(path, page)?))?;
    Ok(path)
}

/// Writes the page that compares `runs` to `path`.
pub(crate) fn comparison(runs: &[RunFiles], path: &Path) -> Result<()> {
    let page = comparison_page::of(runs, path)?;
    fs::create_dir_all(folder_of(path)).with_context(|| format!("--out {} cannot be written", path.display()))?;
    write_atomically(path, |path| Ok(fs::write(path, page)?))
}

/// The confusion matrix and the worst misclassified images, as SVG under the names of their files.
pub(crate) fn pictures_of(findings: &Findings, split: &Split) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        (CONFUSION, confusion::draw(&findings.confusion, &split.classes)?),
        (MISCLASSIFIED, grid::worst(split, &findings.mistakes)?.svg()?),
    ])
}

/// Writes each of the named SVGs into `folder`, as SVG and as PNG.
pub(crate) fn write_plots(folder: &Path, pictures: &[(&'static str, String)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    remove_temporaries(folder)?;
    let write = |(name, svg): &(&str, String)| {
        write_atomically(&folder.join(format!("{name}.svg")), |path| Ok(fs::write(path, svg)?))?;
        let png = svg_to_png(svg, PNG_SCALE)?;
        write_atomically(&folder.join(format!("{name}.png")), |path| Ok(fs::write(path, png)?))
    };
    // One thread per picture: turning them into PNG takes longer than all the rest.
    std::thread::scope(|scope| {
        let threads: Vec<_> = pictures.iter().map(|picture| scope.spawn(|| write(picture))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("drawing does not panic"))
    })
}
