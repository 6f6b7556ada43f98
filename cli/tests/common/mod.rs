//! Running the program, and small files to run it on.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// What a run of the program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Said {
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that it failed with this code, and that standard error holds each of `texts` and standard output nothing.
    pub(crate) fn failed(&self, code: i32, texts: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        for text in texts {
            assert!(self.error.contains(text), "no {text:?} in {self:?}");
        }
    }
}

pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_convnext"))
}

pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Said {
    let Output { status, stdout, stderr } = command().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code().unwrap(), out: text(stdout), error: text(stderr) }
}

/// Runs a command line that is separated by blanks.
pub(crate) fn line(line: &str) -> Said {
    run(line.split_whitespace())
}

/// A folder for one test, with paths in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command line in which `@name` stands for a path in the folder.
    pub(crate) fn run(&self, line: &str) -> Said {
        run(line.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None => word.into(),
        }))
    }

    /// An array of `f32` with values that repeat.
    pub(crate) fn array(&self, name: &str, shape: &[u64], value: impl Fn(usize) -> f32) {
        let count = shape.iter().product::<u64>() as usize;
        write_npy(&self.path(name), shape, (0..count).map(value));
    }

    /// Class folders of so many small grey pictures each, which all differ.
    pub(crate) fn photographs(&self, name: &str, classes: &[(&str, u8)]) {
        for (class, (folder, count)) in classes.iter().enumerate() {
            let folder = self.path(name).join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..*count {
                let pixels = (0..784).map(|pixel| (pixel * 7 + class * 60) as u8 ^ number);
                let bytes = b"P5\n28 28\n255\n".iter().copied().chain(pixels).collect::<Vec<u8>>();
                std::fs::write(folder.join(format!("{number}.pgm")), bytes).unwrap();
            }
        }
    }

    /// IDX files of `count` images of 28x28, with labels 0, 1, 2, 0, ...
    pub(crate) fn idx(&self, count: u32) {
        let header = |magic: u32, sides: &[u32]| {
            std::iter::once(&magic).chain(sides).flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>()
        };
        let mut images = header(0x803, &[count, 28, 28]);
        images.extend((0..count * 784).map(|i| (i * 7 % 251) as u8));
        let mut labels = header(0x801, &[count]);
        labels.extend((0..count).map(|i| (i % 3) as u8));
        std::fs::write(self.path("images.idx"), images).unwrap();
        std::fs::write(self.path("labels.idx"), labels).unwrap();
    }
}

pub(crate) fn write_npy<T: npyz::AutoSerialize>(path: &Path, shape: &[u64], values: impl Iterator<Item = T>) {
    use npyz::WriterBuilder;
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let options = npyz::WriteOptions::new().default_dtype().shape(shape);
    let mut writer = options.writer(file).begin_nd().unwrap();
    writer.extend(values).unwrap();
    writer.finish().unwrap();
}

/// Shape and values of an array of `f32`.
pub(crate) fn read_npy(path: &Path) -> (Vec<u64>, Vec<f32>) {
    let npy = npyz::NpyFile::new(std::fs::File::open(path).unwrap()).unwrap();
    (npy.shape().to_vec(), npy.into_vec().unwrap())
}
