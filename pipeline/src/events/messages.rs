//! TensorBoard's messages, as far as they are written here: `tensorflow/core/util/event.proto`,
//! `tensorflow/core/framework/summary.proto`, `tensorboard/plugins/hparams/plugin_data.proto`.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

/// `SessionLog.SessionStatus.START`: what earlier files say about this step and later ones is void.
pub(super) const START: i32 = 1;

/// `tensorflow.Event`. Readers want time and step written even where they are zero.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, optional, tag = "1")]
    pub(super) wall_time: Option<f64>,
    #[prost(int64, optional, tag = "2")]
    pub(super) step: Option<i64>,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<Value>,
}

/// `Summary.Value`: a number, a picture, or what a plugin makes of its metadata.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(float, optional, tag = "2")]
    pub(super) simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    pub(super) image: Option<Image>,
    #[prost(message, optional, tag = "9")]
    pub(super) metadata: Option<SummaryMetadata>,
}

/// `Summary.Image`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(int32, tag = "1")]
    pub(super) height: i32,
    #[prost(int32, tag = "2")]
    pub(super) width: i32,
    /// 1 grey, 3 RGB, 4 RGBA.
    #[prost(int32, tag = "3")]
    pub(super) colorspace: i32,
    /// PNG.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) encoded: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PluginData {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) content: Vec<u8>,
}

/// `HParamsPluginData`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Hyperparameters {
    #[prost(message, optional, tag = "3")]
    pub(super) start: Option<SessionStart>,
}

/// `SessionStartInfo`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionStart {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) values: BTreeMap<String, Setting>,
    /// Seconds since 1970.
    #[prost(double, tag = "5")]
    pub(super) start_time: f64,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Setting {
    #[prost(oneof = "Of", tags = "2, 3, 4")]
    pub(super) of: Option<Of>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Of {
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionLog {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}
