//! The `convnext!` macro: a compiler from declared ConvNeXt variants to typed modules.
//!
//! The stages are `parse` (tokens to what was written), `check` (what was written to what is meant, with the grids that
//! types and messages need) and `emit` (Rust items). Mistakes are collected in `error::Errors` on the way.

mod ast;
mod check;
mod emit;
mod error;
mod hygiene;
mod names;
mod parse;
mod suggest;
#[cfg(test)]
mod tests;

use ast::{Declaration, Spec};
use error::{Errors, Wrong};
use proc_macro2::TokenStream;

/// Declares ConvNeXt variants; every shape in them is checked at compile time.
///
/// A `model` becomes three types: the classifier under the declared name, its encoder (`NameEncoder`) and, if the
/// declaration has a pre-training part, its masked autoencoder (`NameFcmae`). They are dfdx modules with every size
/// as a constant. Doc comments and attributes of the model reach the classifier's type; visibility, `#[cfg]`
/// and `#[allow]` reach all of them. A `family` holds settings for the models that name it and becomes nothing by itself.
///
/// ```ignore
/// use convnext_core::convnext;
///
/// convnext! {
///     /// Settings of the paper.
///     family Paper {
///         input: 224 x 224 x 3,
///         stem: 4,
///         head: 1000,
///         fcmae: { patch: 32 },
///     }
///     /// The smallest size of the paper.
///     pub model Atto: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
///     /// The same for small grey pictures, with no pre-training.
///     pub model Grey: Paper {
///         input: 32 x 64 x 1, stem: 2, head: 10, fcmae: none,
///         stages: [48 x 2 kernel 5, 96 x 4, 192 x 2 kernel 3],
///     }
/// }
/// ```
///
/// # Settings
///
/// A model's own settings win over its family's; `fcmae` is merged key by key. Order is free.
///
/// | setting | meaning | range | if absent |
/// |---|---|---|---|
/// | `input` | height x width x channels | 1 to 65536 pixels, 1 to 64 channels | required |
/// | `stem` | side and stride of the stem's patches, in pixels | 1 to 256 | required |
/// | `stages` | `[dim x depth kernel k, ...]`, `kernel k` optional | dim 1 to 65536, depth 1 to 256, 1 to 16 stages | required |
/// | `head` | classes | 1 to 1000000 | required |
/// | `block` | `V2` (global response normalisation) or `V1` (LayerScale) | | `V2` |
/// | `kernel` | side of the depthwise kernels, where a stage names none | odd, 1 to 63 | 7 |
/// | `drop_path` | drop-path rate of the last block; rises linearly from 0 at the first | 0 <= rate < 1 | 0 |
/// | `fcmae` | `{ ... }`: the pre-training part; `none` turns a family's off | | `none` |
///
/// and inside `fcmae: { ... }`, whose decoder has the model's block flavour:
///
/// | setting | meaning | range | if absent |
/// |---|---|---|---|
/// | `patch` | side of a masking patch, in pixels; a multiple of the total stride, a divisor of the input | 1 to 65536 | required |
/// | `mask` | share of the patches that is removed; `floor(patches * (1 - mask))` stay visible, in exact decimal arithmetic | 0 < mask < 1 | 0.6 |
/// | `decoder` | dim x depth | as for stages | `512 x 1` |
/// | `kernel` | side of the decoder's depthwise kernels | odd, 1 to 63 | 7 |
/// | `normalised` | whether each patch's target has mean 0 and variance 1 | `true`, `false` | `true` |
///
/// The total stride is the stem, doubled by each stage after the first; both sides of the input must be multiples
/// of it. `224 x 224 x 3` may also be written `224x224x3`.
///
/// The command line knows a model by its name in lower case with dashes: `AttoV1` is `atto-v1`.
///
/// # Errors
///
/// Every mistake of a block is reported in one build, on the token that is wrong. The types of a mistaken model are
/// still declared, so that code which uses them adds no errors of its own.
#[proc_macro]
pub fn convnext(tokens: proc_macro::TokenStream) -> proc_macro::TokenStream {
    compile(tokens.into()).into()
}

/// Compiles one block. A mistake stops its own model and no other, so that one build reports every mistake.
fn compile(tokens: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut spec = parse::spec(tokens, &mut errors);
    check::names(&mut spec, &mut errors);
    check::values(&mut spec, &mut errors);
    let mut items = TokenStream::new();
    for model in &spec.models {
        let module = module(model, &spec, &mut errors).unwrap_or_else(|Wrong| emit::stub(model, &spec));
        if model.has_names {
            items.extend(module);
        }
    }
    items.extend(errors.into_tokens());
    items
}

fn module(declaration: &Declaration, spec: &Spec, errors: &mut Errors) -> Result<TokenStream, Wrong> {
    let model = check::model(declaration, spec, errors)?;
    Ok(emit::model(declaration, &model))
}
