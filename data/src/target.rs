//! What a sample teaches, beside its picture.

use std::fmt;

use crate::image::{Excerpt, Image};

/// The class of pixels that teach nothing: borders between objects, and what lies outside the picture.
pub const IGNORED: u8 = 255;

/// What a model is to say of a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Target {
    /// Nothing: self-supervised training, and pictures without a label.
    #[default]
    None,
    /// One class.
    Class(u32),
    /// Each of these classes: any number of them, in any order.
    Classes(Vec<u32>),
    /// The class of each pixel: one channel, as large as the picture, [`IGNORED`] where there is none.
    Segmentation(Image),
    /// Objects.
    Boxes(Vec<BoundingBox>),
}

/// Where an object lies, and its class. Pixel `(y, x)` covers the square from `(y, x)` to `(y + 1, x + 1)`, so that a box
/// around all of a picture goes from 0 to its height and width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundingBox {
    /// Left edge, in pixels from the picture's.
    pub left: f32,
    /// Upper edge, in pixels from the picture's.
    pub top: f32,
    /// Right edge, larger than `left`.
    pub right: f32,
    /// Lower edge, larger than `top`.
    pub bottom: f32,
    /// The class.
    pub class: u32,
}

/// A picture with its target: what augmentations change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// The picture.
    pub image: Image,
    /// What a model is to say of it.
    pub target: Target,
    /// Which part of the picture `image` is, where it is not all of it. The target is that of the whole picture.
    pub excerpt: Option<Excerpt>,
}

impl Example {
    /// The whole picture, with its target.
    pub fn new(image: Image, target: Target) -> Self {
        Self { image, target, excerpt: None }
    }

    /// Which part of its picture `image` is: perhaps all of it.
    pub fn placed(&self) -> Excerpt {
        let Image { height, width, .. } = self.image;
        self.excerpt.unwrap_or(Excerpt { top: 0, left: 0, height, width })
    }
}

impl From<Image> for Example {
    /// A picture that teaches nothing.
    fn from(image: Image) -> Self {
        Self::new(image, Target::None)
    }
}

impl Target {
    /// The one class, if this is one.
    pub fn class(&self) -> Option<u32> {
        match self {
            Self::Class(class) => Some(*class),
            _ => None,
        }
    }

    /// Which kind of target this is.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::None => TargetKind::None,
            Self::Class(_) => TargetKind::Class,
            Self::Classes(_) => TargetKind::Classes,
            Self::Segmentation(_) => TargetKind::Segmentation,
            Self::Boxes(_) => TargetKind::Boxes,
        }
    }
}

impl From<Option<u32>> for Target {
    fn from(class: Option<u32>) -> Self {
        class.map_or(Self::None, Self::Class)
    }
}

/// The kinds of [`Target`]: what a task asks of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// [`Target::None`]
    #[default]
    None,
    /// [`Target::Class`]
    Class,
    /// [`Target::Classes`]
    Classes,
    /// [`Target::Segmentation`]
    Segmentation,
    /// [`Target::Boxes`]
    Boxes,
}

impl TargetKind {
    /// Whether such a target has to move with the pixels of its picture.
    pub fn is_spatial(self) -> bool {
        matches!(self, Self::Segmentation | Self::Boxes)
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no target",
            Self::Class => "a class",
            Self::Classes => "a list of classes",
            Self::Segmentation => "a segmentation",
            Self::Boxes => "boxes",
        })
    }
}
