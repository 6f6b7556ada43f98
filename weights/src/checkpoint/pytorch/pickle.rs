//! A machine for Python's pickle language, protocols 0 to 5, that builds nothing but tensors and what leads to them.
//!
//! # Why it is safe
//! Pickle can run code through four doors: it imports what it names, calls it, makes objects of it, and hands those their
//! state. None of them is here. A name is a text; the few of [`Global`] are descriptions that are filled in by
//! [`rebuild`], and every other is a foreign object, which is that text and nothing else. Calling, instantiating or
//! setting up something foreign puts another such object on the stack. So whatever a file says, the only effects are
//! values on the stack, notes in the memo, and entries of the [`Heap`]; there is no way from them to anything outside.
//!
//! # Why it is bounded
//! Every instruction takes at least a byte of the file and puts at most one value on the stack. The stack, the memo, the
//! heap and its texts have caps; bytes, long texts and long numbers are passed over where they lie; numbers in lists
//! are dropped. Containers refer to each other by number, so that nesting and sharing cost nothing. What a length claims is
//! never allocated before it has been read.

use std::{
    collections::HashMap,
    io::{self, Read},
    path::Path,
    rc::Rc,
};

use super::{
    error::{PytorchError, cut, shown},
    object::{Global, HELD_CAP, Heap, TEXTS_CAP, Value},
    opcode, rebuild,
};

/// Longest pickle that is read, in bytes. That of a large model with its optimizer has one megabyte.
pub(super) const PICKLE_CAP: u64 = 1 << 30;

/// Longest text that may be a name, in bytes. Longer ones are passed over.
const TEXT_CAP: u64 = 1 << 16;

/// Longest whole number whose value is kept, in bytes.
const INT_CAP: usize = 8;

/// Longest line of the first protocols, in bytes. torch.save has not written them for many years.
const LINE_CAP: usize = 1 << 20;

const LATEST_PROTOCOL: u8 = 5;

/// How the container writes a reference to a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Archive,
    Legacy,
}

/// What a pickle has built.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) heap: Heap,
    pub(super) root: Value,
}

/// Runs one pickle, from its first byte to the end of its last instruction.
pub(super) fn load(path: &Path, reader: &mut impl Read, form: Form) -> Result<Object, PytorchError> {
    let source = Source { path, reader, offset: 0 };
    let machine = Machine {
        path,
        form,
        source,
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        texts: 0,
        opcode: opcode::PROTO,
        at: 0,
    };
    machine.run()
}

/// The bytes of a pickle, counted.
struct Source<'a, R> {
    path: &'a Path,
    reader: &'a mut R,
    offset: u64,
}

impl<R: Read> Source<'_, R> {
    fn count(&mut self, len: u64) -> Result<(), PytorchError> {
        self.offset = self.offset.saturating_add(len);
        if self.offset > PICKLE_CAP {
            return Err(PytorchError::PickleTooLong(self.path.into()));
        }
        Ok(())
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), PytorchError> {
        self.count(u64::try_from(into.len()).unwrap_or(u64::MAX))?;
        self.reader.read_exact(into).map_err(cut("its pickle", self.path))
    }

    /// Passes over bytes.
    fn skip(&mut self, len: u64) -> Result<(), PytorchError> {
        self.count(len)?;
        let passed = io::copy(&mut self.reader.by_ref().take(len), &mut io::sink());
        match passed {
            Ok(passed) if passed < len => Err(PytorchError::Truncated { path: self.path.into(), part: "its pickle" }),
            Ok(_) => Ok(()),
            Err(error) => Err(cut("its pickle", self.path)(error)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PytorchError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, PytorchError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, PytorchError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, PytorchError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text of so many bytes.
    fn text(&mut self, len: u64) -> Result<Value, PytorchError> {
        if len > TEXT_CAP {
            self.skip(len)?;
            return Ok(Value::LongText);
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.fill(&mut bytes)?;
        self.utf8(bytes)
    }

    /// Python writes halves of surrogate pairs too, as in the names of files that are no UTF-8.
    fn utf8(&self, bytes: Vec<u8>) -> Result<Value, PytorchError> {
        let surrogate = |two: &[u8]| matches!(two, [0xed, 0xa0..=0xbf]);
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text.into())),
            Err(error) if error.as_bytes().windows(2).any(surrogate) => Ok(Value::LongText),
            Err(_) => Err(PytorchError::Utf8 { path: self.path.into(), at: self.offset }),
        }
    }

    /// Up to a newline, which is not part of it.
    fn line(&mut self) -> Result<Vec<u8>, PytorchError> {
        let mut bytes = Vec::new();
        loop {
            match self.u8()? {
                b'\n' => return Ok(bytes),
                _ if bytes.len() >= LINE_CAP => return Err(PytorchError::LineTooLong(self.path.into())),
                byte => bytes.push(byte),
            }
        }
    }

    /// Little-endian two's complement.
    fn long(&mut self, len: u64) -> Result<Value, PytorchError> {
        let Some(short) = usize::try_from(len).ok().filter(|len| *len <= INT_CAP) else {
            self.skip(len)?;
            return Ok(Value::BigInt);
        };
        let mut bytes = vec![0; short];
        self.fill(&mut bytes)?;
        let sign: u8 = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; INT_CAP];
        wide.iter_mut().zip(&bytes).for_each(|(wide, byte)| *wide = *byte);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }
}

struct Machine<'a, R> {
    path: &'a Path,
    form: Form,
    source: Source<'a, R>,
    heap: Heap,
    stack: Vec<Value>,
    /// Heights of the stack; values below the last are out of reach until it is taken away.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// Bytes of texts so far.
    texts: usize,
    /// The instruction at hand, for messages.
    opcode: u8,
    /// Its place.
    at: u64,
}

impl<R: Read> Machine<'_, R> {
    fn run(mut self) -> Result<Object, PytorchError> {
        loop {
            self.at = self.source.offset;
            self.opcode = self.source.u8()?;
            if self.opcode == opcode::STOP {
                return self.stop();
            }
            self.step()?;
            self.check_caps()?;
        }
    }

    fn check_caps(&self) -> Result<(), PytorchError> {
        let most = self.stack.len().max(self.marks.len()).max(self.memo.len());
        if self.heap.is_full() || most > HELD_CAP || self.texts > TEXTS_CAP {
            return Err(PytorchError::TooMuch(self.path.into()));
        }
        Ok(())
    }

    fn stop(mut self) -> Result<Object, PytorchError> {
        let root = self.pop()?;
        let values = self.stack.len().saturating_add(self.marks.len());
        if values > 0 {
            return Err(PytorchError::Unbalanced { path: self.path.into(), values });
        }
        Ok(Object { heap: self.heap, root })
    }

    fn step(&mut self) -> Result<(), PytorchError> {
        match self.opcode {
            opcode::PROTO => self.protocol(),
            opcode::FRAME => self.source.u64().map(drop),
            opcode::MARK => self.mark(),
            opcode::POP => self.drop_top(),
            opcode::POP_MARK => self.pop_to_mark().map(drop),
            opcode::DUP => self.duplicate(),
            opcode::NONE => self.push(Value::None),
            opcode::NEWTRUE => self.push(Value::Bool(true)),
            opcode::NEWFALSE => self.push(Value::Bool(false)),
            opcode::INT | opcode::LONG => self.written_int(),
            opcode::BININT | opcode::BININT1 | opcode::BININT2 | opcode::LONG1 | opcode::LONG4 => self.int(),
            opcode::FLOAT => self.pass_line(Value::Float),
            opcode::BINFLOAT => self.pass(8, Value::Float),
            opcode::STRING => self.quoted(),
            opcode::UNICODE => self.written_text(),
            opcode::BINUNICODE | opcode::SHORT_BINUNICODE | opcode::BINUNICODE8 => self.text(),
            opcode::BINSTRING | opcode::SHORT_BINSTRING => self.string(),
            opcode::BINBYTES | opcode::SHORT_BINBYTES | opcode::BINBYTES8 | opcode::BYTEARRAY8 => self.bytes(),
            opcode::EMPTY_TUPLE => self.tuple(Vec::new()),
            opcode::TUPLE1 => self.tuple_of(1),
            opcode::TUPLE2 => self.tuple_of(2),
            opcode::TUPLE3 => self.tuple_of(3),
            opcode::TUPLE => self.tuple_from_mark(),
            opcode::EMPTY_LIST | opcode::LIST => self.list(),
            opcode::APPEND | opcode::APPENDS => self.append(),
            opcode::EMPTY_DICT | opcode::DICT => self.dict(),
            opcode::SETITEM | opcode::SETITEMS => self.set_items(),
            opcode::EMPTY_SET | opcode::FROZENSET => self.set(),
            opcode::ADDITEMS => self.add_items(),
            opcode::PUT | opcode::BINPUT | opcode::LONG_BINPUT | opcode::MEMOIZE => self.put(),
            opcode::GET | opcode::BINGET | opcode::LONG_BINGET => self.get(),
            opcode::GLOBAL | opcode::STACK_GLOBAL => self.global(),
            opcode::EXT1 | opcode::EXT2 | opcode::EXT4 => self.extension(),
            opcode::REDUCE | opcode::NEWOBJ => self.reduce(),
            opcode::NEWOBJ_EX => self.reduce_with_names(),
            opcode::OBJ | opcode::INST => self.instance(),
            opcode::BUILD => self.build(),
            opcode::BINPERSID => self.persistent_id(),
            _ => Err(PytorchError::Opcode { path: self.path.into(), opcode: opcode::name(self.opcode), at: self.at }),
        }
    }

    fn protocol(&mut self) -> Result<(), PytorchError> {
        match self.source.u8()? {
            ..=LATEST_PROTOCOL => Ok(()),
            found => Err(PytorchError::Protocol { path: self.path.into(), found }),
        }
    }

    // Plain values.

    fn int(&mut self) -> Result<(), PytorchError> {
        let value = match self.opcode {
            opcode::BININT1 => Value::Int(self.source.u8()?.into()),
            opcode::BININT2 => Value::Int(u16::from_le_bytes(self.source.array()?).into()),
            opcode::BININT => Value::Int(i32::from_le_bytes(self.source.array()?).into()),
            _ => {
                let len = self.length()?;
                self.source.long(len)?
            }
        };
        self.push(value)
    }

    /// In decimal digits; 00 and 01 are what the first protocol has for truth values.
    fn written_int(&mut self) -> Result<(), PytorchError> {
        let line = self.source.line()?;
        let value = match (self.opcode, &*line) {
            (opcode::INT, b"00") => Value::Bool(false),
            (opcode::INT, b"01") => Value::Bool(true),
            (_, digits) => {
                let digits = digits.strip_suffix(b"L").unwrap_or(digits);
                str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).map_or(Value::BigInt, Value::Int)
            }
        };
        self.push(value)
    }

    /// A length in front of what it counts, as wide as the instruction has it.
    fn length(&mut self) -> Result<u64, PytorchError> {
        match self.opcode {
            opcode::LONG1 | opcode::SHORT_BINUNICODE | opcode::SHORT_BINSTRING | opcode::SHORT_BINBYTES => {
                self.source.u8().map(u64::from)
            }
            opcode::BINUNICODE8 | opcode::BINBYTES8 | opcode::BYTEARRAY8 => self.source.u64(),
            _ => self.source.u32().map(u64::from),
        }
    }

    fn text(&mut self) -> Result<(), PytorchError> {
        let len = self.length()?;
        let text = self.source.text(len)?;
        self.push_text(text)
    }

    /// A text of Python 2, in whatever encoding.
    fn string(&mut self) -> Result<(), PytorchError> {
        let len = self.length()?;
        let text = self.source.text(len);
        self.push_text(text.or_else(not_unicode)?)
    }

    fn bytes(&mut self) -> Result<(), PytorchError> {
        let len = self.length()?;
        self.pass(len, Value::Bytes)
    }

    /// A text as Python writes it in a program. One with escapes is no name of a tensor.
    fn quoted(&mut self) -> Result<(), PytorchError> {
        let line = self.source.line()?;
        let inner = match &*line {
            [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
            _ => return Err(self.wrong_line()),
        };
        let plain = !inner.contains(&b'\\');
        let text = if plain { self.source.utf8(inner.to_vec()).or_else(not_unicode)? } else { Value::LongText };
        self.push_text(text)
    }

    /// A text in Latin-1, other characters escaped.
    fn written_text(&mut self) -> Result<(), PytorchError> {
        let line = self.source.line()?;
        let plain = line.iter().all(|byte| byte.is_ascii() && *byte != b'\\');
        let text = if plain { self.source.utf8(line)? } else { Value::LongText };
        self.push_text(text)
    }

    fn pass(&mut self, len: u64, value: Value) -> Result<(), PytorchError> {
        self.source.skip(len)?;
        self.push(value)
    }

    fn pass_line(&mut self, value: Value) -> Result<(), PytorchError> {
        self.source.line()?;
        self.push(value)
    }

    // Containers.

    fn tuple(&mut self, values: Vec<Value>) -> Result<(), PytorchError> {
        let tuple = self.heap.tuple(values);
        self.push(tuple)
    }

    fn tuple_of(&mut self, len: usize) -> Result<(), PytorchError> {
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            values.push(self.pop()?);
        }
        values.reverse();
        self.tuple(values)
    }

    fn tuple_from_mark(&mut self) -> Result<(), PytorchError> {
        let values = self.pop_to_mark()?;
        self.tuple(values)
    }

    fn list(&mut self) -> Result<(), PytorchError> {
        let values = if self.opcode == opcode::LIST { self.pop_to_mark()? } else { Vec::new() };
        let list = self.heap.list();
        self.push(list)?;
        self.extend(values)
    }

    fn dict(&mut self) -> Result<(), PytorchError> {
        let values = if self.opcode == opcode::DICT { self.pop_to_mark()? } else { Vec::new() };
        let dict = self.heap.new_dict(false);
        self.push(dict)?;
        self.insert(values)
    }

    fn append(&mut self) -> Result<(), PytorchError> {
        let values = if self.opcode == opcode::APPEND { vec![self.pop()?] } else { self.pop_to_mark()? };
        self.extend(values)
    }

    fn extend(&mut self, values: Vec<Value>) -> Result<(), PytorchError> {
        match *self.top()? {
            Value::List(list) => self.heap.append(list, values),
            Value::Foreign(_) => {}
            _ => return Err(self.wrong_top()),
        }
        Ok(())
    }

    fn set_items(&mut self) -> Result<(), PytorchError> {
        let values = match self.opcode {
            opcode::SETITEM => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        self.insert(values)
    }

    /// Puts keys and values by turns into the dict on top of the stack.
    fn insert(&mut self, values: Vec<Value>) -> Result<(), PytorchError> {
        let (Value::Dict(dict) | Value::Foreign(dict)) = *self.top()? else { return Err(self.wrong_top()) };
        let mut values = values.into_iter();
        while let Some(key) = values.next() {
            let value = values.next().ok_or_else(|| self.underflow())?;
            if !key.is_key() {
                return Err(self.operand(&key));
            }
            let twice = |key: Rc<str>| PytorchError::KeyTwice { path: self.path.into(), key: shown(&key) };
            self.heap.insert(dict, key, value).map_err(twice)?;
        }
        Ok(())
    }

    fn set(&mut self) -> Result<(), PytorchError> {
        if self.opcode == opcode::FROZENSET {
            self.pop_to_mark()?;
        }
        self.push(Value::Set)
    }

    fn add_items(&mut self) -> Result<(), PytorchError> {
        self.pop_to_mark()?;
        match self.top()? {
            Value::Set | Value::Foreign(_) => Ok(()),
            _ => Err(self.wrong_top()),
        }
    }

    // The memo.

    fn memo_index(&mut self) -> Result<u32, PytorchError> {
        match self.opcode {
            opcode::MEMOIZE => Ok(u32::try_from(self.memo.len()).unwrap_or(u32::MAX)),
            opcode::BINPUT | opcode::BINGET => self.source.u8().map(u32::from),
            opcode::LONG_BINPUT | opcode::LONG_BINGET => self.source.u32(),
            _ => {
                let line = self.source.line()?;
                let index = str::from_utf8(&line).ok().and_then(|line| line.parse().ok());
                index.ok_or_else(|| self.wrong_line())
            }
        }
    }

    fn put(&mut self) -> Result<(), PytorchError> {
        let index = self.memo_index()?;
        let value = self.top()?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self) -> Result<(), PytorchError> {
        let index = self.memo_index()?;
        let unset = || PytorchError::Memo { path: self.path.into(), index, at: self.at };
        let value = self.memo.get(&index).cloned().ok_or_else(unset)?;
        self.push(value)
    }

    // Names, and what pickle would do with them.

    fn global(&mut self) -> Result<(), PytorchError> {
        let global = if self.opcode == opcode::STACK_GLOBAL { self.named_on_stack()? } else { self.named_here()? };
        self.push(global)
    }

    fn named_on_stack(&mut self) -> Result<Value, PytorchError> {
        match (self.pop()?, self.pop()?) {
            (Value::Text(name), Value::Text(module)) => Ok(self.named(&module, &name)),
            (Value::Text(_), other) | (other, _) => Err(self.operand(&other)),
        }
    }

    /// From two lines.
    fn named_here(&mut self) -> Result<Value, PytorchError> {
        let (module, name) = (self.source.line()?, self.source.line()?);
        Ok(self.named(&String::from_utf8_lossy(&module), &String::from_utf8_lossy(&name)))
    }

    fn named(&mut self, module: &str, name: &str) -> Value {
        match Global::find(module, name) {
            Some(global) => Value::Global(global),
            None => self.foreign(&format!("{module}.{name}")),
        }
    }

    fn foreign(&mut self, class: &str) -> Value {
        let class = shown(class);
        self.texts = self.texts.saturating_add(class.len());
        self.heap.foreign(class.into())
    }

    /// A name by its number in a list that only the program has that saved.
    fn extension(&mut self) -> Result<(), PytorchError> {
        let number = match self.opcode {
            opcode::EXT1 => self.source.u8()?.into(),
            opcode::EXT2 => u16::from_le_bytes(self.source.array()?).into(),
            _ => self.source.u32()?,
        };
        let value = self.foreign(&format!("extension {number}"));
        self.push(value)
    }

    fn reduce(&mut self) -> Result<(), PytorchError> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let Value::Tuple(arguments) = arguments else { return Err(self.operand(&arguments)) };
        let value = self.call(&function, arguments)?;
        self.push(value)
    }

    fn reduce_with_names(&mut self) -> Result<(), PytorchError> {
        let names = self.pop()?;
        if !matches!(names, Value::Dict(_)) {
            return Err(self.operand(&names));
        }
        self.reduce()
    }

    /// The arguments lie above the mark; before them the class, on the stack or here in two lines.
    fn instance(&mut self) -> Result<(), PytorchError> {
        let class = if self.opcode == opcode::INST { Some(self.named_here()?) } else { None };
        let mut arguments = self.pop_to_mark()?;
        let class = match class {
            Some(class) => class,
            None if arguments.is_empty() => return Err(self.underflow()),
            None => arguments.remove(0),
        };
        let Value::Tuple(arguments) = self.heap.tuple(arguments) else { return Err(self.underflow()) };
        let value = self.call(&class, arguments)?;
        self.push(value)
    }

    /// What `function(*arguments)` would be. Nothing is called.
    fn call(&mut self, function: &Value, arguments: usize) -> Result<Value, PytorchError> {
        match function {
            Value::Global(function) => rebuild::call(self.path, &mut self.heap, *function, arguments),
            Value::Foreign(_) => Ok(rebuild::foreign(&mut self.heap, function, arguments)),
            other => Err(PytorchError::Call { path: self.path.into(), callee: other.kind().into() }),
        }
    }

    /// A state dict has an attribute `_metadata`: versions of modules, which are of no use here. So are the attributes of a
    /// tensor.
    fn build(&mut self) -> Result<(), PytorchError> {
        let state = self.pop()?;
        let target = self.top()?.clone();
        match target {
            Value::Foreign(object) => {
                self.heap.set_attributes(object, &state);
                return Ok(());
            }
            Value::Dict(dict) if self.heap.dict(dict).is_some_and(|dict| dict.ordered) => {}
            Value::Tensor(_) => {}
            other => {
                return Err(PytorchError::Build {
                    path: self.path.into(),
                    target: self.heap.class(&other).to_string(),
                });
            }
        }
        if matches!(state, Value::Dict(_)) { Ok(()) } else { Err(self.operand(&state)) }
    }

    fn persistent_id(&mut self) -> Result<(), PytorchError> {
        let id = self.pop()?;
        let value = rebuild::persistent(self.path, &mut self.heap, self.form, &id)?;
        self.push(value)
    }

    // The stack.

    fn push(&mut self, value: Value) -> Result<(), PytorchError> {
        self.stack.push(value);
        Ok(())
    }

    fn push_text(&mut self, value: Value) -> Result<(), PytorchError> {
        if let Value::Text(text) = &value {
            self.texts = self.texts.saturating_add(text.len());
        }
        self.push(value)
    }

    fn mark(&mut self) -> Result<(), PytorchError> {
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<&Value, PytorchError> {
        let reachable = self.stack.len() > self.floor();
        self.stack.last().filter(|_| reachable).ok_or_else(|| self.underflow())
    }

    fn pop(&mut self) -> Result<Value, PytorchError> {
        self.top()?;
        self.stack.pop().ok_or_else(|| self.underflow())
    }

    /// Takes away the value on top, or the mark if that is on top.
    fn drop_top(&mut self) -> Result<(), PytorchError> {
        if self.stack.len() > self.floor() {
            return self.pop().map(drop);
        }
        self.marks.pop().map(drop).ok_or_else(|| self.underflow())
    }

    fn duplicate(&mut self) -> Result<(), PytorchError> {
        let top = self.top()?.clone();
        self.push(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, PytorchError> {
        let mark = self.marks.pop().ok_or_else(|| self.underflow())?;
        // `pop` never goes below a mark, so the minimum is the mark.
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    // Errors.

    fn underflow(&self) -> PytorchError {
        PytorchError::Underflow { path: self.path.into(), opcode: opcode::name(self.opcode), at: self.at }
    }

    fn operand(&self, found: &Value) -> PytorchError {
        let (path, opcode) = (self.path.into(), opcode::name(self.opcode));
        PytorchError::Operand { path, opcode, found: found.kind(), at: self.at }
    }

    fn wrong_top(&self) -> PytorchError {
        self.stack.last().map_or_else(|| self.underflow(), |found| self.operand(found))
    }

    fn wrong_line(&self) -> PytorchError {
        let (path, opcode) = (self.path.into(), opcode::name(self.opcode));
        PytorchError::Operand { path, opcode, found: "another line", at: self.at }
    }
}

/// A text that is not of Unicode's characters is passed over, as a long one is.
fn not_unicode(error: PytorchError) -> Result<Value, PytorchError> {
    if matches!(error, PytorchError::Utf8 { .. }) { Ok(Value::LongText) } else { Err(error) }
}
