//! Parquet as Hugging Face has MNIST: a column `image` with the bytes of a picture (alone or in a struct) or with lists of
//! numbers, and a column `label`. Or a column per pixel, as pandas writes a table.

use super::{Form, Image, LABELS, NUMBERS, Portion, Record, order, part_of_file};
use crate::data::scale::{Scale, Survey};
#[cfg(test)]
use crate::digit::Digit;
use crate::error::without_panic;
use crate::shape::PIXELS;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::path::Path;

/// The first and the last bytes of a file.
const MAGIC: &[u8] = b"PAR1";

/// Names of the column with the image.
const IMAGES: [&str; 3] = ["image", "img", "images"];

/// The metadata in which Hugging Face's `datasets` keeps the names of the classes.
const FEATURES: &str = "huggingface";

/// One shard.
pub(super) struct Parquet;

impl Form for Parquet {
    fn about(&self) -> &'static str {
        "a column `image` with the bytes of a picture, as Hugging Face has it, or with lists of numbers; or a \
         column per pixel; and a column `label`"
    }

    fn noun(&self) -> &'static str {
        "a parquet file"
    }

    fn title(&self) -> &'static str {
        "parquet"
    }

    fn recognises(&self, _: &Path, head: &[u8]) -> bool {
        head.starts_with(MAGIC)
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        let reader = reader(path)?;
        let metadata = reader.metadata().file_metadata();
        let columns: Vec<String> =
            metadata.schema_descr().root_schema().get_fields().iter().map(|field| field.name().to_string()).collect();
        let label = columns.iter().position(|column| LABELS.contains(&column.to_lowercase().as_str()));
        let features = metadata.key_value_metadata().into_iter().flatten().find(|pair| pair.key == FEATURES);
        let features = features.and_then(|pair| pair.value.as_deref());
        let classes = label.and_then(|label| class_names(features?, &columns[label]));
        let count = u64::try_from(metadata.num_rows())?;
        let pixels = Pixels::of(&columns, label, path)?;
        let scale = survey(path, &pixels)?;
        let rows = RowIter::from_file_into(Box::new(reader));
        let records = Rows { rows: Some(rows), number: 0, pixels, scale, label, classes: classes.clone() };
        Ok(vec![Portion {
            path: path.to_path_buf(),
            part: part_of_file(path),
            count: Some(count),
            labelled: label.is_some(),
            classes,
            transposed: false,
            records: Box::new(records),
        }])
    }

    #[cfg(test)]
    fn example(&self, folder: &Path, images: &[Digit], labels: &[u8]) -> std::path::PathBuf {
        let pictures = images.iter().map(|image| [b"P5 28 28 255\n".as_slice(), image].concat()).collect();
        let path = folder.join("train-00000-of-00001.parquet");
        std::fs::write(&path, tests::shard(pictures, labels)).expect("a temporary folder takes it");
        path
    }
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>> {
    SerializedFileReader::new(File::open(path)?).context("it is damaged or cut short")
}

/// Where the pixels of a row are.
#[derive(Clone)]
enum Pixels {
    /// In one column: a picture, or numbers.
    In(usize),
    /// In a column each.
    Each(Vec<usize>),
}

impl Pixels {
    fn of(columns: &[String], label: Option<usize>, path: &Path) -> Result<Pixels> {
        let lower = |column: &String| column.to_lowercase();
        if let Some(image) = columns.iter().position(|column| IMAGES.contains(&lower(column).as_str())) {
            return Ok(Pixels::In(image));
        }
        let numbers_rows = |name: &str| NUMBERS.contains(&name) || name.starts_with("__index");
        let is_pixel = |&column: &usize| Some(column) != label && !numbers_rows(&lower(&columns[column]));
        let each: Vec<usize> = (0..columns.len()).filter(is_pixel).collect();
        match each.len() {
            PIXELS => Ok(Pixels::Each(order::ordered(each, columns, path.display())?)),
            count if count + 1 == PIXELS || count == PIXELS + 1 => {
                bail!("it has {} columns: {PIXELS} pixels and one named label are expected", columns.len())
            }
            _ => {
                let named = columns.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
                let more = if columns.len() > 5 { format!(" and {} others", columns.len() - 5) } else { String::new() };
                bail!("it has neither a column image nor {PIXELS} columns of pixels, only {named}{more}")
            }
        }
    }

    /// The numbers in `row`; `None` if it has a picture instead, or something else.
    fn numbers(&self, row: &Row) -> Option<Vec<f32>> {
        let mut numbers = Vec::with_capacity(PIXELS);
        match self {
            Pixels::In(at) => flatten(column(row, *at)?, &mut numbers)?,
            Pixels::Each(columns) => {
                let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
                columns.iter().try_for_each(|&at| flatten(fields.get(at)?, &mut numbers))?;
            }
        }
        (numbers.len() == PIXELS).then_some(numbers)
    }
}

fn column(row: &Row, at: usize) -> Option<&Field> {
    row.get_column_iter().nth(at).map(|(_, field)| field)
}

/// Adds a number, or the numbers in lists of lists.
fn flatten(field: &Field, numbers: &mut Vec<f32>) -> Option<()> {
    if let Field::ListInternal(list) = field {
        // No more than an image has: a list may be long.
        return list.elements().iter().take(PIXELS + 1).try_for_each(|field| flatten(field, numbers));
    }
    numbers.push(number(field)? as f32);
    Some(())
}

fn number(field: &Field) -> Option<f64> {
    Some(match field {
        Field::Bool(bit) => f64::from(u8::from(*bit)),
        Field::Byte(number) => f64::from(*number),
        Field::Short(number) => f64::from(*number),
        Field::Int(number) => f64::from(*number),
        Field::Long(number) => *number as f64,
        Field::UByte(number) => f64::from(*number),
        Field::UShort(number) => f64::from(*number),
        Field::UInt(number) => f64::from(*number),
        Field::ULong(number) => *number as f64,
        Field::Float(number) => f64::from(*number),
        Field::Double(number) => *number,
        _ => return None,
    })
}

/// The scale of all numbers in the file; of any, if it holds pictures. What cannot be read is reported when its turn comes.
fn survey(path: &Path, pixels: &Pixels) -> Result<Scale> {
    let mut survey = Survey::default();
    let read = || -> Result<()> {
        for row in RowIter::from_file_into(Box::new(reader(path)?)) {
            let Some(numbers) = pixels.numbers(&row?) else { break };
            numbers.into_iter().for_each(|number| survey.add(number, 1));
        }
        Ok(())
    };
    // The crate panics on some damaged pages.
    let _ = without_panic(read);
    survey.scale(path.display())
}

/// The names of a `ClassLabel` feature, in the order of the numbers that stand for them.
fn class_names(features: &str, label: &str) -> Option<Vec<String>> {
    let features: Value = serde_json::from_str(features).ok()?;
    let names = features["info"]["features"][label]["names"].as_array()?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}

struct Rows {
    /// `None` after an error: what follows is not to be trusted.
    rows: Option<RowIter<'static>>,
    number: u64,
    pixels: Pixels,
    scale: Scale,
    label: Option<usize>,
    classes: Option<Vec<String>>,
}

impl Iterator for Rows {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        self.number += 1;
        let place = format!("row {}", self.number);
        // The crate panics on some damaged pages.
        let rows = self.rows.as_mut()?;
        let next = without_panic(|| Ok(rows.next().transpose()?)).context("it is damaged");
        if next.is_err() {
            self.rows = None;
        }
        let record = next.transpose()?.and_then(|row| self.record(&row, place.clone()));
        Some(record.context(place))
    }
}

impl Rows {
    fn record(&self, row: &Row, place: String) -> Result<Record> {
        let image = match self.pixels.numbers(row) {
            Some(numbers) => {
                let pixel = |number: f32| {
                    let expected = || format!("it has the number {number}; {} is expected", self.scale.expected());
                    self.scale.pixel(number).with_context(expected)
                };
                let digit = numbers.into_iter().map(pixel).collect::<Result<Vec<u8>>>()?;
                Image::Pixels(Box::new(digit.try_into().expect("an image has as many")))
            }
            None => Image::Encoded(self.picture(row)?),
        };
        let label = self.label.map(|label| self.label(column(row, label))).transpose()?;
        Ok(Record { place, label, image })
    }

    /// The bytes of a picture file.
    fn picture(&self, row: &Row) -> Result<Vec<u8>> {
        let Pixels::In(image) = self.pixels else { bail!("its pixels are not {PIXELS} numbers") };
        match column(row, image) {
            Some(Field::Bytes(bytes)) => Ok(bytes.data().to_vec()),
            Some(Field::Group(group)) => {
                let bytes = group.get_column_iter().find_map(|(name, field)| match field {
                    Field::Bytes(bytes) if name == "bytes" => Some(bytes.data().to_vec()),
                    _ => None,
                });
                bytes.context("its image has no bytes: the file only names pictures that are elsewhere")
            }
            _ => bail!("its image is neither the bytes of a picture nor {PIXELS} numbers"),
        }
    }

    fn label(&self, field: Option<&Field>) -> Result<String> {
        if let Some(Field::Str(text)) = field {
            return Ok(text.clone());
        }
        let number = field.and_then(number).filter(|number| number.fract() == 0.0);
        let number = number.context("its label is neither a whole number nor text")?;
        let Some(classes) = &self.classes else { return Ok(number.to_string()) };
        let name = classes.get(number as usize).filter(|_| number >= 0.0);
        name.cloned().with_context(|| format!("its label is {number}, but the file names {} classes", classes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    /// A shard of pictures and labels, as Hugging Face's `datasets` writes it.
    pub(super) fn shard(pictures: Vec<Vec<u8>>, labels: &[u8]) -> Vec<u8> {
        let schema = "message schema { optional group image { optional binary bytes; } optional int64 label; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let pictures: Vec<ByteArray> = pictures.into_iter().map(ByteArray::from).collect();
        let labels: Vec<i64> = labels.iter().map(|&label| label.into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&pictures, Some(&vec![2; pictures.len()]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; labels.len()]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Record>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train-00000-of-00001.parquet");
        std::fs::write(&path, bytes).unwrap();
        without_panic(|| Parquet.open(&path)?.into_iter().flat_map(|portion| portion.records).collect())
    }

    #[test]
    fn a_shard_has_its_images_and_labels() {
        let shard = shard((1..4).map(|length| vec![7; 30 * length]).collect(), &[5, 0, 4]);
        let records = read(&shard).unwrap();
        let labels: Vec<_> = records.iter().map(|record| record.label.clone().unwrap()).collect();
        assert_eq!(labels, ["5", "0", "4"]);
        assert!(matches!(&records[2].image, Image::Encoded(bytes) if bytes.len() == 90));
        let error = read(&shard[..100]).err().unwrap();
        assert!(format!("{error:#}").starts_with("it is damaged or cut short"), "{error:#}");
    }
}
