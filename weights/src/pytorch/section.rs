//! From the object that was saved to a list of named tensors.

use std::{collections::HashSet, rc::Rc};

use super::{
    heap::{Bearing, Heap},
    pickle::Object,
    problem::{Part, Problem, shown},
    value::Value,
};

/// Deepest nesting of dicts that is searched.
const DEPTH_CAP: usize = 8;

/// Most dict entries that are looked at, shared ones counted each time.
const VISIT_CAP: usize = 1 << 20;

/// Longest name of a tensor, in bytes.
const NAME_CAP: usize = 1024;

/// Where training programs put the moving average of the weights; of several, the first.
const AVERAGES: [&str; 9] = [
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "ema_model_state_dict",
    "ema_model",
    "ema",
    "params_ema",
    "averaged_model",
];

/// Where they put the weights that are trained; of several, the first.
const TRAINED: [&str; 11] = [
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "module",
    "net",
    "network",
    "net_state_dict",
    "params",
    "weights",
    "model_weights",
];

/// Which dict of a file is read. A file that is one dict of tensors has only that, whatever is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Section<'a> {
    /// The moving average if the file has one, else the trained weights.
    #[default]
    Best,
    /// The trained weights: `model`, `state_dict` and the like.
    Trained,
    /// Their moving average: `model_ema`, `state_dict_ema` and the like. An error where a file has other dicts of tensors.
    Average,
    /// The dict with these keys, joined by dots: `model_ema`, `state.network`.
    Key(&'a str),
}

/// The tensors of a file, by name.
#[derive(Debug)]
pub(super) struct Named {
    /// Keys of the dict that they are from, joined by dots; none where that is all of the file.
    pub(super) section: Option<String>,
    /// Whether one of the keys is an average's.
    pub(super) average: bool,
    /// Names with numbers in the heap, in the order of the file.
    pub(super) tensors: Vec<(String, usize)>,
}

/// The tensors of the dict that `section` means.
pub(super) fn named(object: &Object, section: Section<'_>) -> Result<Named, Problem> {
    let Object { heap, root } = object;
    let search = Search { heap, bearing: heap.bearing() };
    match root {
        _ if search.bears(root) => {}
        Value::Dict(_) => return Err(Part::Object.unsupported("has no named tensors")),
        Value::Foreign(_) => return Err(no_dict(&format!("an object of `{}`", heap.class(root)))),
        _ => return Err(no_dict(root.kind())),
    }
    let (keys, dict) = search.section(root, section)?;
    let tensors = Walk::new(&search).flatten(dict)?;
    let average = keys.iter().any(|key| AVERAGES.contains(key));
    Ok(Named { section: (!keys.is_empty()).then(|| keys.join(".")), average, tensors })
}

fn no_dict(found: &str) -> Problem {
    Part::Object.unsupported(format!("is {found}, where a dict of tensors or a module with some is read"))
}

/// Looks for the dict to read.
struct Search<'a> {
    heap: &'a Heap,
    /// What has tensors in it.
    bearing: Bearing,
}

/// A dict and the keys that lead to it.
type Found<'a> = (Vec<&'a str>, &'a Value);

impl<'a> Search<'a> {
    fn bears(&self, value: &Value) -> bool {
        self.bearing.has(value)
    }

    /// What is under `key`, if there are tensors in it.
    fn get(&self, dict: &Value, key: &str) -> Option<(&'a str, &'a Value)> {
        self.dicts(dict).find(|entry| entry.0 == key)
    }

    /// The dicts in a dict that have tensors in them.
    fn dicts(&self, dict: &Value) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let entries = self.heap.entries(dict).map(|(key, value)| (&**key, value));
        entries.filter(|entry| !matches!(entry.1, Value::Tensor(_)) && self.bears(entry.1))
    }

    fn section(&self, root: &'a Value, section: Section<'_>) -> Result<Found<'a>, Problem> {
        let found = match section {
            Section::Key(key) => self.at(root, key),
            Section::Best => Some(self.descend(root, &[&AVERAGES, &TRAINED])),
            Section::Trained => Some(self.descend(root, &[&TRAINED])).filter(|found| !self.is_average(found)),
            Section::Average => Some(self.descend(root, &[&AVERAGES, &TRAINED])).filter(|found| !is_trained(found)),
        };
        found.ok_or_else(|| self.missing(root, section))
    }

    /// The dict under keys that are joined by dots. A key may have dots itself.
    fn at(&self, dict: &'a Value, keys: &str) -> Option<Found<'a>> {
        if let Some((key, value)) = self.get(dict, keys) {
            return Some((vec![key], value));
        }
        keys.match_indices('.').find_map(|(dot, _)| {
            let (key, value) = self.get(dict, keys.get(..dot)?)?;
            let (mut rest, found) = self.at(value, keys.get(dot + 1..)?)?;
            rest.insert(0, key);
            Some((rest, found))
        })
    }

    /// From the whole file to the weights in it, by the names that are known, or where there is only one way to go.
    fn descend(&self, root: &'a Value, names: &[&[&str]]) -> Found<'a> {
        let (mut keys, mut dict) = (Vec::new(), root);
        while keys.len() < DEPTH_CAP {
            let Some((key, value)) = self.next(dict, names, keys.is_empty()) else { break };
            keys.push(key);
            dict = value;
        }
        (keys, dict)
    }

    fn next(&self, dict: &Value, names: &[&[&str]], outermost: bool) -> Option<(&'a str, &'a Value)> {
        let known = |key: &str| AVERAGES.contains(&key) || TRAINED.contains(&key);
        // Further in, a part of the model may be called `net`.
        if outermost || self.dicts(dict).all(|(key, _)| known(key)) {
            let named = names.iter().copied().flatten().find_map(|name| self.get(dict, name));
            if named.is_some() {
                return named;
            }
        }
        let tensors = self.heap.entries(dict).any(|(_, value)| matches!(value, Value::Tensor(_)));
        let mut dicts = self.dicts(dict).filter(|(key, _)| !key.starts_with("optim"));
        let only = dicts.next().filter(|_| !tensors && dicts.next().is_none());
        only.filter(|(key, _)| !known(key))
    }

    /// Whether there is an average here, and nothing that it is the average of.
    fn is_average(&self, found: &Found<'a>) -> bool {
        self.dicts(found.1).any(|(key, _)| AVERAGES.contains(&key))
    }

    fn missing(&self, root: &Value, section: Section<'_>) -> Problem {
        let wanted = match section {
            Section::Key(key) => format!("dict of tensors at `{}`", shown(key)),
            Section::Trained => "trained weights".into(),
            Section::Average | Section::Best => "moving average".into(),
        };
        let found: Vec<_> = self.dicts(root).map(|(key, _)| shown(key)).collect();
        Problem::NoSection { wanted, found }
    }
}

/// Whether the way leads through the trained weights of a file that may have an average of them.
fn is_trained((keys, _): &Found<'_>) -> bool {
    !keys.iter().any(|key| AVERAGES.contains(key)) && keys.iter().any(|key| TRAINED.contains(key))
}

/// Goes through a dict and the dicts in it, each as often as it is there; hence the caps.
struct Walk<'a> {
    search: &'a Search<'a>,
    found: Vec<(String, usize)>,
    names: HashSet<String>,
    visits: usize,
}

impl<'a> Walk<'a> {
    fn new(search: &'a Search<'a>) -> Self {
        Self { search, found: Vec::new(), names: HashSet::new(), visits: 0 }
    }

    fn flatten(mut self, dict: &Value) -> Result<Vec<(String, usize)>, Problem> {
        self.dict("", dict, 0)?;
        Ok(self.found)
    }

    fn dict(&mut self, prefix: &str, dict: &Value, depth: usize) -> Result<(), Problem> {
        if depth >= DEPTH_CAP {
            let what = format!("lies more than {DEPTH_CAP} dicts deep, or contains itself");
            return Err(Part::tensor(prefix).unsupported(what));
        }
        for (key, value) in self.search.heap.entries(dict) {
            self.visits += 1;
            if self.visits > VISIT_CAP {
                return Err(Part::Object.too_large(format!("has more than the {VISIT_CAP} dict entries allowed")));
            }
            match value {
                Value::Tensor(tensor) => self.tensor(join(prefix, key)?, *tensor)?,
                _ if self.search.bears(value) => self.dict(&join(prefix, key)?, value, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tensor(&mut self, name: String, tensor: usize) -> Result<(), Problem> {
        if !self.names.insert(name.clone()) {
            return Err(Part::tensor(&name).unsupported("is the name of two tensors"));
        }
        self.found.push((name, tensor));
        Ok(())
    }
}

fn join(prefix: &str, key: &Rc<str>) -> Result<String, Problem> {
    let name = if prefix.is_empty() { key.to_string() } else { format!("{prefix}.{key}") };
    if name.len() > NAME_CAP {
        let what = format!("is the start of a name of more than the {NAME_CAP} bytes allowed");
        return Err(Part::tensor(&name).too_large(what));
    }
    Ok(name)
}
