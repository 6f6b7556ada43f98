//! Named metrics: what a model was measured to be, and whether more of it is better.

use std::fmt;

pub use convnext_weights::checkpoint::Better;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Value;

/// The name of every mean loss: less of it is better, and files need not say so.
const LOSS: &str = "loss";
/// The key under which files list the other metrics of which less is better.
const LOWER_IS_BETTER: &str = "lower_is_better";

/// A metric that a task measures: how files name it, and how people read it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricKind {
    /// Its key in files, e.g. `top1`.
    pub name: &'static str,
    /// What people call it, e.g. `top-1`.
    pub title: &'static str,
    /// Whether more or less of it is better.
    pub better: Better,
    /// What its values are.
    pub unit: Unit,
    /// Its curve in a report: title and a sentence on what is measured; `None` for a metric without a curve.
    pub curve: Option<(&'static str, &'static str)>,
}

/// What the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share from 0 to 1, read in percent.
    Share,
    /// A plain number.
    Number,
}

impl MetricKind {
    /// Such a metric with a value.
    pub fn of(&self, value: f64) -> Metric {
        Metric { name: self.name.to_owned(), value, better: self.better }
    }

    /// A value with its name, e.g. `top-1 89.30 %`.
    pub fn describe(&self, value: f64) -> String {
        match self.unit {
            Unit::Share => format!("{} {:.2} %", self.title, 100.0 * value),
            Unit::Number => format!("{} {value:.4}", self.title),
        }
    }
}

/// One metric of a measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its key in files, e.g. `top1`.
    pub name: String,
    /// Its value; NaN where it was not finite.
    pub value: f64,
    /// Whether more or less of it is better.
    pub better: Better,
}

impl Metric {
    /// Whether this is a better value than that of `other`.
    pub fn is_better_than(&self, other: &Self) -> bool {
        self.better.is_better(self.value, other.value)
    }
}

/// The metrics of one measurement, in the order in which they are written.
///
/// In JSON they are keys of the record they belong to: `"loss":0.41,"top1":0.893`. Less of `loss` is better and more of
/// everything else, unless `"lower_is_better":[names]` says otherwise. A number that is not finite is `null`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(Vec<Metric>);

impl Metrics {
    /// The metric called `name`.
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.0.iter().find(|metric| metric.name == name)
    }

    /// The value of the metric called `name`.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.get(name).map(|metric| metric.value)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Metric> {
        self.0.iter()
    }

    /// Those of `kinds` that were measured, in words and in the order of `kinds`: `top-1 89.30 %, loss 0.4100`.
    pub fn describe(&self, kinds: &[MetricKind], separator: &str) -> String {
        let said = kinds.iter().filter_map(|kind| Some(kind.describe(self.value(kind.name)?)));
        said.collect::<Vec<_>>().join(separator)
    }
}

impl FromIterator<Metric> for Metrics {
    fn from_iter<I: IntoIterator<Item = Metric>>(metrics: I) -> Self {
        Self(metrics.into_iter().collect())
    }
}

impl From<Metric> for Metrics {
    fn from(metric: Metric) -> Self {
        Self(vec![metric])
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for metric in &self.0 {
            map.serialize_entry(&metric.name, &metric.value)?;
        }
        let lower = self.0.iter().filter(|metric| metric.better == Better::Lower && metric.name != LOSS);
        let lower: Vec<&str> = lower.map(|metric| metric.name.as_str()).collect();
        if !lower.is_empty() {
            map.serialize_entry(LOWER_IS_BETTER, &lower)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Numbers)
    }
}

/// Takes every key with a number, or `null`, for a metric; other keys are none of its business.
struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = Metrics;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metrics by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
        let (mut metrics, mut lower) = (Vec::new(), vec![LOSS.to_owned()]);
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            match value {
                Value::Array(names) if name == LOWER_IS_BETTER => {
                    lower.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                Value::Null => metrics.push((name, f64::NAN)),
                Value::Number(number) => {
                    let value = number.as_f64().ok_or_else(|| A::Error::custom(format!("`{name}` is too large")))?;
                    metrics.push((name, value));
                }
                _ => {}
            }
        }
        let better = |name: &String| if lower.contains(name) { Better::Lower } else { Better::Higher };
        Ok(metrics.into_iter().map(|(name, value)| Metric { better: better(&name), name, value }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value: f64, better: Better) -> Metric {
        Metric { name: name.to_owned(), value, better }
    }

    #[test]
    fn a_direction_is_written_where_it_is_not_the_usual_one() {
        let usual: Metrics =
            [metric("loss", 0.5, Better::Lower), metric("top1", 0.75, Better::Higher)].into_iter().collect();
        let text = serde_json::to_string(&usual).unwrap();
        assert_eq!(text, r#"{"loss":0.5,"top1":0.75}"#);
        assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), usual);
        let error: Metrics = metric("error", 3.0, Better::Lower).into();
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(text, r#"{"error":3.0,"lower_is_better":["error"]}"#);
        assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), error);
    }

    #[test]
    fn a_direction_decides_what_is_better() {
        let [low, high] = [1.0, 2.0].map(|value| metric("error", value, Better::Lower));
        assert!(low.is_better_than(&high) && !high.is_better_than(&low));
        let [low, high] = [1.0, 2.0].map(|value| metric("score", value, Better::Higher));
        assert!(high.is_better_than(&low) && !low.is_better_than(&high));
        assert!(!metric("score", f64::NAN, Better::Higher).is_better_than(&low));
    }

    #[test]
    fn what_is_no_number_is_no_metric() {
        let read: Metrics = serde_json::from_str(r#"{"top1":null,"note":"x","classes":[],"count":3}"#).unwrap();
        assert!(read.value("top1").unwrap().is_nan());
        assert_eq!((read.value("count"), read.iter().count()), (Some(3.0), 2));
    }
}
