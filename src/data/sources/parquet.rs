//! Parquet as Hugging Face has MNIST: a column `image` with the bytes of a PNG (alone or in a struct), and a column
//! `label`.

use super::{Form, Image, LABELS, Portion, Record, part_of_file};
use crate::error::without_panic;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use anyhow::{Context, Result, bail, ensure};
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
    fn name(&self) -> &'static str {
        "a parquet file"
    }

    fn recognises(&self, _: &Path, head: &[u8]) -> bool {
        head.starts_with(MAGIC)
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        let reader = SerializedFileReader::new(File::open(path)?).context("it is damaged or cut short")?;
        let metadata = reader.metadata().file_metadata();
        let columns: Vec<String> =
            metadata.schema_descr().root_schema().get_fields().iter().map(|field| field.name().to_string()).collect();
        let found = |names: &[&str]| columns.iter().find(|column| names.contains(&column.as_str())).cloned();
        let all = columns.join(", ");
        let image = found(&IMAGES).with_context(|| format!("it has no column image, only {all}"))?;
        let label = found(&LABELS);
        let features = metadata.key_value_metadata().into_iter().flatten().find(|pair| pair.key == FEATURES);
        let features = features.and_then(|pair| pair.value.as_deref());
        let classes = label.as_deref().and_then(|label| class_names(features?, label));
        let (count, part) = (u64::try_from(metadata.num_rows())?, part_of_file(path));
        let rows = RowIter::from_file_into(Box::new(reader));
        let labelled = label.is_some();
        let records = Box::new(Rows { rows: Some(rows), number: 0, image, label, classes: classes.clone() });
        Ok(vec![Portion {
            path: path.to_path_buf(),
            part,
            count: Some(count),
            labelled,
            classes,
            transposed: false,
            records,
        }])
    }
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
    image: String,
    label: Option<String>,
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
        let column = |name: &str| row.get_column_iter().find(|(column, _)| *column == name).map(|(_, field)| field);
        let image = match column(&self.image) {
            Some(Field::Bytes(bytes)) => bytes.data().to_vec(),
            Some(Field::Group(group)) => {
                let bytes = group.get_column_iter().find_map(|(name, field)| match field {
                    Field::Bytes(bytes) if name == "bytes" => Some(bytes.data().to_vec()),
                    _ => None,
                });
                bytes.context("its image has no bytes: the file only names pictures that are elsewhere")?
            }
            _ => bail!("its image is not the bytes of a picture"),
        };
        let label = self.label.as_deref().map(|label| self.label(column(label))).transpose()?;
        Ok(Record { place, label, image: Image::Encoded(image) })
    }

    fn label(&self, field: Option<&Field>) -> Result<String> {
        let number = match field {
            Some(Field::Str(text)) => return Ok(text.clone()),
            Some(Field::Byte(number)) => i64::from(*number),
            Some(Field::Short(number)) => i64::from(*number),
            Some(Field::Int(number)) => i64::from(*number),
            Some(Field::Long(number)) => *number,
            Some(Field::UByte(number)) => i64::from(*number),
            _ => bail!("its label is neither a whole number nor text"),
        };
        let Some(classes) = &self.classes else { return Ok(number.to_string()) };
        let name = usize::try_from(number).ok().and_then(|number| classes.get(number));
        ensure!(name.is_some(), "its label is {number}, but the file names {} classes", classes.len());
        Ok(name.cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A shard of three images, as Hugging Face's `datasets` writes it.
    fn shard() -> Vec<u8> {
        let schema = "message schema { optional group image { optional binary bytes; } optional int64 label; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let images: Vec<ByteArray> = (1..4).map(|length| vec![7u8; 30 * length].into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&images, Some(&[2, 2, 2]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[5, 0, 4], Some(&[1, 1, 1]), None).unwrap();
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
        let records = read(&shard()).unwrap();
        let labels: Vec<_> = records.iter().map(|record| record.label.clone().unwrap()).collect();
        assert_eq!(labels, ["5", "0", "4"]);
        assert!(matches!(&records[2].image, Image::Encoded(bytes) if bytes.len() == 90));
        let error = read(&shard()[..100]).err().unwrap();
        assert!(format!("{error:#}").starts_with("it is damaged or cut short"), "{error:#}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn any_bytes_are_read_or_refused(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
            let mut bytes = shard();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(records) = read(&bytes) {
                prop_assert!(records.len() <= 3);
            }
        }
    }
}
