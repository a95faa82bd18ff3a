//! CSV with an image per row, as Kaggle and many others have MNIST: 784 pixels, and a label if there is one.

mod columns;

use super::{Form, HEAD, Image, NUMBERS, Portion, Record, part_of_file, unpacked};
use crate::data::scale::{Scale, Survey};
use crate::digit::Digit;
use crate::shape::{CLASSES, PIXELS};
use anyhow::{Context, Result, bail, ensure};
use columns::{Columns, Names, number};
use csv::{ByteRecord, Reader, ReaderBuilder};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// What may separate the fields; else spaces do.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// The longest row, in bytes: 785 numbers as NumPy's `savetxt` writes them have 20,000.
const MAX_ROW: usize = 1 << 16;

/// A file of rows, with a header or without one.
pub(super) struct Csv;

impl Form for Csv {
    fn about(&self) -> &'static str {
        "an image per row: 784 pixels and a label, separated by comma, semicolon, tab, bar or spaces, with or \
         without a header"
    }

    fn noun(&self) -> &'static str {
        "a CSV file"
    }

    fn title(&self) -> &'static str {
        "CSV"
    }

    fn recognises(&self, path: &Path, head: &[u8]) -> bool {
        let name = path.to_string_lossy().to_lowercase();
        let named = [".csv", ".tsv", ".csv.gz"].iter().any(|ending| name.ends_with(ending));
        path.is_file() && (named || has_images(head))
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        let table = Table::look(path)?;
        let names = Names::of(&table.rows()?.next().context("it is empty")??)?;
        let is_header = names.is_header;
        let (columns, scale, count) = table.survey(names)?;
        let rows = table.rows()?.skip(usize::from(is_header));
        let labelled = columns.label != columns::Label::None;
        let records = rows.enumerate().map(move |(k, row)| {
            // The reader knows no line of a row that it cannot read.
            let row = row.with_context(|| format!("the row after {k} others"))?;
            // The reader counts no line that ends in a carriage return alone.
            let line = row.position().map_or(1, |position| position.line().max(position.record() + 1));
            record(&columns, scale, &row, line).with_context(|| format!("row {line}"))
        });
        Ok(vec![Portion {
            path: path.to_path_buf(),
            part: part_of_file(path),
            count: Some(count),
            labelled,
            classes: None,
            transposed: false,
            records: Box::new(records),
        }])
    }

    #[cfg(test)]
    fn example(&self, folder: &Path, images: &[Digit], labels: &[u8]) -> PathBuf {
        let row = |(image, label): (&Digit, &u8)| {
            let pixels: Vec<String> = image.iter().map(u8::to_string).collect();
            format!("{label},{}\n", pixels.join(","))
        };
        let names: Vec<String> = (0..PIXELS).map(|k| format!("pixel{k}")).collect();
        let rows: String = images.iter().zip(labels).map(row).collect();
        let path = folder.join("train.csv");
        std::fs::write(&path, format!("label,{}\n{rows}", names.join(","))).expect("a temporary folder takes it");
        path
    }
}

/// Whether a file that begins with `head` has a row of numbers, an image with little beside it, in its first two lines.
pub(super) fn has_images(head: &[u8]) -> bool {
    let delimiter = delimiter(head);
    let is_image = |line: &[u8]| {
        let fields = line.split(|&byte| byte == delimiter).filter(|field| delimiter != b' ' || !field.is_empty());
        let numbers = fields.clone().filter(|field| number(field).is_some()).count();
        numbers >= PIXELS && fields.count() <= PIXELS + CLASSES + NUMBERS.len()
    };
    // The second line may be cut short by the end of the head.
    lines(head).take(2).any(is_image)
}

/// The lines of a text that are not empty, however they end.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| ends_line(byte)).filter(|line| !line.is_empty())
}

/// A carriage return alone does, in files of old Macintoshes and some spreadsheets.
fn ends_line(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// The character between the fields of the first line: the one that is there once for each pixel, even if there are as many
/// decimal commas, or else the most frequent one.
fn delimiter(head: &[u8]) -> u8 {
    let line = lines(head).next().unwrap_or_default();
    let count = |delimiter: &u8| line.iter().filter(|byte| *byte == delimiter).count();
    let separates = |delimiter: &&u8| **delimiter != b',' && count(delimiter) + 1 >= PIXELS;
    let most = || DELIMITERS.into_iter().rev().max_by_key(count).filter(|delimiter| count(delimiter) > 0);
    DELIMITERS.iter().find(separates).copied().or_else(most).unwrap_or(b' ')
}

/// A file, and how it is divided into fields.
struct Table {
    path: PathBuf,
    delimiter: u8,
    has_bom: bool,
}

impl Table {
    fn look(path: &Path) -> Result<Table> {
        let mut head = Vec::new();
        unpacked(path)?.take(HEAD).read_to_end(&mut head)?;
        ensure!(!head.is_empty(), "it is empty");
        let is_utf_16 = head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff");
        ensure!(!is_utf_16, "it is in UTF-16: save it as UTF-8");
        Ok(Table { path: path.to_path_buf(), delimiter: delimiter(&head), has_bom: head.starts_with(BOM) })
    }

    /// All rows from the first.
    fn rows(&self) -> Result<Rows> {
        let mut input = BufReader::with_capacity(1 << 18, ShortRows { input: unpacked(&self.path)?, length: 0 });
        if self.has_bom {
            input.read_exact(&mut [0; BOM.len()])?;
        }
        let mut builder = ReaderBuilder::new();
        let reader = builder.has_headers(false).flexible(true).delimiter(self.delimiter).from_reader(input as Input);
        Ok(Rows { reader: Some(reader), is_aligned: self.delimiter == b' ' })
    }

    /// Reads all rows once: which columns hold what, on which scale the pixels are, and how many rows there are. What
    /// cannot be read is passed over here, and reported when its turn comes.
    fn survey(&self, names: Names) -> Result<(Columns, Scale, u64)> {
        let (mut search, mut survey, mut count) = (names.search(), Survey::default(), 0);
        let rows = self.rows()?.skip(usize::from(search.has_header()));
        for row in rows.map_while(Result::ok) {
            count += 1;
            let pixels = search.pixels().iter().map(|&column| row.get(column).and_then(number));
            let pixels: Vec<f32> = pixels.map(|pixel| pixel.unwrap_or(f32::NAN)).collect();
            pixels.iter().for_each(|&pixel| survey.add(pixel, 1));
            if !pixels.iter().any(|pixel| pixel.is_nan()) {
                search.add(&row, &pixels);
            }
        }
        Ok((search.end(self.path.display())?, survey.scale(self.path.display())?, count))
    }
}

type Input = BufReader<ShortRows<Box<dyn Read + Send>>>;

/// The rows of a file; nothing after one that cannot be read.
struct Rows {
    /// `None` after an error: what follows is not to be trusted.
    reader: Option<Reader<Input>>,
    /// Whether several delimiters are one.
    is_aligned: bool,
}

impl Iterator for Rows {
    type Item = Result<ByteRecord>;

    fn next(&mut self) -> Option<Result<ByteRecord>> {
        let mut row = ByteRecord::new();
        match self.reader.as_mut()?.read_byte_record(&mut row) {
            Ok(true) if self.is_aligned => {
                let mut fields: ByteRecord = row.iter().filter(|field| !field.is_empty()).collect();
                fields.set_position(row.position().cloned());
                Some(Ok(fields))
            }
            Ok(more) => more.then_some(Ok(row)),
            Err(error) => {
                self.reader = None;
                Some(Err(error.into()))
            }
        }
    }
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
        for row in buffer[..count].split_inclusive(|&byte| ends_line(byte)) {
            self.length += row.len();
            if self.length > MAX_ROW {
                return Err(std::io::Error::other(format!("a row has more than {MAX_ROW} bytes")));
            }
            if row.last().is_some_and(|&byte| ends_line(byte)) {
                self.length = 0;
            }
        }
        Ok(count)
    }
}

/// The image in the row at `line`.
fn record(columns: &Columns, scale: Scale, row: &ByteRecord, line: u64) -> Result<Record> {
    let Columns { count, label, pixels } = columns;
    ensure!(row.len() == *count, "it has {} fields, and the first row has {count}", row.len());
    let mut digit: Digit = [0; PIXELS];
    for (byte, &column) in digit.iter_mut().zip(pixels) {
        *byte = match number(&row[column]).and_then(|number| scale.pixel(number)) {
            Some(byte) => byte,
            None => {
                bail!("field {} is {}; {} is expected", column + 1, quoted(&row[column]), scale.expected())
            }
        };
    }
    Ok(Record { place: format!("row {line}"), label: label.of(row)?, image: Image::Pixels(Box::new(digit)) })
}

/// A field for a message, shortened.
fn quoted(field: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(field).chars().take(20).collect();
    if text.is_empty() { "empty".into() } else { text.escape_debug().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(error.to_string(), "row 1 has 3 fields; 784 pixels and a label are expected, or 784 pixels alone");
    }

    /// Rows of `count` images whose brightest row of pixels tells their class, from 0 to 9 in turn. `noise` is their first pixel.
    fn classes(count: usize, row: impl Fn(usize, String) -> String, noise: impl Fn(usize) -> usize) -> String {
        let pixel = |k: usize, at: usize| match at {
            0 => noise(k),
            _ if (2..26).contains(&(at % 28)) && at / 28 == 4 + 2 * (k % 10) => 200 + at % 28,
            _ => 0,
        };
        let pixels = |k| (0..PIXELS).map(|at| pixel(k, at).to_string()).collect::<Vec<_>>().join(",");
        (0..count).map(|k| row(k % 10, pixels(k)) + "\n").collect()
    }

    #[test]
    fn without_a_header_the_label_is_found_by_what_the_columns_hold() {
        let noises: [fn(usize) -> usize; 4] = [|_| 0, |k| k * 37 % 256, |k| k / 3 % 4, |k| 255 * (k % 7 / 6)];
        for noise in noises {
            let first = classes(100, |label, pixels| format!("{label},{pixels}"), noise);
            let last = classes(100, |label, pixels| format!("{pixels},{label}"), noise);
            let one_hot = |label, pixels| format!("{pixels},{}", "0,".repeat(label) + "1" + &",0".repeat(9 - label));
            let words = |label, pixels| format!("{pixels},class {label}");
            let expected = read(first.as_bytes()).unwrap();
            assert_eq!(expected[13].label.as_deref(), Some("3"));
            for text in [
                last.replace(',', ";"),
                last.replace(',', "\t"),
                last.replace(',', "|"),
                last.replace(',', "  "),
                last.replace(',', " , "),
                last.replace('\n', "\r\n"),
                classes(100, one_hot, noise),
                classes(100, words, noise).replace("class ", ""),
                format!("{}\n{last}", (0..=PIXELS).map(|k| k.to_string()).collect::<Vec<_>>().join(",")),
                last,
            ] {
                let records = read(text.as_bytes()).unwrap();
                assert_eq!(records.len(), 100);
                for (record, expected) in records.iter().zip(&expected) {
                    let (Image::Pixels(one), Image::Pixels(other)) = (&record.image, &expected.image) else { panic!() };
                    assert!(record.label == expected.label && one == other, "{}", &text[..80]);
                }
            }
            let words = read(classes(100, words, noise).as_bytes()).unwrap();
            assert_eq!(words[13].label.as_deref(), Some("class 3"));
        }
    }

    #[test]
    fn pixels_are_in_the_order_of_their_names() {
        let names = |name: &dyn Fn(usize) -> String| (0..PIXELS).map(name).collect::<Vec<_>>().join(",");
        let pixels = |record: &Record| if let Image::Pixels(digit) = &record.image { **digit } else { panic!() };
        let rows = format!("5{}\n7{}\n", row(3), row(5));
        let plain = read(rows.as_bytes()).unwrap();
        let backwards: Digit = std::array::from_fn(|k| pixels(&plain[1])[PIXELS - 1 - k]);
        let turned: Digit = std::array::from_fn(|k| pixels(&plain[1])[k % 28 * 28 + k / 28]);
        for (names, expected) in [
            (names(&|k| format!("pixel{}", PIXELS - 1 - k)), backwards),
            (names(&|k| (PIXELS - k).to_string()), backwards),
            (names(&|k| format!("{}x{}", k % 28 + 1, k / 28 + 1)), turned),
            (names(&|k| format!("{}x{}", k / 28 + 1, k % 28 + 1)), pixels(&plain[1])),
        ] {
            let records = read(format!("label,{names}\n{rows}").as_bytes()).unwrap();
            assert!(pixels(&records[1]) == expected && records[1].label.as_deref() == Some("7"), "{}", &names[..40]);
        }
        let twice = names(&|k| format!("pixel{}", k % 700));
        let error = read(format!("label,{twice}\n{rows}").as_bytes()).err().unwrap();
        assert_eq!(error.to_string(), "its columns pixel0 and pixel0 are of the same pixel");
    }

    #[test]
    fn decimal_commas_and_carriage_returns_alone_are_read() {
        let rows = format!("5{}\n7{}\n", row(3), row(5)).repeat(70);
        let shares = |separator: char| {
            let share = |number: &str| format!("{:.6}", number.parse::<f64>().unwrap() / 255.0);
            let row = |row: &str| {
                let (label, pixels) = row.split_once(',').unwrap();
                let pixels: Vec<String> = pixels.split(',').map(share).collect();
                format!("{label},{}\n", pixels.join(","))
            };
            rows.lines().map(row).collect::<String>().replace(',', &separator.to_string()).replace('.', ",")
        };
        let quoted = shares(';').replace(',', ".").replace(';', "\",\"").replace('.', ",");
        let quoted: String = quoted.lines().map(|line| format!("\"{line}\"\n")).collect();
        let expected = read(rows.as_bytes()).unwrap();
        for text in [rows.replace('\n', "\r"), shares(';'), shares('\t'), shares(';').replace('\n', "\r"), quoted] {
            let records = read(text.as_bytes()).unwrap();
            assert_eq!(records.len(), expected.len());
            for (record, expected) in records.iter().zip(&expected) {
                let (Image::Pixels(one), Image::Pixels(other)) = (&record.image, &expected.image) else { panic!() };
                assert!(record.label == expected.label && one == other, "{}", &text[..40]);
            }
        }
        let error = read(shares(',').as_bytes()).err().unwrap().to_string();
        assert!(error.ends_with("if its numbers have decimal commas, separate them by semicolons"), "{error}");
        let damaged = rows.replacen("\n7,", "\nx,7,", 1).replace('\n', "\r");
        let error = format!("{:#}", read(damaged.as_bytes()).err().unwrap());
        assert_eq!(error, "row 2: it has 786 fields, and the first row has 785");
    }

    #[test]
    fn a_label_that_no_column_tells_is_not_guessed() {
        // All images are of one class, and the first pixel is noise.
        let text = classes(100, |_, pixels| format!("{pixels},5"), |k| k / 3 % 4);
        let sentence = read(text.as_bytes()).err().unwrap().to_string();
        assert!(
            sentence.starts_with("the label may be in the first column or in the last: name the columns"),
            "{sentence}"
        );
    }

    #[test]
    fn pixels_of_every_scale_are_the_same_bytes() {
        let written = |value: &dyn Fn(u32) -> String| {
            let pixels = |label: u32| (0..PIXELS as u32).map(move |k| k * (label + 3) % 256);
            let row = |label| format!("{label},{}\n", pixels(label).map(value).collect::<Vec<_>>().join(","));
            format!(
                "label,{}\n{}",
                (0..PIXELS).map(|k| format!("{k}x")).collect::<Vec<_>>().join(","),
                row(5) + &row(7)
            )
        };
        let expected = read(written(&|byte| byte.to_string()).as_bytes()).unwrap();
        let scales: [&dyn Fn(u32) -> String; 3] = [
            &|byte| (f64::from(byte) / 255.0).to_string(),
            &|byte| format!("{:e}", (f64::from(byte) / 255.0 - 0.1307) / 0.3081),
            &|byte| format!("{:.1}", byte),
        ];
        for scale in scales {
            for (record, expected) in read(written(scale).as_bytes()).unwrap().iter().zip(&expected) {
                let (Image::Pixels(one), Image::Pixels(other)) = (&record.image, &expected.image) else { panic!() };
                assert!(record.label == expected.label && one == other);
            }
        }
        let Image::Pixels(bits) = &read(written(&|byte| (byte / 128).to_string()).as_bytes()).unwrap()[0].image else {
            panic!()
        };
        assert!(bits.contains(&255) && bits.iter().all(|byte| [0, 255].contains(byte)));
    }
}
