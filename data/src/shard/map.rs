//! The bytes of a file, mapped or read: the only place that maps memory.
//!
//! A file that is cut while it is mapped has pages that cannot be read any more. Its present length is looked at before
//! its bytes are handed out, so that this is an ordinary error; for what is cut between that look and the use, there is a
//! handler of SIGBUS that says which file it was.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use convnext_files::FileError;

/// How the bytes of a shard are reached. Where mapping is impossible they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Mapped into memory: nothing is copied, and the operating system's page cache is the only cache. For local disks.
    #[default]
    Mapped,
    /// Read with ordinary reads into a buffer of the caller. For network disks, where a server that goes away would end a
    /// mapped process.
    Read,
}

/// A file whose length was fixed when it was opened.
#[derive(Debug)]
pub(super) struct Bytes {
    source: Source,
    path: PathBuf,
    identity: Option<Identity>,
    len: u64,
}

#[derive(Debug)]
enum Source {
    Mapped(Mapped),
    Read(File, Option<String>),
}

impl Bytes {
    /// Opens `path`; the metadata is of the very file that was opened.
    pub(super) fn open(path: &Path, access: Access) -> Result<(Self, Metadata), FileError> {
        let file = File::open(path).map_err(FileError::on("open", path))?;
        let metadata = file.metadata().map_err(FileError::on("examine", path))?;
        let (mut len, identity) = (metadata.len(), identity(&metadata));
        let source = match access {
            Access::Mapped => match Mapped::new(&file, path) {
                Ok(map) => Source::Mapped(map),
                Err(error) => Source::Read(file, Some(error.to_string())),
            },
            Access::Read => Source::Read(file, None),
        };
        if let Source::Mapped(map) = &source {
            len = map.bytes().len() as u64;
        }
        Ok((Self { source, path: path.to_owned(), identity, len }, metadata))
    }

    /// Its length when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// How its bytes are reached.
    pub(super) fn access(&self) -> Access {
        match &self.source {
            Source::Mapped(_) => Access::Mapped,
            Source::Read(..) => Access::Read,
        }
    }

    /// Why it is read, where it was to be mapped.
    pub(super) fn not_mapped(&self) -> Option<&str> {
        match &self.source {
            Source::Read(_, why) => why.as_deref(),
            Source::Mapped(_) => None,
        }
    }

    /// Its length now; that when it was opened, where another file has its name.
    pub(super) fn present_len(&self) -> u64 {
        let metadata = match &self.source {
            // No descriptor is kept for a map: there may be more shards than a process may have files open.
            Source::Mapped(_) => std::fs::metadata(&self.path),
            Source::Read(file, _) => file.metadata(),
        };
        match metadata {
            Ok(metadata) if identity(&metadata) == self.identity => metadata.len(),
            _ => self.len,
        }
    }

    /// The `len` bytes at `offset`: of the map, or read into `scratch`. `UnexpectedEof` outside the file, as it was opened
    /// or as it is now.
    pub(super) fn get<'a>(&'a self, offset: u64, len: usize, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        match &self.source {
            Source::Mapped(_) if end > self.present_len() => Err(io::ErrorKind::UnexpectedEof.into()),
            Source::Mapped(map) => Ok(&map.bytes()[offset as usize..end as usize]),
            Source::Read(file, _) => {
                scratch.resize(len, 0);
                read_at(file, scratch, offset)?;
                Ok(scratch)
            }
        }
    }

    /// Says that those bytes will be wanted soon: the system may begin to read them.
    pub(super) fn expect(&self, offset: u64, len: usize) {
        #[cfg(unix)]
        if let Source::Mapped(Mapped { map, .. }) = &self.source
            && offset.checked_add(len as u64).is_some_and(|end| end <= self.len)
        {
            // Without it they are read when they are used.
            let _ = map.advise_range(memmap2::Advice::WillNeed, offset as usize, len);
        }
    }

    /// The `N` bytes at `offset`. `UnexpectedEof` outside the file as it was opened.
    pub(super) fn array<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        match &self.source {
            Source::Mapped(map) => {
                let end = offset.checked_add(N as u64).filter(|&end| end <= self.len);
                let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
                array.copy_from_slice(&map.bytes()[offset as usize..end as usize]);
            }
            Source::Read(file, _) => read_at(file, &mut array, offset)?,
        }
        Ok(array)
    }
}

/// A map, and its place in the list of maps while it lives.
#[derive(Debug)]
struct Mapped {
    map: Mmap,
    #[cfg(unix)]
    guarded: &'static cut::Guarded,
}

impl Mapped {
    fn new(file: &File, path: &Path) -> io::Result<Self> {
        // SAFETY: a map is a slice of bytes that the operating system may change under us when another process writes to
        // the file. Nothing in this crate relies on two reads of it being equal: every number read from a map is checked
        // after it was copied out, and every byte pattern is a valid `u8`. Shards are written beside and renamed, never
        // in place. What remains is a file truncated by somebody else while it is mapped: see `cut`.
        let shared = unsafe { Mmap::map(file) };
        // SAFETY: as above; a private map of a file that others change is as that one.
        let private = |_| unsafe { MmapOptions::new().map_copy_read_only(file) };
        let map = shared.or_else(private)?;
        Ok(Self {
            #[cfg(unix)]
            guarded: cut::guard(&map, path),
            map,
        })
    }

    fn bytes(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(unix)]
impl Drop for Mapped {
    fn drop(&mut self) {
        cut::release(self.guarded);
    }
}

/// What a process says that reads of a map what is no longer in its file.
#[cfg(unix)]
mod cut {
    use std::cell::UnsafeCell;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
    use std::sync::{Mutex, Once, PoisonError};

    /// A range of addresses that is mapped, and the message for it. Never freed: a handler may walk the list at any time.
    pub(super) struct Guarded {
        /// 0 while it is unused.
        start: AtomicUsize,
        len: AtomicUsize,
        message: UnsafeCell<Vec<u8>>,
        next: *const Guarded,
    }

    impl std::fmt::Debug for Guarded {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Guarded").finish_non_exhaustive()
        }
    }

    // SAFETY: `start` and `len` are atomic; `next` is never written after the value is in the list; `message` is written
    // under the lock of `FREE` while `start` is 0, and read by the handler alone, in a thread that borrows the map.
    unsafe impl Sync for Guarded {}
    // SAFETY: as above; there is nothing in it that belongs to a thread.
    unsafe impl Send for Guarded {}

    static LIST: AtomicPtr<Guarded> = AtomicPtr::new(ptr::null_mut());
    static FREE: Mutex<Vec<&'static Guarded>> = Mutex::new(Vec::new());

    /// Puts a map into the list.
    pub(super) fn guard(map: &[u8], path: &Path) -> &'static Guarded {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(handler::install);
        let message = [
            b"error: ".as_slice(),
            printable(path.as_os_str().as_bytes()).as_slice(),
            b": was cut, or could not be read, while it was in use; restore it from a copy and go on\n",
        ]
        .concat();
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let guarded = match free.pop() {
            Some(guarded) => {
                // SAFETY: it is in the list with `start` 0, so that no handler reads its message, and out of `FREE`, whose
                // lock is held, so that nobody else writes it.
                unsafe { *guarded.message.get() = message };
                guarded
            }
            None => {
                let (start, len) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let next = LIST.load(Ordering::Relaxed);
                let guarded: &'static Guarded =
                    Box::leak(Box::new(Guarded { start, len, message: UnsafeCell::new(message), next }));
                LIST.store(ptr::from_ref(guarded).cast_mut(), Ordering::Release); // writers hold the lock of FREE
                guarded
            }
        };
        guarded.len.store(map.len(), Ordering::Relaxed);
        guarded.start.store(map.as_ptr() as usize, Ordering::Release);
        guarded
    }

    /// Takes a map out of the list, before it is unmapped.
    pub(super) fn release(guarded: &'static Guarded) {
        guarded.start.store(0, Ordering::Release);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(guarded);
    }

    /// A terminal obeys some bytes.
    fn printable(path: &[u8]) -> Vec<u8> {
        path.iter().map(|&byte| if byte < b' ' || byte == 0x7f { b'?' } else { byte }).collect()
    }

    /// The message for an address, where it is of a map. Calls nothing that a handler may not call.
    fn message_of(address: usize) -> Option<&'static [u8]> {
        let mut at = LIST.load(Ordering::Acquire).cast_const();
        // SAFETY: what is in the list is never freed.
        while let Some(guarded) = unsafe { at.as_ref() } {
            let start = guarded.start.load(Ordering::Acquire);
            if start != 0 && (start..start.saturating_add(guarded.len.load(Ordering::Relaxed))).contains(&address) {
                // SAFETY: the thread that met this address borrows the map, which is in the list until it is dropped; so
                // its message was written before and is not written now.
                return Some(unsafe { &*guarded.message.get() });
            }
            at = guarded.next;
        }
        None
    }

    mod handler {
        use std::mem;
        use std::ptr;
        use std::sync::OnceLock;

        /// What was there before: Rust's own handler, which tells of full stacks.
        static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

        pub(super) fn install() {
            // SAFETY: zeroed is a valid `sigaction` of C; the handler has the type that SA_SIGINFO asks for, and calls
            // async-signal-safe functions alone.
            unsafe {
                let mut action: libc::sigaction = mem::zeroed();
                action.sa_sigaction = on_bus_error as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&mut action.sa_mask);
                let mut before: libc::sigaction = mem::zeroed();
                if libc::sigaction(libc::SIGBUS, ptr::null(), &mut before) == 0 {
                    let _ = BEFORE.set(before);
                    libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
                }
            }
        }

        extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
            // SAFETY: the system hands over a valid `info` for SIGBUS; `write` and `_exit` may be called here.
            unsafe {
                if let Some(message) = super::message_of((*info).si_addr() as usize) {
                    libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
                    libc::_exit(1);
                }
            }
            pass_on(signal, info, context);
        }

        /// Does what would have been done without us.
        fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            match BEFORE.get() {
                Some(before) if before.sa_flags & libc::SA_SIGINFO != 0 && before.sa_sigaction > libc::SIG_IGN => {
                    // SAFETY: a handler that was installed with SA_SIGINFO has this type.
                    let handler: Handler = unsafe { mem::transmute::<usize, Handler>(before.sa_sigaction) };
                    handler(signal, info, context);
                }
                // SAFETY: the default is always allowed; the access is made again, and ends the process.
                _ => unsafe {
                    libc::signal(signal, libc::SIG_DFL);
                },
            }
        }
    }
}

/// Which file it is, whatever it is called.
pub(super) type Identity = (u64, u64);

#[cfg(unix)]
pub(super) fn identity(metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
pub(super) fn identity(_: &Metadata) -> Option<Identity> {
    None
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (buffer, offset) = (&mut buffer[n..], offset + n as u64),
        }
    }
    Ok(())
}
