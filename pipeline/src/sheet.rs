//! A page of small pictures, each with what a classifier says about it.

use base64::{Engine, prelude::BASE64_STANDARD};
use image::RgbImage;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::pictures::{self, PictureError};

/// The page needs nothing from outside; a browser that reads this enforces it.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --quiet: #5b6470; --paper: #fff; --line: #dfe3e8; --bar: #2563eb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --quiet: #9aa4b2; --paper: #14171b; --line: #333a43; --bar: #7fb0ff; }
}
body { margin: 0; padding: 24px; background: var(--paper); color: var(--ink); font: 14px/1.4 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 0 0 20px; color: var(--quiet); }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); gap: 20px; }
figure { margin: 0; min-width: 0; }
img { width: 128px; height: 128px; object-fit: contain; display: block; background: var(--line); border-radius: 6px; }
.small { image-rendering: pixelated; }
ol { list-style: none; margin: 6px 0 0; padding: 0; }
li { display: flex; justify-content: space-between; gap: 8px; color: var(--quiet); }
li:first-child { color: var(--ink); font-weight: 600; }
li span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.meter { display: block; width: 128px; height: 5px; border-radius: 3px; background: var(--line); overflow: hidden; }
.meter span { display: block; height: 100%; background: var(--bar); }
figcaption { font-size: 12px; color: var(--quiet); overflow-wrap: anywhere; }
";

/// A picture of the page.
#[derive(Debug, Clone)]
pub struct Card {
    png: Vec<u8>,
    width: u32,
    /// The file.
    image: String,
    /// Names and probabilities, the likeliest first.
    classes: Vec<(String, f32)>,
}

impl Card {
    /// Of the file `image`, which looks like `picture`, with the names and the probabilities of its likeliest classes.
    ///
    /// # Errors
    /// The picture is empty.
    pub fn new(picture: &RgbImage, image: String, classes: Vec<(String, f32)>) -> Result<Self, PictureError> {
        Ok(Self { png: pictures::png(picture)?, width: picture.width(), image, classes })
    }
}

/// The page, called `title`; `about` stands below the title.
pub fn page(title: &str, about: &str, cards: &[Card]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { (about) }
                main { @for card in cards { (figure(card)) } }
            }
        }
    };
    page.into_string()
}

/// Below this width a picture is enlarged, and its pixels should stay squares.
const SMALL: u32 = 96;

fn figure(card: &Card) -> Markup {
    let first = card.classes.first().map_or(0.0, |(_, probability)| 100.0 * probability);
    html! {
        figure {
            img.small[card.width < SMALL] alt=(card.image)
                src={ "data:image/png;base64," (BASE64_STANDARD.encode(&card.png)) };
            ol { @for (name, probability) in &card.classes {
                li { span title=(name) { (name) } span { (format!("{:.1} %", 100.0 * probability)) } }
            } }
            div.meter { span style=(format!("width:{first:.1}%")) {} }
            figcaption { (card.image) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_pictures_are_inside() {
        let picture = RgbImage::new(4, 4);
        let classes = vec![("<b>cat</b>".to_owned(), 0.75), ("dog".to_owned(), 0.25)];
        let card = Card::new(&picture, "a & b.png".to_owned(), classes).unwrap();
        let page = page("cats", "2 images", &[card]);
        assert!(page.contains("&lt;b&gt;cat&lt;/b&gt;") && page.contains("a &amp; b.png") && page.contains("75.0 %"));
        assert!(page.contains("data:image/png;base64,") && !page.contains("http://") && !page.contains("https://"));
    }
}
