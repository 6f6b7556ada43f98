//! Files of both formats, byte for byte as torch.save writes them, and ways to make them lie.

use std::collections::HashMap;

/// A pickle under construction, in protocol 2, with a memo as Python's pickler keeps it.
pub(super) struct Pickle {
    bytes: Vec<u8>,
    notes: u32,
    known: HashMap<String, u32>,
    /// The older format has one more field in references to storages.
    legacy: bool,
}

/// A tensor as torch describes it.
#[derive(Clone, Copy)]
pub(super) struct Described<'a> {
    pub(super) class: &'a str,
    pub(super) key: &'a str,
    pub(super) elements: i64,
    pub(super) offset: i64,
    pub(super) shape: &'a [i64],
    pub(super) strides: &'a [i64],
}

/// 2 x 3 numbers on storage 0.
pub(super) const SIX: Described<'_> =
    Described { class: "FloatStorage", key: "0", elements: 6, offset: 0, shape: &[2, 3], strides: &[3, 1] };

impl Pickle {
    pub(super) fn new() -> Self {
        Self { bytes: b"\x80\x02".to_vec(), notes: 0, known: HashMap::new(), legacy: false }
    }

    pub(super) fn legacy() -> Self {
        Self { legacy: true, ..Self::new() }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// Notes the value on top of the stack.
    pub(super) fn put(&mut self) -> &mut Self {
        let index = self.notes;
        self.notes += 1;
        self.indexed(b'q', b'r', index)
    }

    fn indexed(&mut self, short: u8, long: u8, index: u32) -> &mut Self {
        match u8::try_from(index) {
            Ok(index) => self.raw(&[short, index]),
            Err(_) => self.raw(&[long]).raw(&index.to_le_bytes()),
        }
    }

    /// A value that is written once and referred to afterwards.
    fn once(&mut self, what: String, bytes: &[u8]) -> &mut Self {
        if let Some(index) = self.known.get(&what) {
            return self.indexed(b'h', b'j', *index);
        }
        self.known.insert(what, self.notes);
        self.raw(bytes).put()
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let len = u32::try_from(text.len()).unwrap().to_le_bytes();
        self.once(format!("text {text}"), &[b"X", &len[..], text.as_bytes()].concat())
    }

    pub(super) fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.once(format!("global {module} {name}"), format!("c{module}\n{name}\n").as_bytes())
    }

    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        if let Ok(small) = u8::try_from(value) {
            return self.raw(&[b'K', small]);
        }
        match (u16::try_from(value), i32::try_from(value)) {
            (Ok(value), _) => self.raw(b"M").raw(&value.to_le_bytes()),
            (_, Ok(value)) => self.raw(b"J").raw(&value.to_le_bytes()),
            _ => self.raw(b"\x8a\x08").raw(&value.to_le_bytes()),
        }
    }

    pub(super) fn ints(&mut self, values: &[i64]) -> &mut Self {
        if values.len() > 3 {
            self.raw(b"(");
        }
        for value in values {
            self.int(*value);
        }
        match values.len() {
            0 => self.raw(b")"),
            1 => self.raw(b"\x85").put(),
            2 => self.raw(b"\x86").put(),
            3 => self.raw(b"\x87").put(),
            _ => self.raw(b"t").put(),
        }
    }

    /// `OrderedDict()`
    pub(super) fn ordered(&mut self) -> &mut Self {
        self.global("collections", "OrderedDict").raw(b")R").put()
    }

    pub(super) fn storage(&mut self, class: &str, key: &str, elements: i64) -> &mut Self {
        self.raw(b"(").text("storage").global("torch", class).text(key).text("cpu").int(elements);
        if self.legacy {
            self.raw(b"N");
        }
        self.raw(b"t").put().raw(b"Q")
    }

    pub(super) fn tensor(&mut self, tensor: Described<'_>) -> &mut Self {
        let Described { class, key, elements, offset, shape, strides } = tensor;
        self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage(class, key, elements);
        self.int(offset).ints(shape).ints(strides).raw(b"\x89").ordered().raw(b"t").put().raw(b"R").put()
    }

    pub(super) fn stop(&mut self) -> Vec<u8> {
        self.raw(b".").bytes.clone()
    }
}

/// An entry of an archive, and what the headers say of it where that is not the truth.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) data: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: u16,
    /// Further fields of both headers.
    pub(super) extra: Vec<u8>,
    /// Name in its own header.
    pub(super) own_name: Option<String>,
    /// Length in the directory.
    pub(super) len: Option<u32>,
    /// Place in the directory.
    pub(super) header: Option<u32>,
}

impl Member {
    pub(super) fn new(name: &str, data: &[u8]) -> Self {
        let (name, data) = (name.into(), data.into());
        Self { name, data, flags: 0x0808, method: 0, extra: Vec::new(), own_name: None, len: None, header: None }
    }
}

/// A zip archive as torch writes it: elements start at multiples of 64, lengths follow the data, and it ends with the
/// records for large archives.
pub(super) fn zip(members: &[Member]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let place = u32::try_from(out.len()).unwrap();
        let sums = [crc32(&member.data), u32::try_from(member.data.len()).unwrap()];
        local(&mut out, member, sums);
        listed(&mut directory, member, place, sums);
    }
    end(&mut out, &directory, members.len());
    out
}

fn local(out: &mut Vec<u8>, member: &Member, [crc, len]: [u32; 2]) {
    let name = member.own_name.as_ref().unwrap_or(&member.name);
    let extra = &member.extra;
    let padding = 63 - (out.len() + 30 + name.len() + extra.len() + 4 + 63) % 64;
    out.extend(b"PK\x03\x04\0\0");
    [member.flags, member.method].iter().for_each(|field| out.extend(field.to_le_bytes()));
    out.extend([0; 16]);
    [name.len(), extra.len() + padding + 4]
        .iter()
        .for_each(|len| out.extend(u16::try_from(*len).unwrap().to_le_bytes()));
    out.extend(name.as_bytes());
    out.extend(extra);
    out.extend(b"FB");
    out.extend(u16::try_from(padding).unwrap().to_le_bytes());
    out.extend(vec![b'Z'; padding]);
    out.extend(&member.data);
    out.extend(b"PK\x07\x08");
    [crc, len, len].iter().for_each(|field| out.extend(field.to_le_bytes()));
}

fn listed(directory: &mut Vec<u8>, member: &Member, place: u32, [crc, len]: [u32; 2]) {
    let len = member.len.unwrap_or(len);
    directory.extend(b"PK\x01\x02\0\0\0\0");
    [member.flags, member.method, 0, 0].iter().for_each(|field| directory.extend(field.to_le_bytes()));
    [crc, len, len].iter().for_each(|field| directory.extend(field.to_le_bytes()));
    let lengths = [member.name.len(), member.extra.len()];
    lengths.iter().for_each(|len| directory.extend(u16::try_from(*len).unwrap().to_le_bytes()));
    directory.extend([0; 10]);
    directory.extend(member.header.unwrap_or(place).to_le_bytes());
    directory.extend(member.name.as_bytes());
    directory.extend(&member.extra);
}

fn end(out: &mut Vec<u8>, directory: &[u8], count: usize) {
    let start = out.len();
    out.extend(directory);
    let place = out.len();
    out.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x1e\x03\x2d\0\0\0\0\0\0\0\0\0");
    [count, count, directory.len(), start].iter().for_each(|field| out.extend(field.to_le_bytes()));
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(place.to_le_bytes());
    out.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0");
    [count, count].iter().for_each(|field| out.extend(u16::try_from(*field).unwrap().to_le_bytes()));
    [directory.len(), start].iter().for_each(|field| out.extend(u32::try_from(*field).unwrap().to_le_bytes()));
    out.extend([0; 2]);
}

/// Nothing for data of megabytes, which take long; nobody looks at the sum.
fn crc32(data: &[u8]) -> u32 {
    if data.len() > 1 << 20 {
        return 0;
    }
    let byte =
        |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320));
    !data.iter().fold(u32::MAX, byte)
}

/// The entries of an archive with this pickle and these storages, named by their place.
pub(super) fn members(pickle: &[u8], storages: &[&[u8]]) -> Vec<Member> {
    let mut members = vec![
        Member::new("small.zip/data.pkl", pickle),
        Member::new("small.zip/.format_version", b"1"),
        Member::new("small.zip/.storage_alignment", b"64"),
        Member::new("small.zip/byteorder", b"little"),
    ];
    let storage = |(key, data): (usize, &&[u8])| Member::new(&format!("small.zip/data/{key}"), data);
    members.extend(storages.iter().enumerate().map(storage));
    members.push(Member::new("small.zip/version", b"3\n"));
    members.push(Member::new("small.zip/.data/serialization_id", b"0561108523619670529409445251361392761117"));
    members
}

/// A file of the older format: its pickles, and storages with their number of elements.
#[derive(Clone)]
pub(super) struct Legacy {
    pub(super) version: Vec<u8>,
    pub(super) machine: Vec<u8>,
    pub(super) object: Vec<u8>,
    pub(super) keys: Vec<u8>,
    pub(super) storages: Vec<(i64, Vec<u8>)>,
}

impl Legacy {
    pub(super) fn new(object: Vec<u8>, keys: &[&str], storages: &[(i64, &[u8])]) -> Self {
        let storages = storages.iter().map(|(count, data)| (*count, data.to_vec())).collect();
        Self { version: Pickle::new().int(1001).stop(), machine: machine(true), object, keys: list(keys), storages }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
        [&self.version, &self.machine, &self.object, &self.keys].iter().for_each(|part| bytes.extend(*part));
        for (count, data) in &self.storages {
            bytes.extend(count.to_le_bytes());
            bytes.extend(data);
        }
        bytes
    }
}

pub(super) fn machine(little: bool) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.raw(b"}").put().raw(b"(").text("protocol_version").int(1001);
    pickle.text("little_endian").raw(if little { b"\x88" } else { b"\x89" });
    pickle.text("type_sizes").raw(b"}").put().raw(b"(").text("short").int(2).text("int").int(4).text("long").int(4);
    pickle.raw(b"uu").stop()
}

fn list(keys: &[&str]) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.raw(b"]").put().raw(b"(");
    keys.iter().for_each(|key| _ = pickle.text(key));
    pickle.raw(b"e").stop()
}

/// An archive with a storage of `hole` bytes, and one behind it, as torch writes it where numbers need 64 bits: what lies
/// before the hole, and after it.
pub(super) fn large(pickle: &[u8], hole: u64, behind: &[u8]) -> [Vec<u8>; 2] {
    const WIDE: u64 = u32::MAX as u64;
    let wide = |values: &[u64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        if bytes.is_empty() { bytes } else { [b"\x01\0", &(bytes.len() as u16).to_le_bytes()[..], &bytes].concat() }
    };
    let header = |name: &str, extra: &[u8]| {
        let lengths = [name.len(), extra.len()].map(|len| (len as u16).to_le_bytes()).concat();
        [b"PK\x03\x04\0\0\x08\x08", &[0; 18][..], &lengths, name.as_bytes(), extra].concat()
    };
    let listed = |name: &str, len: u64, place: u64| {
        let beyond = |value: u64| Some(value).filter(|value| *value >= WIDE);
        let extra = wide(&[beyond(len), beyond(len), beyond(place)].into_iter().flatten().collect::<Vec<_>>());
        let field = |value: u64| (value.min(WIDE) as u32).to_le_bytes();
        let lengths = [name.len(), extra.len()].map(|len| (len as u16).to_le_bytes()).concat();
        let sizes = [field(len), field(len)].concat();
        let start = [b"PK\x01\x02\0\0\0\0\x08\x08", &[0; 10][..], &sizes, &lengths, &[0; 10]].concat();
        [&start, &field(place)[..], name.as_bytes(), &extra].concat()
    };
    let names = ["big/data.pkl", "big/data/0", "big/data/1"];
    let first = [&header(names[0], b""), pickle].concat();
    let before = [&first[..], &header(names[1], b"")].concat();
    let place = before.len() as u64 + hole;
    let last = [&header(names[2], &wide(&[place])), behind].concat();
    let directory = [
        listed(names[0], pickle.len() as u64, 0),
        listed(names[1], hole, first.len() as u64),
        listed(names[2], behind.len() as u64, place),
    ]
    .concat();
    let start = place + last.len() as u64;
    let mut after =
        [last, directory.clone(), b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x1e\x03\x2d\0\0\0\0\0\0\0\0\0".to_vec()].concat();
    [3, 3, directory.len() as u64, start].iter().for_each(|field| after.extend(field.to_le_bytes()));
    after.extend(b"PK\x06\x07\0\0\0\0");
    after.extend((start + directory.len() as u64).to_le_bytes());
    after.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0\x03\0\x03\0");
    after.extend((directory.len() as u32).to_le_bytes());
    after.extend(b"\xff\xff\xff\xff\0\0");
    [before, after]
}
