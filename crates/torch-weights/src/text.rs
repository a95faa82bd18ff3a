//! Text of a file in a message.

/// At most this many characters are shown: a hostile file may repeat a name of a megabyte in every message.
const MAX_CHARS: usize = 100;

/// The beginning of `text`, without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect()
}
