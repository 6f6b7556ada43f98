//! `.npy` files: arrays of numbers, as numpy writes them.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use npyz::{NpyFile, Order, WriterBuilder};

use crate::failure::{Failure, Outcome};

/// An array in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// As many values as the shape says.
    pub(crate) values: Vec<f32>,
}

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers are a line of text; the format would allow 4 GB.
const LONGEST_HEADER: u32 = 1 << 16;
/// Brackets within brackets: a dictionary, and in it a tuple or the list of a record's fields.
const DEEPEST_HEADER: usize = 8;
/// Most values that are read: half a GiB as `f32`.
const MOST_VALUES: u64 = 1 << 27;

/// Reads an array of any type of number, or of truth values, in either order, as `f32`.
pub(crate) fn read(path: &Path) -> Outcome<Array> {
    let failed = |error: std::io::Error| Failure::because(format!("{}: cannot be read", path.display()), error);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    check_header(path, &mut file)?;
    let bytes = file.get_ref().metadata().map_err(failed)?.len();
    let npy = NpyFile::new(file).map_err(failed)?;
    // The crate multiplies without looking for overflow.
    let len = npy.shape().iter().try_fold(1u64, |product, &side| product.checked_mul(side));
    match len {
        Some(len) if len > MOST_VALUES && len <= bytes => {
            return Err(Failure::failed(format!(
                "{}: {len} values; up to {MOST_VALUES} are read: give them in several files",
                path.display()
            )));
        }
        Some(len) if len <= bytes => {}
        _ => {
            return Err(Failure::failed(format!(
                "{}: {bytes} bytes, too short for an array of shape {:?}; copied only in part?",
                path.display(),
                npy.shape()
            )));
        }
    }
    let shape = npy.shape().iter().map(|&side| side as usize).collect::<Vec<_>>();
    let order = npy.order();
    let dtype = npy.dtype().descr();
    let values = values(npy).unwrap_or_else(|| {
        Err(std::io::Error::other(format!("its type is {dtype}; give it as float32 (x.astype(\"float32\"))")))
    });
    let values = values.map_err(failed)?;
    let values = if order == Order::Fortran { row_major(&shape, &values) } else { values };
    Ok(Array { shape, values })
}

/// Looks at the first bytes: that this is such a file, and that its header is no longer and no deeper than a header is.
/// The crate that parses it goes down into brackets without a limit.
fn check_header(path: &Path, file: &mut (impl Read + Seek)) -> Outcome {
    let short = |error| Failure::because(format!("{}: not a .npy file", path.display()), error);
    let mut first = [0; 12];
    file.read_exact(&mut first).map_err(short)?;
    // Version 1 has a length of two bytes, later ones of four.
    let (length, begin) = match first[6] {
        1 => (u32::from(u16::from_le_bytes([first[8], first[9]])), 10),
        _ => (u32::from_le_bytes([first[8], first[9], first[10], first[11]]), 12),
    };
    let mut header = Vec::new();
    if first.starts_with(MAGIC) && length <= LONGEST_HEADER {
        file.seek(SeekFrom::Start(begin)).map_err(short)?;
        file.by_ref().take(length.into()).read_to_end(&mut header).map_err(short)?;
    }
    file.rewind().map_err(short)?;
    if header.len() as u64 == u64::from(length) && length > 0 && depth(&header) <= DEEPEST_HEADER {
        return Ok(());
    }
    Err(Failure::failed(format!("{}: not a .npy file; write one with numpy.save", path.display())))
}

/// How deep brackets lie in brackets.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The values as they lie in the file; `None` if they are not of a type that we know.
fn values<R: Read>(npy: NpyFile<R>) -> Option<std::io::Result<Vec<f32>>> {
    macro_rules! attempt {
        ($npy:ident, $($type:ty),*) => {
            $(let $npy = match $npy.try_data::<$type>() {
                Ok(data) => return Some(data.map(|value| value.map(|value| value as f32)).collect()),
                Err(npy) => npy,
            };)*
        };
    }
    attempt!(npy, f32, f64, u8, i8, u16, i16, u32, i32, u64, i64);
    let truth = npy.try_data::<bool>().ok()?;
    Some(truth.map(|value| value.map(|value| f32::from(u8::from(value)))).collect())
}

/// From column-major order, where the first axis is the fastest.
fn row_major(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let place = |mut index: usize| {
        let mut place = 0;
        for (axis, &side) in shape.iter().enumerate().rev() {
            place += index % side * shape[..axis].iter().product::<usize>();
            index /= side;
        }
        values[place]
    };
    (0..values.len()).map(place).collect()
}

/// Writes an array of `f32`.
///
/// # Panics
/// If there are more or fewer values than the shape says.
pub(crate) fn write(path: &Path, shape: &[usize], values: &[f32]) -> Outcome {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "values of another shape");
    let shape: Vec<u64> = shape.iter().map(|&side| side as u64).collect();
    let write = || {
        let mut file = BufWriter::new(File::create(path)?);
        let options = npyz::WriteOptions::new().default_dtype().shape(&shape);
        let mut writer = options.writer(&mut file).begin_nd()?;
        writer.extend(values.iter().copied())?;
        writer.finish()?;
        file.flush()
    };
    write().map_err(|error| Failure::because(format!("{}: cannot be written", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let array = Array { shape: vec![2, 3], values: (0..6).map(|i| i as f32).collect() };
        write(&path, &array.shape, &array.values).unwrap();
        assert_eq!(read(&path).unwrap(), array);
    }

    #[test]
    fn other_types_and_orders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let mut file = File::create(&path).unwrap();
        let options = npyz::WriteOptions::<u8>::new().default_dtype().shape(&[2, 3]).order(Order::Fortran);
        let mut writer = options.writer(&mut file).begin_nd().unwrap();
        writer.extend([0, 3, 1, 4, 2, 5]).unwrap();
        writer.finish().unwrap();
        assert_eq!(read(&path).unwrap(), Array { shape: vec![2, 3], values: (0..6).map(|i| i as f32).collect() });
    }

    #[test]
    fn what_is_no_array_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        for bytes in [&b"short"[..], b"not an array at all", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(read(&path).is_err());
        }
        write(&path, &[4], &[0.0; 4]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(3).position(|w| w == b"(4,").unwrap();
        bytes[at + 1] = b'9';
        std::fs::write(&path, bytes).unwrap();
        assert!(read(&path).is_err());
    }

    /// A file with this header and so many bytes of values.
    fn forged(header: &str, bytes: usize) -> Outcome<Array> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.resize(file.len() + bytes, 0);
        std::fs::write(&path, file).unwrap();
        read(&path)
    }

    #[test]
    fn headers_that_lie_are_errors() {
        let header =
            |descr: &str, shape: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n");
        for shape in [
            "(4294967296, 4294967296)",
            "(18446744073709551615,)",
            "(18446744073709551616,)",
            "(9223372036854775808, 2, 3)",
            "(-1, 2)",
            "(1.5,)",
            "('a',)",
            "{}",
            "(99999999999999999999999999,)",
            "(1000000,)",
        ] {
            assert!(forged(&header("'<f4'", shape), 64).is_err(), "{shape}");
        }
        for descr in [
            "'<c8'",
            "'O'",
            "'|S4'",
            "[('a', '<f4')]",
            "'<f99'",
            "'<f2'",
            "''",
            "7",
            "[('a', '<f4', (4294967296, 4294967296))]",
        ] {
            assert!(forged(&header(descr, "(2,)"), 64).is_err(), "{descr}");
        }
        for text in [
            "{}\n",
            "\n",
            "",
            "[]",
            "{'descr'",
            "None\n",
            &"(".repeat(60_000),
            &("[".repeat(30_000) + &"]".repeat(30_000)),
        ] {
            assert!(forged(text, 64).is_err(), "{text:.40}");
        }
    }

    #[test]
    fn shapes_that_are_odd_and_true_are_read() {
        let header = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': True, 'shape': {shape}, }}\n");
        let shape = |text: &str, bytes| forged(&header(text), bytes).unwrap().shape;
        assert_eq!(shape("()", 4), [0usize; 0]);
        assert_eq!(shape("(0, 5)", 0), [0, 5]);
        assert_eq!(shape("(1, 1, 1, 1, 2)", 8), [1, 1, 1, 1, 2]);
    }

    #[test]
    fn big_endian_numbers_are_turned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let header = "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }\n";
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend([1.5f32, -2.0].iter().flat_map(|value| value.to_be_bytes()));
        std::fs::write(&path, file).unwrap();
        assert_eq!(read(&path).unwrap().values, [1.5, -2.0]);
    }
}
