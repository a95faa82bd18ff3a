//! The table is the original spreadsheet, and the gradient by hand is a gradient.

use backprop::{Differences, Problem, Row, Run, descend, table};
use proptest::prelude::*;

const SPREADSHEET: &str = include_str!("spreadsheet_lr1.csv");

fn cells(text: &str) -> Vec<Vec<f64>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(|cell| cell.parse().unwrap()).collect()).collect()
}

#[test]
fn the_table_at_learning_rate_1_is_the_spreadsheet() {
    let run = descend(&Problem::default(), 1.0, 68).unwrap();
    let text = String::from_utf8(table::csv(&run).unwrap()).unwrap();
    assert_eq!(text.lines().next(), SPREADSHEET.lines().next());
    let (rows, expected) = (cells(&text), cells(SPREADSHEET));
    assert_eq!((rows.len(), expected.len()), (68, 68));
    for (value, expected) in rows.concat().into_iter().zip(expected.concat()) {
        assert!((value - expected).abs() <= 1e-12 * value.abs().max(expected.abs()), "{value} is not {expected}");
    }
}

#[test]
fn a_table_is_read_back_to_the_last_bit() {
    let run = descend(&Problem::default(), 0.3, 5).unwrap();
    let rows = cells(&String::from_utf8(table::csv(&run).unwrap()).unwrap());
    for (row, read) in run.rows.iter().zip(rows) {
        assert_eq!(read[read.len() - 8..], row.gradient());
    }
}

proptest! {
    #[test]
    fn the_gradient_by_hand_is_that_of_finite_differences(
        weights in prop::array::uniform8(-3.0..3.0f64),
        inputs in prop::array::uniform2(-2.0..2.0f64),
        targets in prop::array::uniform2(0.0..1.0f64),
    ) {
        let problem = Problem { inputs, targets, weights };
        let run = Run { lr: 1.0, rows: vec![Row::at(0, &problem)] };
        let none = |_: &Problem, weights: &[[f64; 8]]| Ok::<_, ()>(vec![[0.0; 8]; weights.len()]);
        let differences = Differences::of(&problem, &[run], none).unwrap();
        prop_assert!(differences.hand_finite_difference < 1e-8, "{differences:?}");
    }
}
