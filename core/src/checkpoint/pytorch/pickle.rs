//! A machine for the few pickle instructions that torch.save needs for tensors. It calls nothing: the three functions of
//! [`Global`] are descriptions that it fills in itself, and every other name is an error.

use std::{collections::HashMap, io::Read, path::Path, rc::Rc};

use super::{
    error::{PytorchError, cut, shown},
    object::{Global, Heap, Value},
    opcode, rebuild,
};

/// Longest pickle that is read, in bytes. That of a large model with its optimizer has one megabyte.
pub(super) const PICKLE_CAP: u64 = 64 << 20;

/// Most instructions of a pickle. They bound the stack, the memo and all containers; a tensor takes about forty.
pub(super) const STEP_CAP: u32 = 1 << 20;

/// Longest text, in bytes.
pub(super) const TEXT_CAP: u32 = 1 << 20;

/// Longest whole number, in bytes.
pub(super) const INT_CAP: u8 = 16;

/// Longest module or class name, in bytes.
const LINE_CAP: usize = 256;

const PROTOCOL: u8 = 2;

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
    fn fill(&mut self, into: &mut [u8]) -> Result<(), PytorchError> {
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(len);
        if self.offset > PICKLE_CAP {
            return Err(PytorchError::PickleTooLong(self.path.into()));
        }
        self.reader.read_exact(into).map_err(cut("its pickle", self.path))
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

    fn text(&mut self) -> Result<Rc<str>, PytorchError> {
        let claimed = self.u32()?;
        if claimed > TEXT_CAP {
            return Err(PytorchError::TextTooLong { path: self.path.into(), claimed });
        }
        let mut bytes = vec![0; usize::try_from(claimed).unwrap_or(usize::MAX)];
        self.fill(&mut bytes)?;
        self.utf8(bytes).map(Rc::from)
    }

    /// Up to a newline, which is not part of it.
    fn line(&mut self) -> Result<String, PytorchError> {
        let mut bytes = Vec::new();
        loop {
            match self.u8()? {
                b'\n' => return self.utf8(bytes),
                _ if bytes.len() >= LINE_CAP => {
                    let name = shown(&String::from_utf8_lossy(&bytes));
                    return Err(PytorchError::Global { path: self.path.into(), name });
                }
                byte => bytes.push(byte),
            }
        }
    }

    fn utf8(&self, bytes: Vec<u8>) -> Result<String, PytorchError> {
        String::from_utf8(bytes).map_err(|_| PytorchError::Utf8 { path: self.path.into(), at: self.offset })
    }

    /// Little-endian two's complement of any length up to the cap.
    fn long(&mut self) -> Result<Value, PytorchError> {
        let claimed = self.u8()?;
        if claimed > INT_CAP {
            return Err(PytorchError::IntTooLong { path: self.path.into(), claimed });
        }
        let mut bytes = vec![0; claimed.into()];
        self.fill(&mut bytes)?;
        let sign: u8 = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; INT_CAP as usize];
        wide.iter_mut().zip(&bytes).for_each(|(wide, byte)| *wide = *byte);
        Ok(i64::try_from(i128::from_le_bytes(wide)).map_or(Value::BigInt, Value::Int))
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
    /// The instruction at hand, for messages.
    opcode: u8,
    /// Its place.
    at: u64,
}

impl<R: Read> Machine<'_, R> {
    fn run(mut self) -> Result<Object, PytorchError> {
        self.check_protocol()?;
        for _ in 0..STEP_CAP {
            self.at = self.source.offset;
            self.opcode = self.source.u8()?;
            if self.opcode == opcode::STOP {
                return self.stop();
            }
            self.step()?;
        }
        Err(PytorchError::TooManySteps(self.path.into()))
    }

    fn check_protocol(&mut self) -> Result<(), PytorchError> {
        let path = self.path.into();
        match (self.source.u8()?, self.source.u8()?) {
            (opcode::PROTO, PROTOCOL) => Ok(()),
            (opcode::PROTO, found) => Err(PytorchError::Protocol { path, found }),
            (found, _) => Err(PytorchError::NoProtocol { path, found }),
        }
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
            opcode::MARK => self.marks.push(self.stack.len()),
            opcode::NONE => self.stack.push(Value::None),
            opcode::NEWTRUE => self.stack.push(Value::Bool(true)),
            opcode::NEWFALSE => self.stack.push(Value::Bool(false)),
            opcode::BININT1 | opcode::BININT2 | opcode::BININT | opcode::LONG1 => self.int()?,
            opcode::BINFLOAT => self.float()?,
            opcode::BINUNICODE => self.text()?,
            opcode::EMPTY_TUPLE => self.tuple(Vec::new()),
            opcode::TUPLE1 => self.tuple_of(1)?,
            opcode::TUPLE2 => self.tuple_of(2)?,
            opcode::TUPLE3 => self.tuple_of(3)?,
            opcode::TUPLE => self.tuple_from_mark()?,
            opcode::EMPTY_LIST => self.list(),
            opcode::APPEND => self.append()?,
            opcode::APPENDS => self.appends()?,
            opcode::EMPTY_DICT => self.dict(),
            opcode::SETITEM => self.set_item()?,
            opcode::SETITEMS => self.set_items()?,
            opcode::BINPUT | opcode::LONG_BINPUT => self.put()?,
            opcode::BINGET | opcode::LONG_BINGET => self.get()?,
            opcode::GLOBAL => self.global()?,
            opcode::REDUCE => self.reduce()?,
            opcode::BUILD => self.build()?,
            opcode::BINPERSID => self.persistent_id()?,
            _ => return Err(self.refuse()),
        }
        Ok(())
    }

    fn int(&mut self) -> Result<(), PytorchError> {
        let value = match self.opcode {
            opcode::BININT1 => Value::Int(self.source.u8()?.into()),
            opcode::BININT2 => Value::Int(u16::from_le_bytes(self.source.array()?).into()),
            opcode::BININT => Value::Int(i32::from_le_bytes(self.source.array()?).into()),
            _ => self.source.long()?,
        };
        self.stack.push(value);
        Ok(())
    }

    fn float(&mut self) -> Result<(), PytorchError> {
        let _content: [u8; 8] = self.source.array()?;
        self.stack.push(Value::Float);
        Ok(())
    }

    fn text(&mut self) -> Result<(), PytorchError> {
        let text = self.source.text()?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn tuple(&mut self, values: Vec<Value>) {
        let tuple = self.heap.tuple(values);
        self.stack.push(tuple);
    }

    fn tuple_of(&mut self, len: usize) -> Result<(), PytorchError> {
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            values.push(self.pop()?);
        }
        values.reverse();
        self.tuple(values);
        Ok(())
    }

    fn tuple_from_mark(&mut self) -> Result<(), PytorchError> {
        let values = self.pop_to_mark()?;
        self.tuple(values);
        Ok(())
    }

    fn list(&mut self) {
        let list = self.heap.list();
        self.stack.push(list);
    }

    fn dict(&mut self) {
        let dict = self.heap.new_dict(false);
        self.stack.push(dict);
    }

    fn append(&mut self) -> Result<(), PytorchError> {
        let value = self.pop()?;
        self.extend(vec![value])
    }

    fn appends(&mut self) -> Result<(), PytorchError> {
        let values = self.pop_to_mark()?;
        self.extend(values)
    }

    fn extend(&mut self, values: Vec<Value>) -> Result<(), PytorchError> {
        let Value::List(list) = *self.top()? else { return Err(self.wrong_top()) };
        self.heap.append(list, values);
        Ok(())
    }

    fn set_item(&mut self) -> Result<(), PytorchError> {
        let value = self.pop()?;
        let key = self.pop()?;
        self.insert(vec![key, value])
    }

    fn set_items(&mut self) -> Result<(), PytorchError> {
        let values = self.pop_to_mark()?;
        self.insert(values)
    }

    /// Puts keys and values by turns into the dict on top of the stack.
    fn insert(&mut self, values: Vec<Value>) -> Result<(), PytorchError> {
        let Value::Dict(dict) = *self.top()? else { return Err(self.wrong_top()) };
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

    fn memo_index(&mut self) -> Result<u32, PytorchError> {
        match self.opcode {
            opcode::BINPUT | opcode::BINGET => self.source.u8().map(u32::from),
            _ => self.source.u32(),
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
        self.stack.push(value);
        Ok(())
    }

    fn global(&mut self) -> Result<(), PytorchError> {
        let (module, name) = (self.source.line()?, self.source.line()?);
        let global = Global::find(&module, &name).ok_or_else(|| self.unknown(&module, &name))?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), PytorchError> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let Value::Tuple(arguments) = arguments else { return Err(self.operand(&arguments)) };
        let Value::Global(function) = function else {
            return Err(PytorchError::Call { path: self.path.into(), callee: function.kind().into() });
        };
        let value = rebuild::call(self.path, &mut self.heap, function, arguments)?;
        self.stack.push(value);
        Ok(())
    }

    /// A state dict has an attribute `_metadata`: versions of modules, which are of no use here.
    fn build(&mut self) -> Result<(), PytorchError> {
        let state = self.pop()?;
        let target = self.top()?.clone();
        let path = || self.path.into();
        match target {
            Value::Dict(dict) if self.heap.dict(dict).is_some_and(|dict| dict.ordered) => {}
            Value::Global(global) => return Err(PytorchError::Build { path: path(), target: global.name() }),
            other => return Err(PytorchError::Build { path: path(), target: other.kind().into() }),
        }
        if matches!(state, Value::Dict(_)) { Ok(()) } else { Err(self.operand(&state)) }
    }

    fn persistent_id(&mut self) -> Result<(), PytorchError> {
        let id = self.pop()?;
        let storage = rebuild::storage(self.path, &mut self.heap, self.form, &id)?;
        self.stack.push(storage);
        Ok(())
    }

    // The stack.

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

    fn unknown(&self, module: &str, name: &str) -> PytorchError {
        PytorchError::Global { path: self.path.into(), name: shown(&format!("{module}.{name}")) }
    }

    /// Two of the instructions that are not known name a class; then the name says more than the instruction.
    fn refuse(&mut self) -> PytorchError {
        if self.opcode == opcode::INST {
            return match (self.source.line(), self.source.line()) {
                (Ok(module), Ok(name)) => self.unknown(&module, &name),
                (Err(error), _) | (_, Err(error)) => error,
            };
        }
        if let (opcode::STACK_GLOBAL, [.., Value::Text(module), Value::Text(name)]) = (self.opcode, &*self.stack) {
            return self.unknown(module, name);
        }
        PytorchError::Opcode { path: self.path.into(), opcode: opcode::name(self.opcode), at: self.at }
    }
}
