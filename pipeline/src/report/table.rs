//! The numbers of runs as comma-separated values: a row for each record of `metrics.jsonl`.

use std::collections::BTreeSet;

use super::Run;
use crate::records::{EvaluateRecord, TrainRecord};

/// What every table begins with.
pub(super) const BEGINNING: &str = "run,step,epoch,";

/// Columns of training.
const TRAIN: [&str; 6] = [
    "train/loss",
    "train/learning_rate",
    "train/gradient_norm",
    "train/images_per_second",
    "train/waited_seconds",
    "train/elapsed_seconds",
];

/// The records of all runs, those of a run in order of step. Columns are called as TensorBoard's tags are; one that a record
/// does not have is empty, and so is a number that is not finite.
pub(super) fn table(runs: &[Run]) -> Result<String, csv::Error> {
    let measured = runs.iter().flat_map(|run| &run.history.evaluate).flat_map(|record| record.metrics.iter());
    let metrics: BTreeSet<&str> = measured.map(|metric| metric.name.as_str()).collect();
    let mut table = csv::Writer::from_writer(Vec::new());
    let columns = ["run", "step", "epoch", "weights"].into_iter().chain(TRAIN).map(str::to_owned);
    table.write_record(columns.chain(metrics.iter().map(|name| format!("val/{name}"))))?;
    for run in runs {
        let train = run.history.train.iter().map(|record| (record.step, trained(&run.name, record, metrics.len())));
        let evaluate = run.history.evaluate.iter().map(|record| (record.step, evaluated(&run.name, record, &metrics)));
        let mut rows: Vec<(u64, Vec<String>)> = train.chain(evaluate).collect();
        rows.sort_by_key(|(step, _)| *step);
        rows.iter().try_for_each(|(_, row)| table.write_record(row))?;
    }
    let bytes = table.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8(bytes).expect("made of strings"))
}

fn trained(run: &str, record: &TrainRecord, metrics: usize) -> Vec<String> {
    let &TrainRecord {
        step, epoch, loss, lr, gradient_norm, images_per_second, waited_seconds, elapsed_seconds, ..
    } = record;
    let values = [loss, lr, gradient_norm, images_per_second, waited_seconds, elapsed_seconds].map(number);
    let begin = [run.to_owned(), step.to_string(), number(epoch), String::new()];
    begin.into_iter().chain(values).chain(std::iter::repeat_n(String::new(), metrics)).collect()
}

fn evaluated(run: &str, record: &EvaluateRecord, metrics: &BTreeSet<&str>) -> Vec<String> {
    let begin = [run.to_owned(), record.step.to_string(), number(record.epoch), record.weights.name().to_owned()];
    let values = metrics.iter().map(|name| record.metrics.value(name).map_or_else(String::new, number));
    begin.into_iter().chain(TRAIN.map(|_| String::new())).chain(values).collect()
}

fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::History;

    #[test]
    fn a_row_for_each_record() {
        let lines = r#"{"kind":"train","step":2,"epoch":0.5,"loss":0.71,"lr":0.0006,"gradient_norm":null,"images_per_second":812.0,"waited_seconds":0.25,"elapsed_seconds":93.5}
{"kind":"evaluate","step":4,"epoch":1.0,"loss":0.41,"top1":0.893,"weights":"ema"}"#;
        let history = History::read(lines.as_bytes()).unwrap();
        let runs = [Run { name: "a, b".into(), history, ..Run::default() }];
        let text = table(&runs).unwrap();
        let expected = "run,step,epoch,weights,train/loss,train/learning_rate,train/gradient_norm,train/images_per_second,\
                        train/waited_seconds,train/elapsed_seconds,val/loss,val/top1\n\
                        \"a, b\",2,0.5,,0.71,0.0006,,812,0.25,93.5,,\n\
                        \"a, b\",4,1,ema,,,,,,,0.41,0.893\n";
        assert_eq!(text, expected);
        assert!(text.starts_with(BEGINNING));
    }
}
