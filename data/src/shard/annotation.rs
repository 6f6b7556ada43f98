//! Annotations as tars hold them: `.json` members with several classes, or with boxes and their classes.
//!
//! `{"labels": [3, 7]}` is several classes; `{"boxes": [[left, top, right, bottom], ...], "labels": [3, ...]}` is boxes, as
//! many as there are labels. These are the keys of torchvision's targets, and its edges, in pixels. Other keys may stand
//! beside them.

use serde::{Deserialize, Serialize};

use crate::target::{BoundingBox, Target};

/// The two lists of an annotation.
#[derive(Debug, Deserialize, Serialize)]
struct Lists {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boxes: Option<Vec<[f32; 4]>>,
    labels: Vec<u32>,
}

/// What of this a JSON member has, if it has any: for telling other forms from other things.
#[derive(Deserialize)]
struct Keys {
    boxes: Option<serde::de::IgnoredAny>,
    labels: Option<serde::de::IgnoredAny>,
}

/// What a `.json` member is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Read {
    /// No annotation.
    Nothing,
    /// It has `boxes` or `labels`, in another form.
    OtherForm,
    /// [`Target::Classes`] or [`Target::Boxes`].
    Annotation(Target),
}

/// Reads a `.json` member. Boxes without area teach nothing and are left out.
pub(super) fn read(text: &[u8]) -> Read {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match serde_json::from_slice(text) {
        Ok(Keys { boxes: None, labels: None }) | Err(_) => return Read::Nothing,
        Ok(_) => {}
    }
    let target = serde_json::from_slice(text).ok().and_then(Lists::target);
    target.map_or(Read::OtherForm, Read::Annotation)
}

/// The text of a `.json` member, for targets that are written as one.
pub(super) fn written(target: &Target) -> Option<Vec<u8>> {
    let lists = match target {
        Target::None | Target::Class(_) | Target::Segmentation(_) => return None,
        Target::Classes(classes) => Lists { boxes: None, labels: classes.clone() },
        Target::Boxes(boxes) => Lists {
            boxes: Some(boxes.iter().map(|object| [object.left, object.top, object.right, object.bottom]).collect()),
            labels: boxes.iter().map(|object| object.class).collect(),
        },
    };
    serde_json::to_vec(&lists).ok()
}

/// Calls `change` with each class of an annotation.
pub(super) fn each_class(target: &mut Target, mut change: impl FnMut(&mut u32)) {
    match target {
        Target::Classes(classes) => classes.iter_mut().for_each(change),
        Target::Boxes(boxes) => boxes.iter_mut().for_each(|object| change(&mut object.class)),
        Target::None | Target::Class(_) | Target::Segmentation(_) => {}
    }
}

impl Lists {
    fn target(self) -> Option<Target> {
        let Self { boxes, labels } = self;
        // What stands for "no label" in an index is no class.
        if labels.contains(&u32::MAX) {
            return None;
        }
        let Some(boxes) = boxes else { return Some(Target::Classes(labels)) };
        let sound = boxes.len() == labels.len() && boxes.as_flattened().iter().all(|edge| edge.is_finite());
        let object =
            |([left, top, right, bottom], class): ([f32; 4], u32)| BoundingBox { left, top, right, bottom, class };
        let objects = || boxes.into_iter().zip(labels).map(object);
        sound.then(|| Target::Boxes(objects().filter(|b| b.left < b.right && b.top < b.bottom).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(edges: [f32; 4], class: u32) -> BoundingBox {
        let [left, top, right, bottom] = edges;
        BoundingBox { left, top, right, bottom, class }
    }

    #[test]
    fn what_is_written_is_read() {
        let boxes = vec![object([0.0, 0.5, 10.25, 7.0], 3), object([1.0, 1.0, 2.0, 2.0], 0)];
        for target in
            [Target::Classes(vec![]), Target::Classes(vec![4, 0]), Target::Boxes(boxes), Target::Boxes(vec![])]
        {
            assert_eq!(read(&written(&target).unwrap()), Read::Annotation(target));
        }
        assert_eq!(written(&Target::Class(3)), None);
        let text = written(&Target::Boxes(vec![object([0.0, 0.5, 10.25, 7.0], 3)])).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), r#"{"boxes":[[0.0,0.5,10.25,7.0]],"labels":[3]}"#);
    }

    #[test]
    fn other_forms_are_told_from_other_things() {
        for text in ["", "not json", "[1]", "{}", r#"{"label": 3, "caption": "a dog"}"#] {
            assert_eq!(read(text.as_bytes()), Read::Nothing, "{text}");
        }
        for text in [
            r#"{"labels": ["dog"]}"#,
            r#"{"labels": [-1]}"#,
            r#"{"labels": [4294967295]}"#,
            r#"{"boxes": [[0, 0, 1, 1]]}"#,
            r#"{"boxes": [[0, 0, 1, 1]], "labels": []}"#,
            r#"{"boxes": [[0, 0, 1]], "labels": [1]}"#,
            r#"{"boxes": [[0, 0, 1, 1e39]], "labels": [1]}"#,
        ] {
            assert_eq!(read(text.as_bytes()), Read::OtherForm, "{text}");
        }
        let flat = r#"{"labels": [1, 2], "boxes": [[3, 3, 3, 9], [0, 0, 4, 5]], "id": 7}"#;
        assert_eq!(read(flat.as_bytes()), Read::Annotation(Target::Boxes(vec![object([0.0, 0.0, 4.0, 5.0], 2)])));
    }
}
