//! Panics of the pipeline's threads: an error of the stream, and no lines on the terminal from a thread beside it.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Once,
};

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `body`; if it panics, returns what the panic said and where. Other threads' panics are told as before.
pub(super) fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    listen();
    let outer = CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    CAUGHT.set(outer);
    result.map_err(|_| MESSAGE.take().unwrap_or_else(|| "it did not say why".to_owned()))
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match CAUGHT.get() {
            true => MESSAGE.set(Some(text(info))),
            false => before(info),
        }));
    });
}

fn text(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().unwrap_or("it did not say why");
    info.location().map_or_else(|| what.to_owned(), |place| format!("{what} ({place})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_and_its_place_come_back() {
        assert_eq!(catch(|| 7), Ok(7));
        let said = catch(|| panic!("seven {}", 7)).unwrap_err();
        assert!(said.starts_with("seven 7 (") && said.contains("panics.rs:"), "{said}");
        // A catch within a catch does not end the outer one.
        let said = catch(|| {
            let _ = catch(|| panic!("inner"));
            panic!("outer")
        });
        assert!(said.unwrap_err().starts_with("outer ("));
    }
}
