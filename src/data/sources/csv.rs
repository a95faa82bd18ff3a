//! CSV with an image per row, as Kaggle and many others have MNIST: 784 pixels, and a label if there is one.

use super::{Form, HEAD, Image, LABELS, Portion, Record, part_of_file, pixel, unpacked};
use crate::digit::Digit;
use crate::shape::PIXELS;
use anyhow::{Context, Result, bail, ensure};
use csv::{ByteRecord, Reader, ReaderBuilder};
use std::io::{BufReader, Read};
use std::path::Path;

/// Names of columns that number the rows; pandas writes its own without a name.
const NUMBERS: [&str; 6] = ["", "id", "index", "imageid", "image_id", "unnamed: 0"];

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The longest row, in bytes: 785 numbers with seventeen digits have 16,000.
const MAX_ROW: usize = 1 << 16;

/// A file of rows, with a header or without one.
pub(super) struct Csv;

impl Form for Csv {
    fn name(&self) -> &'static str {
        "a CSV file"
    }

    fn recognises(&self, path: &Path, head: &[u8]) -> bool {
        let name = path.to_string_lossy().to_lowercase();
        let named = [".csv", ".tsv", ".csv.gz"].iter().any(|ending| name.ends_with(ending));
        path.is_file() && (named || has_images(head))
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        let mut head = Vec::new();
        unpacked(path)?.take(HEAD).read_to_end(&mut head)?;
        ensure!(!head.is_empty(), "it is empty");
        let is_utf_16 = head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff");
        ensure!(!is_utf_16, "it is in UTF-16: save it as UTF-8");
        let mut input = BufReader::with_capacity(1 << 18, ShortRows { input: unpacked(path)?, length: 0 });
        if head.starts_with(BOM) {
            input.read_exact(&mut [0; BOM.len()])?;
        }
        let mut reader =
            ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter(&head)).from_reader(input);
        let mut first = ByteRecord::new();
        ensure!(reader.read_byte_record(&mut first)?, "it is empty");
        let (columns, is_header) = Columns::of(&first)?;
        Ok(vec![Portion {
            path: path.to_path_buf(),
            part: part_of_file(path),
            count: None,
            labelled: columns.label.is_some(),
            classes: None,
            transposed: false,
            records: Box::new(Rows { reader, columns, pending: (!is_header).then_some(first) }),
        }])
    }
}

/// Whether a file that begins with `head` has a row of numbers, an image with little beside it, in its first two lines.
pub(super) fn has_images(head: &[u8]) -> bool {
    let delimiter = delimiter(head);
    let is_image = |line: &[u8]| {
        let fields =
            line.split(|&byte| byte == delimiter).map(|field| std::str::from_utf8(field).unwrap_or("?").trim());
        let numbers = fields.filter(|field| field.parse::<f64>().is_ok()).count();
        numbers >= PIXELS && self::fields(line, delimiter) <= PIXELS + NUMBERS.len()
    };
    // The second line may be cut short by the end of the head.
    let mut lines = head.split(|&byte| byte == b'\n');
    lines.next().is_some_and(is_image) || lines.next().is_some_and(is_image)
}

/// Passes bytes on, and refuses a row that is too long to be an image: it would be held in memory whole.
struct ShortRows<R> {
    input: R,
    /// Of the row so far.
    length: usize,
}

impl<R: Read> Read for ShortRows<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        for row in buffer[..count].split_inclusive(|&byte| byte == b'\n') {
            self.length += row.len();
            if self.length > MAX_ROW {
                return Err(std::io::Error::other(format!("a row has more than {MAX_ROW} bytes")));
            }
            if row.ends_with(b"\n") {
                self.length = 0;
            }
        }
        Ok(count)
    }
}

/// The character between the fields of the first line: the most frequent of three.
fn delimiter(head: &[u8]) -> u8 {
    *b",;\t".iter().rev().max_by_key(|&&delimiter| fields(head, delimiter)).expect("there are three")
}

/// The number of fields in the first line.
fn fields(head: &[u8], delimiter: u8) -> usize {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    1 + line.iter().filter(|&&byte| byte == delimiter).count()
}

/// Which columns hold what.
struct Columns {
    /// Of all fields of a row.
    count: usize,
    label: Option<usize>,
    pixels: Vec<usize>,
}

impl Columns {
    /// Reads the first row, which may be a header.
    fn of(first: &ByteRecord) -> Result<(Columns, bool)> {
        let names: Vec<String> =
            first.iter().map(|field| String::from_utf8_lossy(field).trim().to_lowercase()).collect();
        // A row of numbers may begin with a label that is a word. pandas numbers columns that have no names.
        let is_header = names.iter().skip(1).any(|name| name.parse::<f64>().is_err())
            || names.first().is_some_and(|name| LABELS.contains(&name.as_str()))
            || counts_up(&names);
        let count = names.len();
        let named = |known: &[&str], name: &String| is_header && known.contains(&name.as_str());
        let mut label = names.iter().position(|name| named(&LABELS, name));
        let mut pixels: Vec<usize> = (0..count).filter(|&k| Some(k) != label && !named(&NUMBERS, &names[k])).collect();
        if label.is_none() && pixels.len() == PIXELS + 1 {
            let at = if is_header { odd_one(&pixels, &names)? } else { 0 };
            label = Some(pixels.remove(at));
        }
        ensure!(
            pixels.len() == PIXELS,
            "row 1 has {count} fields; {PIXELS} pixels are expected, after a label if there is one"
        );
        Ok((Columns { count, label, pixels }, is_header))
    }
}

/// Whether the names of the pixels are 0, 1, 2, ... or 1, 2, 3, ...
fn counts_up(names: &[String]) -> bool {
    let numbers: Vec<usize> = names.iter().rev().take(PIXELS).filter_map(|name| name.parse().ok()).collect();
    numbers.len() == PIXELS && numbers.windows(2).all(|pair| pair[0] == pair[1] + 1)
}

/// The place in `columns` of the one that is named otherwise than the others; the first if all are named alike.
fn odd_one(columns: &[usize], names: &[String]) -> Result<usize> {
    let stem = |column: usize| {
        names[column].trim_matches(|letter: char| letter.is_ascii_digit()).replace(|c: char| c.is_ascii_digit(), "")
    };
    let usual = stem(columns[columns.len() / 2]);
    let odd: Vec<usize> = (0..columns.len()).filter(|&at| stem(columns[at]) != usual).collect();
    match odd[..] {
        [] => Ok(0),
        [at] => Ok(at),
        _ => bail!("row 1 has no column named label, and {} columns are not named like the pixels", odd.len()),
    }
}

struct Rows<R: Read> {
    reader: Reader<R>,
    columns: Columns,
    /// The first row, if it was not a header.
    pending: Option<ByteRecord>,
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let mut row = ByteRecord::new();
        let read = match self.pending.take() {
            Some(first) => {
                row = first;
                Ok(true)
            }
            None => self.reader.read_byte_record(&mut row),
        };
        match read {
            Ok(true) => {
                let line = row.position().map_or(1, csv::Position::line);
                Some(self.record(&row, line).with_context(|| format!("row {line}")))
            }
            Ok(false) => None,
            Err(error) => Some(Err(error.into())),
        }
    }
}

impl<R: Read> Rows<R> {
    fn record(&self, row: &ByteRecord, line: u64) -> Result<Record> {
        let Columns { count, label, pixels } = &self.columns;
        ensure!(row.len() == *count, "it has {} fields, and the first row has {count}", row.len());
        let mut digit: Digit = [0; PIXELS];
        for (byte, &column) in digit.iter_mut().zip(pixels) {
            *byte = match parse(&row[column]) {
                Some(byte) => byte,
                None => {
                    bail!("field {} is {}; a whole number from 0 to 255 is expected", column + 1, quoted(&row[column]))
                }
            };
        }
        let label = label.map(|column| whole(String::from_utf8_lossy(&row[column]).trim()));
        ensure!(label.as_deref() != Some(""), "its label is empty");
        Ok(Record { place: format!("row {line}"), label, image: Image::Pixels(Box::new(digit)) })
    }
}

/// `3` of `3.0`, as some programs write whole numbers; any other label as it is.
fn whole(label: &str) -> String {
    let number = label.strip_suffix(".0").filter(|number| number.parse::<i64>().is_ok());
    number.unwrap_or(label).to_string()
}

/// `17`, and `17.0` as some programs write it.
fn parse(field: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(field).ok()?.trim();
    text.parse().ok().or_else(|| pixel(text.parse().ok()?))
}

/// A field for a message, shortened.
fn quoted(field: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(field).chars().take(20).collect();
    if text.is_empty() { "empty".into() } else { text.escape_debug().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<Vec<Record>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        std::fs::write(&path, text).unwrap();
        Csv.open(&path)?.into_iter().flat_map(|portion| portion.records).collect()
    }

    fn row(byte: usize) -> String {
        (0..PIXELS).map(|k| format!(",{}", (k * byte) % 256)).collect()
    }

    #[test]
    fn with_a_header_or_without_one_the_images_are_the_same() {
        let names: String = (0..PIXELS).map(|k| format!(",pixel{k}")).collect();
        let rows = format!("5{}\n7{}\n", row(3), row(5));
        let plain = read(rows.as_bytes()).unwrap();
        let last = |text: &str| {
            text.lines()
                .map(|line| line.split_once(',').unwrap())
                .map(|(a, b)| format!("{b},{a}\n"))
                .collect::<String>()
        };
        for text in [
            format!("label{names}\n{rows}"),
            format!("\u{feff}label{names}\r\n{}", rows.replace('\n', "\r\n")),
            rows.replace(',', ";"),
            rows.replace(',', ".0,").replace("5.0,", "5,").replace("7.0,", "7,"),
            last(&format!("class{names}\n{rows}")),
            format!(",label{names}\n0,5{}\n1,7{}", row(3), row(5)),
            last(&format!("digit{names}\n{rows}")),
            format!("label{}\n{rows}", (0..PIXELS).map(|k| format!(",{k}")).collect::<String>()),
        ] {
            let records = read(text.as_bytes()).unwrap();
            assert_eq!(records.len(), 2);
            for (one, other) in records.iter().zip(&plain) {
                assert_eq!(one.label, other.label);
                let (Image::Pixels(one), Image::Pixels(other)) = (&one.image, &other.image) else { panic!() };
                assert!(one == other);
            }
        }
        assert_eq!(plain[1].label.as_deref(), Some("7"));
        assert!(read(&rows.as_bytes()[2..row(3).len() + 1]).unwrap()[0].label.is_none());
    }

    #[test]
    fn a_damaged_row_is_named() {
        let good = format!("5{}\n", row(3));
        for (bad, sentence) in [
            ("1,2,3\n".to_string(), "row 2: it has 3 fields, and the first row has 785"),
            (good.replacen(",3,", ",300,", 1), "row 2: field 3 is 300; a whole number from 0 to 255 is expected"),
            (good.replacen(",3,", ",0.5,", 1), "row 2: field 3 is 0.5; a whole number from 0 to 255 is expected"),
            (good.replacen(",3,", ",,", 1), "row 2: field 3 is empty; a whole number from 0 to 255 is expected"),
            (good.replacen("5,", ",", 1), "row 2: its label is empty"),
        ] {
            let error = read(format!("{good}{bad}").as_bytes()).err().unwrap();
            assert_eq!(format!("{error:#}"), sentence);
        }
        let error = read(format!("{good}{}", "1,".repeat(MAX_ROW)).as_bytes()).err().unwrap();
        assert!(format!("{error:#}").contains("a row has more than 65536 bytes"), "{error:#}");
        let error = read(b"1,2,3\n").err().unwrap();
        assert_eq!(error.to_string(), "row 1 has 3 fields; 784 pixels are expected, after a label if there is one");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            cut in 0usize..4000, noise in prop::collection::vec((0usize..4000, any::<u8>()), 0..6),
        ) {
            let mut bytes = format!("5{}\n7{}\n", row(3), row(5)).into_bytes();
            for (at, byte) in noise {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(cut.max(1));
            let _ = read(&bytes);
        }
    }
}
