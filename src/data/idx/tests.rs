//! Damaged files by the thousand: none may panic, none may be taken for a sound one.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A valid file of `count` items; all its bytes are below 10.
fn sound(content: Content, count: u32) -> Vec<u8> {
    let mut bytes = [content.magic().to_be_bytes(), count.to_be_bytes()].concat();
    if content == Content::Images {
        bytes.extend([28u32.to_be_bytes(), 28u32.to_be_bytes()].concat());
    }
    let items = u64::from(count) * content.item_length();
    bytes.extend((0..items).map(|i| (i % 10) as u8));
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn all_members_of_a_gzip_file_are_read_and_what_follows_is_not() {
    let bytes = sound(Content::Images, 3);
    let (start, end) = bytes.split_at(1000);
    for packed in [
        gzip(&bytes),
        [gzip(start), gzip(end)].concat(),
        [gzip(&bytes), gzip(b"")].concat(),
        [gzip(&bytes), b"garbage".to_vec()].concat(),
        [gzip(&bytes), vec![0; 512]].concat(),
    ] {
        let mut output = Vec::new();
        unpack_checked(&packed[..], Content::Images, &mut output).unwrap();
        assert!(output == bytes);
    }
    assert!(unpack_checked(&gzip(start)[..], Content::Images, &mut Vec::new()).is_err());
    assert!(unpack_checked(&[gzip(&bytes), gzip(start)].concat()[..], Content::Images, &mut Vec::new()).is_err());
}

fn contents() -> impl Strategy<Value = Content> {
    prop_oneof![Just(Content::Images), Just(Content::Labels)]
}

/// A sound file with some bytes changed, then cut or lengthened.
fn damaged() -> impl Strategy<Value = (Content, Vec<u8>)> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    // Half of the changes go into the header, where they matter most.
    let header_changes = vec((0..16usize, any::<u8>()), 0..3);
    (contents(), 1..5u32, changes, header_changes, any::<Option<Index>>(), vec(any::<u8>(), 0..3)).prop_map(
        |(content, count, changes, header_changes, cut, more)| {
            let mut bytes = sound(content, count);
            let length = bytes.len();
            changes.iter().for_each(|(index, byte)| bytes[index.index(length)] = *byte);
            header_changes.iter().for_each(|(index, byte)| bytes[*index % length] = *byte);
            bytes.truncate(cut.map_or(length, |cut| cut.index(length)));
            bytes.extend(more);
            (content, bytes)
        },
    )
}

/// What must hold of every header that is accepted.
fn check_header(content: Content, bytes: &[u8]) {
    if let Ok(header) = parse_header(content, bytes) {
        assert_eq!(bytes[..4], content.magic().to_be_bytes());
        assert!((1..=MAX_COUNT).contains(&header.count));
        assert_eq!(header.length, content.header_length() as u64 + header.count * content.item_length());
    }
}

proptest! {
    #[test]
    fn a_header_of_any_bytes_is_read_or_refused(content in contents(), bytes in vec(any::<u8>(), 0..40)) {
        check_header(content, &bytes);
    }

    #[test]
    fn a_damaged_header_is_read_or_refused((content, bytes) in damaged()) {
        check_header(content, &bytes);
    }

    #[test]
    fn a_damaged_file_is_copied_whole_or_refused((content, bytes) in damaged()) {
        let mut output = Vec::new();
        let result = copy_checked(&*bytes, content, &mut output);
        prop_assert!(bytes.starts_with(&output));
        let labels_hold = content == Content::Images || bytes.iter().skip(8).all(|&label| usize::from(label) < CLASSES);
        let right = labels_hold && parse_header(content, &bytes).is_ok_and(|header| header.length == bytes.len() as u64);
        prop_assert_eq!(result.is_ok(), right);
        if let Ok(digest) = result {
            prop_assert_eq!(digest.length, bytes.len() as u64);
            prop_assert_eq!(&output, &bytes);
        }
    }

    #[test]
    fn a_damaged_gzip_file_is_unpacked_whole_or_refused(
        content in contents(), count in 1..5u32, changes in vec((any::<Index>(), any::<u8>()), 0..3), cut: Option<Index>
    ) {
        let bytes = sound(content, count);
        let mut packed = gzip(&bytes);
        let length = packed.len();
        changes.iter().for_each(|(index, byte)| packed[index.index(length)] = *byte);
        packed.truncate(cut.map_or(length, |cut| cut.index(length)));
        let mut output = Vec::new();
        if unpack_checked(&*packed, content, &mut output).is_ok() {
            // gzip's own checksum lets no change through that reaches the bytes.
            prop_assert_eq!(&output, &bytes);
        }
        prop_assert!(output.len() as u64 <= MAX_COUNT * PIXELS as u64 + 16);
    }
}

#[test]
fn no_more_is_written_than_the_header_declares() {
    let bomb = sound(Content::Labels, 100).into_iter().chain(std::iter::repeat_n(0, 10_000_000)).collect::<Vec<_>>();
    let mut output = Vec::new();
    let fault = unpack_checked(&*gzip(&bomb), Content::Labels, &mut output).unwrap_err();
    assert_eq!(output.len(), 108);
    assert_eq!(fault.to_string(), "has more than 108 bytes; its header declares 100 labels, so 108 bytes are expected");
}

#[test]
fn both_checksums_are_those_of_sha256sum() {
    // printf '\0\0\x08\1\0\0\0\1\7' | sha256sum
    let bytes = [0, 0, 8, 1, 0, 0, 0, 1, 7];
    let digest = copy_checked(&bytes[..], Content::Labels, &mut io::sink()).unwrap();
    assert_eq!(digest.sha256, "c564aa0aa783b8862ae6128a973a6f6b213b9428d39b5c8acfbda3c630d40f1e");
    let packed = gzip(&bytes);
    let unpacked = unpack_checked(&*packed, Content::Labels, &mut io::sink()).unwrap();
    assert_eq!(unpacked.sha256, digest.sha256);
    assert_eq!(unpacked.gzip_sha256, Some(hex(Sha256::new_with_prefix(&packed))));
}
