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

use std::{collections::HashMap, io::Read, rc::Rc};

use super::{
    heap::{HELD_CAP, Heap, TEXTS_CAP},
    opcode,
    problem::{Part, Problem, shown},
    rebuild,
    source::Source,
    value::{Form, Global, Value},
};

const LATEST_PROTOCOL: u8 = 5;

/// What a pickle has built.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) heap: Heap,
    pub(super) root: Value,
}

/// Runs one pickle, from its first byte to the end of its last instruction.
pub(super) fn load(reader: &mut impl Read, form: Form) -> Result<Object, Problem> {
    let machine = Machine {
        form,
        source: Source::new(reader),
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        texts: 0,
        opcode: opcode::PROTO,
    };
    machine.run()
}

struct Machine<'a, R> {
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
}

impl<R: Read> Machine<'_, R> {
    fn run(mut self) -> Result<Object, Problem> {
        loop {
            let start = self.source.offset();
            let done = self.step().and_then(|()| self.check_caps());
            done.map_err(|problem| problem.at_byte(start))?;
            if self.opcode == opcode::STOP {
                return self.stop().map_err(|problem| problem.at_byte(start));
            }
        }
    }

    fn check_caps(&self) -> Result<(), Problem> {
        let most = self.stack.len().max(self.marks.len()).max(self.memo.len());
        if self.heap.is_full() || most > HELD_CAP || self.texts > TEXTS_CAP {
            let what = format!("holds more than the {HELD_CAP} values or the {TEXTS_CAP} bytes of text allowed");
            return Err(Part::Pickle.too_large(what));
        }
        Ok(())
    }

    fn stop(mut self) -> Result<Object, Problem> {
        let root = self.pop()?;
        match self.stack.len().saturating_add(self.marks.len()) {
            0 => Ok(Object { heap: self.heap, root }),
            values => Err(Part::Pickle.forged(format!("ends with {values} values left over"))),
        }
    }

    fn step(&mut self) -> Result<(), Problem> {
        self.opcode = self.source.u8()?;
        match self.opcode {
            opcode::STOP => Ok(()),
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
            _ => {
                let what = format!("has {}, which torch.save does not write", opcode::name(self.opcode));
                Err(Part::Pickle.damaged(what))
            }
        }
    }

    fn protocol(&mut self) -> Result<(), Problem> {
        match self.source.u8()? {
            ..=LATEST_PROTOCOL => Ok(()),
            found => Err(Part::Pickle.unsupported(format!("is of protocol {found}, and 0 to 5 are known"))),
        }
    }

    // Plain values.

    fn int(&mut self) -> Result<(), Problem> {
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
    fn written_int(&mut self) -> Result<(), Problem> {
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
    fn length(&mut self) -> Result<u64, Problem> {
        match self.opcode {
            opcode::LONG1 | opcode::SHORT_BINUNICODE | opcode::SHORT_BINSTRING | opcode::SHORT_BINBYTES => {
                self.source.u8().map(u64::from)
            }
            opcode::BINUNICODE8 | opcode::BINBYTES8 | opcode::BYTEARRAY8 => self.source.u64(),
            _ => self.source.u32().map(u64::from),
        }
    }

    fn text(&mut self) -> Result<(), Problem> {
        let len = self.length()?;
        let text = match self.source.text(len)? {
            Some(bytes) => utf8(bytes).ok_or_else(not_utf8)?,
            None => Value::LongText,
        };
        self.push_text(text)
    }

    /// A text of Python 2, in whatever encoding. One that is not UTF-8 is passed over, as a long one is.
    fn string(&mut self) -> Result<(), Problem> {
        let len = self.length()?;
        let text = self.source.text(len)?.and_then(utf8);
        self.push_text(text.unwrap_or(Value::LongText))
    }

    fn bytes(&mut self) -> Result<(), Problem> {
        let len = self.length()?;
        self.pass(len, Value::Bytes)
    }

    /// A text as Python writes it in a program. One with escapes is no name of a tensor.
    fn quoted(&mut self) -> Result<(), Problem> {
        let line = self.source.line()?;
        let inner = match &*line {
            [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
            _ => return Err(self.wrong_line()),
        };
        let plain = Some(inner).filter(|inner| !inner.contains(&b'\\'));
        self.push_text(plain.and_then(|inner| utf8(inner.to_vec())).unwrap_or(Value::LongText))
    }

    /// A text in Latin-1, other characters escaped.
    fn written_text(&mut self) -> Result<(), Problem> {
        let line = self.source.line()?;
        let plain = Some(line).filter(|line| line.iter().all(|byte| byte.is_ascii() && *byte != b'\\'));
        self.push_text(plain.and_then(utf8).unwrap_or(Value::LongText))
    }

    fn pass(&mut self, len: u64, value: Value) -> Result<(), Problem> {
        self.source.skip(len)?;
        self.push(value)
    }

    fn pass_line(&mut self, value: Value) -> Result<(), Problem> {
        self.source.line()?;
        self.push(value)
    }

    // Containers.

    fn tuple(&mut self, values: Vec<Value>) -> Result<(), Problem> {
        let tuple = self.heap.tuple(values);
        self.push(tuple)
    }

    fn tuple_of(&mut self, len: usize) -> Result<(), Problem> {
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            values.push(self.pop()?);
        }
        values.reverse();
        self.tuple(values)
    }

    fn tuple_from_mark(&mut self) -> Result<(), Problem> {
        let values = self.pop_to_mark()?;
        self.tuple(values)
    }

    fn list(&mut self) -> Result<(), Problem> {
        let values = if self.opcode == opcode::LIST { self.pop_to_mark()? } else { Vec::new() };
        let list = self.heap.list();
        self.push(list)?;
        self.extend(values)
    }

    fn dict(&mut self) -> Result<(), Problem> {
        let values = if self.opcode == opcode::DICT { self.pop_to_mark()? } else { Vec::new() };
        let dict = self.heap.new_dict(false);
        self.push(dict)?;
        self.insert(values)
    }

    fn append(&mut self) -> Result<(), Problem> {
        let values = if self.opcode == opcode::APPEND { vec![self.pop()?] } else { self.pop_to_mark()? };
        self.extend(values)
    }

    fn extend(&mut self, values: Vec<Value>) -> Result<(), Problem> {
        match *self.top()? {
            Value::List(list) => self.heap.append(list, values),
            Value::Foreign(_) => {}
            _ => return Err(self.wrong_top()),
        }
        Ok(())
    }

    fn set_items(&mut self) -> Result<(), Problem> {
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
    fn insert(&mut self, values: Vec<Value>) -> Result<(), Problem> {
        let (Value::Dict(dict) | Value::Foreign(dict)) = *self.top()? else { return Err(self.wrong_top()) };
        let mut values = values.into_iter();
        while let Some(key) = values.next() {
            let value = values.next().ok_or_else(|| self.underflow())?;
            if !key.is_key() {
                return Err(self.operand(&key));
            }
            let twice = |key: Rc<str>| Part::Pickle.forged(format!("sets `{}` twice in one dict", shown(&key)));
            self.heap.insert(dict, key, value).map_err(twice)?;
        }
        Ok(())
    }

    fn set(&mut self) -> Result<(), Problem> {
        if self.opcode == opcode::FROZENSET {
            self.pop_to_mark()?;
        }
        self.push(Value::Set)
    }

    fn add_items(&mut self) -> Result<(), Problem> {
        self.pop_to_mark()?;
        match self.top()? {
            Value::Set | Value::Foreign(_) => Ok(()),
            _ => Err(self.wrong_top()),
        }
    }

    // The memo.

    fn memo_index(&mut self) -> Result<u32, Problem> {
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

    fn put(&mut self) -> Result<(), Problem> {
        let index = self.memo_index()?;
        let value = self.top()?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self) -> Result<(), Problem> {
        let index = self.memo_index()?;
        let unset = || Part::Pickle.damaged(format!("refers to memo {index}, which it never set"));
        let value = self.memo.get(&index).cloned().ok_or_else(unset)?;
        self.push(value)
    }

    // Names, and what pickle would do with them.

    fn global(&mut self) -> Result<(), Problem> {
        let global = if self.opcode == opcode::STACK_GLOBAL { self.named_on_stack()? } else { self.named_here()? };
        self.push(global)
    }

    fn named_on_stack(&mut self) -> Result<Value, Problem> {
        match (self.pop()?, self.pop()?) {
            (Value::Text(name), Value::Text(module)) => Ok(self.named(&module, &name)),
            (Value::Text(_), other) | (other, _) => Err(self.operand(&other)),
        }
    }

    /// From two lines.
    fn named_here(&mut self) -> Result<Value, Problem> {
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
    fn extension(&mut self) -> Result<(), Problem> {
        let number = match self.opcode {
            opcode::EXT1 => self.source.u8()?.into(),
            opcode::EXT2 => u16::from_le_bytes(self.source.array()?).into(),
            _ => self.source.u32()?,
        };
        let value = self.foreign(&format!("extension {number}"));
        self.push(value)
    }

    fn reduce(&mut self) -> Result<(), Problem> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let Value::Tuple(arguments) = arguments else { return Err(self.operand(&arguments)) };
        let value = self.call(&function, arguments)?;
        self.push(value)
    }

    fn reduce_with_names(&mut self) -> Result<(), Problem> {
        let names = self.pop()?;
        if !matches!(names, Value::Dict(_)) {
            return Err(self.operand(&names));
        }
        self.reduce()
    }

    /// The arguments lie above the mark; before them the class, on the stack or here in two lines.
    fn instance(&mut self) -> Result<(), Problem> {
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
    fn call(&mut self, function: &Value, arguments: usize) -> Result<Value, Problem> {
        match function {
            Value::Global(function) => rebuild::call(&mut self.heap, *function, arguments),
            Value::Foreign(_) => Ok(rebuild::foreign(&mut self.heap, function, arguments)),
            other => Err(Part::Pickle.forged(format!("wants to call {}", other.kind()))),
        }
    }

    /// A state dict has an attribute `_metadata`: versions of modules, which are of no use here. So are the attributes of a
    /// tensor.
    fn build(&mut self) -> Result<(), Problem> {
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
                let target = self.heap.class(&other);
                let what = format!("sets attributes of {target}, and only an OrderedDict or an object may have some");
                return Err(Part::Pickle.unsupported(what));
            }
        }
        if matches!(state, Value::Dict(_)) { Ok(()) } else { Err(self.operand(&state)) }
    }

    fn persistent_id(&mut self) -> Result<(), Problem> {
        let id = self.pop()?;
        let value = rebuild::persistent(&mut self.heap, self.form, &id)?;
        self.push(value)
    }

    // The stack.

    fn push(&mut self, value: Value) -> Result<(), Problem> {
        self.stack.push(value);
        Ok(())
    }

    fn push_text(&mut self, value: Value) -> Result<(), Problem> {
        if let Value::Text(text) = &value {
            self.texts = self.texts.saturating_add(text.len());
        }
        self.push(value)
    }

    fn mark(&mut self) -> Result<(), Problem> {
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<&Value, Problem> {
        let reachable = self.stack.len() > self.floor();
        self.stack.last().filter(|_| reachable).ok_or_else(|| self.underflow())
    }

    fn pop(&mut self) -> Result<Value, Problem> {
        self.top()?;
        self.stack.pop().ok_or_else(|| self.underflow())
    }

    /// Takes away the value on top, or the mark if that is on top.
    fn drop_top(&mut self) -> Result<(), Problem> {
        if self.stack.len() > self.floor() {
            return self.pop().map(drop);
        }
        self.marks.pop().map(drop).ok_or_else(|| self.underflow())
    }

    fn duplicate(&mut self) -> Result<(), Problem> {
        let top = self.top()?.clone();
        self.push(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Problem> {
        let mark = self.marks.pop().ok_or_else(|| self.underflow())?;
        // `pop` never goes below a mark, so the minimum is the mark.
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    // Errors.

    fn underflow(&self) -> Problem {
        Part::Pickle.damaged(format!("has too few values for {}", opcode::name(self.opcode)))
    }

    fn operand(&self, found: &Value) -> Problem {
        Part::Pickle.damaged(format!("gives {} to {}", found.kind(), opcode::name(self.opcode)))
    }

    fn wrong_top(&self) -> Problem {
        self.stack.last().map_or_else(|| self.underflow(), |found| self.operand(found))
    }

    fn wrong_line(&self) -> Problem {
        Part::Pickle.damaged(format!("gives another line to {}", opcode::name(self.opcode)))
    }
}

/// A text, unless it is no UTF-8. Python writes halves of surrogate pairs too, as in names of files that are none.
fn utf8(bytes: Vec<u8>) -> Option<Value> {
    let surrogate = |two: &[u8]| matches!(two, [0xed, 0xa0..=0xbf]);
    match String::from_utf8(bytes) {
        Ok(text) => Some(Value::Text(text.into())),
        Err(error) => error.as_bytes().windows(2).any(surrogate).then_some(Value::LongText),
    }
}

fn not_utf8() -> Problem {
    Part::Pickle.damaged("holds a text that is not UTF-8")
}
