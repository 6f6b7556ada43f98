//! Signals that ask a run to stop: it writes a checkpoint first.

use std::{
    fs, io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level,
};

static LISTENING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// Signals that come closer together are one: timeout(1) sends its own to the process and to its group.
const TOGETHER: Duration = Duration::from_millis(100);

/// Starts to listen for SIGINT, SIGTERM and SIGHUP. A second SIGINT or SIGTERM ends the process at once.
///
/// A SIGHUP that is ignored, as under nohup(1), stays ignored.
///
/// # Errors
/// When the operating system refuses the handlers.
pub fn listen() -> io::Result<()> {
    if LISTENING.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let mut wanted = vec![SIGINT, SIGTERM];
    if !ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            let before = *first.get_or_insert_with(Instant::now);
            // A terminal that closes sends several SIGHUPs, some by way of the shell: they insist on nothing.
            if asked() && signal != SIGHUP && before.elapsed() > TOGETHER {
                low_level::exit(1);
            }
            ASKED.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(())
}

/// Whether a signal has come since [`listen`].
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Whether this process was started with `signal` ignored; where Linux does not say, it was not.
fn ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
