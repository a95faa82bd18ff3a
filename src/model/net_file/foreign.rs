//! What people take for the text of a net: the source of a class, a table of its layers.

/// The sentence on a text that is of another kind; `None` if it is none that is known.
pub(super) fn sentence(text: &str) -> Option<String> {
    // torchsummary, torchinfo and Keras.
    if let Some(line) = number(text, |line| line.contains("Layer (type")) {
        return Some(format!(
            "line {line}: a table of layers does not have all of their arguments: give what print(net) shows, or what \
             scripts/print_net.py FILE.py:NAME prints"
        ));
    }
    let line = number(text, is_python)?;
    let class = text.lines().find_map(|line| line.strip_prefix("class ")).unwrap_or_default();
    let class = class.split(|character: char| !character.is_alphanumeric() && character != '_').next();
    let class = class.filter(|name| !name.is_empty()).unwrap_or("NAME");
    Some(format!(
        "line {line}: this is Python's source of a net: scripts/print_net.py FILE.py:{class} prints the net file of it"
    ))
}

/// The number of the first line that is such.
fn number(text: &str, is_such: impl Fn(&str) -> bool) -> Option<usize> {
    text.lines().position(is_such).map(|index| index + 1)
}

fn is_python(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}').trim();
    let begins =
        ["import ", "from ", "class ", "def ", "self.", "super(", "return "].iter().any(|it| line.starts_with(it));
    begins || ["= nn.", "= torch.nn.", "=nn."].iter().any(|it| line.contains(it))
}
