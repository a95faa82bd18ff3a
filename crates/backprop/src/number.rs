//! How a number is written for people: as short as six significant digits allow.

/// `0.15`, `0.506875`, `-1.61925`, `1.50627e-5`: six significant digits, trailing zeros left out.
pub fn number(x: f64) -> String {
    significant(x, 6)
}

/// [`number`] with as many of its six digits as fit in `width` characters, and at least one.
pub fn fitting(x: f64, width: usize) -> String {
    let shortened = (1..=6).rev().map(|digits| significant(x, digits)).find(|text| text.len() <= width);
    shortened.unwrap_or_else(|| format!("{x:.0e}"))
}

fn significant(x: f64, digits: i32) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{}", x + 0.0); // + 0.0: no sign on a zero
    }
    let exponent = x.abs().log10().floor() as i32;
    if (-4..6).contains(&exponent) {
        let decimals = (digits - 1 - exponent).max(0) as usize;
        return without_trailing_zeros(&format!("{x:.decimals$}")).to_string();
    }
    let text = format!("{x:.*e}", digits as usize - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{exponent}", without_trailing_zeros(mantissa))
}

/// [`number`], in parentheses when negative, as one writes it after `·` or `-`.
pub fn factor(x: f64) -> String {
    if x < 0.0 { format!("({})", number(x)) } else { number(x) }
}

/// As many digits as identify `x` exactly: `0.1`, `1`, `1e-300`. For file names and for reading back.
pub fn exact(x: f64) -> String {
    let text = format!("{x:?}");
    text.strip_suffix(".0").unwrap_or(&text).to_string()
}

fn without_trailing_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_six_digits() {
        for (x, text) in [
            (0.15, "0.15"),
            (0.027500000000000004, "0.0275"),
            (0.5068745667645342, "0.506875"),
            (-1.619249043672403, "-1.61925"),
            (0.0001882556669401121, "0.000188256"),
            (0.00001506272, "1.50627e-5"),
            (0.99999999, "1"),
            (100.0, "100"),
            (123456.7, "123457"),
            (1e308, "1e308"),
            (-0.0, "0"),
            (0.0, "0"),
        ] {
            assert_eq!(number(x), text);
        }
        assert_eq!(fitting(-1.88256e-5, 8), "-1.88e-5");
        assert_eq!(fitting(0.000188256, 8), "0.000188");
        assert_eq!(fitting(-123456.0, 8), "-123456");
        assert_eq!(fitting(-1.5e-300, 8), "-2e-300");
        assert_eq!(factor(-0.5), "(-0.5)");
        assert_eq!(exact(1.0), "1");
        assert_eq!(exact(0.1), "0.1");
        assert_eq!(exact(1e-300), "1e-300");
    }
}
