//! The pages of a TIFF. Its decoder reads the first one of a file, so each page becomes a file.

use std::borrow::Cow;
use std::ops::Range;

/// More pages than this are not looked for: a chain of directories may be longer than a file has room for.
const MOST_PAGES: usize = 10_000;

/// The tags that say of which kind an image is, and the values of those that are no pages: a smaller copy of another, and
/// a mask that says which pixels of another are transparent.
const NEW_SUBFILE_TYPE: u16 = 254;
const REDUCED_OR_MASK: u64 = 0b101;
const SUBFILE_TYPE: u16 = 255;
const REDUCED: u64 = 2;

/// The type of a number of two bytes; those of these tags have two or four.
const SHORT: u16 = 3;

/// The pages of the picture file `bytes`, each as a file that has no other. A TIFF may have several; every other picture is
/// its own single page.
pub fn pages(bytes: &[u8]) -> impl ExactSizeIterator<Item = Cow<'_, [u8]>> {
    let (tiff, pages) = Tiff::new(bytes).map_or((None, Vec::new()), |tiff| (Some(tiff), tiff.pages()));
    (0..pages.len().max(1)).map(move |k| match (&tiff, pages.get(k)) {
        (Some(tiff), Some(page)) if pages.len() > 1 || !tiff.begins_with(page) => Cow::Owned(tiff.alone(page)),
        _ => Cow::Borrowed(bytes),
    })
}

/// A TIFF (Adobe, TIFF 6.0, 1992), or a BigTIFF, whose numbers are longer.
#[derive(Clone, Copy)]
struct Tiff<'a> {
    bytes: &'a [u8],
    is_little: bool,
    is_big: bool,
}

/// A directory: the description of one image. The directories of a file are a linked list.
struct Directory {
    offset: u64,
    /// Where the offset of the next one stands; `None` if the file ends before it.
    next: Option<Range<usize>>,
    is_page: bool,
}

impl<'a> Tiff<'a> {
    fn new(bytes: &'a [u8]) -> Option<Tiff<'a>> {
        let (is_little, is_big) = match bytes.get(..4)? {
            b"II*\0" => (true, false),
            b"MM\0*" => (false, false),
            b"II+\0" => (true, true),
            b"MM\0+" => (false, true),
            _ => return None,
        };
        Some(Tiff { bytes, is_little, is_big })
    }

    /// Bytes of an offset, of the number of a directory's entries, and of an entry.
    fn widths(&self) -> (usize, usize, usize) {
        if self.is_big { (8, 8, 20) } else { (4, 2, 12) }
    }

    /// Where the offset of the first directory stands.
    fn first(&self) -> Range<usize> {
        let offset = self.widths().0;
        offset..2 * offset
    }

    fn number(&self, range: Range<usize>) -> Option<u64> {
        let bytes = self.bytes.get(range)?.iter().map(|&byte| u64::from(byte));
        let join = |number: u64, byte: u64| number << 8 | byte;
        Some(if self.is_little { bytes.rev().fold(0, join) } else { bytes.fold(0, join) })
    }

    /// The images that are pages. If none says that it is one, all count.
    fn pages(&self) -> Vec<Directory> {
        let mut directories: Vec<Directory> = Vec::new();
        let mut next = self.number(self.first());
        while let Some(offset) = next.filter(|&offset| offset > 0 && directories.len() < MOST_PAGES) {
            if directories.iter().any(|other| other.offset == offset) {
                break;
            }
            // One that the file lacks is a page too: the decoder will say that it is damaged.
            let directory = self.directory(offset).unwrap_or(Directory { offset, next: None, is_page: true });
            next = directory.next.clone().and_then(|range| self.number(range));
            directories.push(directory);
        }
        if directories.iter().any(|directory| directory.is_page) {
            directories.retain(|directory| directory.is_page);
        }
        directories
    }

    fn directory(&self, offset: u64) -> Option<Directory> {
        let (width, count_width, entry_width) = self.widths();
        let start = usize::try_from(offset).ok()?;
        let entries = start.checked_add(count_width)?;
        let count = usize::try_from(self.number(start..entries)?).ok()?;
        let end = entries.checked_add(count.checked_mul(entry_width)?)?;
        let next = end..end.checked_add(width)?;
        self.bytes.get(next.clone())?;
        let is_page = (entries..end).step_by(entry_width).all(|entry| !self.is_about_another(entry).unwrap_or(false));
        Some(Directory { offset, next: Some(next), is_page })
    }

    /// Whether the entry says that the image is a small copy or a mask of another.
    fn is_about_another(&self, entry: usize) -> Option<bool> {
        let tag = self.number(entry..entry + 2)? as u16;
        let bytes = if self.number(entry + 2..entry + 4)? as u16 == SHORT { 2 } else { 4 };
        let value = entry + 4 + self.widths().0;
        let value = self.number(value..value + bytes)?;
        Some(match tag {
            NEW_SUBFILE_TYPE => value & REDUCED_OR_MASK > 0,
            SUBFILE_TYPE => value == REDUCED,
            _ => false,
        })
    }

    /// Whether the decoder reads this page unchanged.
    fn begins_with(&self, page: &Directory) -> bool {
        self.number(self.first()) == Some(page.offset)
    }

    /// The file with this page alone.
    fn alone(&self, page: &Directory) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        let first = self.first();
        let offset = page.offset.to_be_bytes();
        let offset = offset[8 - first.len()..].iter();
        let offset: Vec<u8> = if self.is_little { offset.rev().copied().collect() } else { offset.copied().collect() };
        bytes[first].copy_from_slice(&offset);
        if let Some(next) = &page.next {
            bytes[next.clone()].fill(0);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF of directories with one entry each, a tag and its value.
    fn tiff(is_little: bool, is_big: bool, entries: &[(u16, u16)]) -> Vec<u8> {
        let number = |value: u64, width: usize| {
            let bytes = value.to_be_bytes()[8 - width..].to_vec();
            if is_little { bytes.into_iter().rev().collect() } else { bytes }
        };
        let width = if is_big { 8 } else { 4 };
        let mut bytes =
            [if is_little { *b"II" } else { *b"MM" }.to_vec(), number(if is_big { 43 } else { 42 }, 2)].concat();
        bytes.extend(if is_big { [number(8, 2), number(0, 2)].concat() } else { Vec::new() });
        for (tag, value) in entries {
            let here = bytes.len() as u64 + width as u64;
            bytes.extend(number(here, width));
            bytes.extend(number(1, if is_big { 8 } else { 2 }));
            bytes.extend(
                [number((*tag).into(), 2), number(3, 2), number(1, width), number((*value).into(), 2)].concat(),
            );
            bytes.extend(vec![0; width - 2]);
        }
        bytes.extend(number(0, width));
        bytes
    }

    #[test]
    fn every_page_becomes_a_file_with_that_page_alone() {
        for (is_little, is_big) in [(true, false), (false, false), (true, true), (false, true)] {
            // Two pages, a small copy of one, a mask, another page.
            let file = tiff(is_little, is_big, &[(254, 2), (256, 9), (254, 1), (254, 4), (255, 3), (255, 2)]);
            let all: Vec<Vec<u8>> = pages(&file).map(Cow::into_owned).collect();
            assert_eq!(all.len(), 3, "{is_little} {is_big}");
            for (k, page) in all.iter().enumerate() {
                let alone: Vec<Cow<[u8]>> = pages(page).collect();
                assert_eq!(alone, [Cow::<[u8]>::Borrowed(page)]);
                let (one, whole) = (Tiff::new(page).unwrap(), Tiff::new(&file).unwrap());
                assert_eq!(one.number(one.first()).unwrap(), whole.pages()[k].offset);
            }
        }
    }

    #[test]
    fn a_chain_that_bites_its_tail_or_leaves_the_file_ends() {
        let mut file = tiff(true, false, &[(256, 9), (256, 9)]);
        let end = file.len() - 4;
        file[end..].copy_from_slice(&8u32.to_le_bytes());
        assert_eq!(pages(&file).len(), 2);
        file[end..].copy_from_slice(&9999u32.to_le_bytes());
        assert_eq!(pages(&file).len(), 3);
        assert_eq!(pages(b"II*\0").len(), 1);
        assert_eq!(pages(b"\x89PNG").len(), 1);
    }
}
