//! Files of a run directory, reached without leaving it.
//!
//! A run directory may come from anywhere, and a link in it may point anywhere. The directory itself may be reached through
//! links; below it only plain files in folders of its own are opened. So nothing outside is read into a page, cut short or
//! written over, and a pipe keeps nobody waiting.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

/// Why a path below a run directory is not used. Comes as the inner error of an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A symbolic link.
    #[error("it is a symbolic link, and a run's files are not reached through links; put the file itself there")]
    Link,
    /// Neither a plain file nor missing.
    #[error("it is no plain file")]
    NoFile,
    /// Neither a folder nor missing.
    #[error("it is no folder")]
    NoFolder,
    /// A name that is absolute, or has `..` in it.
    #[error("the name leads out of the run directory")]
    Outside,
    /// More bytes than such a file can have.
    #[error("it has more than {0} bytes, which no such file of a run has")]
    Large(u64),
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(io::ErrorKind::InvalidInput, refused)
    }
}

/// Opens the file `name` below `run` for reading.
///
/// # Errors
/// [`Refused`], or what the operating system says.
pub fn open(run: &Path, name: impl AsRef<Path>) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), run, name.as_ref())
}

/// Opens the file `name` below `run` for reading and appending; makes it if it is not there.
///
/// # Errors
/// [`Refused`], or what the operating system says.
pub fn append(run: &Path, name: impl AsRef<Path>) -> io::Result<File> {
    open_with(OpenOptions::new().read(true).append(true).create(true), run, name.as_ref())
}

/// Makes the file `name` below `run`, which must not be there, for appending.
///
/// # Errors
/// [`Refused`], or what the operating system says.
pub fn create_new(run: &Path, name: impl AsRef<Path>) -> io::Result<File> {
    open_with(OpenOptions::new().append(true).create_new(true), run, name.as_ref())
}

/// Reads the file `name` below `run`, of up to `most` bytes.
///
/// # Errors
/// [`Refused`], or what the operating system says.
pub fn read(run: &Path, name: impl AsRef<Path>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(run, name)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(Refused::Large(most).into());
    }
    Ok(bytes)
}

/// Writes the file `name` below `run` whole, or leaves what was there ([`convnext_files::replace`]).
///
/// # Errors
/// [`Refused`], or what the operating system says. What was there before is then still there.
pub fn replace(run: &Path, name: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    let name = name.as_ref();
    let path = checked(run, name)?;
    plain(fs::symlink_metadata(&path))?;
    convnext_files::replace(&path, |file| file.write_all(bytes))
}

/// The folder `name` below `run`; makes it if it is not there.
///
/// # Errors
/// [`Refused`], or what the operating system says.
pub fn folder(run: &Path, name: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = checked(run, name.as_ref())?;
    match fs::create_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => own_folder(&path)?,
        made => made?,
    }
    Ok(path)
}

/// The path of `name` below `run`, if all folders on the way are folders; what is last is not looked at.
///
/// # Errors
/// [`Refused`], or what the operating system says.
pub fn checked(run: &Path, name: &Path) -> io::Result<PathBuf> {
    let mut path = run.to_owned();
    let mut components = name.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(part) = component else { return Err(Refused::Outside.into()) };
        path.push(part);
        if components.peek().is_some() {
            own_folder(&path)?;
        }
    }
    Ok(path)
}

fn open_with(options: &mut OpenOptions, run: &Path, name: &Path) -> io::Result<File> {
    let path = checked(run, name)?;
    // Without waiting, since the file may be a pipe.
    let opened = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
    let file = opened.map_err(|error| match fs::symlink_metadata(&path) {
        Ok(found) => plain(Ok(found)).err().unwrap_or(error),
        Err(_) => error,
    })?;
    plain(file.metadata())?;
    Ok(file)
}

/// An error for anything but a plain file and nothing.
fn plain(found: io::Result<Metadata>) -> io::Result<()> {
    match found {
        Ok(found) if found.is_symlink() => Err(Refused::Link.into()),
        Ok(found) if !found.is_file() => Err(Refused::NoFile.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether `path`, whatever else it is, is no link.
///
/// # Errors
/// [`Refused::Link`] for a link, or what the operating system says.
pub fn no_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_symlink() {
        true => Err(Refused::Link.into()),
        false => Ok(()),
    }
}

fn own_folder(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    match (found.is_symlink(), found.is_dir()) {
        (true, _) => Err(Refused::Link.into()),
        (_, false) => Err(Refused::NoFolder.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn refused(result: io::Result<impl std::fmt::Debug>) -> Refused {
        let error = result.unwrap_err();
        *error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("{error:?}"))
    }

    #[test]
    fn files_are_read_written_and_replaced() {
        let place = TempDir::new().unwrap();
        let run = place.path();
        assert_eq!(open(run, "a").unwrap_err().kind(), io::ErrorKind::NotFound);
        append(run, "a").unwrap().write_all(b"one").unwrap();
        append(run, "a").unwrap().write_all(b"two").unwrap();
        assert_eq!(read(run, "a", 6).unwrap(), b"onetwo");
        assert_eq!(refused(read(run, "a", 5)), Refused::Large(5));
        folder(run, "pictures").unwrap();
        replace(run, "pictures/b", b"new").unwrap();
        replace(run, "pictures/b", b"newer").unwrap();
        assert_eq!(read(run, "pictures/b", 99).unwrap(), b"newer");
        assert!(create_new(run, "a").is_err());
    }

    #[test]
    fn links_folders_pipes_and_names_that_lead_out_are_refused() {
        let (place, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let run = place.path();
        fs::write(outside.path().join("victim"), "precious").unwrap();
        symlink(outside.path().join("victim"), run.join("file")).unwrap();
        symlink(outside.path(), run.join("folder")).unwrap();
        symlink(outside.path().join("nothing"), run.join("dangling")).unwrap();
        for name in ["file", "folder", "dangling", "folder/victim"] {
            assert_eq!(refused(open(run, name)), Refused::Link, "{name}");
            assert_eq!(refused(append(run, name)), Refused::Link, "{name}");
            assert_eq!(refused(replace(run, name, b"x")), Refused::Link, "{name}");
        }
        assert_eq!(refused(folder(run, "folder")), Refused::Link);
        assert_eq!(refused(folder(run, "file")), Refused::Link);
        folder(run, "own").unwrap();
        assert_eq!(refused(open(run, "own")), Refused::NoFile);
        assert_eq!(refused(append(run, "own")), Refused::NoFile);
        assert_eq!(refused(replace(run, "own", b"x")), Refused::NoFile);
        for name in ["../x", "/etc/passwd", "own/../../x"] {
            assert_eq!(refused(open(run, name)), Refused::Outside, "{name}");
        }
        let made = std::process::Command::new("mkfifo").arg(run.join("pipe")).status();
        if made.is_ok_and(|status| status.success()) {
            assert_eq!(refused(open(run, "pipe")), Refused::NoFile);
            assert_eq!(refused(append(run, "pipe")), Refused::NoFile);
        }
        assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_the_place_of_the_unfinished_file_is_removed_and_not_followed() {
        let (place, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let victim = outside.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, convnext_files::unfinished_path(&place.path().join("a"))).unwrap();
        replace(place.path(), "a", b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(read(place.path(), "a", 99).unwrap(), b"new");
    }
}
