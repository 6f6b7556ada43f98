//! Pictures as data URIs.

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{Markup, html};

/// Below this width a picture is a thumbnail, whose pixels should stay squares when enlarged.
const THUMBNAIL: u32 = 96;
/// Pixels that a browser should have to unpack for one picture.
const PIXELS: u64 = 64 << 20;

/// A PNG inside the page; `None` if the bytes are not a PNG's, or of one too large to look at.
pub(super) fn picture(png: &[u8], alt: &str) -> Option<Markup> {
    let (width, height) = dimensions(png)?;
    let uri = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png));
    Some(html! { img.pixelated[width < THUMBNAIL] src=(uri) alt=(alt) width=(width) height=(height); })
}

/// Width and height, from the header of a PNG.
fn dimensions(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let number = |from: usize| Some(u32::from_be_bytes(header.get(from..from + 4)?.try_into().ok()?));
    let (width, height) = (number(0)?, number(4)?);
    let pixels = u64::from(width) * u64::from(height);
    (0 < pixels && pixels <= PIXELS).then_some((width, height))
}
