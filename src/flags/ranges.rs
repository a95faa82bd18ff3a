//! The values that a setting takes, as clap's value parsers: a range is stated once, and the error is made from it.

use crate::error::Expected;
use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

/// The numbers within `range`; `what` says what they are, such as `degrees` or `a whole number of images`.
///
/// A range without an end takes finite numbers only.
pub(crate) fn within<T>(
    what: &'static str,
    range: impl RangeBounds<T> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, Expected> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse::<T>().ok().filter(|number| range.contains(number) && is_finite(number));
        number.ok_or_else(|| Expected(format!("{what}{}", describe(&range))))
    }
}

/// Whatever `T` reads; `what` says what that is.
pub(crate) fn any<T: FromStr + Clone + Send + Sync + 'static>(
    what: &'static str,
) -> impl Fn(&str) -> Result<T, Expected> + Clone + Send + Sync + 'static {
    move |text| text.parse().map_err(|_| Expected(what.to_string()))
}

/// Numbers greater than `low`.
pub(crate) fn above<T>(low: T) -> (Bound<T>, Bound<T>) {
    (Bound::Excluded(low), Bound::Unbounded)
}

/// Whether `number` is neither infinite nor NaN, which only floats can be.
fn is_finite(number: &impl Display) -> bool {
    !number.to_string().contains(['f', 'N'])
}

/// ` from 0 to below 1`, ` above 0`, ` from 1 up`.
fn describe<T: Display>(range: &impl RangeBounds<T>) -> String {
    let low = match range.start_bound() {
        Bound::Included(low) => format!(" from {low}"),
        Bound::Excluded(low) => format!(" above {low}"),
        Bound::Unbounded => String::new(),
    };
    let high = match (range.end_bound(), range.start_bound()) {
        (Bound::Included(high), _) => format!(" to {high}"),
        (Bound::Excluded(high), Bound::Excluded(_)) => format!(" and below {high}"),
        (Bound::Excluded(high), _) => format!(" to below {high}"),
        (Bound::Unbounded, Bound::Included(_)) => " up".to_string(),
        (Bound::Unbounded, _) => String::new(),
    };
    low + &high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_the_range_takes() {
        let error = |result: Result<f64, Expected>| result.unwrap_err().0;
        assert_eq!(error(within("a number", above(0.0))("0")), "a number above 0");
        assert_eq!(error(within("a number", above(0.0))("inf")), "a number above 0");
        assert_eq!(error(within("a number", 0.0..)("NaN")), "a number from 0 up");
        assert_eq!(error(within("a share", 0.0..1.0)("1")), "a share from 0 to below 1");
        assert_eq!(error(within("degrees", 0.0..=180.0)("half")), "degrees from 0 to 180");
        let share = (Bound::Excluded(0.0), Bound::Excluded(1.0));
        assert_eq!(error(within("a share", share)("0")), "a share above 0 and below 1");
        assert_eq!(within("a whole number", 1i64..)("0").unwrap_err().0, "a whole number from 1 up");
        assert_eq!(within("a whole number", 1i64..)("9223372036854775807").unwrap(), i64::MAX);
        assert_eq!(within("a share", 0.0..1.0)("1e-30").unwrap(), 1e-30);
    }
}
